//! What php-fpm could have failed in itself is the web server's to handle: error pages, stale caches, the next upstream, its
//! timeouts.

use std::time::Duration;

use super::{
    case::Case,
    client::{Ending, ask, get, post},
    seen::Seen,
    site::{Site, apache, caddy, haproxy, lighttpd, nginx, nginx_kept, nginx_unbuffered},
    stage::{Application, Side},
};
use crate::support::{
    eventually,
    fcgi::{self, Connection, Incoming, STDOUT},
};

const OWN_PAGE: &str = "the web server's own page\n";
const STORE: &str = "fastcgi_cache_path {folder}/cache keys_zone=z_{side}:1m;";
const STALE: &str = "fastcgi_cache z_{side}; fastcgi_cache_key one; fastcgi_cache_valid 200 1s; \
                     fastcgi_cache_use_stale error timeout invalid_header; add_header X-Cache $upstream_cache_status;";
const BOTH: &str = "upstream both_{side} { server {pass}; server {spare} backup; }";
/// Dies once, and answers then.
const ONCE: &str =
    "if (@mkdir(__DIR__ . '/died')) { posix_kill(getmypid(), 9); sleep(5); } echo \"the second time\\n\";";

/// A page of the web server's own, whatever went wrong.
pub(crate) fn error_pages() -> Vec<Case> {
    let nginx_page = || nginx().site("error_page 502 504 /own.html;");
    let kept_page = || nginx_kept().site("error_page 502 504 /own.html;");
    let apache_page = || apache().site("ProxyErrorOverride On\n    ErrorDocument 503 /own.html");
    let caddy_page = || caddy().site("handle_errors {\n rewrite * /own.html\n file_server\n }");
    let page = |name: &str| Case::new(name).file("own.html", OWN_PAGE).status(502).shows(OWN_PAGE);
    let down = |name: &str| page(name).before(|_| Application::nobody()).ask(get("/ok.php"));
    vec![
        page("error_page where a worker dies").on(nginx_page()).on(kept_page()).ask(get("/die.php")).runs(1),
        page("error_page where a worker dies in a POST").on(nginx_page()).ask(post("/die.php", "a=1")).runs(1),
        down("error_page where php-fpm is down").on(nginx_page()).on(kept_page()),
        page("error_page where a response ends inside its headers")
            .on(nginx_page())
            .before(|_| Application::scripted(half_a_header))
            .ask(get("/ok.php")),
        page("ErrorDocument where a worker dies").on(apache_page()).status(503).ask(get("/die.php")).runs(1),
        down("ErrorDocument where php-fpm is down").on(apache_page()).status(503),
        page("handle_errors where a worker dies").on(caddy_page()).ask(get("/die.php")).runs(1),
        down("handle_errors where php-fpm is down").on(caddy_page()),
    ]
}

/// Nothing configured for it: the page that the web server has for it.
pub(crate) fn plain_failures() -> Vec<Case> {
    let dies = |site: Site, status| {
        let case = Case::new("a worker that dies before it answers").on(site).status(status).runs(2);
        case.ask(get("/die.php")).ask(post("/die.php", "a=1"))
    };
    let down = |site: Site, status| {
        let case = Case::new("php-fpm is down").on(site).before(|_| Application::nobody()).status(status);
        case.ask(get("/ok.php")).ask(post("/ok.php", "a=1"))
    };
    let half = |site: Site, status| {
        let case = Case::new("a response that ends inside its headers").on(site).status(status).ask(get("/ok.php"));
        case.before(|_| Application::scripted(half_a_header))
    };
    vec![
        dies(nginx(), 502),
        dies(nginx_kept(), 502),
        dies(nginx_unbuffered(), 502),
        dies(apache(), 503),
        dies(lighttpd(), 500),
        dies(caddy(), 502),
        dies(haproxy(), 502),
        down(nginx(), 502),
        down(nginx_kept(), 502),
        down(nginx_unbuffered(), 502),
        down(apache(), 503),
        down(lighttpd(), 503).differs("lighttpd answers 500", 500, Ending::Whole),
        down(caddy(), 502),
        // HAProxy and lighttpd tell a connection that is refused from one that ends.
        down(haproxy(), 503).better("HAProxy answers 502 at once", 502, Ending::Whole),
        half(nginx(), 502),
        half(nginx_kept(), 502),
        half(apache(), 200),
        half(lighttpd(), 500),
        half(caddy(), 502),
        half(haproxy(), 0).gives(0, Ending::None).better("dies of a half header block", 502, Ending::Whole),
    ]
}

/// Why it is so stands in the web server's log, and the web server lives on.
pub(crate) fn reasons() -> Vec<Case> {
    let told = |name: &str| {
        Case::new(name).on(nginx()).on(nginx_kept()).status(502).does(|side| {
            let answer = ask(side.address(), &get("/die.php"));
            let told = || !side.is_through() || side.log().contains("FastCGI sent in stderr: \"fcgimux: ");
            let told = eventually(Duration::from_secs(5), told);
            [answer].into_iter().collect::<Seen>().and("the reason is told", told)
        })
    };
    vec![
        told("the reason of a worker's death"),
        told("the reason where php-fpm is down").before(|_| Application::nobody()),
        Case::new("requests behind a failure")
            .everywhere()
            .ask(get("/die.php"))
            .ask(get("/ok.php"))
            .ask(post("/env.php", "a=1"))
            .runs(3),
    ]
}

/// nginx's other mechanisms.
pub(crate) fn next_and_stale() -> Vec<Case> {
    let stale = |name: &str| Case::new(name).on(nginx().top(STORE).pass(STALE)).shows("ok\n");
    let both_when = |name: &str, when: &str| {
        let pass = format!("fastcgi_pass both_{{side}}; fastcgi_next_upstream {when};");
        Case::new(name).on(nginx().top(BOTH).pass(&pass)).script("once.php", ONCE)
    };
    let both = |name: &str| both_when(name, "error timeout invalid_header");
    let half = |name: &str, when: &str| {
        both_when(name, when).before(|_| Application::scripted(half_a_header)).ask(get("/ok.php"))
    };
    vec![
        stale("a stale entry where a worker dies").does(|side| fresh_and_then(side, "/die.php")),
        stale("a stale entry where a response ends inside its headers")
            .before(|_| Application::scripted(half_of_some))
            .does(|side| fresh_and_then(side, "/half.php")),
        both("a backup where a worker dies").ask(get("/once.php")).shows("the second time").runs(2),
        both("no backup for a POST where a worker dies").ask(post("/once.php", "a=1")).status(502).runs(1),
        both("a backup where php-fpm is down")
            .before(|_| Application::nobody())
            .ask(get("/ok.php"))
            .shows("ok")
            .runs(1),
        both("a backup for a POST where php-fpm is down")
            .before(|_| Application::nobody())
            .ask(post("/ok.php", "a=1"))
            .differs("nginx sends a POST to no other server", 502, Ending::Whole),
        half("a backup where a response ends inside its headers", "invalid_header").shows("ok").runs(1),
        half("no backup but for errors where a response ends inside its headers", "error timeout").status(502).runs(0),
        both_when("a backup for errors where a worker dies", "error").ask(get("/once.php")).shows("second").runs(2),
        both_when("no backup but for invalid headers where a worker dies", "invalid_header")
            .ask(get("/once.php"))
            .status(502)
            .runs(1),
    ]
}

/// The web server's own timeouts govern.
pub(crate) fn timeouts() -> Vec<Case> {
    let slow = "usleep(3000000); echo \"slow\\n\";";
    let case = |name: &str| Case::new(name).script("slow.php", slow).ask(get("/slow.php")).runs(1);
    let wait = "echo 'first '; unbuffered(); flush(); usleep(3000000); echo 'second';";
    vec![
        case("fastcgi_read_timeout before the first byte")
            .on(nginx().pass("fastcgi_read_timeout 1s;"))
            .on(nginx_kept().pass("fastcgi_read_timeout 1s;"))
            .status(504),
        case("error_page of a timeout")
            .on(nginx().site("error_page 504 /own.html;").pass("fastcgi_read_timeout 1s;"))
            .file("own.html", OWN_PAGE)
            .status(504)
            .shows(OWN_PAGE),
        case("a timeout of HAProxy").on(haproxy().pass("timeout server 1s")).status(504),
        case("a timeout of Apache").on(apache().site("ProxyTimeout 1")).status(504),
        case("a timeout of Caddy").on(caddy().pass("read_timeout 1s")).status(504),
        Case::new("fastcgi_read_timeout between two flushes")
            .on(nginx().pass("fastcgi_read_timeout 1s;"))
            .script("wait.php", wait)
            .ask(get("/wait.php"))
            .gives(200, Ending::Cut)
            .any_length()
            .runs(1),
        Case::new("a pause between two flushes").everywhere().script("wait.php", wait).ask(get("/wait.php")).runs(1),
    ]
}

/// Fills the cache, waits until the entry is stale, and asks where the answer fails.
fn fresh_and_then(side: &Side<'_>, target: &str) -> Seen {
    let first = ask(side.address(), &get("/ok.php"));
    let mut last = first.clone();
    let stale = || {
        last = ask(side.address(), &get(target));
        last.header("x-cache") != Some("HIT")
    };
    eventually(Duration::from_secs(5), stale);
    [first, last].into_iter().collect()
}

fn half_a_header(connection: &mut Connection, request: &Incoming) {
    let half = fcgi::record(STDOUT, request.id, b"Content-Type: text");
    let _ = connection.try_send(&[half, fcgi::end_request(request.id, 0, 0)].concat());
    connection.shutdown_write();
}

/// Of a script whose name says so.
fn half_of_some(connection: &mut Connection, request: &Incoming) {
    if request.param("SCRIPT_NAME").is_some_and(|name| name.contains("half")) {
        half_a_header(connection, request);
    } else {
        let _ = connection.try_answer(request.id, b"ok\n");
        if !request.keep {
            connection.shutdown_write();
        }
    }
}
