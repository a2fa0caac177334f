//! Where log lines go: to stderr, one line an event, as JSON or text, with times in UTC.

use crate::config::{Log, LogFormat, LogLevel};
use std::{
    io::{self, IsTerminal},
    sync::Once,
};
use tracing::level_filters::LevelFilter;

/// Sets up the log of the whole process. The first call wins: what is logged where is decided once, and tests that
/// start the program several times in one process are no error.
///
/// The level comes from the configuration alone; `RUST_LOG` is not read.
pub fn init(log: &Log) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| install(log));
}

fn install(log: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level(log.level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Targets are paths of modules: they would make every move of code a change of the log.
        .with_target(false);
    let installed = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => builder.try_init(),
    };
    // The only error: a program that embeds this library has a log already, and keeps it.
    drop(installed);
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_changes_nothing_and_is_no_error() {
        init(&Log { level: LogLevel::Error, format: LogFormat::Json, access: false });
        let first = LevelFilter::current();
        for level in [LogLevel::Error, LogLevel::Debug] {
            init(&Log { level, format: LogFormat::Text, access: true });
            assert_eq!(LevelFilter::current(), first);
        }
    }

    #[test]
    fn the_system_clock_is_written_in_utc() {
        use tracing_subscriber::fmt::{format::Writer, time::FormatTime, time::SystemTime};
        let mut text = String::new();
        SystemTime.format_time(&mut Writer::new(&mut text)).unwrap();
        assert!(text.ends_with('Z'), "{text}");
    }
}
