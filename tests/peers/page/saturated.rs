//! A pool whose workers are all busy: what a person sees, on a phone and on a desk, by day and by night.

use serde_json::json;

use super::{LIMIT, SECOND, browser::Browser, picture};
use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Request, bounded, wait_until};

/// Contrast (WCAG 2.2, 1.4.3) of every piece of text with what lies behind it; lists those below 4.5.
const POOR_CONTRAST: &str = r#"(() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const luminance = ({ r, g, b }) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.a === 1) return color;
      if (color.a > 0) throw new Error("half transparent");
    }
    throw new Error("nothing behind");
  };
  const poor = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("script, style, noscript")) continue;
    const [one, other] = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    seen += 1;
    if (contrast < 4.5) poor.push(`${contrast.toFixed(2)}: ${walker.currentNode.data}`);
  }
  return seen > 30 ? poor : ["only " + seen + " pieces of text"];
})()"#;

#[test]
fn a_saturated_pool_is_seen_at_a_glance_on_every_screen() {
    bounded(LIMIT, || {
        let (busy, free) = (PhpFpm::pool(2).with_status().start(), PhpFpm::pool(2).start());
        let text = format!(
            "listeners:\n  - {{socket: {{socket}}, mode: \"0666\", pool: shop}}\n  - {{socket: \"{{folder}}/blog.sock\", mode: \
             \"0666\", pool: blog}}\npools:\n  shop: {{endpoints: [{{address: \"{}\"}}], connections: {{per_endpoint: 4}}}}\n  \
             blog: {{endpoints: [{{address: \"{}\"}}], connections: {{per_endpoint: 2}}}}\nadmin: {{listen: {{admin}}}}\n",
            busy.address(),
            free.address()
        );
        let mux = Fcgimux::yaml(&text);
        let shop = Nginx::site(&busy.scripts(), mux.socket()).start();
        let blog = Nginx::site(&free.scripts(), mux.folder().join("blog.sock")).start();
        let mut browser = Browser::start();
        browser.look(390, "light");
        browser.open_page(&mux);
        let quick = Load::on(blog.address(), |_| Request::echo("GET", 10)).rate(50.0).duration(60 * SECOND).start();
        let before =
            Load::on(shop.address(), |_| Request::echo("GET", 10).micros(1000)).rate(50.0).duration(6 * SECOND);
        before.run().assert_clean();
        let slow = Load::on(shop.address(), |_| Request::echo("GET", 10).micros(400_000));
        let slow = slow.clients(12).duration(60 * SECOND).start();
        wait_until("some wait", || mux.metrics().sum("fcgimux_queue_depth", &[("pool", "shop")]) >= 5.0);
        browser
            .wait("document.querySelector('[data-pool=shop] [data-figure=condition]').className === 'tell saturated'");
        std::thread::sleep(6 * SECOND);

        let told = browser.text("[data-pool=shop] [data-figure=condition] span");
        let (since, rest) = told.strip_prefix("Saturated for ").and_then(|rest| rest.split_once(": ")).expect(&told);
        let seconds: f64 = since.strip_suffix(" s").and_then(|number| number.parse().ok()).expect(&told);
        assert!((4.0..30.0).contains(&seconds), "{told}");
        assert!(rest.contains(" wait, oldest ") && rest.contains(&busy.address()), "{told}");
        assert!(rest.contains("has no free worker") || rest.contains("all its connections in use"), "{told}");
        let other = browser.text("[data-pool=blog] [data-figure=condition] span");
        assert!(other.starts_with("Well: "), "{other}");
        let index = browser.text("#index li");
        assert!(index.contains("shop") && index.contains("Saturated"), "{index}");
        assert!(browser.eval("document.title").as_str().unwrap().contains("shop saturated"));
        let aloud = browser.text("#told[aria-live=polite]");
        assert!(aloud.starts_with("Pool shop saturated: ") && !aloud.contains("oldest"), "no figures aloud: {aloud}");

        for width in [390, 1280] {
            for scheme in ["dark", "light"] {
                browser.look(width, scheme);
                let now = browser.eval(
                    "[document.scrollingElement.scrollWidth, matchMedia('(prefers-color-scheme: dark)').matches]",
                );
                assert!(now[0].as_u64().unwrap() <= u64::from(width), "{width}: scrolls to {}", now[0]);
                assert_eq!(now[1], json!(scheme == "dark"));
                assert_eq!(browser.eval(POOR_CONTRAST), json!([]), "{width} {scheme}");
                browser.keep_picture(&picture(&format!("page-{width}-{scheme}.png")));
            }
            assert_told(&mut browser, width);
        }
        slow.stop().assert_clean();
        quick.stop().assert_clean();
        browser.wait("document.querySelector('[data-pool=shop] [data-figure=condition]').className === 'tell well'");
        assert_eq!(browser.complaints(), [""; 0]);
    });
}

/// What those are told who do not see it, however it is laid out.
fn assert_told(browser: &mut Browser, width: u32) {
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let has = |role: &str, name: &str| {
        tree["nodes"].as_array().unwrap().iter().any(|node| {
            let said = node["name"]["value"].as_str().unwrap_or_default();
            node["ignored"] == json!(false) && node["role"]["value"] == role && said.contains(name)
        })
    };
    for (role, name) in [
        ("heading", "Pool shop"),
        ("table", "Endpoints of pool shop"),
        ("columnheader", "Workers"),
        ("rowheader", "127.0.0.1:"),
        ("image", "leased"),
        ("image", "Requests/s over the last 15 minutes"),
        ("link", "shop"),
    ] {
        assert!(has(role, name), "{width}: no {role} {name}");
    }
    // Everything that can be used is reached by keyboard, in the order in which it stands.
    let reached = browser.eval("[...document.querySelectorAll('a, summary')].every((node) => node.tabIndex === 0)");
    assert_eq!(reached, json!(true));
}
