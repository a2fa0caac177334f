//! The end of the connection, and connections that take one exchange at a time.

use super::*;
use crate::mux::request::GET_VALUES;

const PROVEN: Opening<'_> = Opening { theirs: 1, streams: &[Kind::Stdin], question: Some(&GET_VALUES) };

#[test]
fn the_end_of_the_connection_is_the_end_of_all_of_its_exchanges() {
    let mut line = line();
    let [done, responding, sent, aborted] = [1, 2, 3, 4].map(|theirs| line.begin(theirs));
    line.says(done, "all");
    line.ends(done);
    line.says(responding, "part");
    assert!(!line.leave(aborted));
    line.flush();
    let queued = line.open(5);
    [done, responding, sent, queued].into_iter().for_each(|id| line.channel.listen(id, id));
    line.channel.fail(&Cause::Closed);
    assert_eq!(line.woken(), [done, responding, sent, queued]);
    assert_eq!(line.freed(), [Freed { id: aborted, ended: false }]);
    let (records, ending) = line.take(done);
    assert_eq!((marks(&records), ending), (vec![(Kind::Stdout, 1), (Kind::EndRequest, 1)], completed()));
    assert_eq!(line.take(responding), (vec![(Kind::Stdout, 2, b"part".to_vec())], broken(false)));
    assert_eq!(line.take(sent), (vec![], broken(false)));
    assert_eq!(line.take(queued), (vec![], broken(true)), "the application does not know of it");
    assert!([done, responding, sent, queued].into_iter().all(|id| line.leave(id)));
    assert_eq!((line.channel.in_flight(), line.flush(), line.freed()), (0, vec![], vec![]));
    assert_eq!(line.channel.open(PROVEN, put_head, line.now), None);
    assert_eq!((line.channel.room(sent), line.channel.next_deadline()), (0, None));
}

#[test]
fn the_first_cause_counts() {
    let mut line = line();
    let id = line.begin(1);
    line.channel.fail(&Cause::Closed);
    line.channel.fail(&Cause::Aborted);
    assert_eq!(line.take(id).1, broken(false));
}

#[test]
fn an_exchange_is_sent_from_the_first_byte_of_its_begin_request() {
    let mut line = line();
    let (first, second) = (line.open(1), line.open(2));
    let head = line.channel.to_send().len() / 2;
    line.channel.sent(1);
    line.channel.fail(&Cause::Closed);
    assert!(head > 1);
    assert_eq!((line.take(first).1, line.take(second).1), (broken(false), broken(true)));
    let mut line = self::line();
    let (first, second) = (line.open(1), line.open(2));
    assert_eq!(line.channel.to_send().len(), 2 * head);
    line.channel.sent(head);
    line.channel.sent(1);
    line.channel.fail(&Cause::Closed);
    assert_eq!((line.take(first).1, line.take(second).1), (broken(false), broken(false)));
}

#[test]
fn one_that_waits_for_an_answer_is_sent_behind_it_and_not_before() {
    let mut line = single();
    let id = line.open_with(PROVEN);
    line.push(id, b"body");
    assert_eq!(marks(&line.flush()), [(Kind::GetValues, 0)]);
    line.channel.fail(&Cause::Closed);
    assert_eq!(line.take(id).1, broken(true));
    let mut line = single();
    let id = line.open_with(PROVEN);
    line.flush();
    line.push(id, b"body");
    assert_eq!(line.flush(), []);
    line.hear(&values(&[]));
    assert!(line.channel.wants_driver());
    assert_eq!(
        marks(&line.flush()),
        [(Kind::BeginRequest, id), (Kind::Params, id), (Kind::Params, id), (Kind::Stdin, id)]
    );
    line.channel.fail(&Cause::Closed);
    assert_eq!(line.take(id).1, broken(false));
}

#[test]
fn one_that_left_before_its_answer_leaves_that_to_nobody() {
    let mut line = single();
    let gone = line.open_with(PROVEN);
    line.flush();
    assert!(line.leave(gone) && !line.channel.is_doomed());
    let id = line.open_with(PROVEN);
    line.flush();
    line.hear(&values(&[]));
    assert_eq!(line.flush(), [], "that was the answer to the first");
    line.hear(&values(&[]));
    assert_eq!(marks(&line.flush())[0], (Kind::BeginRequest, id));
}

#[test]
fn a_second_get_values_result_proves_nothing_too_much() {
    // Go's manner: two answers to one question.
    let mut line = single();
    line.channel.ask(&GET_VALUES);
    line.flush();
    line.hear(&values(&[(variable::MPXS_CONNS, "1")]));
    line.hear(&values(&[]));
    let id = line.open_with(PROVEN);
    assert_eq!(marks(&line.flush()), [(Kind::GetValues, 0)]);
    line.channel.fail(&Cause::Closed);
    assert_eq!(line.take(id).1, broken(true), "the second one came before it was asked again");
}

#[test]
fn with_one_at_a_time_an_exchange_that_cannot_be_ended_dooms_the_connection() {
    let mut line = single();
    let id = line.begin(1);
    assert!(!line.leave(id));
    assert!(line.channel.is_doomed() && line.channel.wants_driver());
    assert_eq!(line.flush(), [], "ABORT_REQUEST would be an error to it");
    assert_eq!(line.channel.open(PROVEN, put_head, line.now), None);
    line.says(id, "what nobody wants");
    line.channel.fail(&Cause::Aborted);
    assert_eq!(line.freed(), [Freed { id, ended: false }]);
    assert_eq!(line.channel.in_flight(), 0);
}

#[test]
fn with_one_at_a_time_one_that_has_ended_or_was_never_sent_dooms_nothing() {
    let mut line = single();
    let unsent = line.open(1);
    assert!(line.leave(unsent));
    for _ in 0..3 {
        let id = line.begin(2);
        line.ends(id);
        assert!(line.leave(id));
    }
    let id = line.begin(3);
    line.hear(&end(id, ProtocolStatus::Overloaded));
    assert!(line.leave(id));
    assert!(!line.channel.is_doomed());
    assert_eq!((line.channel.in_flight(), line.flush()), (0, vec![]));
    let id = line.begin(4);
    line.hear(&record(Kind::EndRequest, id, b"short"));
    assert!(line.leave(id), "it has ended it, badly");
    assert!(!line.channel.is_doomed());
}

#[test]
fn each_waits_for_the_answer_to_its_own_question() {
    let mut line = line();
    let (first, second) = (line.open_with(PROVEN), line.open_with(PROVEN));
    line.flush();
    line.hear(&values(&[]));
    line.flush();
    line.channel.fail(&Cause::Closed);
    assert_eq!((line.take(first).1, line.take(second).1), (broken(false), broken(true)));
}
