//! Bodies of 256 MiB in both directions: whole, and in memory that does not grow with them.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Request, Site, bounded, download, sum_of_big, upload};
use sha2::{Digest, Sha256};

const LIMIT: Duration = Duration::from_secs(170);
const SIZE: u64 = 256 << 20;
/// What the process may grow by: `body.memory` of each body, one read on its way, and what an allocator keeps.
const GROWTH_KIB: u64 = 4 * 1024;

struct World {
    php: PhpFpm,
    mux: Fcgimux,
    nginx: Nginx,
}

fn with(site: fn(Site) -> Site, test: impl FnOnce(&World) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = PhpFpm::pool(3).ini("post_max_size", "1G").ini("memory_limit", "64M").start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 3}").start();
        let nginx = site(Nginx::site(&php.scripts(), mux.socket())).start();
        let world = World { php, mux, nginx };
        // Everything has been used once.
        let report = Load::on(world.nginx.address(), |number| match number % 2 {
            0 => Request::echo("POST", 300_000).body(600_000, number),
            _ => Request::echo("PUT", 300_000).body(600_000, number),
        });
        report.clients(3).count(60).run().assert_clean();
        test(&world);
        assert!(world.nginx.errors().is_empty(), "{:?}", world.nginx.errors());
    });
}

/// Runs `transfer` and fails if fcgimux ever had much more memory than before.
fn in_bounded_memory(world: &World, what: &str, transfer: impl FnOnce()) {
    let before = world.mux.peak_rss_kib().max(world.mux.rss_kib());
    transfer();
    let peak = world.mux.peak_rss_kib();
    println!("{what}: {before} KiB before, {peak} KiB at its peak");
    assert!(peak <= before + GROWTH_KIB, "{what}: {before} KiB before, {peak} KiB at its peak");
}

#[test]
fn an_upload_of_256_mib_arrives_whole() {
    with(
        |site| site,
        |world| {
            for method in ["PUT", "POST"] {
                in_bounded_memory(world, method, || {
                    let sent = upload(world.nginx.address(), method, "/upload.php", SIZE, LIMIT);
                    let (sum, answer) = sent.expect("an answer");
                    let arrived = String::from_utf8_lossy(&answer.body).into_owned();
                    assert_eq!((answer.status, arrived), (200, format!("{} {}\n", sum.length, sum.sha256)));
                });
            }
        },
    );
}

/// With nginx handing the body through as it comes.
#[test]
fn an_unbuffered_upload_of_256_mib_arrives_whole() {
    with(
        |site| site.location("fastcgi_request_buffering off"),
        |world| {
            in_bounded_memory(world, "unbuffered", || {
                let sent = upload(world.nginx.address(), "PUT", "/upload.php", SIZE, LIMIT);
                let (sum, answer) = sent.expect("an answer");
                let arrived = String::from_utf8_lossy(&answer.body).into_owned();
                assert_eq!((answer.status, arrived), (200, format!("{} {}\n", sum.length, sum.sha256)));
            });
        },
    );
}

/// nginx does not store the response, so that its reader's pace is felt by fcgimux and by PHP.
#[test]
fn a_response_of_256_mib_to_a_slow_reader_arrives_whole() {
    with(
        |site| site.location("fastcgi_buffering off"),
        |world| {
            in_bounded_memory(world, "response", || {
                let path = "/big.php?mib=256&length=1";
                // About 8 s.
                let (step, pause) = (256 << 10, Duration::from_millis(5));
                let (status, sum) = download(world.nginx.address(), path, step, pause, LIMIT).expect("an answer");
                assert_eq!((status, sum), (200, sum_of_big(SIZE)));
            });
        },
    );
}

/// The reader stops for a while in the middle: nothing is read ahead into memory meanwhile.
#[test]
fn a_reader_that_stops_is_waited_for_without_reading_ahead() {
    with(
        |site| site.location("fastcgi_buffering off"),
        |world| {
            in_bounded_memory(world, "stopped reader", || {
                let mut reader = TcpStream::connect(world.nginx.address()).expect("connect");
                write!(reader, "GET /big.php?mib=64&length=1 HTTP/1.0\r\n\r\n").expect("send");
                thread::sleep(Duration::from_secs(2));
                let relayed = world.mux.metrics().sum("fcgimux_bytes_total", &[("direction", "response")]);
                thread::sleep(Duration::from_secs(1));
                let later = world.mux.metrics().sum("fcgimux_bytes_total", &[("direction", "response")]);
                assert!(later - relayed < 1e6, "{} bytes went on without a reader", later - relayed);
                let mut answer = Vec::new();
                reader.read_to_end(&mut answer).expect("the rest");
                let split = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
                let digest = Sha256::digest(&answer[split..]);
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(digest, sum_of_big(64 << 20).sha256);
            });
            assert_eq!(world.php.side_effects(), Vec::<String>::new());
        },
    );
}

/// Many at once: the bound holds for each, and nothing of them is mixed up.
#[test]
fn large_bodies_of_many_visitors_are_whole_in_bounded_memory() {
    with(
        |site| site,
        |world| {
            let before = world.mux.peak_rss_kib();
            let report = Load::on(world.nginx.address(), |number| {
                let size = 500_000 + usize::try_from(number % 7).unwrap_or(0) * 1_000_000;
                let method = if number % 2 == 0 { "PUT" } else { "POST" };
                Request::echo(method, size).body(size, number)
            });
            let report = report.clients(12).count(120).duration(LIMIT).run();
            println!("{report}");
            report.assert_clean();
            // 12 bodies of body.memory (256 KiB) with what a read and a record add, and as many responses on their way.
            let bound = before + 12 * 768 + GROWTH_KIB;
            assert!(world.mux.peak_rss_kib() <= bound, "{} KiB, {bound} expected", world.mux.peak_rss_kib());
        },
    );
}

/// A chunked upload that nginx hands through has no CONTENT_LENGTH; PHP would read nothing of it.
#[test]
fn the_length_of_an_unbuffered_chunked_upload_is_filled_in() {
    with(
        |site| site.location("fastcgi_request_buffering off"),
        |world| {
            for (method, chunk, count) in
                [("PUT", 1, 10), ("POST", 1_000, 40), ("PUT", 70_000, 300), ("POST", 100_000, 200)]
            {
                let mut hash = Sha256::new();
                let mut stream = TcpStream::connect(world.nginx.address()).expect("connect");
                write!(
                    stream,
                    "{method} /upload.php HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
                 Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                .expect("send");
                for number in 0..count {
                    let bytes = vec![b'a' + u8::try_from(number % 26).expect("a letter"); chunk];
                    hash.update(&bytes);
                    write!(stream, "{chunk:x}\r\n").expect("send");
                    stream.write_all(&bytes).expect("send");
                    stream.write_all(b"\r\n").expect("send");
                    if number % 10 == 0 {
                        thread::sleep(Duration::from_millis(2));
                    }
                }
                stream.write_all(b"0\r\n\r\n").expect("send");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                let wanted = format!("{} {digest}", chunk * count);
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&wanted), "{answer}, not {wanted}");
            }
        },
    );
}
