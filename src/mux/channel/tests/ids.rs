//! Request ids: given out in turn, and some never again.

use super::*;

#[test]
fn ids_are_given_out_in_turn_and_not_used_again_soon() {
    let mut line = line();
    for turn in 1..=100 {
        let id = line.begin(1);
        assert_eq!(id, turn);
        line.ends(id);
        assert!(line.leave(id));
    }
}

#[test]
fn behind_the_last_id_comes_the_first_that_is_free() {
    let mut line = line();
    let (stays, resting) = (line.begin(1), line.begin(2));
    assert!(!line.leave(resting));
    line.ends(resting);
    for _ in 3..=u16::MAX {
        let id = line.begin(3);
        line.ends(id);
        assert!(line.leave(id));
    }
    assert_eq!((stays, resting), (1, 2));
    assert_eq!(line.begin(4), 3, "1 runs, and 2 was aborted");
}

#[test]
fn the_id_of_an_aborted_exchange_rests_however_the_application_ended_it() {
    let mut line = line();
    let [ended, never, wrong] = [1, 2, 3].map(|theirs| line.begin(theirs));
    assert!([ended, never, wrong].into_iter().all(|id| !line.leave(id)));
    line.ends(ended);
    line.hear(&record(Kind::EndRequest, wrong, b"short"));
    line.pass(ABORT_PATIENCE);
    let freed = line.freed();
    assert_eq!(freed.len(), 3);
    assert!(freed.contains(&Freed { id: never, ended: false }));
    assert!(freed.contains(&Freed { id: ended, ended: true }) && freed.contains(&Freed { id: wrong, ended: true }));
    assert_eq!(line.channel.in_flight(), 0);
    assert!([ended, never, wrong].into_iter().all(|id| line.channel.resting.contains(&id)));
    // What still comes is nobody's, the END_REQUEST that came too late as well.
    [ended, never, wrong].into_iter().for_each(|id| line.assert_dropped(id));
    line.ends(never);
    assert_eq!((line.channel.take_dropped(), line.freed(), line.channel.in_flight()), (1, vec![], 0));
}

#[test]
fn go_ends_an_aborted_exchange_at_once_and_writes_on() {
    let mut line = line();
    let (aborted, other) = (line.begin(1), line.begin(2));
    line.says(aborted, "some");
    assert!(!line.leave(aborted));
    assert_eq!(marks(&line.flush()), [(Kind::AbortRequest, aborted), (Kind::Stdin, aborted)]);
    line.ends(aborted);
    assert_eq!(line.freed(), [Freed { id: aborted, ended: true }]);
    for _ in 0..3 {
        line.says(aborted, "and more");
    }
    line.hear(&record(Kind::Stdout, aborted, b""));
    line.ends(aborted);
    assert_eq!((line.channel.take_dropped(), line.freed()), (5, vec![]));
    line.says(other, "mine");
    assert_eq!(line.take_text(other), "mine");
    assert_ne!(line.begin(3), aborted);
}

#[test]
fn an_exchange_that_ended_by_itself_gives_its_id_back() {
    let mut line = line();
    let id = line.begin(1);
    line.ends(id);
    assert!(line.leave(id));
    assert!(line.channel.resting.is_empty());
    line.assert_dropped(id);
}

#[test]
fn a_connection_on_which_half_of_the_ids_rest_is_worn_out() {
    let mut line = line();
    for count in 0..MAX_RESTING {
        assert!(!line.channel.is_worn_out(), "after {count}");
        let id = line.begin(1);
        assert!(!line.leave(id));
        // Every other one is never ended, which wears it out as well.
        if count % 2 == 0 {
            line.ends(id);
        } else if count % 1000 == 999 {
            line.pass(ABORT_PATIENCE);
        }
    }
    line.pass(ABORT_PATIENCE);
    assert!(line.channel.is_worn_out());
    assert_eq!((line.channel.in_flight(), line.channel.left.len()), (0, 0));
    assert!(line.channel.open(Opening { theirs: 1, streams: &[], question: None }, put_head, line.now).is_some());
}

#[test]
fn one_whose_streams_were_not_ended_is_told_their_ends() {
    let mut line = line();
    let id = line.open_with(Opening { theirs: 1, streams: &[Kind::Stdin, Kind::Data], question: None });
    line.push(id, b"all of it");
    line.push(id, b"");
    line.flush();
    // It answers without having read the file.
    line.ends(id);
    assert!(line.leave(id));
    assert_eq!(line.flush(), [(Kind::Data, id, vec![])]);
    assert_eq!(line.channel.in_flight(), 0);
    let id = line.begin(2);
    line.push(id, b"of which nothing has gone out yet");
    line.ends(id);
    assert!(line.leave(id));
    assert_eq!(line.flush(), [(Kind::Stdin, id, vec![])], "the rest is not sent any more");
    let whole = line.open_with(Opening { theirs: 3, streams: &[], question: None });
    line.flush();
    line.ends(whole);
    assert!(line.leave(whole));
    assert_eq!(line.flush(), []);
}

#[test]
fn one_that_was_never_sent_leaves_without_a_trace() {
    let mut line = line();
    let id = line.open(1);
    line.push(id, b"body");
    assert!(line.leave(id));
    assert_eq!((line.flush(), line.channel.in_flight(), line.freed()), (vec![], 0, vec![]));
    assert!(line.leave(id), "nor a second time");
    // Where its head stands ready to be sent it cannot be taken back.
    let id = line.open(2);
    assert!(!line.channel.to_send().is_empty());
    assert!(!line.leave(id));
    let sent = marks(&line.flush());
    assert_eq!((sent.first(), sent.last()), (Some(&(Kind::BeginRequest, id)), Some(&(Kind::Stdin, id))));
    assert!(sent.contains(&(Kind::AbortRequest, id)));
}
