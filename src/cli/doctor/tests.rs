use std::net::TcpListener;

use clap::Parser;
use fcgimux::{
    config::Config,
    mux::{
        channel::Values,
        scoreboard::{Process, Scoreboard, State},
    },
};

use super::{
    advice::{Advice, Weight},
    findings::{Announced, Asked, Findings, Nature, RoundTrips, Status},
    *,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    doctor: Doctor,
}

fn doctor(arguments: &[&str]) -> Doctor {
    Line::parse_from([&["x", "php:9000"], arguments].concat()).doctor
}

/// A php-fpm that is as it should be, with so many workers.
fn healthy(workers: usize) -> Findings {
    let page = br#"{"pool": "www", "process manager": "static", "listen queue len": 511, "processes": []}"#;
    let mut board = Scoreboard::parse(page).unwrap();
    let worker = Process { pid: 1, state: State::Idle, requests: 1, duration: Duration::ZERO };
    board.processes = vec![worker; workers];
    let asked =
        Asked { script: "/a.php".into(), status: 200, took: Duration::ZERO, powered_by: Some("PHP/8.2.36".into()) };
    Findings {
        address: "10.0.0.7:9000".into(),
        others: vec![],
        connect: Duration::ZERO,
        values: Announced { values: Values::default(), pairs: vec![("FCGI_MPXS_CONNS".into(), "0".into())] },
        proof: Duration::ZERO,
        keeps_behind_values: true,
        round_trips: RoundTrips::of(vec![Duration::from_millis(1); 3]),
        requests: vec![asked],
        request_failed: None,
        keeps_behind_request: Some(true),
        status: Ok(Status { address: "10.0.0.7:9001".into(), path: "/status".into(), board }),
    }
}

fn words(advice: &Advice, weight: Weight) -> Vec<&'static str> {
    advice.remarks.iter().filter(|remark| remark.weight == weight).map(|remark| remark.word).collect()
}

#[track_caller]
fn warnings(arguments: &[&str], findings: &Findings, conf: Option<&PhpConf>) -> Vec<&'static str> {
    words(&Advice::new(&doctor(arguments), findings, conf), Weight::Warning)
}

fn conf(text: &str) -> PhpConf {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("php-fpm.conf");
    std::fs::write(&file, text).unwrap();
    PhpConf::read(&file).unwrap()
}

#[test]
fn one_that_is_well_is_not_warned_of() {
    let advice = Advice::new(&doctor(&[]), &healthy(9), None);
    assert_eq!(words(&advice, Weight::Warning), [""; 0]);
    assert_eq!(words(&advice, Weight::Note), ["process_control_timeout"]);
}

#[test]
fn each_thing_that_hurts_is_warned_of() {
    type Change = fn(&mut Findings);
    let cases: [(&str, Change); 6] = [
        ("old_php", |findings| findings.keeps_behind_values = false),
        ("closes_behind_request", |findings| findings.keeps_behind_request = Some(false)),
        ("request_failed", |findings| findings.request_failed = Some("x".into())),
        ("stalls", |findings| findings.round_trips = RoundTrips::of(vec![Duration::from_millis(11)])),
        ("max_children_reached", |findings| {
            findings.status.as_mut().unwrap().board.max_children_reached = 1;
        }),
        ("ondemand", |findings| {
            findings.status.as_mut().unwrap().board.manager = fcgimux::mux::scoreboard::Manager::Ondemand;
        }),
    ];
    for (word, change) in cases {
        let mut findings = healthy(9);
        change(&mut findings);
        assert_eq!(warnings(&[], &findings, None), [word]);
    }
}

#[test]
fn workers_must_be_enough_for_all_sidecars() {
    assert_eq!(warnings(&["--sidecars", "8"], &healthy(9), None), [""; 0]);
    assert_eq!(warnings(&["--sidecars", "9"], &healthy(9), None), ["max_children"]);
    assert_eq!(warnings(&["--per-endpoint", "8"], &healthy(9), None), [""; 0]);
    assert_eq!(warnings(&["--per-endpoint", "9"], &healthy(9), None), ["max_children"]);
}

#[test]
fn the_settings_are_a_configuration_that_is_taken() {
    for arguments in [&[][..], &["--sidecars", "3"], &["--per-endpoint", "30", "--sidecars", "2"]] {
        let mut findings = healthy(9);
        for well in [true, false] {
            let advice = Advice::new(&doctor(arguments), &findings, None);
            let config = Config::from_yaml(advice.fcgimux.as_deref().unwrap()).unwrap();
            assert_eq!(config.pools[0].status.path, "/status");
            assert!(advice.php_fpm.is_some());
            findings.status = Err("none".into());
            findings.keeps_behind_values = !well;
        }
    }
}

#[test]
fn per_endpoint_is_what_each_sidecar_may_have() {
    for (workers, sidecars, shown) in [(9, "1", 8), (9, "2", 4), (9, "3", 2), (100, "1", 8), (2, "9", 1)] {
        let advice = Advice::new(&doctor(&["--sidecars", sidecars]), &healthy(workers), None);
        let config = Config::from_yaml(advice.fcgimux.as_deref().unwrap()).unwrap();
        assert_eq!(config.pools[0].connections.per_endpoint, shown, "{workers} workers, {sidecars} sidecars");
    }
}

#[test]
fn its_configuration_says_what_cannot_be_seen() {
    let good = "[global]\nprocess_control_timeout = 30s\n[www]\nlisten = 9000\nlisten.allowed_clients = 10.0.0.1\n\
                pm.status_path = /status\npm.status_listen = 9002\n";
    let findings = healthy(9);
    let advice = Advice::new(&doctor(&[]), &findings, Some(&conf(good)));
    assert!(advice.remarks.is_empty(), "{advice:?}");
    assert!(advice.fcgimux.unwrap().contains("port: 9002") && advice.php_fpm.unwrap().contains("[www]"));
    for (line, word) in [
        ("[global]\nprocess_control_timeout = 0\n", "process_control_timeout"),
        ("[www]\nrequest_terminate_timeout = 30\n", "request_terminate_timeout"),
        ("[www]\npm.max_children = 1\n", "max_children"),
        ("[www]\nlisten = 9009\n[b]\nlisten = 9010\n", "pool_not_found"),
    ] {
        assert_eq!(warnings(&[], &findings, Some(&conf(&format!("{good}{line}")))), [word]);
    }
}

#[test]
fn a_php_that_takes_unread_bodies_for_requests_is_told_from_one_that_drains_them() {
    for (version, drains) in [
        ("8.2.35", Some(false)),
        ("8.2.36", Some(true)),
        ("8.2.36-1~deb12u1", Some(true)),
        ("8.4.27", Some(false)),
        ("8.4.28", Some(true)),
        ("7.4.33", Some(false)),
        ("8.5.7", Some(false)),
        ("8.5.8", None),
        ("8.3.99", None),
        ("9.0.0", None),
        ("8.2", None),
        ("", None),
    ] {
        let mut findings = healthy(9);
        findings.requests[0].powered_by = Some(format!("PHP/{version}"));
        assert_eq!(findings.drains_bodies(), drains, "{version}");
        let advice = Advice::new(&doctor(&[]), &findings, None);
        assert_eq!(words(&advice, Weight::Note).contains(&"unread_bodies"), drains == Some(false), "{version}");
        assert_eq!(advice.fcgimux.as_ref().unwrap().contains("reuse_after_body"), drains == Some(true), "{version}");
        assert!(words(&advice, Weight::Warning).is_empty());
    }
}

#[test]
fn an_application_is_known_by_what_it_announces() {
    let mut findings = healthy(9);
    assert_eq!(findings.nature(), Nature::PhpFpm);
    findings.values.values.multiplexes = true;
    assert_eq!(findings.nature(), Nature::Multiplexer);
    assert!(Advice::new(&doctor(&[]), &findings, None).fcgimux.is_none());
    findings.requests.clear();
    findings.status = Err("none".into());
    assert_eq!(findings.nature(), Nature::Go);
    assert!(Advice::new(&doctor(&[]), &findings, None).fcgimux.unwrap().contains("application: generic"));
    findings.values.values = Values { multiplexes: false, connections: Some(1), requests: Some(1) };
    assert_eq!(findings.nature(), Nature::Libfcgi);
    findings.values = Announced::default();
    assert_eq!(findings.nature(), Nature::Unknown);
}

#[test]
fn nobody_there_is_an_exit_code() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = Line::parse_from(["x", &format!("127.0.0.1:{port}")]);
    assert_eq!(format!("{:?}", line.doctor.run()), format!("{:?}", ExitCode::from(7)));
}
