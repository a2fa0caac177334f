//! `fcgimux call`: curl for FastCGI.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use fcgimux::config::duration_from_text;
use serde_json::json;

use super::{
    client::{Answer, Failure, Head, Kind, Output, Request, RequestFlags, Target, Times},
    tool,
};

/// Exit code for a status of 400 or more, where that is asked for; curl's.
const HTTP_ERROR: u8 = 22;
/// Bytes of the body, and of STDERR, that go into a JSON report.
const IN_REPORT: usize = 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  fcgimux call php:9000 /srv/www/index.php
  fcgimux call php:9000 /index.php?page=2 --root /srv/www -i
  fcgimux call php:9000 /srv/www/form.php -d 'name=Ann' -H 'Cookie: session=1'
  fcgimux call php:9000 /srv/www/upload.php -X PUT -d @picture.jpg -H 'Content-Type: image/jpeg'
  fcgimux call /run/fcgimux.sock /srv/www/index.php -v     through a running fcgimux, with timings
  fcgimux call php:9000 /status --query json               php-fpm's pm.status_path
  fcgimux call -f php:9000 /ping || echo ill

Exit codes, those of curl where it has one:
   0  there is a whole answer, whatever its status (but see --fail)
   6  the name has no address
   7  cannot connect
   8  what answers does not speak FastCGI, or breaks its rules
  22  the status is 400 or more, with --fail
  23  the answer could not be written to standard output
  28  no answer, or no whole one, within --timeout
  52  closed without an answer
  56  broken off in the middle of the answer
  64  the command line is wrong
  66  the file of --data cannot be read
  75  the application says that it did not serve the request (FCGI_OVERLOADED and the like)";

/// Send one request to a FastCGI application and print its answer: curl for FastCGI
///
/// The body goes to standard output and what the application writes to STDERR to standard error. The request has the
/// params that a web server would send to php-fpm; -P, -H, --query and --root change them. It goes over a connection of
/// its own, which takes one worker for as long as the request runs.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Call {
    /// Where the application listens: HOST:PORT, IP:PORT, [IPV6]:PORT or /PATH of a socket
    #[arg(value_name = "ADDR")]
    target: Target,

    #[command(flatten)]
    request: RequestFlags,

    /// Print the header block of the answer too, in front of the body
    #[arg(short, long, conflicts_with = "json")]
    include: bool,

    /// Say on standard error what is sent, and how long each phase took
    #[arg(short, long)]
    verbose: bool,

    /// Exit with 22 when the status is 400 or more
    #[arg(short, long)]
    fail: bool,

    /// Print one JSON object in place of the body: status, headers, body, stderr, timings in milliseconds, error
    #[arg(long)]
    json: bool,

    /// How long connecting may take, and the answer behind it, such as 500ms, 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration_from_text)]
    timeout: Duration,
}

/// What came, as far as it came.
#[derive(Debug, Default)]
struct Received {
    /// Where the request went.
    address: String,
    connect: Option<Duration>,
    head: Head,
    body: Kept,
    stderr: Kept,
    /// The last byte of STDERR ended a line.
    line_ended: bool,
}

/// The beginning of a text of any length.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// In all.
    length: u64,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        let room = IN_REPORT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Call {
    pub(super) fn run(&self) -> ExitCode {
        let request = match self.request.request() {
            Ok(request) => request,
            Err(error) => return tool::refuse_request(&error),
        };
        let mut received = Received { line_ended: true, ..Received::default() };
        let answer = match tool::block_on(self.perform(&request, &mut received)) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        let code = self.exit_code(&answer, &received);
        if let Err(failure) = &answer {
            tell!("fcgimux: {failure}");
        }
        if self.verbose && answer.is_ok() {
            conclude(&answer, &received);
        }
        if self.json && !tool::print(&report(&answer, &received, code)) {
            return Kind::Output.exit_code().into();
        }
        code.into()
    }

    async fn perform(&self, request: &Request, received: &mut Received) -> Result<Answer, Failure> {
        let mut connection = self.target.connect(self.timeout).await?;
        connection.address().clone_into(&mut received.address);
        received.connect = Some(connection.opened_in());
        if self.verbose {
            tell!("* {}: connected in {}", received.address, tool::milliseconds(connection.opened_in()));
            request.params().for_each(|(name, value)| tell!("> {name}={value}"));
        }
        let bytes = request.encode(connection.next_id(), false);
        let answer = connection.exchange(&bytes, self.timeout, |output| self.take(output, received)).await;
        if !received.line_ended {
            tell!();
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(connection.explained(failure).await),
        };
        // Only what is whole may be thrown away with its connection.
        connection.reset();
        if received.head.is_whole() {
            Ok(answer)
        } else {
            let what = format!("{}: the answer has no header block, so it is no CGI response", received.address);
            Err(Failure::new(Kind::Strange, what))
        }
    }

    fn take(&self, output: Output<'_>, received: &mut Received) -> io::Result<()> {
        match output {
            Output::Err(bytes) => {
                received.stderr.push(bytes);
                if !self.json {
                    received.line_ended = bytes.ends_with(b"\n");
                    // What cannot be said there has nowhere else to go.
                    _ = io::stderr().write_all(bytes);
                }
                Ok(())
            }
            Output::Out(bytes) => {
                let was_whole = received.head.is_whole();
                let Some(body) = received.head.take(bytes) else {
                    // The end of the exchange says it.
                    return Ok(());
                };
                if received.head.is_whole() && !was_whole {
                    self.show_head(&received.head)?;
                }
                received.body.push(body);
                if self.json || body.is_empty() {
                    return Ok(());
                }
                let mut stdout = io::stdout().lock();
                stdout.write_all(body)?;
                stdout.flush()
            }
        }
    }

    fn show_head(&self, head: &Head) -> io::Result<()> {
        if self.verbose {
            let head = String::from_utf8_lossy(head.bytes());
            head.trim_end().lines().for_each(|line| tell!("< {}", tool::visible(line)));
        }
        if self.include { io::stdout().write_all(head.bytes()) } else { Ok(()) }
    }

    fn exit_code(&self, answer: &Result<Answer, Failure>, received: &Received) -> u8 {
        match answer {
            Err(failure) => failure.kind.exit_code(),
            Ok(_) if self.fail && received.head.status() >= 400 => HTTP_ERROR,
            Ok(_) => 0,
        }
    }
}

/// The last lines of `--verbose`.
fn conclude(answer: &Result<Answer, Failure>, received: &Received) {
    let Ok(answer) = answer else { return };
    let (status, body) = (received.head.status(), received.body.length);
    tell!("* status {status}, {body} bytes of body, application status {}", answer.end.app_status);
    let Times { sent, first_byte, end } = answer.times;
    let phases = [("sent", sent), ("first byte", first_byte), ("end", end)];
    let phases = phases.iter().filter_map(|(name, time)| Some(format!("{name} {}", tool::milliseconds((*time)?))));
    tell!("* from the start of the request: {}", phases.collect::<Vec<_>>().join(", "));
}

fn report(answer: &Result<Answer, Failure>, received: &Received, code: u8) -> serde_json::Value {
    let millis = |time: Option<Duration>| time.map(tool::in_milliseconds);
    let whole = received.head.is_whole();
    let times = answer.as_ref().map(|answer| answer.times).unwrap_or_default();
    json!({
        "address": received.address,
        "status": whole.then(|| received.head.status()),
        "headers": if whole { received.head.fields() } else { vec![] },
        "body": received.body.text(),
        "body_bytes": received.body.length,
        "body_is_cut": received.body.length > received.body.bytes.len() as u64,
        "stderr": received.stderr.text(),
        "app_status": answer.as_ref().ok().map(|answer| answer.end.app_status),
        "milliseconds": {
            "connect": millis(received.connect),
            "sent": millis(times.sent),
            "first_byte": millis(times.first_byte),
            "end": millis(times.end),
        },
        "error": answer.as_ref().err().map(tool::failure_report),
        "exit_code": code,
    })
}
