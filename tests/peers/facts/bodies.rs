//! Facts 4 and 5: bodies that end too early, and bodies that are not read.

use nix::sys::signal::Signal;

use super::{A_WHILE, SECOND, SOON, milliseconds, wait_free, with};
use crate::support::{
    PhpFpm, eventually,
    fcgi::{self, Call, Connection, End},
    wait_until,
};

// 4. Bodies that end too early.

/// A way to break a connection off.
type Close = fn(Connection);

#[test]
fn fact_04_a_break_in_mid_body_executes_the_script_with_a_truncated_body() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("log.php");
        let breaks: [(&str, Close); 4] = [
            ("close", Connection::close),
            ("reset", Connection::reset),
            ("shutdown", |mut connection| {
                connection.shutdown_write();
                connection.ending(SOON);
            }),
            ("abort", |mut connection| {
                connection.send(&fcgi::abort(1));
                connection.ending(SOON);
            }),
        ];
        for (name, broken_off) in breaks {
            for method in ["POST", "PUT"] {
                let call =
                    Call::new(method, &script).body("text/plain", "x".repeat(20)).query(&format!("token={name}"));
                let mut connection = php.proven();
                connection.send(&[call.head(), fcgi::stdin(1, b"0123456789")].concat());
                broken_off(connection);
                wait_free(php);
                wait_until("the script ran", || php.side_effects().len() == 2);
                let line = php.side_effects().remove(0);
                let length = line.strip_prefix(&format!("start {name} {method} ")).expect("the line of the start");
                assert!(length == "0" || length == "10", "{name} {method}: {length} bytes of 20 (10.6)");
                php.clear_side_effects();
            }
        }
    });
}

#[test]
fn fact_04_a_break_before_the_end_of_the_params_executes_nothing() {
    with(PhpFpm::pool(1), |php| {
        let head = Call::get(&php.script("log.php")).head();
        // Without the last record, which is the empty one.
        let cut = &head[..head.len() - 8];
        for close in [Connection::close as Close, Connection::reset] {
            let mut connection = php.proven();
            connection.send(cut);
            close(connection);
            wait_free(php);
        }
        assert_eq!(php.side_effects(), Vec::<String>::new());
    });
}

#[test]
fn fact_04_a_body_shorter_than_content_length_hangs_the_worker() {
    with(PhpFpm::pool(1), |php| {
        let call = Call::post(&php.script("log.php"), "short").param("CONTENT_LENGTH", "100");
        let mut connection = php.proven();
        let reply = connection.call(&call, SECOND);
        assert_eq!(reply.broken, Some(End::TimedOut), "the end of STDIN is not heeded (10.2)");
        assert_eq!(php.side_effects(), Vec::<String>::new());
        connection.reset();
        wait_free(php);
        assert_eq!(php.side_effects(), ["start none POST 5", "end none"]);
    });
}

/// A close by RST takes nothing back: what the kernel has acknowledged is read and executed, whole or cut.
#[test]
fn fact_04_a_reset_does_not_take_back_what_was_acknowledged() {
    with(PhpFpm::pool(1), |php| {
        for (size, whole) in [(60_000_usize, true), (8_000_000, false)] {
            let call = Call::post(&php.script("log.php"), "x".repeat(size));
            let mut connection = php.proven();
            let worker = php.workers()[0];
            php.signal_worker(worker, Signal::SIGSTOP);
            let bytes = call.bytes();
            let sent = connection.send_what_fits(&bytes);
            let acknowledged = eventually(A_WHILE, || connection.unacknowledged() == 0);
            assert_eq!((sent == bytes.len() && acknowledged), whole, "{sent} of {} bytes", bytes.len());
            connection.reset();
            php.signal_worker(worker, Signal::SIGCONT);
            wait_free(php);
            let line = php.side_effects().remove(0);
            let length: usize = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a length");
            assert_eq!(length == size, whole, "{line}");
            php.clear_side_effects();
        }
    });
}

// 5. What is left unread of a body.

/// Where a request may be planted inside a body, as bytes of the body from which php-fpm goes on to read records. A row of
/// empty STDIN records leads to it, which php-fpm skips between requests: any offset that is right by modulo 8 will do.
fn body_with_a_planted_request(php: &PhpFpm, start: &[u8], size: usize, shift: usize) -> Vec<u8> {
    let planted = Call::get(&php.script("planted.php")).id(7).head();
    let mut body = start.to_vec();
    body.resize(start.len() + shift, b'-');
    while body.len() + planted.len() + 8 <= size {
        body.extend(fcgi::stdin_end(1));
    }
    body.extend(planted);
    body
}

/// Whether a request planted at any of the eight offsets is executed when `call` brings it.
fn is_smuggled(php: &PhpFpm, call: &Call, content_type: &str, start: &[u8], size: usize) -> bool {
    php.clear_side_effects();
    for shift in 0..8 {
        let body = body_with_a_planted_request(php, start, size, shift);
        let mut connection = php.proven();
        let call = call.clone().body(content_type, body);
        connection.send(&call.bytes());
        connection.reply(SOON);
        // The planted one is answered on the same connection, or it ends.
        connection.reply(milliseconds(50));
        connection.reset();
        wait_free(php);
    }
    php.side_effects().iter().any(|line| line.starts_with("PLANTED"))
}

const OCTETS: &str = "application/octet-stream";
const MULTIPART: &str = "Multipart/Form-Data; boundary=x";
/// PHP stops reading a form at a part without a name.
const NAMELESS_PART: &[u8] = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n";

#[test]
fn fact_05_what_a_script_leaves_unread_of_its_body_is_parsed_as_records() {
    with(PhpFpm::pool(1).ini("post_max_size", "40000"), |php| {
        let script = php.script("partial.php");
        let cases = [("PUT", 60_000), ("GET", 60_000), ("PATCH", 20_000), ("post", 20_000), ("POST", 60_000)];
        for (method, size) in cases {
            let call = Call::new(method, &script).query("read=100");
            assert!(is_smuggled(php, &call, OCTETS, b"", size), "{method} of {size} bytes");
        }
    });
}

#[test]
fn fact_05_a_form_within_post_max_size_may_be_left_unread_too() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("partial.php");
        // Opening php://input is enough.
        let opening = Call::new("POST", &script).query("read=0");
        assert!(is_smuggled(php, &opening, MULTIPART, NAMELESS_PART, 60_000), "a part without a name");
        let part = b"--x\r\nContent-Disposition:form-data;name=a\r\n\r\n\r\n";
        let many = part.repeat(1_100);
        assert!(is_smuggled(php, &opening, MULTIPART, &many, 65_000), "more parts than max_multipart_body_parts");
        let reading = Call::new("POST", &script).query("read=100");
        assert!(is_smuggled(php, &reading, "multipart/form-data", b"", 60_000), "no boundary");
    });
}

#[test]
fn fact_05_without_room_for_temporary_files_a_post_over_16_kib_is_left_unread() {
    with(PhpFpm::pool(1).ini("sys_temp_dir", "/nonexistent"), |php| {
        // The script does not even look at its body.
        let call = Call::new("POST", &php.script("partial.php")).query("open=0");
        assert!(is_smuggled(php, &call, OCTETS, b"", 20_000));
        for size in [1_000, 8_192, 16_384] {
            assert!(!is_smuggled(php, &call, OCTETS, b"", size), "{size} bytes fit in PHP's memory");
        }
    });
}

#[test]
fn fact_05_a_body_is_read_whole_when_php_reads_it_or_the_connection_ends() {
    with(PhpFpm::pool(1), |php| {
        let script = php.script("partial.php");
        let reading = Call::new("POST", &script).query("read=100");
        for (content_type, size) in [(OCTETS, 60_000), ("application/x-www-form-urlencoded", 60_000), ("", 9_000)] {
            assert!(!is_smuggled(php, &reading, content_type, b"", size), "POST of {content_type}");
        }
        let untouched = Call::new("PUT", &script).query("open=0");
        assert!(!is_smuggled(php, &untouched, OCTETS, b"", 60_000), "PUT that nobody opens is drained (10.4)");
        let untouched = Call::new("POST", &script).query("open=0");
        assert!(!is_smuggled(php, &untouched, MULTIPART, NAMELESS_PART, 60_000), "a form that nobody opens");
        for method in ["PUT", "POST"] {
            let last = Call::new(method, &script).query("read=100").last();
            assert!(!is_smuggled(php, &last, MULTIPART, NAMELESS_PART, 60_000), "{method} without keep-conn");
        }
    });
}
