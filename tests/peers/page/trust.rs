//! What the page may not do, and what it does when nobody answers.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{LIMIT, SECOND, browser::Browser, picture};
use crate::support::{Fcgimux, bounded, fcgi::Call};

/// The name of an endpoint, which is the path of a socket and so may be anything.
const HOSTILE: &str = "/run/<img src=x onerror=alert(1)>'\\\"&amp;.sock";

#[test]
fn names_and_messages_are_text_and_nobody_else_is_asked() {
    bounded(LIMIT, || {
        let endpoint = format!("\"{HOSTILE}\"");
        let mux = Fcgimux::yaml(&format!(
            "listeners: [{{socket: {{socket}}, mode: \"0666\", pool: default}}]\npools:\n  default:\n    endpoints: \
             [{{socket: {endpoint}}}]\n    queue: {{timeout: 500ms}}\nadmin: {{listen: {{admin}}}}\n"
        ));
        // Nobody listens there: the reason why bears the name.
        mux.call(&Call::get("/x.php"), 10 * SECOND);
        let mut browser = Browser::start();
        browser.open_page(&mux);
        browser.wait("!document.querySelector('[data-figure=last-failure]').hidden");
        let name = HOSTILE.replace("\\\"", "\"");
        assert_eq!(browser.text("tbody th"), name);
        assert_eq!(browser.eval("document.querySelectorAll('img, iframe, object, embed').length"), json!(0));
        assert_eq!(browser.eval("document.querySelectorAll('script').length"), json!(1));
        let condition = browser.text("[data-figure=condition] span");
        assert!(condition.starts_with("Down for ") && condition.contains(&name), "{condition}");
        // The policy holds even if a defect of the page let markup in.
        let ran = "(() => { const node = document.createElement('script'); node.textContent = 'window.ran = 1'; \
                   document.body.append(node); return window.ran ?? 0; })()";
        let own = browser.complaints();
        assert_eq!(own, [""; 0]);
        assert_eq!(browser.eval(ran), json!(0));
        let home = format!("http://{}/", mux.admin());
        let requests = browser.requests();
        let foreign: Vec<_> = requests.iter().filter(|url| !url.starts_with(&home) && *url != "data:,").collect();
        assert!(foreign.is_empty() && requests.len() > 1, "{foreign:?}");
        let paths: Vec<_> = requests.iter().filter_map(|url| url.strip_prefix(&home)).collect();
        assert!(paths.iter().all(|path| matches!(*path, "" | "overview")), "{paths:?}");
    });
}

#[test]
fn when_the_server_has_gone_the_page_says_since_when() {
    bounded(LIMIT, || {
        let mux = Fcgimux::to("127.0.0.1:1").start();
        let mut browser = Browser::start();
        browser.look(390, "light");
        browser.open_page(&mux);
        assert_eq!(browser.eval("document.getElementById('stale').hidden"), json!(true));
        // One that hangs is as bad as one that is gone, and can come back.
        mux.signal(Signal::SIGSTOP);
        browser.wait("!document.getElementById('stale').hidden");
        mux.signal(Signal::SIGCONT);
        browser.wait("document.getElementById('stale').hidden");
        drop(mux);
        browser.wait("!document.getElementById('stale').hidden");
        let said = browser.text("#stale");
        assert!(said.starts_with("No answer from fcgimux since ") && said.contains("from then"), "{said}");
        let age = browser.eval("Date.now() - lastAt").as_f64().unwrap();
        assert!((2_500.0..60_000.0).contains(&age), "{age}");
        assert!(browser.eval("document.querySelectorAll('section').length") == json!(1), "the last figures stay");
        browser.keep_picture(&picture("page-390-stale.png"));
    });
}
