//! The trace that a visitor's request belongs to stands in every line about it.

use super::*;
use crate::support::bounded;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

#[track_caller]
fn assert_traced(line: &Value) {
    assert_eq!(fields(line, ["trace_id", "span_id"]), json!([TRACE, SPAN]), "{line}");
}

#[test]
fn a_traceparent_by_way_of_nginx_is_in_the_access_log_and_reaches_php() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        php.add_script(
            "trace.php",
            "header('X-Token: ' . $_GET['token']); header('X-Method: GET'); \
            $_SERVER['HTTP_TRACEPARENT'] ?? exit; echo 'x';",
        );
        let mux = Fcgimux::to(php.address()).top(ON).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        visit(&nginx, &Request::new("GET", "/trace.php").header("traceparent", &traceparent())).assert_clean();
        assert_traced(&exchange(&mux, 1));
    });
}

#[test]
fn a_traceparent_that_is_none_is_ignored() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).top(ON).start();
        let good = traceparent();
        let bad = [
            String::new(),
            good[..54].to_owned(),
            format!("{good}0"),
            good.to_uppercase(),
            good.replace('4', "x"),
            good.replace(TRACE, &"0".repeat(32)),
            good.replace(SPAN, &"0".repeat(16)),
            good.replacen("00", "ff", 1),
            "x".repeat(10_000),
        ];
        for (number, bad) in bad.iter().enumerate() {
            assert_eq!(mux.call(&echo(&php).param("HTTP_TRACEPARENT", bad), SOON).whole().http_status(), 200);
            let line = exchange(&mux, number + 1);
            assert!(line["trace_id"].is_null() && line["span_id"].is_null(), "{bad}: {line}");
        }
        assert_eq!(mux.call(&echo(&php).param("HTTP_TRACEPARENT", &good), SOON).whole().http_status(), 200);
        assert_traced(&exchange(&mux, bad.len() + 1));
    });
}

#[test]
fn lines_that_warn_of_an_exchange_name_its_trace_without_an_access_log() {
    bounded(LIMIT, || {
        let [php, other] = [(); 2].map(|()| PhpFpm::pool(1).start());
        let mark = php.log_folder().join("once").display().to_string();
        let retried = format!("if (@mkdir('{mark}')) {{ posix_kill(getmypid(), 9); sleep(5); }} echo 'done';");
        let retried = php.add_script("dies-once.php", &retried);
        let broken = php.add_script("dies.php", "posix_kill(getmypid(), 9); sleep(5);");
        let mux = Fcgimux::to(php.address())
            .and(other.address())
            .pool("params: {max_count: 40}\n    on_failure: respond")
            .start();
        let traced = |call: Call| call.param("HTTP_TRACEPARENT", &traceparent()).last();
        assert_eq!(mux.call(&traced(Call::get(&retried)), SOON).whole().http_status(), 200);
        assert_eq!(mux.call(&traced(Call::post(&broken, "x")), SOON).whole().http_status(), 502);
        let broke = warnings(&mux, "exchange broke");
        assert_eq!(broke.len(), 2, "{}", mux.log());
        broke.iter().for_each(assert_traced);
        assert_eq!(json!([broke[0]["script"], broke[1]["script"]]), json!([retried, broken]));
        assert!(exchanges(&mux).is_empty());

        let mux = Fcgimux::to("127.0.0.1:1").pool("queue: {timeout: 1s}\n    on_failure: respond").start();
        assert_eq!(mux.call(&traced(echo(&php)), SOON).whole().http_status(), 503);
        let refused = warnings(&mux, "request refused");
        assert_eq!(refused.len(), 1, "{}", mux.log());
        assert_traced(&refused[0]);
    });
}
