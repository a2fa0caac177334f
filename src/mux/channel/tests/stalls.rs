//! Slow readers: bounded buffers, stalls, and their end.

use super::*;

impl Line {
    /// The application writes so much for this exchange.
    fn pours(&mut self, id: u16, bytes: usize) {
        let content = vec![b'x'; bytes];
        let mut all = vec![];
        content.chunks(8_000).for_each(|part| put_record(&mut all, Kind::Stdout, id, part));
        self.hear(&all);
    }

    /// Fills the buffer of one exchange, so that the connection stalls.
    fn stall(&mut self, id: u16) {
        self.pours(id, BUFFER + 1000);
        assert!(self.channel.is_stalled());
    }
}

#[test]
fn a_full_buffer_stops_the_connection_until_its_owner_takes_what_is_there() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    assert_eq!(line.channel.stalled_since(), Some(line.now));
    line.says(other, "behind it");
    assert_eq!(line.take(other), (vec![], None), "it waits");
    line.pass(SECOND);
    let (records, ending) = line.take(slow);
    let taken: usize = records.iter().map(|(_, _, content)| content.len()).sum();
    assert!(taken > BUFFER - 100 && taken < BUFFER, "{taken}");
    assert_eq!(ending, None);
    assert!(!line.channel.is_stalled() && line.channel.wants_driver());
    line.hear(&[]);
    assert_eq!(line.take_text(other), "behind it");
    let rest: usize = line.take(slow).0.iter().map(|(_, _, content)| content.len()).sum();
    assert_eq!((taken + rest, line.stalls()), (BUFFER + 1000, vec![SECOND]));
}

#[test]
fn a_stall_that_lasts_ends_the_slow_exchange_and_the_others_go_on() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.channel.listen(slow, 1);
    line.stall(slow);
    assert_eq!(line.woken(), [1]);
    line.says(other, "behind it");
    line.channel.listen(slow, 1);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT));
    line.pass(STALL_TIMEOUT - MS);
    assert!(line.channel.is_stalled());
    line.pass(MS);
    assert_eq!((line.take_text(other).as_str(), line.woken()), ("behind it", vec![1]));
    assert_eq!(line.take(slow), (vec![], Some(Ending::Stalled)));
    assert_eq!(line.stalls(), [STALL_TIMEOUT]);
    assert!(!line.leave(slow));
    assert_eq!(marks(&line.flush()), [(Kind::AbortRequest, slow), (Kind::Stdin, slow)]);
    // What it had coming is read away.
    line.pours(slow, 10 * BUFFER);
    assert!(!line.channel.is_stalled());
    line.ends(slow);
    assert_eq!(line.freed(), [Freed { id: slow, ended: true }]);
}

#[test]
fn one_that_is_alone_may_take_its_time() {
    let mut line = line();
    let slow = line.begin(1);
    line.stall(slow);
    assert_eq!(line.channel.next_deadline(), None);
    line.pass(3600 * SECOND);
    assert!(line.channel.is_stalled());
    line.take(slow);
    assert!(line.stalls().is_empty(), "it held up nobody");
}

#[test]
fn a_stall_that_began_alone_counts_from_when_somebody_joined() {
    let mut line = line();
    let slow = line.begin(1);
    line.stall(slow);
    line.pass(60 * SECOND);
    let other = line.begin(2);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT));
    line.pass(SECOND);
    // A third one changes nothing.
    line.begin(3);
    line.pass(STALL_TIMEOUT - 2 * SECOND);
    assert_eq!(line.take(slow).1, None);
    assert_eq!(line.stalls(), [STALL_TIMEOUT - SECOND]);
    assert_eq!(line.take(other).1, None);
}

#[test]
fn one_that_was_aborted_waits_for_nobody() {
    let mut line = line();
    let (slow, gone) = (line.begin(1), line.begin(2));
    assert!(!line.leave(gone));
    line.stall(slow);
    let end = line.now + ABORT_PATIENCE;
    assert_eq!(line.channel.next_deadline(), Some(end), "that of the one that was aborted");
    line.pass(60 * SECOND);
    assert!(line.channel.is_stalled(), "it holds up nobody");
    assert_eq!(line.take(slow).1, None);
    line.stall(slow);
    line.begin(3);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT));
}

#[test]
fn when_the_others_have_left_it_holds_up_nobody() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    line.pass(4 * SECOND);
    assert!(!line.leave(other));
    line.pass(3600 * SECOND);
    assert!(line.channel.is_stalled());
    let late = line.begin(3);
    line.pass(STALL_TIMEOUT - MS);
    assert_eq!((line.take(slow).1, line.take(late).1), (None, None));
}

#[test]
fn a_slow_one_that_leaves_ends_the_stall_and_is_counted() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    line.says(other, "behind it");
    line.pass(2 * SECOND);
    assert!(!line.leave(slow));
    assert!(!line.channel.is_stalled());
    line.hear(&[]);
    assert_eq!((line.take_text(other).as_str(), line.stalls()), ("behind it", vec![2 * SECOND]));
}

#[test]
fn stalls_add_up_unless_the_others_had_time_between_them() {
    let mut line = line();
    let (slow, _other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    line.pass(3 * SECOND);
    line.take(slow);
    line.hear(&[]);
    line.stall(slow);
    assert_eq!(line.channel.next_deadline(), Some(line.now + 2 * SECOND), "it has had three seconds");
    line.pass(SECOND);
    line.take(slow);
    line.hear(&[]);
    line.take(slow);
    // Four are owed, of which three are paid off.
    line.pass(3 * SECOND);
    line.stall(slow);
    assert_eq!(line.channel.next_deadline(), Some(line.now + 4 * SECOND));
    line.take(slow);
    line.hear(&[]);
    line.take(slow);
    line.pass(3600 * SECOND);
    line.stall(slow);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT), "all is paid off");
}

#[test]
fn short_stalls_are_not_held_against_it() {
    let mut line = line();
    let (slow, _other) = (line.begin(1), line.begin(2));
    for _ in 0..200 {
        line.stall(slow);
        line.pass(99 * MS);
        line.take(slow);
        line.hear(&[]);
        line.take(slow);
    }
    assert_eq!(line.stalls().len(), 200);
    line.stall(slow);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT));
}

#[test]
fn what_one_owes_is_not_held_against_another() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    line.pass(4 * SECOND);
    line.take(slow);
    line.hear(&[]);
    line.take(slow);
    line.stall(other);
    assert_eq!(line.channel.next_deadline(), Some(line.now + STALL_TIMEOUT));
}

#[test]
fn the_end_of_the_connection_is_the_end_of_the_stall() {
    let mut line = line();
    let (slow, other) = (line.begin(1), line.begin(2));
    line.stall(slow);
    line.channel.fail(&Cause::Closed);
    assert!(!line.channel.is_stalled());
    assert_eq!(
        (line.channel.next_deadline(), line.take(slow).1, line.take(other).1),
        (None, broken(false), broken(false))
    );
}

#[test]
fn an_exchange_never_holds_more_than_its_buffer() {
    let mut line = line();
    let ids: Vec<_> = (0..20).map(|theirs| line.begin(theirs)).collect();
    let fill = |line: &mut Line, id, kind, part: usize| {
        let mut all = vec![];
        (0..2 * BUFFER / part).for_each(|_| put_record(&mut all, kind, id, &vec![b'x'; part]));
        line.hear(&all);
    };
    for (nth, id) in ids.iter().enumerate() {
        // Small records, large ones, and words that are framed anew.
        let kind = if nth % 2 == 0 { Kind::Stdout } else { Kind::Stderr };
        fill(&mut line, *id, kind, [1, 100, 5000, 16_000][nth % 4]);
        line.hear(&record(Kind::Stdout, *id, b""));
        let kept = line.channel.exchanges[id].kept();
        assert!(kept <= BUFFER, "{kept} bytes are kept");
        // The next one needs the connection.
        line.leave_stalled(*id);
    }
}

impl Line {
    fn leave_stalled(&mut self, id: u16) {
        assert!(!self.leave(id));
        self.hear(&[]);
        assert!(!self.channel.is_stalled());
        self.carry.clear();
    }
}

#[test]
fn the_end_of_a_response_needs_no_room() {
    let mut line = line();
    let id = line.begin(1);
    // To the last byte that there is room for.
    let room = line.channel.exchanges[&id].room(Kind::Stdout, BUFFER);
    line.pours(id, room - 8);
    line.hear(&record(Kind::Stdout, id, b""));
    line.ends(id);
    assert!(!line.channel.is_stalled());
    let (records, ending) = line.take(id);
    assert_eq!((records.last(), ending), (Some(&ended(1)), completed()));
}
