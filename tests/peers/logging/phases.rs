//! One line an exchange, and where its time went.

use std::thread;

use super::*;
use crate::support::{
    Pool, bounded,
    fcgi::{Application, polite},
};

/// The parts of its time are the whole.
#[track_caller]
fn assert_adds_up(line: &Value) {
    let parts = ["queued", "lost", "sent", "first_byte", "end"];
    let sum: f64 = parts.iter().filter_map(|part| line[part].as_f64()).sum();
    // Each is cut to a millionth.
    assert!((sum - seconds(line, "seconds")).abs() < 1e-5, "{sum}: {line}");
}

/// One worker, and one connection to it.
fn with(pool: Pool, settings: &'static str, test: impl FnOnce(&Fcgimux, &PhpFpm) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = pool.ini("output_buffering", "0").start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1}").pool(settings).top(ON).start();
        test(&mux, &php);
        exchanges(&mux).iter().for_each(assert_adds_up);
        assert_agrees_with_metrics(&mux);
    });
}

/// No setting besides.
const PLAIN: &str = "retry: {attempts: 1}";

fn slow(php: &PhpFpm, query: &str) -> Call {
    Call::get(&php.script("slow.php")).query(&format!("token=slow&{query}")).last()
}

#[test]
fn an_exchange_by_way_of_nginx_is_one_line_with_its_phases() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).ini("output_buffering", "0").start();
        let mux = Fcgimux::to(php.address()).top(ON).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        visit(&nginx, &Request::new("GET", "/slow.php?ms=300&steps=3")).assert_clean();
        let line = exchange(&mux, 1);
        assert_adds_up(&line);
        assert_eq!(fields(&line, ["pool", "outcome"]), json!(["default", "ok"]));
        assert_eq!(fields(&line, ["method", "status"]), json!(["GET", 200]));
        assert_eq!(line["script"], php.script("slow.php"), "without the query string");
        assert_eq!(line["endpoint"], php.address());
        assert_eq!(fields(&line, ["retries", "connection_requests", "request_body"]), json!([0, 0, 0]));
        assert!(line["response_bytes"].as_u64().is_some_and(|bytes| bytes > 50), "{line}");
        assert!(["lost", "reason", "trace_id", "span_id"].iter().all(|field| line[field].is_null()), "{line}");
        // A step each 100 ms, the headers with the first.
        assert!(seconds(&line, "first_byte") >= 0.09 && seconds(&line, "end") >= 0.19, "{line}");
        assert!(
            seconds(&line, "sent") < 0.09 && seconds(&line, "connection_age") < seconds(&line, "seconds"),
            "{line}"
        );

        let body = Request::new("POST", "/echo.php").body(5_000, 1);
        visit(&nginx, &body).assert_clean();
        let line = exchange(&mux, 2);
        assert_eq!(fields(&line, ["method", "request_body"]), json!(["POST", 5_000]));
        assert_eq!(line["connection_requests"], 1, "on the same connection: {line}");
        assert!(seconds(&line, "connection_age") >= 0.3, "{line}");
        assert_agrees_with_metrics(&mux);
    });
}

#[test]
fn the_status_is_the_one_that_php_answers() {
    with(PhpFpm::pool(1), PLAIN, |mux, php| {
        let script = php.add_script("status.php", "http_response_code((int) $_GET['code']); echo 'x';");
        for (number, code) in [404_u16, 302, 500].into_iter().enumerate() {
            let call = Call::get(&script).query(&format!("code={code}")).last();
            assert_eq!(mux.call(&call, SOON).whole().http_status(), code);
            let line = exchange(mux, number + 1);
            assert_eq!(fields(&line, ["status", "outcome"]), json!([code, "ok"]));
        }
    });
}

#[test]
fn what_waits_for_a_worker_is_queued_and_no_work_of_the_application() {
    with(PhpFpm::pool(1), PLAIN, |mux, php| {
        thread::scope(|scope| {
            let first = scope.spawn(|| mux.call(&slow(php, "ms=400"), SOON).whole());
            assert!(eventually(SOON, || mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[]) == 1.0));
            assert_eq!(mux.call(&echo(php), SOON).whole().http_status(), 200);
            first.join().expect("the first");
        });
        let line = exchange(mux, 2);
        assert!(line["script"].as_str().is_some_and(|script| script.ends_with("echo.php")), "{line}");
        let work = seconds(&line, "sent") + seconds(&line, "first_byte") + seconds(&line, "end");
        assert!(seconds(&line, "queued") > 0.1 && work < seconds(&line, "queued"), "{line}");
    });
}

#[test]
fn an_exchange_that_is_sent_again_says_how_often_and_how_long_that_took() {
    bounded(LIMIT, || {
        let [php, other] = [(); 2].map(|()| PhpFpm::pool(1).start());
        let mux = &Fcgimux::to(php.address()).and(other.address()).top(ON).start();
        let mark = php.log_folder().join("once").display().to_string();
        let text =
            format!("if (@mkdir('{mark}')) {{ usleep(200000); posix_kill(getmypid(), 9); sleep(5); }} echo 'done';");
        let script = php.add_script("dies-once.php", &text);
        assert_eq!(mux.call(&Call::get(&script).last(), SOON).whole().text(), "done");
        let line = exchange(mux, 1);
        assert_eq!(fields(&line, ["outcome", "retries"]), json!(["ok", 1]), "{line}");
        assert!(seconds(&line, "lost") >= 0.19 && seconds(&line, "first_byte") < 0.19, "{line}");
        let warned = warnings(mux, "exchange broke: application closed the connection");
        assert_eq!(warned.len(), 1, "{}", mux.log());
        assert_eq!(fields(&warned[0], ["script", "phase"]), json!([script, "Sent"]));
        assert_ne!(line["endpoint"], warned[0]["endpoint"], "what may have been executed goes to another endpoint");
    });
}

#[test]
fn a_refusal_says_why_and_what_the_web_server_was_told() {
    with(PhpFpm::pool(1), "queue: {depth: 1, timeout: 300ms}\n    body: {max_size: 10B}", |mux, php| {
        thread::scope(|scope| {
            let busy = scope.spawn(|| mux.call(&slow(php, "ms=800"), SOON).whole());
            assert!(eventually(SOON, || mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[]) == 1.0));
            let late = scope.spawn(|| mux.call(&echo(php), SOON).whole());
            assert!(eventually(SOON, || mux.metrics().sum("fcgimux_queue_depth", &[]) == 1.0));
            assert_eq!(mux.call(&echo(php), SOON).whole().http_status(), 503, "the queue is full");
            assert_eq!(late.join().expect("who waits").http_status(), 503, "too long");
            busy.join().expect("who is served");
        });
        let large = Call::post(&php.script("echo.php"), "eleven byte").last();
        assert_eq!(mux.call(&large, SOON).whole().http_status(), 413);
        exchange(mux, 4);
        let of = |reason: &str| {
            let found: Vec<Value> = exchanges(mux).into_iter().filter(|line| line["reason"] == reason).collect();
            assert_eq!(found.len(), 1, "{reason}: {}", mux.log());
            assert_eq!(found[0]["outcome"], "refused");
            found[0].clone()
        };
        let (full, late, large) = (of("queue_full"), of("queue_timeout"), of("body_too_large"));
        assert_eq!(json!([full["status"], late["status"], large["status"]]), json!([503, 503, 413]));
        assert!(seconds(&full, "queued") < 0.1 && seconds(&late, "queued") >= 0.3, "{full} {late}");
        assert!(full["script"].is_string() && full["endpoint"].is_null() && large["script"].is_null(), "{large}");
        let warned =
            |reason: &str| warnings(mux, "request refused").iter().filter(|line| line["reason"] == reason).count();
        assert_eq!((warned("queue_full"), warned("queue_timeout"), warned("body_too_large")), (1, 1, 1));
    });
}

#[test]
fn one_that_is_too_slow_breaks_or_is_given_up_says_so() {
    with(PhpFpm::pool(1), "timeouts: {first_byte: 200ms}\n    on_failure: respond", |mux, php| {
        assert_eq!(mux.call(&slow(php, "ms=600"), SOON).whole().http_status(), 504);
        let line = exchange(mux, 1);
        assert_eq!(fields(&line, ["outcome", "status"]), json!(["timeout", 504]));
        assert!(line["first_byte"].is_null() && seconds(&line, "end") >= 0.19, "{line}");

        let dies = php.add_script("dies.php", "posix_kill(getmypid(), 9); sleep(5);");
        let post = Call::post(&dies, "x").last();
        assert_eq!(mux.call(&post, SOON).whole().http_status(), 502);
        let line = exchange(mux, 2);
        assert_eq!(fields(&line, ["outcome", "status", "retries"]), json!(["broken", 502, 0]));

        let mut visitor = mux.connect();
        visitor.send(&slow(php, "ms=150").bytes());
        assert!(eventually(SOON, || mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[]) == 1.0));
        drop(visitor);
        let line = exchange(mux, 3);
        assert_eq!(fields(&line, ["outcome", "status"]), json!(["gone", null]), "{line}");
        let warned = warnings(mux, "exchange broke: web server");
        assert!(warned.is_empty(), "a client may leave at any time: {warned:?}");
    });
}

/// Its line does not wait for that: the visitor has had his answer.
#[test]
fn a_worker_that_goes_on_behind_its_response_is_a_line_of_its_own() {
    with(PhpFpm::pool(1), PLAIN, |mux, php| {
        let script = php.script("finish.php");
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let call = Call::get(&script).query("token=1&us=400000").param("HTTP_TRACEPARENT", trace).last();
        assert_eq!(mux.call(&call, SOON).whole().http_status(), 200);
        assert!(seconds(&exchange(mux, 1), "seconds") < 0.39, "{}", mux.log());
        let settled = || lines(mux).into_iter().find(|line| line["message"] == "settled");
        assert!(eventually(SOON, || settled().is_some()), "{}", mux.log());
        let line = settled().expect("it is there");
        assert!(seconds(&line, "settled") >= 0.35, "{line}");
        assert_eq!(fields(&line, ["script", "endpoint"]), json!([script, php.address()]));
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(mux.call(&echo(php), SOON).whole().http_status(), 200);
        exchange(mux, 2);
        assert_eq!(
            lines(mux).iter().filter(|line| line["message"] == "settled").count(),
            1,
            "one that is prompt has none"
        );
    });
}

#[test]
fn exchanges_of_another_application_have_lines_as_well() {
    bounded(LIMIT, || {
        let application = Application::tcp(polite);
        let mux = Fcgimux::to(application.address()).pool("application: generic").top(ON).start();
        for number in 1..=3 {
            let reply = mux.call(&Call::post("/srv/app", "body").query("token=1").last(), SOON).whole();
            assert_eq!(reply.http_status(), 200);
            let line = exchange(&mux, number);
            assert_adds_up(&line);
            assert_eq!(fields(&line, ["outcome", "status", "method"]), json!(["ok", 200, "POST"]));
            assert_eq!(fields(&line, ["script", "endpoint"]), json!(["/srv/app", application.address()]));
            assert!(line["first_byte"].is_number() && line["sent"].is_null(), "its body goes on as it comes: {line}");
        }
        assert_agrees_with_metrics(&mux);
    });
}
