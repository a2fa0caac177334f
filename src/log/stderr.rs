//! Standard error, as the log writes to it. Whoever reads it may stop to do so: a collector that hangs, a terminal that is
//! held. No request waits for him: what finds no room is kept, up to a limit, then lost and counted.

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};
use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Bytes that a pipe takes at once if it says that it takes any: a page.
const AT_ONCE: usize = 4096;
/// Bytes kept for a reader who has stopped for a moment: some thousand lines.
const KEPT: usize = 1024 * 1024;

/// A descriptor of our own for what `of` writes to, on which a write does not wait, where there can be one: of a pipe and of
/// a terminal, which may say that they can be written to and have room for less than a line. O_NONBLOCK on `of` itself would
/// hold for every process that shares it.
///
/// # Errors
/// The system gives no descriptor at all.
pub(super) fn unwaiting(of: impl AsFd) -> io::Result<File> {
    let same = File::from(of.as_fd().try_clone_to_owned()?);
    let kind = same.metadata()?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return Ok(same);
    }
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let own = OpenOptions::new().write(true).custom_flags(flags).open(format!("/proc/self/fd/{}", same.as_raw_fd()));
    // It may belong to another user.
    Ok(own.unwrap_or(same))
}

/// Takes whole lines and never makes who writes them wait.
#[derive(Debug)]
pub(super) struct Outlet<W> {
    to: W,
    owed: Mutex<Owed>,
    /// Something is owed, or nothing is any more.
    changed: Condvar,
}

/// What has been taken and not been written.
#[derive(Debug, Default)]
struct Owed {
    bytes: Vec<u8>,
    /// Lines that found no room, since the last time that it was told.
    lost: u64,
}

/// With characters that end a line for some readers, turn the text around or steer a terminal written as escapes, which JSON reads as
/// what they are. Those of ASCII have been seen to by the format.
fn visible(line: &[u8]) -> Cow<'_, [u8]> {
    if line.is_ascii() {
        return line.into();
    }
    let mut text = String::with_capacity(line.len() + 8);
    for character in String::from_utf8_lossy(line).chars() {
        match character {
            '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text.into_bytes().into()
}

impl<W: AsFd + Send + Sync + 'static> Outlet<W> {
    /// `tell` is called, on a thread of its own, with how many lines have been lost, as soon as there is room again.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn new(to: W, tell: impl Fn(u64) + Send + 'static) -> io::Result<Arc<Self>> {
        let outlet = Arc::new(Self { to, owed: Mutex::default(), changed: Condvar::new() });
        let late = outlet.clone();
        // It ends with the process: nothing else ends the log.
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let lost = late.write_late();
                if lost > 0 {
                    tell(lost);
                }
            }
        })?;
        Ok(outlet)
    }

    /// Waits until nothing is owed; whether that came within `limit`.
    pub(super) fn settle(&self, limit: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |owed| !owed.bytes.is_empty());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn take(&self, line: &[u8]) {
        let line = &*visible(line);
        let mut owed = self.lock();
        let written = if owed.bytes.is_empty() { self.write_ready(line) } else { 0 };
        let rest = &line[written..];
        if rest.is_empty() {
            return;
        }
        // What has been begun is ended: nobody can read half a line.
        if written == 0 && owed.bytes.len() + rest.len() > KEPT {
            owed.lost += 1;
            return;
        }
        owed.bytes.extend_from_slice(rest);
        self.changed.notify_all();
    }

    /// Waits for something that is owed, then for room, and writes. Returns how many lines were lost, once the last of those
    /// in front of them is out.
    fn write_late(&self) -> u64 {
        let owed = self.changed.wait_while(self.lock(), |owed| owed.bytes.is_empty());
        drop(owed);
        self.is_ready(PollTimeout::NONE);
        let mut owed = self.lock();
        let written = self.write_ready(&owed.bytes);
        owed.bytes.drain(..written);
        if !owed.bytes.is_empty() {
            return 0;
        }
        owed.bytes = vec![];
        self.changed.notify_all();
        std::mem::take(&mut owed.lost)
    }

    /// What can be written without waiting; all of it where nobody can read it any more.
    fn write_ready(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() && self.is_ready(PollTimeout::ZERO) {
            let end = bytes.len().min(written + AT_ONCE);
            match unistd::write(&self.to, &bytes[written..end]) {
                Ok(more) => written += more,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return bytes.len(),
            }
        }
        written
    }

    /// Also where writing fails at once.
    fn is_ready(&self, limit: PollTimeout) -> bool {
        loop {
            match poll(&mut [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)], limit) {
                Ok(ready) => return ready > 0,
                Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// Whatever happened under the lock, what is owed is bytes.
    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line at each call, as tracing writes them.
impl<W: AsFd + Send + Sync + 'static> Write for &Outlet<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{PipeReader, Read, pipe},
        sync::mpsc,
    };

    const LINE: [u8; 100] =
        *b"a line of a hundred bytes..........................................................................\n";
    const LONG: Duration = Duration::from_secs(10);

    fn outlet(to: io::PipeWriter) -> (Arc<Outlet<io::PipeWriter>>, mpsc::Receiver<u64>) {
        let (told, lost) = mpsc::sync_channel(10);
        (Outlet::new(to, move |lost| told.send(lost).unwrap_or_default()).unwrap(), lost)
    }

    fn read(reader: &mut PipeReader, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_ends_a_line_for_some_or_turns_it_around_is_written_as_an_escape() {
        let seen = |line: &str| String::from_utf8(visible(line.as_bytes()).into_owned()).unwrap();
        assert_eq!(seen("plain\n"), "plain\n");
        assert_eq!(seen("über 漢字 😀\n"), "über 漢字 😀\n");
        assert_eq!(seen("a\u{2028}b\u{2029}c\u{85}d\u{9b}e\n"), "a\\u2028b\\u2029c\\u0085d\\u009be\n");
        assert_eq!(seen("\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}"), "\\u202egpj.exe\\u2066\\u200f\\u061c");
        let json = serde_json::json!({ "script": "/srv/\u{202e}\u{2028}" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&seen(&json.to_string())).unwrap(), json);
    }

    #[test]
    fn a_reader_who_stops_holds_up_nobody_and_what_he_misses_is_counted() {
        let (mut reader, writer) = pipe().unwrap();
        let (outlet, told) = outlet(writer);
        let most = 2 * KEPT / LINE.len();
        (0..most).for_each(|_| (&*outlet).write_all(&LINE).unwrap());
        assert!(!outlet.settle(Duration::ZERO));
        let mut kept = KEPT / LINE.len();
        assert!(read(&mut reader, kept * LINE.len()).chunks(LINE.len()).all(|line| line == LINE));
        // Until it is told, everything that was kept can be read, line by line.
        let lost = loop {
            assert_eq!(read(&mut reader, LINE.len()), LINE);
            kept += 1;
            if let Ok(lost) = told.recv_timeout(Duration::from_millis(1)) {
                break lost;
            }
        };
        assert!(outlet.settle(LONG));
        (&*outlet).write_all(b"the last\n").unwrap();
        drop(outlet);
        let mut rest = vec![0; (most - kept - lost as usize) * LINE.len()];
        reader.read_exact(&mut rest).unwrap();
        assert!(rest.chunks(LINE.len()).all(|line| line == LINE));
        assert_eq!(read(&mut reader, 9), b"the last\n");
        assert!(lost > 0 && kept * LINE.len() + rest.len() >= KEPT, "{lost} lost");
    }

    #[test]
    fn a_terminal_that_is_held_holds_up_nobody() {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let (done, is_done) = mpsc::sync_channel(1);
        let end = terminal.slave.try_clone().unwrap();
        thread::spawn(move || {
            let outlet = Outlet::new(unwaiting(end).unwrap(), |_| {}).unwrap();
            (0..1000).for_each(|_| (&*outlet).write_all(&LINE).unwrap());
            done.send(outlet.settle(Duration::ZERO)).unwrap();
        });
        assert_eq!(is_done.recv_timeout(LONG), Ok(false));
    }

    #[test]
    fn what_shares_standard_error_with_us_waits_as_before() {
        let (_reader, writer) = pipe().unwrap();
        let own = unwaiting(&writer).unwrap();
        let flags = |fd: &dyn AsRawFd| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            OFlag::from_bits_retain(i32::from_str_radix(line.trim(), 8).unwrap())
        };
        assert!(flags(&own).contains(OFlag::O_NONBLOCK) && !flags(&writer).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_line_that_has_been_begun_is_ended_however_long_it_is() {
        let (mut reader, writer) = pipe().unwrap();
        let (outlet, _told) = outlet(writer);
        let line = vec![b'x'; 3 * KEPT];
        (&*outlet).write_all(&line).unwrap();
        (&*outlet).write_all(&LINE).unwrap();
        assert!(read(&mut reader, line.len()).iter().all(|byte| *byte == b'x'));
        assert!(outlet.settle(LONG));
    }

    #[test]
    fn nobody_who_reads_is_no_error_and_nothing_is_kept_for_him() {
        let (reader, writer) = pipe().unwrap();
        let (outlet, _told) = outlet(writer);
        drop(reader);
        (0..3 * KEPT / LINE.len()).for_each(|_| (&*outlet).write_all(&LINE).unwrap());
        assert!(outlet.settle(Duration::ZERO));
    }
}
