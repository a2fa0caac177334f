//! php-fpm breaks off after it has begun to answer: the client sees the status line and what came, and no request runs twice.

use super::{
    browsing,
    case::Case,
    client::{Ending, get, post},
    site::{Site, apache, apache_kept, caddy, haproxy, haproxy_kept, lighttpd, nginx, nginx_kept},
};

const GZIP: &str = "gzip on; gzip_types text/plain;";
const SIZES: [usize; 5] = [30, 700, 6_000, 20_000, 90_000];

/// Takes an order, answers `n` bytes and dies.
const ORDER: &str = "note('order'); unbuffered(); header('X-Order: 1');
    echo substr(str_repeat(\"a line of a page like the one before\\n\", 3000), 0, (int) $_GET['n']); flush(); crash();";

fn case(name: String, site: Site, size: usize) -> Case {
    Case::new(name)
        .on(site)
        .script("order.php", ORDER)
        .ask_kept(get("/ok.php"))
        .ask_kept(post(&format!("/order.php?n={size}"), "a=1").header("Accept-Encoding: gzip"))
        .gives(200, Ending::Cut)
        .any_length()
        .runs(2)
}

/// Behind nginx, however it passes responses on.
pub(crate) fn nginx_matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        for (kept, base) in [("short", nginx()), ("kept", nginx_kept())] {
            for (buffers, line) in [("buffered", ""), ("unbuffered", "fastcgi_buffering off;")] {
                for (zipped, gzip) in [("plain", ""), ("gzip", GZIP)] {
                    let name =
                        format!("a POST that breaks off after {size} B, {kept} connections, {buffers}, {zipped}");
                    cases.push(case(name, base.clone().pass(line).site(gzip), size));
                }
            }
        }
    }
    cases
}

/// Behind the others, in the beginning and in the middle; Caddy 2.6 takes every end for an orderly one.
pub(crate) fn other_servers() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [30, 20_000] {
        let name = format!("a POST that breaks off after {size} B");
        for site in [apache(), apache_kept(), lighttpd(), haproxy(), haproxy_kept()] {
            cases.push(case(name.clone(), site, size));
        }
        cases.push(case(name, caddy(), size).gives(200, Ending::Whole));
    }
    cases
}

/// What clients do by themselves when a connection that was kept ends.
pub(crate) fn clients() -> Vec<Case> {
    let order = |name: &str| Case::new(name).script("order.php", ORDER).runs(2);
    let gzip = || nginx().site(GZIP).note("gzip");
    vec![
        order("curl does not send a form again that broke off").on(nginx()).on(nginx_kept()).on(gzip()).curl(
            18,
            &[
                "{url}/ok.php",
                "-o",
                "/dev/null",
                "--next",
                "--compressed",
                "-d",
                "a=1",
                "{url}/order.php?n=30",
                "-o",
                "/dev/null",
            ],
        ),
        order("curl does not send a GET again that broke off").on(nginx()).on(gzip()).curl(
            18,
            &["{url}/ok.php", "-o", "/dev/null", "--next", "--compressed", "{url}/order.php?n=700", "-o", "/dev/null"],
        ),
        order("Chromium does not send a POST again that broke off")
            .on(gzip())
            .file("page.html", "<body>a page</body>")
            .does(browsing::posts)
            .in_turn()
            .runs(1),
        order("a GET that breaks off is executed once")
            .on(nginx())
            .on(gzip())
            .ask_kept(get("/ok.php"))
            .ask_kept(get("/order.php?n=700"))
            .gives(200, Ending::Cut)
            .any_length(),
        Case::new("a response with a length that breaks off")
            .on(nginx())
            .on(apache())
            .on(lighttpd())
            .on(caddy())
            .on(haproxy())
            .script(
                "long.php",
                "unbuffered(); header('Content-Length: 1000000'); echo str_repeat('d', 100000); flush(); crash();",
            )
            .ask(get("/long.php"))
            .gives(200, Ending::Cut)
            .any_length()
            .runs(1),
    ]
}
