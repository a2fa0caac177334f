//! An exchange on a connection of its own, as nginx has it.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::support::fcgi::{
    dial::try_dial,
    errand::{Abort, Done, Errand},
    inbox::Inbox,
    random::Random,
};

/// How the response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Fast,
    /// So many bytes at a time, with a pause behind each.
    Slow(usize, Duration),
    /// The connection is closed when so many bytes of the response have come.
    Gone(u64),
}

/// The body is sent whole before the response is read: an errand whose response begins before that must be small.
pub fn run_alone(address: &str, errand: &Errand, pace: Pace) -> Done {
    let mut done = Done::default();
    let start = Instant::now();
    if let Err(error) = run(address, errand, pace, &mut done) {
        done.is_wrong(errand, error);
    }
    done.took = start.elapsed();
    done
}

fn run(address: &str, errand: &Errand, pace: Pace, done: &mut Done) -> Result<(), String> {
    let socket = try_dial(address).map_err(|error| format!("connect: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(|error| error.to_string())?;
    let id = 1;
    let mut random = Random::next_part();
    let mut bytes = errand.head(id, false);
    if let Abort::InBody(at) = errand.abort {
        // Somewhere in the request, not only between two of its records.
        let rest = errand.rest(id, &mut random);
        bytes.extend_from_slice(&rest[..rest.len().min(usize::try_from(at).expect("a size"))]);
        done.aborted = true;
        return (&socket).write_all(&bytes).map_err(|error| format!("send: {error}"));
    }
    bytes.extend(errand.rest(id, &mut random));
    (&socket).write_all(&bytes).map_err(|error| format!("send: {error}"))?;
    let mut inbox = Inbox::new();
    loop {
        let read = match pace {
            Pace::Slow(size, pause) => {
                thread::sleep(pause);
                inbox.fill_up_to(&mut &socket, size)
            }
            _ => inbox.fill(&mut &socket),
        };
        if read.map_err(|error| format!("receive: {error}"))? == 0 {
            break;
        }
        while let Some(piece) = inbox.next() {
            if piece.id != id || piece.version != 1 {
                return Err(format!("version {}, type {}, id {}", piece.version, piece.kind, piece.id));
            }
            done.take(errand, piece.kind, piece.content);
        }
        if let Pace::Gone(at) = pace
            && done.received >= at
        {
            done.aborted = true;
            return Ok(());
        }
    }
    if inbox.is_inside() { Err("the connection ended inside a record".to_owned()) } else { Ok(()) }
}
