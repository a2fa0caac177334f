//! `fcgimux top`: the pool page for a terminal.

mod fetch;
mod frame;
mod line;
mod terminal;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use fcgimux::config::duration_from_text;

use fetch::{FetchError, fetch};
use frame::{Frame, frame};
use terminal::{Event, Terminal};

/// The admin server does not answer, or not as one (`EX_UNAVAILABLE` in sysexits.h).
const UNAVAILABLE: u8 = 69;

/// Columns where nobody says how many there are.
const WIDTH: usize = 120;

const EXAMPLES: &str = "\
Examples:
  fcgimux top
  fcgimux top --admin 127.0.0.1:9254 --interval 5s
  fcgimux top --once | grep Saturated
  kubectl exec shop-7d9f -c fcgimux -- fcgimux top --once

Keys: q, Ctrl-C to end.

Exit codes: 0 ended as asked to; 1 the terminal failed; 64 the command line is wrong; 69 the admin server does not answer.";

/// Show each pool live in a terminal: queue, workers, rates, what is wrong and since when
///
/// Asks the admin server of a running fcgimux, as the pool page in a browser does. Without a terminal, one frame is printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Top {
    /// Where the admin server listens (admin.listen): HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9253")]
    admin: String,

    /// Print one frame and end
    #[arg(long)]
    once: bool,

    /// Time between two looks: 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

/// The admin server does not look more often than once a second.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration_from_text(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("give 1s to 1h".to_owned())
    }
}

impl Top {
    pub(super) fn run(self) -> ExitCode {
        let first = match fetch(&self.admin) {
            Ok(overview) => frame(&overview, &self.admin),
            Err(error) => return unavailable(&error),
        };
        if self.once || !std::io::stdout().is_terminal() {
            let width = terminal::size().map_or(WIDTH, |(width, _)| width);
            // Whoever reads it may have seen enough and gone (`| head`).
            let _ = std::io::stdout().write_all(first.text(width, usize::MAX, false).as_bytes());
            return ExitCode::SUCCESS;
        }
        match self.watch(first) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tell!("fcgimux: cannot use this terminal: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Until somebody ends it. Where the server stops to answer, the last figures stay.
    fn watch(&self, mut shown: Frame) -> std::io::Result<()> {
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut terminal = Terminal::open()?;
        let mut asked = now();
        loop {
            let (width, height) = terminal::size().unwrap_or((WIDTH, 24));
            terminal.draw(&shown.text(width, height, color))?;
            match terminal.wait(self.interval.saturating_sub(asked.elapsed()))? {
                Event::End => return Ok(()),
                Event::Changed if asked.elapsed() < self.interval => continue,
                Event::Changed | Event::Time => {}
            }
            asked = now();
            match fetch(&self.admin) {
                Ok(overview) => shown = frame(&overview, &self.admin),
                Err(error) => shown.is_stale(&error),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a person looks at it")]
fn now() -> Instant {
    Instant::now()
}

fn unavailable(error: &FetchError) -> ExitCode {
    tell!("fcgimux: {error}");
    UNAVAILABLE.into()
}
