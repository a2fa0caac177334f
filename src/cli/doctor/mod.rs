//! `fcgimux doctor`: what an application is, how it behaves toward kept connections, and what to set.

mod advice;
mod findings;
mod look;
mod php_conf;
mod report;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use fcgimux::config::duration_from_text;
use serde_json::json;

use super::{
    UNREADABLE,
    client::{Failure, Kind, Target},
    tool,
};
use advice::Advice;
use findings::Findings;
use php_conf::PhpConf;

/// Exit code where something was found that will hurt.
const WARNED: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  fcgimux doctor php:9000
  fcgimux doctor php:9000 --script /srv/www/health.php --status-address php:9001 --sidecars 12
  fcgimux doctor /run/php/php8.2-fpm.sock --php-fpm-conf /etc/php/8.2/fpm/php-fpm.conf
  fcgimux doctor php:9000 --json | jq .remarks

What it costs: one connection at a time, so one worker at most; --probes questions that run nothing (GET_VALUES), and \
two requests (three with --script but without --status-address). Where php-fpm has no status page at --status, these \
are answered 404 and leave a line in its log.

Exit codes:
   0  nothing to mend
   3  there are warnings
   6, 7, 8, 28, 52, 56  it could not be looked at: as of `fcgimux call`
  64  the command line is wrong
  66  the file of --php-fpm-conf cannot be read";

/// Look at a FastCGI application: what it is, whether it keeps connections, and the settings to use on both sides
///
/// Asks what the application announces, whether it keeps a connection behind a question and behind requests, how long
/// answers take, and what php-fpm's status page says; then prints what to set in fcgimux and in php-fpm, and what is
/// wrong.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// Where the application listens: HOST:PORT, IP:PORT, [IPV6]:PORT or /PATH of a socket
    #[arg(value_name = "ADDR")]
    target: Target,

    /// A script that may be run twice, by its full path; shows the version of PHP and whether requests keep the connection
    /// [default: the status page]
    #[arg(long, value_name = "SCRIPT", value_parser = path)]
    script: Option<String>,

    /// php-fpm's pm.status_path
    #[arg(long, value_name = "PATH", default_value = "/status", value_parser = path)]
    status: String,

    /// Where the status page is: php-fpm's pm.status_listen [default: ADDR]
    #[arg(long, value_name = "ADDR")]
    status_address: Option<Target>,

    /// Read php-fpm's configuration as well, for what cannot be seen from outside
    #[arg(long, value_name = "FILE")]
    php_fpm_conf: Option<PathBuf>,

    /// How many fcgimux (or other clients that keep connections) share this application
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    sidecars: u64,

    /// Connections that each of them may keep [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    per_endpoint: Option<u64>,

    /// Questions by which the time of an answer is measured
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(2..=100))]
    probes: u8,

    /// How long each answer may take, such as 500ms or 5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration_from_text)]
    timeout: Duration,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("write a path that begins with /".to_owned()) }
}

impl Doctor {
    pub(super) fn run(&self) -> ExitCode {
        let conf = match self.php_fpm_conf.as_deref().map(PhpConf::read).transpose() {
            Ok(conf) => conf,
            Err((file, error)) => {
                tell!("fcgimux: cannot read {}: {error}", file.display());
                return UNREADABLE.into();
            }
        };
        match tool::block_on(look::look(self)) {
            Ok(Ok(findings)) => self.conclude(&findings, conf.as_ref()),
            Ok(Err(failure)) => self.give_up(&failure),
            Err(code) => code,
        }
    }

    fn conclude(&self, findings: &Findings, conf: Option<&PhpConf>) -> ExitCode {
        let advice = Advice::new(self, findings, conf);
        let printed = match self.json {
            true => tool::print(&report::json(findings, &advice)),
            false => tool::write(&report::text(findings, &advice)),
        };
        match (printed, advice.has_warnings()) {
            (false, _) => Kind::Output.exit_code().into(),
            (true, true) => WARNED.into(),
            (true, false) => ExitCode::SUCCESS,
        }
    }

    /// It does not answer. Its status page may do so all the same, where it has an address of its own.
    fn give_up(&self, failure: &Failure) -> ExitCode {
        tell!("fcgimux: {failure}");
        let status = self.status_address.as_ref().map(|target| tool::block_on(look::status_at(target, self)));
        let status = match status {
            Some(Err(code)) => return code,
            Some(Ok(status)) => Some(status),
            None => None,
        };
        if self.json {
            let page = status.and_then(Result::ok).map(|status| report::status(&status));
            let report = json!({ "address": self.target.to_string(), "error": tool::failure_report(failure), "status_page": page });
            tool::print(&report);
        } else if let Some(status) = status {
            match status {
                Ok(status) => {
                    tell!("its status page at {}: {}", status.address, tool::visible(&report::status_text(&status)))
                }
                Err(error) => tell!("its status page: {}", tool::visible(&error)),
            }
        }
        failure.kind.exit_code().into()
    }
}

#[cfg(test)]
mod tests;
