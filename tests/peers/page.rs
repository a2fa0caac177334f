//! The pool page in a real browser, and `fcgimux top`: what they show of a running pool under load.
#![allow(clippy::disallowed_methods, reason = "real sockets and real peers need the real clock")]

pub(crate) mod browser;
mod cost;
mod figures;
mod saturated;
mod top;
mod trust;

use std::{path::PathBuf, time::Duration};

use browser::Browser;

use crate::support::{Fcgimux, eventually};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(120);

impl Browser {
    /// Opens the page and waits for its first figures.
    fn open_page(&mut self, mux: &Fcgimux) {
        assert!(eventually(10 * SECOND, || mux.page("/livez").0 == 200), "{}", mux.log());
        self.open(&format!("http://{}/", mux.admin()));
        self.wait("!!document.querySelector('section[data-pool]')");
    }

    /// The text of the first element that a selector finds.
    #[track_caller]
    fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.textContent ?? null"));
        text.as_str().unwrap_or_else(|| panic!("nothing on the page is {selector}")).to_owned()
    }

    /// One figure of the pool.
    #[track_caller]
    fn figure(&mut self, name: &str) -> String {
        self.text(&format!("[data-figure={name}] span"))
    }

    /// One of the counts since the start.
    #[track_caller]
    fn count(&mut self, word: &str) -> f64 {
        let text = self.text(&format!("[data-count='{word}'] b"));
        text.parse().unwrap_or_else(|_| panic!("{word}: {text} is no number"))
    }
}

/// Where pictures of a run stay.
fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("screenshots").join(name)
}
