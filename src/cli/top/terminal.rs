//! The terminal while it is taken over: keys without a line break, a screen of its own, and everything put back at the end.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::AsFd,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::SignalFd,
        termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr},
    },
};

/// The other screen, without a cursor and without lines that go on in the next row; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What ends it, and a size that has changed.
const SIGNALS: [Signal; 5] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH];

pub(super) enum Event {
    End,
    /// Something may have to be drawn anew.
    Changed,
    Time,
}

/// Dropped, the terminal is as before.
pub(super) struct Terminal {
    signals: SignalFd,
    /// How keys came before; none: keys do not come from a terminal.
    before: Option<Termios>,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let mut set = SigSet::empty();
        SIGNALS.into_iter().for_each(|signal| set.add(signal));
        // They are read, so that none ends the program before the terminal is as it was. Ctrl-Z would leave it, too.
        let mut blocked = set;
        blocked.add(Signal::SIGTSTP);
        blocked.thread_block()?;
        let signals = SignalFd::new(&set)?;
        let stdin = io::stdin();
        let before = stdin.is_terminal().then(|| tcgetattr(&stdin)).transpose()?;
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            tcsetattr(&stdin, SetArg::TCSANOW, &keys)?;
        }
        let terminal = Self { signals, before };
        print(ENTER)?;
        Ok(terminal)
    }

    pub(super) fn draw(&mut self, frame: &str) -> io::Result<()> {
        // Over the one before, so that nothing flickers.
        let lines = frame.lines().map(|line| format!("{line}\x1b[K")).collect::<Vec<_>>().join("\r\n");
        print(&format!("\x1b[H{lines}\x1b[J"))
    }

    /// For a key, a signal, or until the time is over.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<Event> {
        let stdin = io::stdin();
        let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.before.is_some() {
            watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(0) => return Ok(Event::Time),
            Err(Errno::EINTR) => return Ok(Event::Changed),
            other => other?,
        };
        let is_ready = |place: usize| watched.get(place).and_then(PollFd::any).unwrap_or_default();
        let (signal, key) = (is_ready(0), is_ready(1));
        if signal {
            let winch = Signal::SIGWINCH as u32;
            let is_end = self.signals.read_signal()?.is_none_or(|signal| signal.ssi_signo != winch);
            return Ok(if is_end { Event::End } else { Event::Changed });
        }
        if key {
            let mut keys = [0; 64];
            let count = stdin.lock().read(&mut keys)?;
            let is_end = count == 0 || keys[..count].iter().any(|key| matches!(key, b'q' | b'Q' | 3));
            return Ok(if is_end { Event::End } else { Event::Changed });
        }
        Ok(Event::Changed)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that does not take it.
        let _ = print(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Columns and rows, if standard output is a terminal.
pub(super) fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(io::stdout())?;
    Some((width.0.into(), height.0.into()))
}
