//! Facts 4 and 5: bodies that end too early, and bodies that are not read.

use nix::sys::signal::Signal;

use super::{A_WHILE, SECOND, SOON, wait_free, with};
use crate::support::{
    PhpFpm, PhpProgram, Pool, Unread, eventually,
    fcgi::{self, Call, Connection, End, Reply},
    planted::{Body, OCTETS},
    proc, wait_until,
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

// 5. What is left unread of a body: executed by PHP before 8.2.36 and 8.4.28, drained by newer ones.

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "Multipart/Form-Data; boundary=x";
/// PHP stops reading a form at a part without a name.
const NAMELESS_PART: &[u8] = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n";
const PART: &[u8] = b"--x\r\nContent-Disposition:form-data;name=a\r\n\r\n\r\n";

/// Runs a test against each php-fpm that there is, with what it does with unread bodies.
fn with_each(pool: fn() -> Pool, test: fn(&PhpFpm, Unread)) {
    for program in PhpProgram::all() {
        with(pool().run_by(&program), move |php| test(php, program.unread()));
    }
}

/// A body that is left unread is executed or drained, whichever this PHP does; where it is drained the connection goes on.
#[track_caller]
fn assert_left_unread(php: &PhpFpm, unread: Unread, call: &Call, body: Body<'_>, what: &str) {
    let executed = body.is_executed(php, call);
    assert_eq!(executed, unread == Unread::Executed, "{what}: {body:?}");
    if unread == Unread::Drained {
        assert_goes_on(php, call, body, what);
    }
}

/// The fence behind such a request is answered, and the next request is served on the same connection.
#[track_caller]
fn assert_goes_on(php: &PhpFpm, call: &Call, body: Body<'_>, what: &str) {
    let mut connection = php.proven();
    let call = call.clone().body(body.content_type, body.bytes(php, 0));
    connection.call(&call, SOON).whole();
    assert_eq!(connection.fence(SOON), Ok(vec![]), "{what}: {body:?}");
    let next = Call::get(&php.script("echo.php")).id(2).query("token=next");
    assert_eq!(connection.call(&next, SOON).whole().text(), "next\n", "{what}: {body:?}");
}

fn octets(size: usize) -> Body<'static> {
    Body { content_type: OCTETS, start: b"", size }
}

#[test]
fn fact_05_php_of_8_2_36_and_8_4_28_drains_what_older_ones_execute() {
    for program in PhpProgram::all() {
        let version = program.version();
        println!("{version:?}: {:?}", program.unread());
        let patched = match version {
            (8, 2, patch) => patch >= 36,
            (8, 4, patch) => patch >= 28,
            (7, ..) | (8, 0 | 1, _) => false,
            _ => continue,
        };
        assert_eq!(program.unread() == Unread::Drained, patched, "PHP {version:?} (10.5)");
    }
}

#[test]
fn fact_05_what_a_script_leaves_unread_of_its_body_is_executed_or_drained() {
    with_each(
        || PhpFpm::pool(1).ini("post_max_size", "40000"),
        |php, unread| {
            let script = php.script("partial.php");
            let cases = [("PUT", 60_000), ("GET", 60_000), ("PATCH", 20_000), ("post", 20_000), ("POST", 60_000)];
            for (method, size) in cases.into_iter().chain([("DELETE", 12_000)]) {
                let call = Call::new(method, &script).query("read=100");
                assert_left_unread(php, unread, &call, octets(size), method);
            }
        },
    );
}

#[test]
fn fact_05_without_enable_post_data_reading_every_post_may_be_left_unread() {
    with_each(
        || PhpFpm::pool(1).ini("enable_post_data_reading", "0"),
        |php, unread| {
            let call = Call::new("POST", &php.script("partial.php")).query("read=100");
            assert_left_unread(php, unread, &call, octets(12_000), "POST");
        },
    );
}

#[test]
fn fact_05_a_form_within_post_max_size_may_be_left_unread_too() {
    with_each(
        || PhpFpm::pool(1),
        |php, unread| {
            let script = php.script("partial.php");
            // Opening php://input is enough.
            let opening = Call::new("POST", &script).query("read=0");
            let body = Body { content_type: MULTIPART, start: NAMELESS_PART, size: 60_000 };
            assert_left_unread(php, unread, &opening, body, "a part without a name");
            let many = PART.repeat(1_100);
            let body = Body { content_type: MULTIPART, start: &many, size: 65_000 };
            assert_left_unread(php, unread, &opening, body, "more parts than max_multipart_body_parts");
            let reading = Call::new("POST", &script).query("read=100");
            let body = Body { content_type: "multipart/form-data", start: b"", size: 60_000 };
            assert_left_unread(php, unread, &reading, body, "no boundary");
        },
    );
}

#[test]
fn fact_05_without_room_for_temporary_files_a_post_over_16_kib_is_left_unread() {
    with_each(
        || PhpFpm::pool(1).ini("sys_temp_dir", "/nonexistent"),
        |php, unread| {
            // The script does not even look at its body.
            let call = Call::new("POST", &php.script("partial.php")).query("open=0");
            assert_left_unread(php, unread, &call, octets(20_000), "POST");
            for size in [1_000, 8_192, 16_384] {
                assert!(!octets(size).is_executed(php, &call), "{size} bytes fit in PHP's memory");
            }
        },
    );
}

/// However a script ends that has read a part, the patched PHP has drained the rest before the connection goes on.
#[test]
fn fact_05_the_end_of_a_script_does_not_matter() {
    with_each(
        || PhpFpm::pool(1),
        |php, unread| {
            let ends = ["exit(3)", "throw new Exception('x')", "none()", "fastcgi_finish_request()", "flush()"];
            for (index, end) in ends.into_iter().enumerate() {
                let text = format!("fread(fopen('php://input', 'rb'), 100); {end};");
                let call = Call::new("PUT", &php.add_script(&format!("end{index}.php"), &text));
                assert_left_unread(php, unread, &call, octets(60_000), end);
            }
        },
    );
}

#[test]
fn fact_05_a_body_is_read_whole_when_php_reads_it_or_the_connection_ends() {
    with_each(
        || PhpFpm::pool(1),
        |php, _| {
            let script = php.script("partial.php");
            let reading = Call::new("POST", &script).query("read=100");
            for (content_type, size) in [(OCTETS, 60_000), (FORM, 60_000), ("", 9_000)] {
                let body = Body { content_type, start: b"", size };
                assert!(!body.is_executed(php, &reading), "POST of {content_type}");
            }
            let untouched = Call::new("PUT", &script).query("open=0");
            assert!(!octets(60_000).is_executed(php, &untouched), "PUT that nobody opens is drained (10.4)");
            let untouched = Call::new("POST", &script).query("open=0");
            let nameless = Body { content_type: MULTIPART, start: NAMELESS_PART, size: 60_000 };
            assert!(!nameless.is_executed(php, &untouched), "a form that nobody opens");
            for method in ["PUT", "POST"] {
                let last = Call::new(method, &script).query("read=100").last();
                assert!(!nameless.is_executed(php, &last), "{method} without keep-conn");
            }
        },
    );
}

/// 10.4: the rest is awaited and read before END_REQUEST, unless php-fpm is open; there it comes at once.
#[test]
fn fact_05_drained_is_what_was_opened_before_the_request_ends() {
    with_each(
        || PhpFpm::pool(1),
        |php, unread| {
            let script = php.script("partial.php");
            for (query, is_drained) in [("open=0", true), ("read=0", unread == Unread::Drained)] {
                let call = Call::new("PUT", &script).query(query).body(OCTETS, "x".repeat(60_000)).unended();
                let bytes = call.bytes();
                let (half, rest) = bytes.split_at(bytes.len() - 30_000);
                let mut connection = php.proven();
                connection.send(half);
                let early = connection.reply(A_WHILE);
                assert_eq!(early.ended, !is_drained, "{query}: {early:?}");
                if is_drained {
                    connection.send(rest);
                    connection.reply(SOON).whole();
                    assert_eq!(connection.fence(SOON), Ok(vec![]), "{query}");
                }
                connection.reset();
                wait_free(php);
            }
        },
    );
}

/// 10.4: an open php-fpm resets the connection behind such a request, and what the reader has not taken yet is gone.
#[test]
fn fact_05_behind_an_unread_body_a_response_is_whole_only_where_it_is_drained() {
    with_each(
        || PhpFpm::pool(1),
        |php, unread| {
            let call = Call::new("PUT", &php.script("partial.php")).query("read=0&n=400000").id(3);
            let reply = late_reader(php, unread, &call.body(OCTETS, "x".repeat(60_000)));
            assert_eq!(reply.ended, unread == Unread::Drained, "{} bytes", reply.stdout.len());
            if reply.ended {
                assert_eq!(reply.body().len(), 400_000);
            }
        },
    );
}

/// Sends a call, and reads when the only worker is done with it: has left its connection, or waits on it for the next one.
fn late_reader(php: &PhpFpm, unread: Unread, call: &Call) -> Reply {
    let mut connection = php.proven();
    connection.send(&call.bytes());
    match unread {
        Unread::Executed => wait_free(php),
        Unread::Drained => wait_until("the worker waits", || proc::is_asleep(php.workers()[0])),
    }
    let reply = connection.reply(SOON);
    connection.reset();
    reply
}

/// 10.3, and 10.2 for a shortfall: neither is changed by the patch.
#[test]
fn fact_05_what_is_there_beyond_content_length_ends_the_connection() {
    with_each(
        || PhpFpm::pool(1),
        |php, _| {
            let script = php.script("partial.php");
            for length in ["100", ""] {
                let call = Call::new("PUT", &script).query("read=0").body(OCTETS, "x".repeat(60_000));
                let mut connection = php.proven();
                connection.send(&call.param("CONTENT_LENGTH", length).bytes());
                connection.reply(SOON);
                assert!(connection.fence(SOON).is_err(), "CONTENT_LENGTH {length:?}");
                connection.reset();
                wait_free(php);
            }
        },
    );
}
