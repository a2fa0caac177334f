//! What FastCGI applications other than php-fpm do on a connection, fact by fact, without fcgimux in between. The numbers
//! are those of `docs/applications.md`, where the facts are put together and what follows from them is said.
#![allow(clippy::disallowed_methods, reason = "real applications are measured in real time")]

#[path = "generic/facts/aborts.rs"]
mod aborts;
#[path = "generic/facts/bodies.rs"]
mod bodies;
#[path = "generic/facts/output.rs"]
mod output;
#[path = "generic/facts/roles.rs"]
mod roles;
#[path = "generic/facts/sharing.rs"]
mod sharing;
#[path = "generic/facts/values.rs"]
mod values;

use std::time::{Duration, Instant};

use crate::support::{
    apps::{App, Program},
    bounded,
    fcgi::{Connection, END_REQUEST, End, Record, Reply, STDOUT},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Longer than anything takes that is answered at once, on a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// What is not answered within this is not being answered.
const A_WHILE: Duration = Duration::from_millis(400);

type Start = fn() -> Program;

/// Those that read and write with libfcgi: one request at a time on a connection.
const LIBFCGI: [Start; 3] = [Program::libfcgi, Program::perl, Program::fcgiwrap];
/// Those that serve many requests on a connection at once.
const SHARING: [Start; 2] = [Program::go, Program::flup];
const ALL: [Start; 6] =
    [Program::go, Program::libfcgi, Program::perl, Program::fcgiwrap, Program::flup, Program::flup_serial];

/// Runs a test against each of these programs in turn.
fn each(programs: &[Start], test: fn(&App)) {
    for program in programs {
        let program = *program;
        bounded(LIMIT, move || {
            let app = program().start();
            println!("with {}", app.name());
            test(&app);
        });
    }
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Reads until nothing comes for `silence`, or the connection ends.
fn drain(connection: &mut Connection, silence: Duration) -> (Vec<Record>, End) {
    let mut records = Vec::new();
    loop {
        match connection.read_record(silence) {
            Ok(record) => records.push(record),
            Err(end) => return (records, end),
        }
    }
}

/// Reads up to the END_REQUEST of this id; the records of all ids.
#[track_caller]
fn until_end(connection: &mut Connection, id: u16) -> Vec<Record> {
    let (deadline, mut records) = (Instant::now() + SOON, Vec::new());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let record = connection.read_record(left).unwrap_or_else(|end| panic!("{end:?} after {records:?}"));
        let ended = (record.kind, record.id) == (END_REQUEST, id);
        records.push(record);
        if ended {
            return records;
        }
    }
}

/// How often the request of this id ended.
fn ends(records: &[Record], id: u16) -> usize {
    records.iter().filter(|record| (record.kind, record.id) == (END_REQUEST, id)).count()
}

/// Protocol status of an END_REQUEST; 255: there is none.
fn protocol_status(records: &[Record], id: u16) -> u8 {
    let end = records.iter().find(|record| (record.kind, record.id) == (END_REQUEST, id));
    end.map_or(255, |record| record.content[4])
}

/// STDOUT of one id.
fn stdout(records: &[Record], id: u16) -> String {
    let own = records.iter().filter(|record| (record.kind, record.id) == (STDOUT, id));
    String::from_utf8_lossy(&own.flat_map(|record| record.content.clone()).collect::<Vec<u8>>()).into_owned()
}

/// Whether a next request is served on this connection.
fn serves(app: &App, connection: &mut Connection, id: u16) -> bool {
    if connection.try_send(&app.get("token=next").id(id).bytes()).is_err() {
        return false;
    }
    let reply: Reply = connection.reply(milliseconds(1_500));
    reply.ended && reply.ids == [id] && reply.header("x-token").as_deref() == Some("next")
}
