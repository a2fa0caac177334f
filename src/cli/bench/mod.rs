//! `fcgimux bench`: a load generator for FastCGI.

mod load;
mod pace;
mod report;
mod tally;
mod token;

use std::{process::ExitCode, time::Duration};

use clap::Args;
use fcgimux::config::duration_from_text;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    client::{Failure, Head, Kind, Output, Request, RequestFlags, Target},
    tool,
};
use load::Load;

/// Exit code where a part of the requests failed.
const SOME_FAILED: u8 = 3;
/// Exit code of `fcgimux call --fail`, here for an answer that makes no sense to measure.
const HTTP_ERROR: u8 = 22;
/// How long it goes on where nothing is said of that.
const DURATION: Duration = Duration::from_secs(10);
/// Descriptors of the process besides those of its clients; a generous guess.
const OTHER_DESCRIPTORS: u64 = 64;
/// What is shown of the body of an answer that is an error.
const SHOWN: usize = 200;

const EXAMPLES: &str = "\
Examples:
  fcgimux bench php:9000 /srv/www/index.php
      8 clients for 10 s, a connection for each request
  fcgimux bench php:9000 /srv/www/index.php --keep
      each client keeps one connection
  fcgimux bench /run/fcgimux.sock /srv/www/index.php -c 64 -r 500 -t 1m
      through a running fcgimux; 500 requests a second, whether others are answered or not
  fcgimux bench php:9000 /srv/www/echo.php -n 10000 --token --json

How latency is measured: with --rate from the moment at which a request was due, so that the time that it waited for a \
free client counts (no coordinated omission); without, from the moment at which a client began it. Connecting is part \
of it. Percentiles are those of good answers: whole, status below 400, with their token if there is one.

A --keep connection holds one worker of php-fpm for as long as the bench runs: with more clients than workers the rest \
waits. The clients share the addresses of a name evenly. Before the load one request is sent by itself; if that goes \
wrong, nothing more is sent.

Exit codes:
   0  every request had a good answer
   3  some had none, or were due and could not be sent
   6, 7, 8, 28, 52, 56, 75  the first request failed: as of `fcgimux call`
  22  the first request was answered with a status of 400 or more, or without its token
  64  the command line is wrong
  66  the file of --data cannot be read";

/// Send many requests to a FastCGI application and print how fast they were answered
///
/// Each client sends a request when its last one has been answered (closed loop), or when one is due by --rate (open
/// loop). By default each request has a connection of its own, as nginx and others do it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bench {
    /// Where the application listens: HOST:PORT, IP:PORT, [IPV6]:PORT or /PATH of a socket
    #[arg(value_name = "ADDR")]
    target: Target,

    #[command(flatten)]
    request: RequestFlags,

    /// Requests at once, at most
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,

    /// Requests a second that fall due, whether others have been answered or not
    #[arg(short, long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// How long requests are begun, such as 30s [default: 10s, or as long as --requests take]
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration_from_text)]
    duration: Option<Duration>,

    /// How many requests are begun, at most
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,

    /// Each client keeps one connection (FCGI_KEEP_CONN)
    #[arg(short, long)]
    keep: bool,

    /// Put another token into the query of each request, which must come back in the body; without it the answer counts as
    /// that of somebody else
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "token")]
    token: Option<String>,

    /// How long a request may take once it has been begun
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration_from_text)]
    timeout: Duration,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number from 0.001 to 1000000".to_owned()),
    }
}

impl Bench {
    pub(super) fn run(&self) -> ExitCode {
        let request = match self.request.request() {
            Ok(request) => request,
            Err(error) => return tool::refuse_request(&error),
        };
        self.make_room();
        let done = tool::block_on(async {
            self.try_once(&request).await?;
            let addresses = self.target.addresses().await.map_err(|failure| say(&failure))?;
            Ok::<_, ExitCode>(Load::new(self, &request, &addresses).run().await)
        });
        let result = match done {
            Ok(Ok(result)) => result,
            Ok(Err(code)) | Err(code) => return code,
        };
        let printed = match self.json {
            true => tool::print(&report::json(self, &result)),
            false => tool::write(&report::text(self, &result)),
        };
        match (printed, result.is_clean()) {
            (false, _) => Kind::Output.exit_code().into(),
            (true, true) => ExitCode::SUCCESS,
            (true, false) => SOME_FAILED.into(),
        }
    }

    /// For a descriptor each.
    fn make_room(&self) {
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < u64::from(self.clients) + OTHER_DESCRIPTORS
        {
            // Where that is not enough, connecting says so.
            _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }

    /// One request by itself: a wrong address or script is told once, and not a million times.
    async fn try_once(&self, request: &Request) -> Result<(), ExitCode> {
        let (request, mut awaited) = token::attach(request, self.token.as_deref());
        let (mut head, mut body) = (Head::default(), vec![]);
        let mut connection = self.target.connect(self.timeout).await.map_err(|failure| say(&failure))?;
        let bytes = request.encode(connection.next_id(), false);
        let answer = connection.exchange(&bytes, self.timeout, |output| {
            if let Output::Out(output) = output {
                let output = head.take(output).unwrap_or_default();
                awaited.look_at(output);
                body.extend_from_slice(&output[..output.len().min(SHOWN - body.len().min(SHOWN))]);
            }
            Ok(())
        });
        if let Err(failure) = answer.await {
            return Err(say(&connection.explained(failure).await));
        }
        connection.reset();
        let body = String::from_utf8_lossy(&body);
        let wrong = match head.status() {
            status if status >= 400 || status == 0 => format!("status {status}"),
            _ if !head.is_whole() => "no header block, so it is no CGI response".to_owned(),
            _ if !awaited.is_found() => "a body without the token of its request".to_owned(),
            _ => return Ok(()),
        };
        tell!("fcgimux: the first answer has {wrong}: \"{}\"; nothing more was sent", body.trim().escape_debug());
        Err(HTTP_ERROR.into())
    }
}

fn say(failure: &Failure) -> ExitCode {
    tell!("fcgimux: {failure}");
    failure.kind.exit_code().into()
}
