//! The command line, and how a process that cannot run says so.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use fcgimux::{
    ConfigFile,
    config::{Config, ConfigError, Flags, key_at, zone_from_text},
};

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

Exit codes: 0 ended as asked to; 1 could not run; 64 the command line or the configuration is wrong;
66 a file cannot be read.";

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
    /// Check a configuration file: print everything that is wrong with it, or the configuration it amounts to
    ///
    /// Every violation is printed as FILE:LINE: path: message, and the exit code is then 64. Of a file that is right, the
    /// effective configuration is printed, with every default filled in and the values of params.set hidden.
    Check {
        /// The file to check (YAML)
        file: PathBuf,
    },
}

/// Each by its name, so that a conflict with a file names the flags given and not all there are.
const SHORT: [&str; 11] = [
    "upstream",
    "listen",
    "socket_mode",
    "socket_group",
    "per_endpoint",
    "threads",
    "admin",
    "log_level",
    "log_format",
    "access_log",
    "zone",
];

#[derive(Args, Debug)]
struct Short {
    /// Where the application listens: HOST:PORT, IP:PORT, [IPV6]:PORT or /PATH; may be repeated or hold several with commas
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    upstream: Vec<String>,

    #[arg(long, value_name = "ADDRESS", help = help("Where to listen: /PATH or IP:PORT; may be repeated", "listeners[].socket"))]
    listen: Vec<String>,

    #[arg(long, value_name = "MODE", help = help("Permission bits of the socket, octal", "listeners[].mode"))]
    socket_mode: Option<String>,

    /// Group of the socket, by name or number
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    #[arg(long, value_name = "N", help = help("Connections to one endpoint at most", "pools.*.connections.per_endpoint"))]
    per_endpoint: Option<u32>,

    #[arg(long, value_name = "N", help = help("Threads that carry exchanges", "threads"))]
    threads: Option<u32>,

    #[arg(long, value_name = "ADDRESS", help = help("Where to serve metrics, health and state: IP:PORT or off", "admin.listen"))]
    admin: Option<String>,

    #[arg(long, value_name = "LEVEL", help = help("error, warn, info or debug", "log.level"))]
    log_level: Option<String>,

    #[arg(long, value_name = "FORMAT", help = help("json or text", "log.format"))]
    log_format: Option<String>,

    /// Log one line per exchange
    #[arg(long)]
    access_log: bool,

    /// Zone that this process runs in, whose endpoints are preferred [default: $FCGIMUX_ZONE]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

/// What the process is to do.
pub(crate) enum Action {
    /// With the file that the configuration came from, if it came from one.
    Run(Box<Config>, Option<ConfigFile>),
    /// Nothing more: all has been said, and this is how it ends.
    Exit(ExitCode),
}

/// Reads the command line and, where it names one, the file. Prints what is wrong.
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
        CommandLine { command: Some(Command::Check { file }), .. } => Action::Exit(check(&file, zone)),
        CommandLine { config: Some(file), .. } => match ConfigFile::open(&file, zone) {
            Ok((file, config)) => Action::Run(Box::new(config), Some(file)),
            Err(error) => Action::Exit(refuse_file(&error)),
        },
        CommandLine { mut short, .. } => {
            short.zone = short.zone.or(zone);
            match Config::for_upstreams(&short.into()) {
                Ok(config) => Action::Run(Box::new(config), None),
                Err(violations) => {
                    eprintln!("{violations}");
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
        eprintln!("{ZONE_VARIABLE}: {message}");
        ExitCode::from(BAD_USAGE)
    })?;
    Ok(Some(zone))
}

fn check(file: &Path, zone: Option<String>) -> ExitCode {
    match ConfigFile::open(file, zone) {
        Ok((_, config)) => {
            // Whoever reads it may have seen enough and gone (`| head`), which changes nothing about the file.
            let _ = std::io::stdout().write_all(config.to_yaml().as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => refuse_file(&error),
    }
}

/// Violations stand alone, as editors and compilers write them; anything else is this program's own word.
fn refuse_file(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Unreadable { .. } => {
            eprintln!("fcgimux: {error}");
            UNREADABLE.into()
        }
        ConfigError::Invalid(violations) => {
            eprintln!("{violations}");
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

/// The text of a flag with the default of the setting it stands for.
fn help(text: &str, key: &str) -> String {
    match key_at(key).and_then(|key| key.default) {
        Some(default) => format!("{text} [default: {}]", default.trim_matches('"')),
        None => text.to_owned(),
    }
}

impl From<Short> for Flags {
    fn from(short: Short) -> Self {
        Self {
            upstreams: short.upstream,
            listen: short.listen,
            socket_mode: short.socket_mode,
            socket_group: short.socket_group,
            per_endpoint: short.per_endpoint,
            threads: short.threads,
            admin: short.admin,
            log_level: short.log_level,
            log_format: short.log_format,
            access_log: short.access_log,
            zone: short.zone,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
    fn a_flag_shows_the_default_of_its_setting() {
        assert_eq!(help("N", "threads"), "N [default: 1]");
        assert_eq!(help("N", "listeners[].mode"), "N [default: 0660]");
    }

    #[test]
    fn upstreams_may_be_repeated_and_separated_by_commas() {
        let line = CommandLine::try_parse_from(["fcgimux", "--upstream", "a:1,b:1", "--upstream", "c:1"]).unwrap();
        assert_eq!(line.short.upstream, ["a:1", "b:1", "c:1"]);
    }
}
