//! Public configurations that work with php-fpm work with fcgimux and nothing configured.

use std::{fs, time::Duration};

use super::{
    case::Case,
    client::{Kept, get, post},
    seen::Seen,
    site::{Site, apache, caddy, haproxy, lighttpd, nginx, nginx_kept, nginx_unbuffered},
    stage::{Application, Side},
};
use crate::support::{
    apps::Program,
    eventually,
    fcgi::{Call, PARAMS, begin, pair, record, stdin_end},
    warnings,
};

const SOON: Duration = Duration::from_secs(5);

/// Settings of PHP that a web server sends stick to a worker, so these cases have a php-fpm of their own.
fn with_setting(name: &str, line: &str) -> Case {
    let show = "echo ini_get('memory_limit'), ' ', ini_get('upload_max_filesize'), ' ', ini_get('open_basedir');";
    Case::new(name)
        .before(|theme| Application::php(theme, |php| php, |mux| mux))
        .script("limit.php", show)
        .on(nginx().pass(line))
        .ask(get("/limit.php"))
        .ask(post("/limit.php", "a=1"))
        .runs(2)
}

pub(crate) fn public_configurations() -> Vec<Case> {
    let many = || (0..990).fold(get("/count.php"), |request, number| request.header(&format!("a{number}: 1")));
    let count = "echo count(array_filter(array_keys($_SERVER), fn($name) => str_starts_with($name, 'HTTP_A')));";
    let long = |length: usize| get("/env.php").header(&format!("Cookie: c={}", "v".repeat(length)));
    vec![
        with_setting("PHP_VALUE", "fastcgi_param PHP_VALUE \"memory_limit=256M\";").shows("256M"),
        with_setting("PHP_ADMIN_VALUE", "fastcgi_param PHP_ADMIN_VALUE \"open_basedir=$document_root/:/tmp\";"),
        with_setting(
            "PHP_VALUE of two lines",
            "fastcgi_param PHP_VALUE \"memory_limit=756M\nupload_max_filesize=20M\";",
        )
        .shows("756M 20M"),
        with_setting("an empty PHP_VALUE", "fastcgi_param PHP_VALUE \"\";"),
        Case::new("990 headers").on(nginx()).on(nginx_kept()).script("count.php", count).ask(many()).shows("990"),
        Case::new("a cookie of 7 kB").everywhere().ask(long(7_000)),
        Case::new("a cookie of 30 kB")
            .on(nginx().top("large_client_header_buffers 4 64k;"))
            .on(nginx_unbuffered().top("large_client_header_buffers 4 64k;"))
            .ask(long(30_000)),
        Case::new("a header of 150 kB for an application that is not php-fpm")
            .before(|_| Application::of(Program::go().start()))
            .does(|side| big_param(side, 150_000)),
        Case::new("a header of 60 kB for an application that is not php-fpm")
            .before(|_| Application::of(Program::go().start()))
            .does(|side| big_param(side, 60_000)),
        Case::new("a client that leaves is nothing to warn of")
            .on(nginx())
            .on(nginx_kept())
            .on(apache())
            .on(lighttpd())
            .on(caddy())
            .on(haproxy())
            .before(|theme| Application::php(theme, |php| php, |mux| mux))
            .script("slow.php", "for ($i = 0; $i < 20; $i++) { echo str_repeat('s', 9000); flush(); usleep(50000); }")
            .does(leaves)
            .unledgered()
            .in_turn(),
        Case::new("a script that dies is tried on no other worker")
            .before(|theme| Application::php(theme, |php| php, |mux| mux))
            .on(nginx())
            .on(caddy())
            .status(502)
            .ask(get("/die.php"))
            .ask(get("/die.php"))
            .runs(2),
        drupal(),
    ]
}

/// A front controller with clean addresses.
fn drupal() -> Case {
    let rewrites = |site: Site, lines: &str| site.site(lines);
    Case::new("a front controller")
        .on(rewrites(nginx(), "location / { try_files $uri /env.php?$query_string; }"))
        .on(rewrites(caddy(), "try_files {path} /env.php?{query}"))
        .ask(get("/some/page?x=1"))
        .ask(post("/some/page", "a=1"))
        .runs(2)
}

/// PARAMS as a stream: a pair may go on in the next record.
fn big_param(side: &Side<'_>, length: usize) -> Seen {
    let call =
        Call::get("/srv/app.php").param("SCRIPT_NAME", "/app.php").param("REQUEST_URI", "/app.php?n=100&token=t");
    let call = call.query("n=100&token=t").param("SERVER_PROTOCOL", "HTTP/1.1").param("SERVER_NAME", "test");
    let call = call.param("SERVER_PORT", "80").param("HTTP_X_LONG", &"v".repeat(length));
    let pairs: Vec<u8> = call.params.iter().flat_map(|(name, value)| pair(name.as_bytes(), value.as_bytes())).collect();
    let mut bytes = begin(1, false);
    bytes.extend(pairs.chunks(32_768).flat_map(|chunk| record(PARAMS, 1, chunk)));
    bytes.extend(record(PARAMS, 1, &[]));
    bytes.extend(stdin_end(1));
    let mut connection = side.connect();
    let _ = connection.try_send(&bytes);
    Seen::of_reply(&connection.reply(SOON))
}

/// Leaves in the beginning, in the middle of a response, and before there is one.
fn leaves(side: &Side<'_>) -> Seen {
    for read in [0, 1, 20_000] {
        let mut kept = Kept::to(side.address());
        kept.only_send(&get("/slow.php"));
        let _ = kept.read_some(read);
    }
    if !side.is_through() {
        return Seen::default().and("warnings of fcgimux", "[]");
    }
    let over = || {
        let metrics = side.mux().metrics();
        let leased = metrics.sum("fcgimux_upstream_connections", &[("state", "leased")]);
        leased == 0.0 && metrics.sum("fcgimux_requests_total", &[]) >= 1.0
    };
    assert!(eventually(SOON, over), "the exchanges are over");
    Seen::default().and("warnings of fcgimux", format!("{:?}", warnings(side.mux())))
}

/// Without anything configured the timeouts are those of the web server.
#[test]
fn no_timeout_of_fcgimux_is_below_that_of_a_web_server_unless_it_is_set() {
    let folder = tempfile::tempdir().expect("temp dir");
    let file = folder.path().join("fcgimux.yaml");
    let text =
        "listeners: [{socket: /tmp/none.sock, pool: p}]\npools: {p: {endpoints: [{address: \"127.0.0.1:9\"}]}}\n";
    fs::write(&file, text).expect("write");
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_fcgimux")).arg("check").arg(&file).output().expect("run");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["first_byte", "between_bytes", "exchange"] {
        assert!(
            shown.contains(&format!("{name}: off")) || shown.contains(&format!("{name}: \"off\"")),
            "{name}: {shown}"
        );
    }
}
