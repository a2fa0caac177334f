//! What only fcgimux refuses is answered with its status, and no later than the request takes to arrive: behind nginx with
//! its defaults as well, which reads to the end of a connection.

use std::time::Duration;

use super::{
    case::Case,
    client::{Ending, get, post},
    site::{Site, apache, caddy, haproxy, lighttpd, nginx, nginx_kept},
    stage::Application,
};
use crate::support::Setup;

const AT_ONCE: Duration = Duration::from_millis(500);

/// Nothing refuses directly, so what is looked at is the time.
fn refused(name: &'static str, status: u16, mux: fn(Setup) -> Setup) -> Case {
    Case::new(name)
        .before(move |theme| Application::php(theme, |php| php, mux))
        .better(name, status, Ending::Whole)
        .no_later_than(AT_ONCE)
        .unledgered()
}

fn everywhere(case: impl Fn(Site) -> Case) -> Vec<Case> {
    [nginx(), nginx_kept(), apache(), lighttpd(), caddy(), haproxy()].into_iter().map(case).collect()
}

pub(crate) fn at_once() -> Vec<Case> {
    let mut cases = everywhere(|site| {
        let case = refused("body.max_size", 413, |mux| mux.pool("body: {max_size: 1KiB}"));
        case.on(site).ask(post("/env.php", vec![b'b'; 2_000]))
    });
    cases.extend(everywhere(|site| {
        let case = refused("params.max_size", 431, |mux| mux.pool("params: {max_size: 4KiB}"));
        case.on(site).ask(get("/env.php").header(&format!("X-Long: {}", "v".repeat(5_000))))
    }));
    cases.push(
        refused("params.deny", 403, |mux| mux.pool("params: {deny: [PHP_VALUE]}"))
            .on(nginx().pass("fastcgi_param PHP_VALUE \"memory_limit=256M\";"))
            .ask(get("/env.php")),
    );
    cases.push(
        refused("params.max_count", 431, |mux| mux.pool("params: {max_count: 40}"))
            .on(nginx())
            .ask((0..50).fold(get("/env.php"), |request, number| request.header(&format!("X-{number}: 1")))),
    );
    cases.push(refused("max_connections", 503, |mux| mux.listener("max_connections: 1")).on(nginx()).does(|side| {
        let _held = side.is_through().then(|| side.connect());
        [super::client::ask(side.address(), &get("/ok.php"))].into_iter().collect()
    }));
    cases
}
