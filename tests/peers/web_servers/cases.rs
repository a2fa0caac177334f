//! What visitors do, the same for every web server.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use super::{
    front::Front,
    stage::{QUEUE, SOON, Stage, WORKERS, values},
    visitor::{self, Answer, Ending, get, post, post_chunked, sha256},
};
use crate::support::{Load, Request, eventually, in_three_attempts, sockets::TimeWait, sum_of_big, wait_until};

const MIB: usize = 1 << 20;
/// The first of three lines that come 200 ms apart must be there by then.
const IN_TIME: Duration = Duration::from_millis(150);
/// What differs between two runs of one web server, and is none of fcgimux's business.
const OWN: [&str; 4] = ["REMOTE_PORT", "SERVER_PORT", "REQUEST_TIME", "REQUEST_TIME_FLOAT"];

type Case = (&'static str, fn(&Stage));

const CASES: [Case; 16] = [
    ("GET", params_of_a_get),
    ("POST with a path behind the script", params_of_a_post),
    ("echo of a token", echo),
    ("HEAD", head),
    ("no such script", no_such_script),
    ("POST without a body", empty_post),
    ("upload of 1 MiB", |stage| upload(stage, MIB)),
    ("upload of 16 MiB", |stage| upload(stage, 16 * MIB)),
    ("upload in chunks, without a length", chunked_upload),
    ("multipart upload", multipart_upload),
    ("download of 16 MiB", download),
    ("output flushed on the way", streaming),
    ("messages of PHP in the log", complaint),
    ("a visitor that leaves", leaving_visitor),
    ("200 requests of 16 visitors", many_visitors),
    ("a response that breaks off", broken_response),
];

/// Runs every case, and fails with the list of those that failed.
pub(crate) fn run(front: Front) {
    let stage = Stage::of(front);
    let mut failed = Vec::new();
    let cases = CASES.into_iter().chain([("a full queue", refused as fn(&Stage)), ("nothing left behind", after_all)]);
    for (name, case) in cases {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| case(&stage)));
        println!("{}: {name}: {:?}", front.0, start.elapsed());
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failed.push(format!("{name}: {}", text.unwrap_or_default()));
        }
    }
    assert!(failed.is_empty(), "{}: {} cases failed\n  {}\n", front.0, failed.len(), failed.join("\n  "));
}

/// Whole, with status 200.
#[track_caller]
fn good(answer: Answer) -> Answer {
    let start = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
    assert_eq!((answer.status, answer.ending), (200, Ending::Whole), "{start}");
    answer
}

/// What PHP saw, the same as when the web server speaks to php-fpm itself.
#[track_caller]
fn seen_alike(stage: &Stage, ask: impl Fn(SocketAddr) -> Answer) -> BTreeMap<String, String> {
    let seen = |server| {
        let mut seen = values(&good(ask(server)).text());
        seen.retain(|name, _| !OWN.contains(&name.as_str()));
        seen
    };
    let (through, direct) = (seen(stage.address()), seen(stage.direct.address()));
    assert_eq!(through, direct);
    through
}

#[track_caller]
fn assert_holds(seen: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(seen.get(*name).map(String::as_str), Some(*value), "{name} of {seen:#?}");
    }
}

fn params_of_a_get(stage: &Stage) {
    let seen = seen_alike(stage, |server| get(server, "/server.php?token=1&x=%20y"));
    let wanted = [
        ("SCRIPT_FILENAME", stage.php.script("server.php").as_str()),
        ("SCRIPT_NAME", "/server.php"),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", "token=1&x=%20y"),
        ("REQUEST_URI", "/server.php?token=1&x=%20y"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "test"),
        ("BODY", &format!("0 {}", sha256(b""))),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    assert_holds(&seen, &wanted.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert!(!seen.contains_key("HTTPS"), "no TLS here: {seen:#?}");
}

fn params_of_a_post(stage: &Stage) {
    let form = "application/x-www-form-urlencoded";
    let seen = seen_alike(stage, |server| post(server, "/server.php/extra/path?token=2", form, b"a=1&b=2"));
    let body = format!("7 {}", sha256(b"a=1&b=2"));
    let wanted = [
        ("PATH_INFO", "/extra/path"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", "/server.php/extra/path?token=2"),
        ("CONTENT_TYPE", form),
        ("CONTENT_LENGTH", "7"),
        ("BODY", &body),
    ];
    assert_holds(&seen, &wanted);
    assert_holds(&seen, &[("SCRIPT_FILENAME", &stage.php.script("server.php")), ("SCRIPT_NAME", "/server.php")]);
}

fn echo(stage: &Stage) {
    for (token, length) in [("one", 0), ("two", 300_000)] {
        let body = vec![b'e'; length];
        let path = format!("/echo.php?token={token}&n=5000");
        let answer = good(post(stage.address(), &path, "application/octet-stream", &body));
        assert_eq!(answer.header("x-token"), Some(token));
        assert_eq!(answer.header("x-sha256"), Some(sha256(&body).as_str()));
        assert!(answer.body.len() == 5000 && answer.body.starts_with(token.as_bytes()), "{}", answer.text());
    }
}

fn head(stage: &Stage) {
    let answer = visitor::send(stage.address(), "HEAD", "/echo.php?token=head&n=100000", "", b"");
    assert_eq!((answer.status, answer.header("x-token")), (200, Some("head")));
    assert_eq!(answer.header("x-method"), Some("HEAD"));
    seen_alike(stage, |server| visitor::send(server, "HEAD", "/server.php", "", b""));
}

fn no_such_script(stage: &Stage) {
    let [through, direct] = [&stage.server, &stage.direct].map(|server| get(server.address(), "/missing.php"));
    assert_eq!((through.status, through.ending), (404, Ending::Whole));
    assert_eq!((through.status, through.text()), (direct.status, direct.text()));
}

fn empty_post(stage: &Stage) {
    let seen = seen_alike(stage, |server| post(server, "/server.php", "text/plain", b""));
    assert_holds(&seen, &[("REQUEST_METHOD", "POST"), ("BODY", &format!("0 {}", sha256(b"")))]);
}

fn upload(stage: &Stage, length: usize) {
    let body = noise(length);
    let answer = good(post(stage.address(), "/upload.php", "application/octet-stream", &body));
    assert_eq!(answer.text(), format!("{length} {}\n", sha256(&body)));
}

fn chunked_upload(stage: &Stage) {
    let body = noise(stage.front.chunked_up_to().min(16 * MIB));
    let answer = good(post_chunked(stage.address(), "/upload.php", &body));
    assert_eq!(answer.text(), format!("{} {}\n", body.len(), sha256(&body)));
    if stage.front.chunked_up_to() < MIB {
        let answer = post_chunked(stage.address(), "/upload.php", &noise(MIB));
        assert_eq!(answer.status, 400, "this web server keeps such a body in one buffer");
    }
}

fn multipart_upload(stage: &Stage) {
    let file = noise(MIB);
    let mut body = b"--cut\r\nContent-Disposition: form-data; name=\"field\"\r\n\r\na value\r\n--cut\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"name.bin\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&file);
    body.extend(b"\r\n--cut--\r\n");
    let answer = good(post(stage.address(), "/form.php", "multipart/form-data; boundary=cut", &body));
    assert_eq!(answer.text(), format!("a value name.bin {} {}", file.len(), sha256(&file)));
}

fn download(stage: &Stage) {
    let wanted = sum_of_big(16 * MIB as u64);
    for path in ["/big.php?mib=16", "/big.php?mib=16&length=1"] {
        let answer = good(get(stage.address(), path));
        assert_eq!((answer.body.len() as u64, answer.sha256()), (wanted.length, wanted.sha256.clone()), "{path}");
    }
}

fn streaming(stage: &Stage) {
    in_three_attempts(|| {
        let answer = good(get(stage.address(), "/drip.php"));
        assert_eq!(answer.text(), "step 1\nstep 2\nstep 3\n");
        let late = stage.front.streams() && answer.first_byte > IN_TIME;
        if late { Err(format!("the first line came after {:?}", answer.first_byte)) } else { Ok(()) }
    });
}

fn complaint(stage: &Stage) {
    let answer = good(get(stage.address(), "/complain.php?token=c17"));
    assert_eq!(answer.text(), "complained");
    let logged = || stage.server.log().contains("PHP message: complaint c17");
    if stage.front.logs_stderr() {
        wait_until("the web server's log holds it", logged);
    }
}

fn leaving_visitor(stage: &Stage) {
    for _ in 0..3 {
        visitor::leave_after(stage.address(), "/big.php?mib=64&length=1", 100_000);
    }
    wait_until("no worker is busy", || stage.leased() == 0.0);
    echo(stage);
}

fn many_visitors(stage: &Stage) {
    let largest = stage.front.largest_body_beside_others();
    let requests = move |number: u64| {
        let n = usize::try_from(number * 977 % 60_000).expect("a length");
        let body = n.min(largest);
        if number.is_multiple_of(2) { Request::echo("GET", n) } else { Request::echo("POST", n).body(body, number) }
    };
    let report = Load::on(stage.address(), requests).clients(16).count(200).run();
    report.assert_clean();
    assert_eq!(report.ok, 200, "{report}");
}

fn broken_response(stage: &Stage) {
    let answer = get(stage.address(), "/die.php?length=1");
    assert_ne!(answer.ending, Ending::Whole, "status {}, {} bytes", answer.status, answer.body.len());
    let answer = get(stage.address(), "/die.php");
    let seen = (answer.status, answer.ending);
    if stage.front.shows_breaks() {
        assert_eq!(seen, (200, Ending::Cut), "{} bytes", answer.body.len());
    } else {
        let direct = get(stage.direct.address(), "/die.php");
        assert_eq!(seen, (direct.status, direct.ending), "no worse than without fcgimux");
    }
    echo(stage);
}

fn refused(stage: &Stage) {
    let (server, surplus) = (stage.address(), 8);
    let ask = |count| (0..count).map(|_| thread::spawn(move || get(server, "/slow.php?ms=400"))).collect::<Vec<_>>();
    let mut visitors = ask(WORKERS);
    wait_until("every worker is busy", || stage.leased() == WORKERS as f64);
    visitors.extend(ask(QUEUE));
    wait_until("the queue is full", || stage.mux.metrics().sum("fcgimux_queue_depth", &[]) == QUEUE as f64);
    visitors.extend(ask(surplus));
    let mut seen = BTreeMap::new();
    for visitor in visitors {
        let answer = visitor.join().expect("a visitor");
        assert_eq!(answer.ending, Ending::Whole, "{answer:?}");
        *seen.entry(answer.status).or_insert(0) += 1;
    }
    assert_eq!(seen, BTreeMap::from([(200, WORKERS + QUEUE), (503, surplus)]));
    echo(stage);
}

fn after_all(stage: &Stage) {
    let mut left = TimeWait::default();
    let calm = eventually(SOON, || {
        left = TimeWait::of(stage.php.port());
        left.total() == 0 && stage.leased() == 0.0
    });
    assert!(calm, "{left:?}, {} workers busy", stage.leased());
    assert!(!stage.mux.log().contains("panicked"), "{}", stage.mux.log());
}

/// Bytes that differ from place to place.
fn noise(length: usize) -> Vec<u8> {
    let words = (0..).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes());
    words.flatten().take(length).collect()
}
