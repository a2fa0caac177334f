//! The subcommands that speak to an application themselves, against real ones: php-fpm alone and behind fcgimux, Go; and
//! against those that do not answer as they should.
#![allow(clippy::disallowed_methods, reason = "real peers need the real clock")]

mod bench;
mod call;
mod doctor;
mod nobody;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// How the program ended, and what it said.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    /// Standard output.
    out: String,
    /// Standard error.
    err: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The words of a doctor's remarks that are warnings.
    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        let report = self.json();
        let remarks = report["remarks"].as_array().expect("remarks");
        let warnings = remarks.iter().filter(|remark| remark["weight"] == "warning");
        warnings.map(|remark| remark["word"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, b"")
}

/// The same with this on its standard input.
fn run_with(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcgimux"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program is built with its tests");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without having read it.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}
