//! What the parts of one exchange cost: `cargo bench --bench micro`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fcgimux::{
    config::Config,
    mux::{
        channel::{Channel, Ending, Opening},
        intake::{Event, Intake, Limits},
        policy::Policy,
        pool::{Arrival, Claim, Directive, Pool},
        proof::{Clean, Proof},
        reply::Reply,
        request::Front,
    },
    wire::{BeginRequest, Header, Kind, MANAGEMENT_ID, Pairs, Piece, Role, Scanner, put_pair, put_record},
};
use std::{
    hint::black_box,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The params of nginx's fastcgi.conf with the headers of a browser.
const PARAMS: &[(&str, &str)] = &[
    ("SCRIPT_FILENAME", "/var/www/shop/public/index.php"),
    ("QUERY_STRING", "page=3&sort=price"),
    ("REQUEST_METHOD", "GET"),
    ("CONTENT_TYPE", ""),
    ("CONTENT_LENGTH", ""),
    ("SCRIPT_NAME", "/index.php"),
    ("REQUEST_URI", "/products/chairs?page=3&sort=price"),
    ("DOCUMENT_URI", "/index.php"),
    ("DOCUMENT_ROOT", "/var/www/shop/public"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("REQUEST_SCHEME", "https"),
    ("HTTPS", "on"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/1.22.1"),
    ("REMOTE_ADDR", "203.0.113.77"),
    ("REMOTE_PORT", "51234"),
    ("SERVER_ADDR", "10.0.3.7"),
    ("SERVER_PORT", "443"),
    ("SERVER_NAME", "shop.example.org"),
    ("REDIRECT_STATUS", "200"),
    ("HTTP_HOST", "shop.example.org"),
    ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"),
    ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br, zstd"),
    ("HTTP_CONNECTION", "keep-alive"),
    ("HTTP_COOKIE", "session=3f2b8c1d9e7a4650b1c2d3e4f5a60718; currency=EUR; seen=1"),
];

fn params() -> Vec<u8> {
    let mut out = vec![];
    PARAMS.iter().for_each(|(name, value)| put_pair(&mut out, name.as_bytes(), value.as_bytes()));
    out
}

/// A GET as nginx sends it, its padding left out.
fn request() -> Vec<u8> {
    let mut out = vec![];
    put_record(&mut out, Kind::BeginRequest, 1, &BeginRequest { role: Role::Responder, keep_conn: false }.encode());
    put_record(&mut out, Kind::Params, 1, &params());
    put_record(&mut out, Kind::Params, 1, &[]);
    put_record(&mut out, Kind::Stdin, 1, &[]);
    out
}

fn response(id: u16) -> Vec<u8> {
    let mut out = vec![];
    let page = format!("Content-Type: text/html\r\n\r\n{}", "x".repeat(2000));
    put_record(&mut out, Kind::Stdout, id, page.as_bytes());
    put_record(&mut out, Kind::EndRequest, id, &[0; 8]);
    out
}

fn config(text: &str) -> Config {
    Config::from_yaml(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wire(criterion: &mut Criterion) {
    let mut records = vec![];
    (0..1000).for_each(|_| put_record(&mut records, Kind::Stdout, 1, &[b'x'; 60]));
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("scan 1000 records", |bench| {
        bench.iter(|| {
            let (mut scanner, mut at, mut count) = (Scanner::default(), 0, 0_u32);
            while let Ok(Some(piece)) = scanner.next(black_box(&records[at..])) {
                count += u32::from(matches!(piece, Piece::Header(_)));
                at += piece.len();
            }
            count
        });
    });
    let params = params();
    group.throughput(Throughput::Elements(PARAMS.len() as u64));
    group.bench_function("read the pairs of a request", |bench| {
        bench.iter(|| {
            Pairs::new(black_box(&params))
                .filter_map(Result::ok)
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
        });
    });
    group.finish();
}

fn exchange_core(criterion: &mut Criterion) {
    let config = config("pools: {p: {endpoints: [{dns: 'php:9000'}]}}");
    let policy = Arc::new(Policy::new(&config.pools[0]));
    let (request, response) = (request(), response(300));
    let mut group = criterion.benchmark_group("core");
    group.bench_function("take in and inspect a request", |bench| {
        bench.iter(|| {
            let mut intake: Intake<()> = Intake::new(policy.clone(), Limits { connections: 100, requests: 128 });
            let taken = intake.take(black_box(&request)).expect("a sound request");
            assert!(matches!(taken.event, Some(Event::Request(_))));
            taken.consumed
        });
    });
    group.bench_function("pass on a response of 2 kB", |bench| {
        let fresh = || response.clone();
        let pass = |mut bytes: Vec<u8>| {
            let mut reply = Reply::new(300, 1, &Front::Nothing);
            let scan = reply.scan(black_box(&mut bytes)).expect("a sound response");
            assert!(reply.ended());
            (scan, bytes)
        };
        bench.iter_batched(fresh, pass, BatchSize::SmallInput);
    });
    group.finish();
}

fn clean() -> Clean {
    let taken = Proof::handshake(1).take(&[1, 10, 0, 0, 0, 0, 0, 0]);
    taken.expect("an answer").1.expect("a whole one")
}

/// A pool with one idle connection at each endpoint.
fn warm_pool(endpoints: u32, now: Instant) -> Pool<(), u32> {
    let addresses: Vec<_> = (0..endpoints).map(|n| format!("{{address: '10.0.0.{}:{}'}}", n % 250, 9000 + n)).collect();
    let text = format!(
        "pools: {{p: {{endpoints: [{}], connections: {{fence: always, per_endpoint: 1}}}}}}",
        addresses.join(",")
    );
    let mut pool = Pool::new(&config(&text).pools[0], 0, now);
    let mut leases = vec![];
    while leases.len() < endpoints as usize {
        if let Ok(Arrival::Lease(lease)) = pool.arrive(Claim::default(), || (), now) {
            leases.push(lease);
        }
        while let Some(directive) = pool.poll_directive() {
            match directive {
                Directive::Open { key, handshake, endpoint } => {
                    pool.connected(key, now);
                    pool.proven(key, endpoint as u32, clean(), handshake, now);
                }
                Directive::Grant { lease, .. } => leases.push(lease),
                Directive::Found { .. } => {}
                other => panic!("{other:?} is no part of this"),
            }
        }
    }
    for lease in leases {
        let (settling, connection) = pool.settle(lease, now);
        pool.checkin(settling, connection, clean(), now);
    }
    pool
}

#[expect(clippy::disallowed_methods, reason = "any time will do")]
fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    for endpoints in [1, 3, 200] {
        group.bench_function(format!("checkout and checkin, {endpoints} endpoints"), |bench| {
            let mut now = Instant::now();
            let mut pool = warm_pool(endpoints, now);
            bench.iter(|| {
                now += Duration::from_nanos(100);
                let Ok(Arrival::Lease(lease)) = pool.arrive(Claim::default(), || (), now) else {
                    panic!("one is idle")
                };
                let (settling, connection) = pool.settle(lease, now);
                pool.checkin(settling, connection, clean(), now);
                assert!(pool.poll_directive().is_none());
            });
        });
    }
    group.finish();
}

/// One exchange beside others on a shared connection.
#[expect(clippy::disallowed_methods, reason = "any time will do")]
fn channel(criterion: &mut Criterion) {
    let now = Instant::now();
    let (request, mut response) = (request(), response(1));
    let opening = Opening { theirs: 1, streams: &[], question: None };
    let mut group = criterion.benchmark_group("channel");
    for others in [0, 31] {
        let mut channel: Channel<u32> = Channel::new(64 * 1024, Duration::from_secs(5));
        for _ in 0..others {
            channel.open(opening, |_, out| out.extend_from_slice(&request), now).expect("an id is free");
        }
        let name = format!("an exchange with a response of 2 kB beside {others}");
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let head = |_: u16, out: &mut Vec<u8>| out.extend_from_slice(black_box(&request));
                let id = channel.open(opening, head, now).expect("an id is free");
                channel.listen(id, 1);
                let sent = channel.to_send().len();
                channel.sent(sent);
                set_ids(&mut response, id);
                let taken = channel.receive(black_box(&response), now).expect("records");
                assert_eq!(channel.poll_wake(), Some(1));
                let mut records = vec![];
                assert!(matches!(channel.take(id, &mut records, now), Some(Ending::Ended(_))));
                assert!(channel.leave(id, now));
                (taken, records)
            });
        });
    }
    group.finish();
}

/// Puts an id into every record.
fn set_ids(mut records: &mut [u8], id: u16) {
    while let Some(header) = records.first_chunk().map(Header::decode) {
        records[2..4].copy_from_slice(&id.to_be_bytes());
        let len = 8 + usize::from(header.content) + usize::from(header.padding);
        records = &mut records[len..];
    }
}

/// Answers every GET_VALUES and every request at once, as long as there is a connection.
fn application(mut stream: UnixStream) {
    let (mut buffer, mut have, mut answer) = (vec![0; 64 * 1024], 0, vec![]);
    let mut scanner = Scanner::default();
    while let Ok(read @ 1..) = stream.read(&mut buffer[have..]) {
        have += read;
        let mut at = 0;
        while let Ok(Some(piece)) = scanner.next(&buffer[at..have]) {
            if let Piece::Header(Header { kind, id, content, .. }) = piece {
                match kind {
                    Kind::GetValues => put_record(&mut answer, Kind::GetValuesResult, MANAGEMENT_ID, &[]),
                    Kind::Params if content == 0 => answer.extend(response(id)),
                    _ => {}
                }
            }
            at += piece.len();
        }
        buffer.copy_within(at..have, 0);
        have -= at;
        if stream.write_all(&answer).is_err() {
            return;
        }
        answer.clear();
    }
}

/// The real program in this process, between this thread as a web server and another as an application.
fn exchange_whole(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let (front, back) = (folder.path().join("front.sock"), folder.path().join("back.sock"));
    let listener = UnixListener::bind(&back).expect("a socket");
    thread::spawn(move || listener.incoming().for_each(|stream| drop(thread::spawn(|| stream.map(application)))));
    let text = format!(
        "{{listeners: [{{socket: {}}}], pools: {{p: {{endpoints: [{{socket: {}}}]}}}}, admin: {{listen: off}}}}",
        front.display(),
        back.display()
    );
    let config = config(&text);
    let (stop, stopped) = oneshot::channel::<()>();
    let program = thread::spawn(move || fcgimux::run_until(&config, async { _ = stopped.await }));
    while !front.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    let (request, length) = (request(), response(1).len());
    let mut group = criterion.benchmark_group("whole");
    group.bench_function("one exchange over Unix sockets, application included", |bench| {
        bench.iter(|| assert_eq!(exchange(&front, &request), length));
    });
    // What of that is the application's: the same on a connection to it that is kept.
    let mut kept = UnixStream::connect(&back).expect("it listens");
    group.bench_function("the application alone, on a kept connection", |bench| {
        bench.iter(|| exchange_kept(&mut kept, &request, length));
    });
    group.finish();
    drop(stop);
    program.join().expect("no panic").expect("a clean end");
}

/// Bytes of the response.
fn exchange(socket: &Path, request: &[u8]) -> usize {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.write_all(request).expect("it reads");
    let mut response = Vec::with_capacity(4096);
    stream.read_to_end(&mut response).expect("it answers")
}

fn exchange_kept(stream: &mut UnixStream, request: &[u8], length: usize) -> Vec<u8> {
    stream.write_all(request).expect("it reads");
    let mut response = vec![0; length];
    stream.read_exact(&mut response).expect("it answers");
    response
}

criterion_group!(benches, wire, exchange_core, channel, pool, exchange_whole);
criterion_main!(benches);
