//! The command line, and how a process that cannot run says so. A file for each thing that it can be told to do.

/// A line on standard error. Unlike `eprintln!` it does not end the process where nobody reads that any more
/// (`2>&1 | head`).
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod bench;
mod call;
mod check;
mod client;
mod completions;
mod doctor;
mod serve;
mod tool;
mod top;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use fcgimux::{
    ConfigFile,
    config::{Config, ConfigError, zone_from_text},
};

use serve::{SHORT, Short};

/// The command line or the configuration is wrong (`EX_USAGE` in sysexits.h). Clap's own 2 is what shells use.
const BAD_USAGE: u8 = 64;
/// A file cannot be read (`EX_NOINPUT`).
const UNREADABLE: u8 = 66;

/// The zone of this process where the configuration names none: what Kubernetes can say of a pod's node.
const ZONE_VARIABLE: &str = "FCGIMUX_ZONE";

const EXAMPLES: &str = "\
Examples:
  fcgimux --upstream php:9000
      takes requests on /run/fcgimux.sock and carries them to php-fpm at php:9000
  fcgimux --upstream 10.0.0.7:9000,10.0.0.8:9000 --listen /run/php.sock
  fcgimux --config /etc/fcgimux.yaml
  fcgimux check /etc/fcgimux.yaml
  fcgimux doctor php:9000
      looks at php-fpm there, and says what to set on both sides
  fcgimux call /run/fcgimux.sock /srv/www/index.php -v
      sends one request, as curl would

Exit codes: 0 ended as asked to; 1 could not run; 64 the command line or the configuration is wrong;
66 a file cannot be read; those of a command: fcgimux COMMAND --help.";

/// Carries the FastCGI requests of an unmodified web server over a few kept connections to php-fpm.
///
/// The web server speaks to a Unix socket, one short connection per request (nginx: fastcgi_pass unix:/run/fcgimux.sock).
/// All settings beyond the flags below are made in a file (--config).
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    /// Take the whole configuration from this file (YAML)
    #[arg(long, value_name = "FILE", conflicts_with_all = SHORT)]
    config: Option<PathBuf>,

    #[command(flatten)]
    short: Short,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Call(call::Call),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Top(top::Top),
    Completions(completions::Completions),
}

impl Command {
    /// `zone`: that of this process by its environment.
    fn run(self, zone: Option<String>) -> ExitCode {
        match self {
            Self::Check(check) => check.run(zone),
            Self::Call(call) => call.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Bench(bench) => bench.run(),
            Self::Top(top) => top.run(),
            Self::Completions(completions) => completions.run(),
        }
    }
}

/// What the process is to do.
pub(crate) enum Action {
    /// With the file that the configuration came from, if it came from one.
    Run(Box<Config>, Option<ConfigFile>),
    /// Nothing more: all has been said, and this is how it ends.
    Exit(ExitCode),
}

/// Reads the command line and, where it names one, the file. Does what a subcommand is for. Prints what is wrong.
pub(crate) fn parse() -> Action {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return Action::Exit(refuse_line(&error)),
    };
    let zone = match zone_of_environment() {
        Ok(zone) => zone,
        Err(code) => return Action::Exit(code),
    };
    match line {
        CommandLine { command: Some(command), .. } => Action::Exit(command.run(zone)),
        CommandLine { config: Some(file), .. } => match ConfigFile::open(&file, zone) {
            Ok((file, config)) => Action::Run(Box::new(config), Some(file)),
            Err(error) => Action::Exit(refuse_file(&error)),
        },
        CommandLine { mut short, .. } => {
            short.zone = short.zone.or(zone);
            match Config::for_upstreams(&short.into()) {
                Ok(config) => Action::Run(Box::new(config), None),
                Err(violations) => {
                    tell!("{violations}");
                    Action::Exit(BAD_USAGE.into())
                }
            }
        }
    }
}

/// Of a process whose configuration names none. One that is empty is none.
fn zone_of_environment() -> Result<Option<String>, ExitCode> {
    let Some(zone) = std::env::var_os(ZONE_VARIABLE).filter(|zone| !zone.is_empty()) else { return Ok(None) };
    let zone = zone_from_text(&zone.to_string_lossy()).map_err(|message| {
        tell!("{ZONE_VARIABLE}: {message}");
        ExitCode::from(BAD_USAGE)
    })?;
    Ok(Some(zone))
}

/// Violations stand alone, as editors and compilers write them; anything else is this program's own word.
fn refuse_file(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Unreadable { .. } => {
            tell!("fcgimux: {error}");
            UNREADABLE.into()
        }
        ConfigError::Invalid(violations) => {
            tell!("{violations}");
            BAD_USAGE.into()
        }
    }
}

fn refuse_line(error: &clap::Error) -> ExitCode {
    // Nowhere is left to say it if this fails.
    let _ = error.print();
    let asked_for =
        matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    if asked_for { ExitCode::SUCCESS } else { BAD_USAGE.into() }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use fcgimux::config::Flags;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_file_excludes_every_flag() {
        let command = CommandLine::command();
        let flags = command.get_arguments().map(|flag| flag.get_id().as_str());
        let flags: Vec<&str> = flags.filter(|name| !["config", "help", "version"].contains(name)).collect();
        assert_eq!(flags, SHORT);
    }

    #[test]
    fn upstreams_may_be_repeated_and_separated_by_commas() {
        let line = CommandLine::try_parse_from(["fcgimux", "--upstream", "a:1,b:1", "--upstream", "c:1"]).unwrap();
        assert_eq!(Flags::from(line.short).upstreams, ["a:1", "b:1", "c:1"]);
    }
}
