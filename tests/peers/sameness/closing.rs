//! A client of FastCGI that writes a little more than a request finds somebody who reads, and its answer is not lost.

use std::time::Duration;

use super::{case::Case, seen::Seen, stage::Side};
use crate::support::fcgi::{Call, End, abort, begin, stdin_end};

const SOON: Duration = Duration::from_secs(5);
const TIMES: usize = 30;

pub(crate) fn a_little_more() -> Vec<Case> {
    vec![
        Case::new("a second end of STDIN behind the answer")
            .does(|side| more(side, false, || stdin_end(1)))
            .runs(TIMES),
        Case::new("an ABORT behind the answer").does(|side| more(side, false, || abort(1))).runs(TIMES),
        Case::new("the head of another request behind the answer")
            .does(|side| more(side, false, || begin(2, false)))
            .runs(TIMES),
        Case::new("many small writes behind the answer")
            .does(|side| more(side, false, || stdin_end(1).repeat(50)))
            .runs(TIMES),
        Case::new("an end of STDIN that comes with the answer under way")
            .does(|side| more(side, true, || stdin_end(1)))
            .runs(TIMES),
    ]
}

/// Sends a request, and more behind it: at once, or when the answer is there.
fn more(side: &Side<'_>, at_once: bool, bytes: fn() -> Vec<u8>) -> Seen {
    let (mut written, mut whole) = (0, 0);
    for _ in 0..TIMES {
        let mut connection = side.connect();
        connection.send(&Call::post(&side.script("ok.php"), "abc").last().bytes());
        let early = at_once.then(|| connection.try_send(&bytes()).is_ok());
        let reply = connection.reply(SOON);
        whole += usize::from(reply.ended && reply.text() == "ok\n");
        written += usize::from(early.unwrap_or_else(|| connection.try_send(&bytes()).is_ok()));
        assert_ne!(connection.ending(SOON), End::TimedOut, "the connection is closed behind the answer");
    }
    Seen::default().and("taken", written).and("answered", whole)
}
