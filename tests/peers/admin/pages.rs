//! What the running program shows, and who may have it do something.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use super::{
    LIMIT, SECOND,
    client::{ask, get, post},
    page,
};
use crate::support::{Fcgimux, Load, Measures, Nginx, PhpFpm, Request, bounded, in_own_network, wait_until};

#[test]
fn pages_and_metrics_say_the_same() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let slow = Load::on(nginx.address(), |_| Request::echo("GET", 10).micros(2_000_000));
        let slow = slow.clients(5).count(5).start();
        wait_until("two run and three wait", || {
            let pool = page(&mux, "");
            pool["requests_in_flight"] == 2 && pool["queue"]["depth"] == 3
        });
        let (pool, metrics) = (page(&mux, ""), mux.metrics());
        assert_eq!(number(&pool["queue"]["limit"]), metrics.sum("fcgimux_queue_limit", &[]));
        assert_eq!(number(&pool["queue"]["depth"]), metrics.sum("fcgimux_queue_depth", &[]));
        assert_eq!(number(&pool["requests_in_flight"]), metrics.sum("fcgimux_upstream_requests_in_flight", &[]));
        assert_eq!(
            words(&pool["connections"]),
            by_state(&metrics, "fcgimux_upstream_connections", &pool["connections"])
        );
        assert_eq!(words(&pool["endpoints"]), by_state(&metrics, "fcgimux_endpoints", &pool["endpoints"]));
        let oldest = number(&pool["queue"]["oldest_wait_seconds"]);
        assert!(oldest > 0.0 && oldest < metrics.sum("fcgimux_queue_oldest_wait_seconds", &[]), "{oldest}");

        let endpoints = page(&mux, "/endpoints");
        assert_eq!((&endpoints["count"], &endpoints["endpoints"][0]["endpoint"]), (&json!(1), &json!(php.address())));
        let endpoint = page(&mux, &format!("/endpoints/{}", php.address()));
        assert_eq!(endpoint["connections"], pool["connections"]);
        assert_eq!(number(&endpoint["connections_limit"]), metrics.sum("fcgimux_upstream_connections_limit", &[]));
        assert_eq!(number(&endpoint["weight"]), metrics.sum("fcgimux_endpoint_weight", &[]));
        assert_eq!((&endpoint["state"], metrics.sum("fcgimux_endpoint_up", &[])), (&json!("up"), 1.0));

        let connections = page(&mux, "/connections");
        assert_eq!(connections["count"], 2);
        for connection in connections["connections"].as_array().unwrap() {
            assert_eq!((&connection["state"], &connection["requests_in_flight"]), (&json!("leased"), &json!(1)));
            assert!(number(&connection["age_seconds"]) >= number(&connection["state_seconds"]), "{connection}");
        }
        let waiters = page(&mux, "/waiters");
        assert_eq!((&waiters["count"], &waiters["listed"]), (&json!(3), &json!(3)));
        let waits: Vec<_> =
            waiters["waiters"].as_array().unwrap().iter().map(|one| number(&one["wait_seconds"])).collect();
        assert!(waits.is_sorted_by(|one, next| one >= next) && waits[2] > 0.0, "the first is the oldest: {waits:?}");
        let pools = get(mux.admin(), "/pools").json();
        assert_eq!((&pools["pools"][0]["name"], &pools["pools"][1]), (&json!("default"), &Value::Null));
        assert_eq!(pools["pools"][0]["connections"], pool["connections"]);
        slow.finish().assert_clean();
    });
}

#[test]
fn a_page_of_a_browser_cannot_use_a_verb() {
    bounded(LIMIT, || {
        let mux = Fcgimux::to("127.0.0.1:1").start();
        let address = mux.admin();
        let pause = "/pools/default/pause";
        for headers in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
            let answer = post(address, pause, headers);
            assert_eq!(answer.status, 403, "{headers}");
            assert!(answer.json()["error"].is_string());
        }
        let rebound = format!("POST {pause} HTTP/1.1\r\nHost: evil.example:9253\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(address, &rebound).status, 403);
        let preflight = format!("OPTIONS {pause} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let preflight = ask(address, &preflight);
        assert_eq!((preflight.status, preflight.header("allow")), (405, Some("POST")));
        assert_eq!(preflight.header("access-control-allow-origin"), None);
        let looked = get(address, pause);
        assert_eq!((looked.status, looked.header("allow")), (405, Some("POST")));
        assert_eq!(page(&mux, "")["paused"], false);
        // A body is not read, and does no harm.
        let body =
            format!("POST {pause} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
        assert_eq!(ask(address, &body).status, 200);
        assert_eq!(page(&mux, "")["paused"], true);
        assert_eq!(post(address, "/pools/default/resume", &format!("Origin: http://{address}\r\n")).status, 200);
        assert_eq!(page(&mux, "")["paused"], false);
    });
}

#[test]
fn without_verbs_the_state_is_shown_and_nothing_is_done() {
    bounded(LIMIT, || {
        let text = "listeners: [{socket: {socket}, mode: \"0666\", pool: default}]\n\
                    pools: {default: {endpoints: [{address: \"127.0.0.1:1\"}]}}\n\
                    admin: {listen: {admin}, verbs: off}\n";
        let mux = Fcgimux::yaml(text);
        for verb in ["pause", "resume", "reconnect", "endpoints/127.0.0.1:1/drain", "endpoints/127.0.0.1:1/undrain"] {
            let answer = post(mux.admin(), &format!("/pools/default/{verb}"), "");
            assert_eq!(
                (answer.status, &answer.json()["error"]),
                (403, &json!("verbs are off (admin.verbs)")),
                "{verb}"
            );
        }
        assert_eq!(page(&mux, "")["paused"], false);
    });
}

#[test]
fn a_client_on_another_host_needs_leave() {
    if !in_own_network("admin::pages::a_client_on_another_host_needs_leave") {
        return;
    }
    bounded(LIMIT, || {
        // A host that talks to its own address is another one for whoever looks at addresses only.
        let added = Command::new("ip").args(["address", "add", "10.77.0.1/32", "dev", "lo"]).status().expect("ip");
        assert!(added.success());
        for (verbs, status) in [("loopback", 403), ("on", 200)] {
            let text = "listeners: [{socket: {socket}, mode: \"0666\", pool: default}]\n\
                        pools: {default: {endpoints: [{address: \"127.0.0.1:1\"}]}}\n";
            let _mux = Fcgimux::yaml(&format!("{text}admin: {{listen: \"0.0.0.0:9253\", verbs: {verbs}}}\n"));
            let address = "10.77.0.1:9253".parse().unwrap();
            wait_until("its admin server is there", || std::net::TcpStream::connect(address).is_ok());
            assert_eq!(post(address, "/pools/default/pause", "").status, status, "{verbs}");
            assert_eq!(get(address, "/pools/default").json()["paused"], json!(status == 200));
        }
    });
}

#[test]
fn requests_go_on_while_somebody_looks() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(4).start();
        let mux = Fcgimux::to(php.address()).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let load = Load::on(nginx.address(), |_| Request::echo("GET", 100)).clients(8).rate(200.0).duration(2 * SECOND);
        let load = load.start();
        let mut looks = 0;
        while load.is_running() {
            for path in ["/pools", "/pools/default/endpoints", "/pools/default/connections", "/pools/default/waiters"] {
                assert_eq!(get(mux.admin(), path).status, 200);
                looks += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let report = load.finish();
        println!("{looks} looks beside\n{report}");
        report.assert_clean();
        assert!(looks > 50, "{looks}");
    });
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Numbers by their words, in the order of the words.
fn words(map: &Value) -> Vec<f64> {
    map.as_object().unwrap().values().map(number).collect()
}

fn by_state(metrics: &Measures, name: &str, states: &Value) -> Vec<f64> {
    states.as_object().unwrap().keys().map(|state| metrics.sum(name, &[("state", state)])).collect()
}
