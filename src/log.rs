//! Where log lines go: to stderr, one line an event, as JSON or text, with times in UTC.

mod stderr;

use crate::config::{Log, LogFormat, LogLevel};
use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal},
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use stderr::Outlet;
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// Ours, by module. Other crates say in their own words what we say in the operator's, and are only heard of errors.
const OWN: &str = env!("CARGO_CRATE_NAME");
/// Lines of the access log, which is switched by itself.
const ACCESS: &str = "access";

/// The end of the process waits so long for a slow reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// Set once the log is installed.
static STDERR: OnceLock<Arc<Outlet<File>>> = OnceLock::new();
/// As [`STDERR`].
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();
/// Lines are JSON.
static JSON: AtomicBool = AtomicBool::new(true);

/// Sets up the log of the whole process. The first call wins: what is logged where is decided once, and tests that
/// start the program several times in one process are no error.
///
/// The level comes from the configuration alone; `RUST_LOG` is not read.
pub fn init(log: &Log) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| install(log));
}

/// Level and format are others from now on.
pub fn adapt(log: &Log) {
    JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
    if let Some(filter) = FILTER.get() {
        // The only error: the program that embeds this library has dropped the log, and nobody hears it.
        _ = filter.reload(targets(log.level));
    }
}

/// To be called when the process ends: lets a slow reader have the last lines. Returns whether somebody takes them.
pub fn settle() -> bool {
    STDERR.get().is_none_or(|stderr| stderr.settle(PATIENCE))
}

fn install(log: &Log) {
    let told = |lines| tracing::warn!(lines, "log lines were lost: whoever reads standard error was too slow");
    // Without a thread or a descriptor nothing else will run either, and says so.
    let Ok(stderr) = stderr::unwaiting(io::stderr()).and_then(|to| Outlet::new(to, told)) else { return };
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines::default())
        .with_writer(stderr.clone())
        .with_ansi(io::stderr().is_terminal());
    JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
    // The only error: a program that embeds this library has a log already, and keeps it.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        _ = (FILTER.set(handle), STDERR.set(stderr));
    }
}

fn targets(own: LogLevel) -> Targets {
    let others = Targets::new().with_default(LevelFilter::ERROR);
    // It logs each attempt that fails beside our own line, which says since when.
    let others = others.with_target("kube_client", LevelFilter::OFF);
    others.with_target(OWN, level(own)).with_target(ACCESS, LevelFilter::INFO)
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Both formats, of which the one that [`JSON`] says is written.
///
/// Without targets: these are paths of modules, and would make every move of code a change of the log.
struct Lines {
    json: Format<Json>,
    text: Format<Full>,
}

impl Default for Lines {
    fn default() -> Self {
        let json = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { json: json.with_target(false), text: Format::default().with_target(false) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match JSON.load(Ordering::Relaxed) {
            true => self.json.format_event(context, line, event),
            false => self.text.format_event(context, line, event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_changes_nothing_and_is_no_error_and_another_level_takes_effect() {
        init(&Log { level: LogLevel::Error, format: LogFormat::Json, access: None });
        let first = LevelFilter::current();
        for level in [LogLevel::Error, LogLevel::Debug] {
            init(&Log { level, format: LogFormat::Text, access: Some(1.0) });
            assert_eq!(LevelFilter::current(), first);
        }
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        adapt(&Log { level: LogLevel::Debug, format: LogFormat::Text, access: None });
        assert!(tracing::enabled!(tracing::Level::DEBUG) && !JSON.load(Ordering::Relaxed));
        adapt(&Log { level: LogLevel::Error, format: LogFormat::Json, access: None });
        assert!(!tracing::enabled!(tracing::Level::DEBUG) && JSON.load(Ordering::Relaxed));
    }

    #[test]
    fn the_system_clock_is_written_in_utc() {
        use tracing_subscriber::fmt::{format::Writer, time::FormatTime, time::SystemTime};
        let mut text = String::new();
        SystemTime.format_time(&mut Writer::new(&mut text)).unwrap();
        assert!(text.ends_with('Z'), "{text}");
    }
}
