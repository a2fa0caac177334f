//! What one request may bring.

use super::{LIMIT, Refusal, SOON, assert_refused, assert_served, with};
use crate::support::{
    Fcgimux, PhpFpm, bounded,
    fcgi::{self, Call},
};

fn get() -> Call {
    Call::get("/srv/app.php").last()
}

#[test]
fn params_beyond_their_size_are_answered_431() {
    with("params: {max_size: 4KiB}", |mux, application| {
        let refusal = Refusal {
            status: "431 Request Header Fields Too Large",
            reason: "params_too_large",
            detail: "(params.max_size)",
        };
        let before = application.accepted();
        for size in [4_097, 5_000, 60_000, 3_000_000] {
            let mut call = get();
            for (number, _) in vec![0; size].chunks(20_000).enumerate() {
                call = call.param(&format!("HTTP_COOKIE{number}"), &"c".repeat(size.min(20_000)));
            }
            assert_refused(mux, &call, &refusal);
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        let small = get().param("HTTP_COOKIE", &"c".repeat(3_900)).query("token=2");
        assert_eq!(mux.call(&small, SOON).whole().text(), "token=2");
    });
}

/// php-fpm takes no pair that spans two records (fact 9.4), so the largest is as large as a record.
#[test]
fn one_param_beyond_the_size_of_a_record_is_answered_431() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let script = php.add_script("length.php", "echo strlen($_SERVER['HTTP_COOKIE']);");
        let mux = Fcgimux::to(php.address()).start();
        // Two lengths of one and of four bytes, and the name.
        for (length, fits) in [(65_528 - 5 - 11, true), (65_528 - 5 - 11 + 1, false), (130_000, false)] {
            let call = raw_pair(&script, length);
            let mut connection = mux.connect();
            connection.send(&call);
            let reply = connection.reply(SOON).whole();
            if fits {
                assert_eq!(reply.text(), length.to_string());
            } else {
                let detail = "param \"HTTP_COOKIE\" is larger than one record";
                super::assert_answer(reply, "431 Request Header Fields Too Large", detail);
            }
        }
        assert_eq!(mux.metrics().sum("fcgimux_refused_total", &[("reason", "params_too_large")]), 2.0);
        let reply = mux.call(&Call::get(&script).param("HTTP_COOKIE", "four"), SOON);
        assert_eq!(reply.whole().text(), "4", "the next one is served");
    });
}

/// With a HTTP_COOKIE of so many bytes, split over records as a web server may.
fn raw_pair(script: &str, length: usize) -> Vec<u8> {
    use crate::support::fcgi;
    let small = get().param("SCRIPT_FILENAME", script);
    let mut content = fcgi::pairs(small.params);
    content.extend(fcgi::pair(b"HTTP_COOKIE", "c".repeat(length).as_bytes()));
    let mut bytes = fcgi::begin(1, false);
    for piece in content.chunks(30_000) {
        bytes.extend(fcgi::record(fcgi::PARAMS, 1, piece));
    }
    bytes.extend(fcgi::record(fcgi::PARAMS, 1, &[]));
    bytes.extend(fcgi::stdin_end(1));
    bytes
}

#[test]
fn too_many_params_are_answered_431() {
    with("params: {max_count: 20}", |mux, application| {
        let refusal = Refusal {
            status: "431 Request Header Fields Too Large",
            reason: "too_many_params",
            detail: "more than 20 params (params.max_count)",
        };
        let before = application.accepted();
        let with_params = |count: usize| {
            let mut call = get().query("token=1");
            call.params.extend((call.params.len()..count).map(|number| (format!("P{number}"), String::new())));
            call
        };
        for count in [21, 22, 10_000] {
            assert_refused(mux, &with_params(count), &refusal);
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        assert_eq!(mux.call(&with_params(20), SOON).whole().text(), "token=1");
    });
}

#[test]
fn a_body_over_the_limit_is_answered_413() {
    with("body: {max_size: 100000B, memory: 10000B}", |mux, application| {
        let refusal = Refusal { status: "413 Content Too Large", reason: "body_too_large", detail: "(body.max_size)" };
        let before = application.accepted();
        for size in [100_001, 200_000, 2_000_000] {
            let call = Call::post("/srv/app.php", vec![b'x'; size]);
            assert_refused(mux, &call, &refusal);
            let mut unsaid = call.clone();
            unsaid.params.retain(|(name, _)| name != "CONTENT_LENGTH");
            assert_refused(mux, &unsaid, &refusal);
        }
        // It is refused before it has come.
        let mut connection = mux.connect();
        let announced = Call::post("/srv/app.php", "x").param("CONTENT_LENGTH", "100001");
        connection.send(&[announced.head(), fcgi::stdin(1, b"x")].concat());
        assert_eq!(connection.reply(SOON).whole().http_status(), 413);
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        drop(connection);
        let largest = Call::post("/srv/app.php", vec![b'x'; 100_000]);
        assert_eq!(mux.call(&largest, SOON).whole().body().len(), 100_000);
    });
}

#[test]
fn a_body_that_cannot_be_stored_is_answered_500() {
    with("body: {memory: 1000B, directory: /nonexistent}", |mux, application| {
        let refusal = Refusal { status: "500 Internal Server Error", reason: "storage", detail: "(body.directory" };
        let before = application.accepted();
        assert_refused(mux, &Call::post("/srv/app.php", vec![b'x'; 200_000]), &refusal);
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        let small = Call::post("/srv/app.php", "small");
        assert_eq!(mux.call(&small, SOON).whole().text(), "small");
    });
}

const DENY: &str = "params: {deny: [PHP_VALUE, PHP_ADMIN_VALUE]}";

/// Only the administrator of the web server can set it, and php-fpm alone takes it.
#[test]
fn settings_of_php_go_on_and_are_said_once_and_counted() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let script = php.add_script("limit.php", "echo ini_get('memory_limit');");
        let mux = Fcgimux::to(php.address()).start();
        for value in ["memory_limit=65M", "memory_limit=66M", ""] {
            let call = Call::get(&script).param("PHP_VALUE", value).param("SERVER_NAME", "shop.example");
            assert_eq!(mux.call(&call, SOON).whole().http_status(), 200);
        }
        assert_eq!(mux.metrics().sum("fcgimux_php_settings_total", &[("action", "passed")]), 2.0);
        let said = mux.log().lines().filter(|line| line.contains("goes on to php-fpm")).count();
        assert_eq!(said, 1, "{}", mux.log());
        assert!(mux.log().contains("limit.php") && mux.log().contains("shop.example"), "{}", mux.log());
    });
}

#[test]
fn a_denied_param_is_answered_403() {
    with(DENY, |mux, application| {
        let before = application.accepted();
        for name in ["PHP_VALUE", "PHP_ADMIN_VALUE"] {
            let detail = if name == "PHP_VALUE" {
                "param \"PHP_VALUE\" is denied (params.deny)"
            } else {
                "param \"PHP_ADMIN_VALUE\" is denied (params.deny)"
            };
            let refusal = Refusal { status: "403 Forbidden", reason: "param_denied", detail };
            assert_refused(mux, &get().param(name, "memory_limit=1"), &refusal);
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
    });
}

/// Sends params and gives those that arrive at PHP.
fn arriving(pool: &str, params: &[(&str, &str)], wanted: &[&str]) -> Vec<Option<String>> {
    let php = PhpFpm::pool(1).start();
    let script = php.add_script("server.php", "echo json_encode($_SERVER + ['limit' => ini_get('memory_limit')]);");
    let mux = Fcgimux::to(php.address()).pool(pool).start();
    let mut call = Call::get(&script);
    call.params.extend(params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let reply = mux.call(&call, SOON).whole();
    let server: serde_json::Value = serde_json::from_slice(reply.body()).expect("JSON");
    wanted.iter().map(|name| server[*name].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_denied_param_can_be_stripped_instead() {
    bounded(LIMIT, || {
        let sent = [("PHP_VALUE", "memory_limit=64M"), ("OTHER", "kept"), ("PHP_VALUE", "memory_limit=65M")];
        let arrived = arriving(
            "params: {deny: [PHP_VALUE], on_denied: strip}",
            &sent,
            &["PHP_VALUE", "OTHER", "PHP_ADMIN_VALUE", "limit"],
        );
        assert_eq!(arrived, [None, Some("kept".into()), None, Some("128M".into())]);
    });
}

#[test]
fn params_are_set_and_removed() {
    bounded(LIMIT, || {
        let pool = "params: {set: {APP_ENV: production, HTTPS: \"on\"}, remove: [HTTP_PROXY, HTTP_X_SECRET]}";
        let sent = [("HTTP_PROXY", "evil:80"), ("HTTP_X_SECRET", "s"), ("HTTPS", "off"), ("HTTP_HOST", "here")];
        let wanted = ["HTTP_PROXY", "HTTP_X_SECRET", "HTTPS", "APP_ENV", "HTTP_HOST"];
        let arrived = arriving(pool, &sent, &wanted);
        assert_eq!(arrived, [None, None, Some("on".into()), Some("production".into()), Some("here".into())]);
        // By default the one that makes scripts talk to a proxy of the visitor's choice (httpoxy) is taken out.
        assert_eq!(arriving("", &sent, &["HTTP_PROXY", "HTTP_X_SECRET"]), [None, Some("s".into())]);
    });
}

#[test]
fn many_refusals_leave_nothing_behind() {
    with("body: {max_size: 1000B, memory: 1000B}\n    params: {deny: [PHP_VALUE]}", |mux, _| {
        for round in 0..300 {
            let call = match round % 3 {
                0 => get().param("PHP_VALUE", "x"),
                1 => Call::post("/srv/app.php", vec![b'x'; 300_000]),
                _ => Call::post("/srv/app.php", "x").param("CONTENT_LENGTH", "2"),
            };
            assert!(mux.call(&call, SOON).whole().http_status() >= 400);
        }
        assert_eq!(mux.metrics().sum("fcgimux_refused_total", &[]), 300.0);
        assert_served(mux);
    });
}
