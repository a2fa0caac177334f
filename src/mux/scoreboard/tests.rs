use super::*;

/// As php-fpm 8.2.35 writes it: one idle worker, one held by a kept connection, one at work, one that ends.
const PAGE: &str = r#"{"pool":"www","process manager":"static","start time":1795253524,"start since":733,
"accepted conn":23,"listen queue":2,"max listen queue":7,"listen queue len":4096,"idle processes":0,"active processes":6,
"total processes":6,"max active processes":6,"max children reached":0,"slow requests":1, "processes":[
{"pid":29557,"state":"Idle","start time":1795253524,"start since":1,"requests":1,"request duration":205,
"request method":"GET","request uri":"\/s\"\\.php?a=\"b\"","content length":0,"user":"-","script":"/s.php",
"last request cpu":0.00,"last request memory":2097152},
{"pid":29558,"state":"Reading headers","requests":3,"request duration":601680,"last request cpu":-12.5e3},
{"pid":29559,"state":"Running","requests":7,"request duration":303282},
{"pid":29560,"state":"Finishing","requests":7,"request duration":303019}]}"#;

fn page(manager: &str, reached: u64, states: &[&str]) -> Scoreboard {
    at(1, manager, reached, states)
}

fn at(start_time: u64, manager: &str, reached: u64, states: &[&str]) -> Scoreboard {
    let processes: Vec<_> = states.iter().map(|state| format!(r#"{{"state":"{state}"}}"#)).collect();
    let text = format!(
        r#"{{"pool":"www","process manager":"{manager}","start time":{start_time},"listen queue len":5,
        "max children reached":{reached},"processes":[{}]}}"#,
        processes.join(",")
    );
    Scoreboard::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_page_is_read_whole() {
    let board = Scoreboard::parse(PAGE.as_bytes()).unwrap();
    assert_eq!((board.pool.as_str(), board.manager, board.start_since), ("www", Manager::Static, 733));
    assert_eq!((board.accepted, board.max_listen_queue, board.slow_requests), (23, 7, 1));
    assert_eq!((board.idle_sum, board.active_sum, board.total_sum, board.max_active_sum), (0, 6, 6, 6));
    assert_eq!((board.queue(), board.idle(), board.holding()), (Some(2), 1, 1));
    let states: Vec<_> = board.processes.iter().map(|process| process.state).collect();
    assert_eq!(states, [State::Idle, State::ReadingHeaders, State::Running, State::Finishing]);
    let held = &board.processes[1];
    assert_eq!((held.pid, held.requests, held.duration), (29558, 3, Duration::from_micros(601_680)));
}

#[test]
fn unknown_and_missing_fields_are_passed_over() {
    let text = br#"{"new":{"a":[1,"\u0001"]},"pool":"www","processes":[{"state":"Dancing","more":null},{}]}"#;
    let board = Scoreboard::parse(text).unwrap();
    assert_eq!((board.manager, board.idle(), board.queue()), (Manager::Unknown, 0, None));
    assert!(board.processes.iter().all(|process| process.state == State::Other));
    let odd = br#"{"pool":"www","process manager":"new","accepted conn":-1,"slow requests":1e99,"processes":[]}"#;
    let board = Scoreboard::parse(odd).unwrap();
    assert_eq!((board.accepted, board.slow_requests, board.manager), (0, u64::MAX, Manager::Unknown));
}

#[test]
fn bytes_in_names_that_are_no_text_do_not_matter() {
    let page = PAGE.replace("/s.php", "\u{fffd}").into_bytes();
    let bytes: Vec<u8> = page.iter().map(|byte| if *byte >= 0x80 { 0xff } else { *byte }).collect();
    assert_eq!(Scoreboard::parse(&bytes).unwrap().processes.len(), 4);
}

#[test]
fn a_queue_that_php_fpm_cannot_see_is_not_taken_for_an_empty_one() {
    let text = PAGE.replace("\"listen queue\":2", "\"listen queue\":0").replace("4096", "0");
    assert_eq!(Scoreboard::parse(text.as_bytes()).unwrap().queue(), None);
}

#[test]
fn what_is_no_status_page_is_refused_with_clear_words() {
    let words = |page: &[u8]| Scoreboard::parse(page).unwrap_err().to_string();
    assert_eq!(words(b""), "the page is empty");
    assert!(words(b"pong").starts_with("not php-fpm's status as JSON: expected"), "{}", words(b"pong"));
    assert!(words(b"\0\0\0").contains("line 1 column 1"));
    assert!(words(b"{}").contains("missing field `pool`"));
    assert!(words(br#"{"pool":"www"}"#).contains("missing field `processes`"), "`full` is not there");
    assert!(words(br#"{"pool":"www","processes":7}"#).contains("a list of at most 10000 processes"));
    assert!(words(br#"{"pool":"www","processes":[{"state":1}]}"#).contains("not php-fpm's status"));
    assert!(words(&PAGE.as_bytes()[..300]).contains("EOF"));
    assert!(words(&[PAGE.as_bytes(), b"x"].concat()).contains("trailing"));
    assert!(words(&b"[".repeat(100_000)).contains("line 1"), "nesting is bounded");
}

#[test]
fn so_many_processes_are_read_and_not_more() {
    let page = |count: usize| format!(r#"{{"pool":"www","processes":[{}]}}"#, vec!["{}"; count].join(","));
    let board = Scoreboard::parse(page(10_000).as_bytes()).unwrap();
    assert_eq!(board.processes.len(), 10_000);
    let words = Scoreboard::parse(page(10_001).as_bytes()).unwrap_err().to_string();
    assert!(words.contains("invalid length 10001"), "{words}");
}

#[test]
fn a_pool_is_full_when_nobody_who_comes_is_served_at_once() {
    assert!(!page("static", 0, &["Idle", "Running"]).is_full());
    assert_eq!(page("static", 3, &["Idle", "Running", "Reading headers", "Finishing"]).wanted(), 3);
    assert!(page("static", 0, &["Reading headers", "Running"]).is_full());
    assert!(Scoreboard::parse(PAGE.as_bytes()).unwrap().is_full(), "somebody waits, whatever the workers do");
    assert!(!page("dynamic", 0, &["Running"]).is_full(), "another is started");
    assert!(page("dynamic", 1, &["Running"]).is_full());
    assert!(!page("ondemand", 0, &[]).is_full());
}

#[test]
fn of_a_static_pool_the_limit_is_known_at_once_and_is_not_lowered_by_a_worker_that_is_being_replaced() {
    let mut children = Children::default();
    assert_eq!(children.look(&page("static", 0, &["Idle"; 3])), Some(3));
    assert_eq!(children.look(&page("static", 0, &["Idle"; 2])), Some(3));
    assert_eq!(children.look(&page("static", 0, &["Idle"; 4])), Some(4));
    assert_eq!(children.look(&at(2, "static", 0, &["Idle"; 2])), Some(2), "a reload may bring another");
    assert_eq!(Children::default().look(&page("static", 0, &[])), None);
}

#[test]
fn of_another_pool_the_limit_is_known_when_it_is_seen_to_be_reached() {
    for manager in ["dynamic", "ondemand"] {
        let mut children = Children::default();
        assert_eq!(children.look(&page(manager, 1, &["Idle"; 2])), None, "reached long ago, by who knows how many");
        assert_eq!(children.look(&page(manager, 1, &["Running"; 4])), None);
        assert_eq!(children.look(&page(manager, 2, &["Running"; 3])), Some(4));
        assert_eq!(children.look(&page(manager, 2, &["Idle"; 1])), Some(4));
        assert_eq!(children.look(&at(2, manager, 0, &["Idle"; 1])), None);
    }
    assert_eq!(Children::default().look(&page("new", 0, &["Idle"])), None);
}
