//! What the subcommands that speak to an application have in common.

use std::{fmt, future::Future, io::Write, process::ExitCode, time::Duration};

use serde_json::{Value, json};

use super::{
    BAD_USAGE, UNREADABLE,
    client::{Failure, NO_RUNTIME, RequestError},
};

/// Runs it on this thread. An error is the exit code; it has been said.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ExitCode> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let output = runtime.block_on(future);
            // A look-up that was given up goes on for as long as it likes.
            runtime.shutdown_background();
            Ok(output)
        }
        Err(error) => {
            tell!("fcgimux: cannot start an event loop: {error}");
            Err(NO_RUNTIME.into())
        }
    }
}

pub(super) fn refuse_request(error: &RequestError) -> ExitCode {
    tell!("fcgimux: {error}");
    match error {
        RequestError::Usage(_) => BAD_USAGE.into(),
        RequestError::Unreadable(_) => UNREADABLE.into(),
    }
}

/// Prints a report, and says whether it has all gone out.
pub(super) fn print(report: &Value) -> bool {
    write(&format!("{report:#}\n"))
}

/// Writes to standard output, and says whether all has gone out.
pub(super) fn write(text: &impl fmt::Display) -> bool {
    let mut stdout = std::io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => true,
        // Whoever reads it may have seen enough and gone (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            tell!("fcgimux: cannot write to standard output: {error}");
            false
        }
    }
}

/// The same, with what would steer the terminal, or turn the text around, made visible: what applications say may come
/// from anywhere.
pub(super) fn visible(text: &str) -> String {
    let turns =
        |character| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    text.replace(|character: char| character.is_control() || turns(character), "\u{fffd}")
}

pub(super) fn failure_report(failure: &Failure) -> Value {
    json!({ "kind": failure.kind.word(), "message": failure.what(), "advice": failure.advice() })
}

/// To a microsecond.
pub(super) fn in_milliseconds(time: Duration) -> f64 {
    // Far below what a float holds exactly.
    time.as_micros() as f64 / 1000.0
}

/// For people.
pub(super) fn milliseconds(time: Duration) -> String {
    let millis = in_milliseconds(time);
    if millis < 100.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
