//! One connection of a multiplexing application.

use std::{
    collections::HashMap,
    io::Write,
    net::Shutdown,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    Manner, Shared,
    request::{Request, Turn, is_stream},
    tally::Tally,
};
use crate::support::fcgi::{
    ABORT_REQUEST, BEGIN_REQUEST, GET_VALUES, GET_VALUES_RESULT, PARAMS, UNKNOWN_TYPE, end_request,
    inbox::{Inbox, Piece},
    random::Random,
    record,
    wanted::Wrong,
};

/// A write ends when it has so many bytes.
const WRITE: usize = 64 * 1024;
/// A writer with nothing to do looks again after so long.
const NAP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    open: HashMap<u16, Request>,
    /// Ids of requests whose params have come and that have not ended.
    writing: Vec<u16>,
    /// Goes out before anything else.
    urgent: Vec<u8>,
    /// An answer to GET_VALUES that goes out then.
    late: Option<(Instant, Vec<u8>)>,
    /// A request without keep-conn was the last.
    closing: bool,
    /// The reader has ended.
    gone: bool,
}

struct Half<'a> {
    socket: &'a Socket,
    state: &'a Mutex<State>,
    changed: &'a Condvar,
    shared: &'a Shared,
}

pub(super) fn serve(socket: Socket, shared: &Arc<Shared>) {
    let (state, changed) = (Mutex::new(State::default()), Condvar::new());
    let half = Half { socket: &socket, state: &state, changed: &changed, shared };
    {
        let mut tally = half.tally();
        tally.connections += 1;
        tally.open_connections += 1;
        tally.most_open_connections = tally.most_open_connections.max(tally.open_connections);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            // A reset comes with the close of a socket that was not shut down; its reader ends all the same.
            let how = if half.write_all() { Shutdown::Read } else { Shutdown::Both };
            let _ = socket.shutdown(how);
        });
        half.read_all();
        half.lock().gone = true;
        changed.notify_all();
    });
    let mut tally = half.tally();
    tally.open_connections -= 1;
    let left = half.lock().open.values().filter(|request| !request.ended_early).count();
    tally.open_ids -= left;
    tally.lost += left;
}

impl Half<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the state of a connection")
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.tally.lock().expect("tally")
    }

    fn read_all(&self) {
        let mut inbox = Inbox::new();
        while inbox.fill(&mut &*self.socket).is_ok_and(|count| count > 0) {
            let mut state = self.lock();
            while let Some(piece) = inbox.next() {
                if !self.take(&mut state, &piece) {
                    return;
                }
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// One record; false ends the connection.
    fn take(&self, state: &mut State, piece: &Piece<'_>) -> bool {
        match (piece.kind, piece.id) {
            _ if piece.version != 1 => self.tally().defect(format!("a record of version {}", piece.version)),
            (GET_VALUES, 0) => return self.answer_values(state),
            (kind, 0) => state.urgent.extend(record(UNKNOWN_TYPE, 0, &[kind, 0, 0, 0, 0, 0, 0, 0])),
            (BEGIN_REQUEST, id) => self.begin(state, id, piece.content),
            (kind, id) => self.take_of_request(state, kind, id, piece.content),
        }
        true
    }

    fn answer_values(&self, state: &mut State) -> bool {
        self.tally().asked_values += 1;
        let answer = record(GET_VALUES_RESULT, 0, &self.shared.values.pairs());
        match self.shared.values.manner {
            Manner::Answers => state.urgent.extend(answer),
            Manner::Late(after) => state.late = Some((Instant::now() + after, answer)),
            Manner::Never => {}
            Manner::Unknown => state.urgent.extend(record(UNKNOWN_TYPE, 0, &[GET_VALUES, 0, 0, 0, 0, 0, 0, 0])),
            Manner::Closes => return false,
        }
        true
    }

    fn begin(&self, state: &mut State, id: u16, content: &[u8]) {
        let mut tally = self.tally();
        if content.len() != 8 {
            tally.defect(format!("BEGIN_REQUEST of {} bytes", content.len()));
            return;
        }
        if let Some(former) = state.open.get(&id) {
            tally.defect(format!("id {id} was begun again while {} runs under it", former.wanted.token));
            return;
        }
        if !self.shared.values.multiplexes && !state.open.is_empty() {
            tally.refused_multiplexing += 1;
            state.urgent.extend(end_request(id, 0, 1));
            return;
        }
        state.open.insert(id, Request::begin(content, !self.shared.values.multiplexes));
        let open = state.open.values().filter(|request| !request.ended_early).count();
        tally.begin(open);
    }

    fn take_of_request(&self, state: &mut State, kind: u8, id: u16, content: &[u8]) {
        let Some(request) = state.open.get_mut(&id) else {
            let mut tally = self.tally();
            let count = if kind == ABORT_REQUEST { &mut tally.late_aborts } else { &mut tally.late_records };
            *count += 1;
            return;
        };
        match kind {
            PARAMS if request.has_params() => {
                let token = &request.wanted.token;
                self.tally().defect(format!("{token}: PARAMS behind their end"));
            }
            PARAMS => {
                if request.take_params(content) {
                    self.execute(request);
                    state.writing.push(id);
                }
            }
            ABORT_REQUEST => self.abort(state, id),
            // Behind the END_REQUEST that an abort brought.
            _ if is_stream(kind) && request.ended_early => {}
            _ if is_stream(kind) => {
                if let Some(wrong) = request.take_stream(kind, content) {
                    self.tally().defect(wrong);
                }
            }
            _ => self.tally().defect(format!("a record of type {kind}")),
        }
    }

    fn execute(&self, request: &mut Request) {
        let mut tally = self.tally();
        let wanted = &request.wanted;
        let wrong = wanted.wrong.filter(|_| {
            let before = tally.attempt(&wanted.token);
            wanted.times.is_none_or(|times| before < times)
        });
        // What is refused is not executed.
        if !matches!(wrong, Some(Wrong::Refuse(_))) {
            tally.execute(&wanted.token, &request.method);
        }
        request.do_wrong(wrong);
    }

    fn abort(&self, state: &mut State, id: u16) {
        self.tally().aborts += 1;
        let Some(request) = state.open.get_mut(&id).filter(|request| !request.ended_early) else { return };
        let (bytes, ended) = request.abort(id);
        let ended_early = request.ended_early;
        // Before its params have come nobody would write the rest.
        let unknown = !state.writing.contains(&id);
        state.urgent.extend(bytes);
        if ended || (ended_early && unknown) {
            self.end(state, id);
        } else if ended_early {
            self.tally().end();
        } else if unknown {
            state.writing.push(id);
        }
    }

    /// Takes a request out for which END_REQUEST goes out.
    fn end(&self, state: &mut State, id: u16) {
        state.writing.retain(|writing| *writing != id);
        if let Some(request) = state.open.remove(&id) {
            state.closing |= !request.keep;
            if !request.ended_early {
                self.tally().end();
            }
        }
    }

    /// True: the connection is to be reset.
    fn write_all(&self) -> bool {
        let mut random = Random::next_part();
        let mut out = Vec::with_capacity(3 * WRITE);
        loop {
            out.clear();
            let Some(end) = self.collect(&mut random, &mut out) else { return false };
            if (&*self.socket).write_all(&out).is_err() {
                return false;
            }
            if let Turn::Close(reset) = end {
                // It would take back what was not read yet.
                thread::sleep(if reset { NAP / 20 } else { Duration::ZERO });
                let _ = self.socket.set_linger(reset.then_some(Duration::ZERO));
                return reset;
            }
        }
    }

    /// Waits until there is something to write and takes some of it; none when the connection has ended.
    fn collect(&self, random: &mut Random, out: &mut Vec<u8>) -> Option<Turn> {
        let mut state = self.lock();
        let mut due;
        loop {
            if state.gone {
                return None;
            }
            let now = Instant::now();
            let mut next = now + NAP;
            due = due_now(&state, now, &mut next);
            if let Some((at, _)) = &state.late {
                next = next.min(*at);
                if *at <= now {
                    let (_, answer) = state.late.take()?;
                    state.urgent.extend(answer);
                }
            }
            if !due.is_empty() || !state.urgent.is_empty() {
                break;
            }
            if state.closing && state.open.is_empty() {
                return None;
            }
            state = self.changed.wait_timeout(state, next.saturating_duration_since(now)).expect("the state").0;
        }
        out.append(&mut state.urgent);
        while out.len() < WRITE && !due.is_empty() {
            let turn = random.below(due.len());
            let id = due[turn];
            let written = state.open.get_mut(&id)?.write(id, random, out);
            match written {
                Turn::More => continue,
                Turn::Waits => {}
                Turn::Ended => self.end(&mut state, id),
                Turn::Close(_) => return Some(written),
            }
            due.swap_remove(turn);
        }
        Some(Turn::More)
    }
}

/// Those that may write; sets when the next of the others may.
fn due_now(state: &State, now: Instant, next: &mut Instant) -> Vec<u16> {
    let mut due = Vec::new();
    for id in &state.writing {
        match state.open[id].due() {
            Some(at) if at <= now => due.push(*id),
            Some(at) => *next = (*next).min(at),
            None => {}
        }
    }
    due
}
