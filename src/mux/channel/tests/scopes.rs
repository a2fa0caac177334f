//! What dies of what an application does wrong: each row of the table.

use super::*;

#[test]
fn records_of_an_id_that_was_not_given_or_has_ended_are_dropped_and_counted() {
    let mut line = line();
    let (over, other) = (line.begin(1), line.begin(2));
    line.ends(over);
    // Its owner has not looked yet.
    line.says(over, "behind its end");
    line.ends(over);
    assert_eq!(line.channel.take_dropped(), 2);
    assert_eq!(line.take(over), (vec![ended(1)], completed()));
    assert!(line.leave(over));
    for stray in [over, 999, u16::MAX] {
        line.assert_dropped(stray);
        line.ends(stray);
        line.hear(&record(Kind::Stderr, stray, &[b'x'; 70_000][..65_000]));
        line.hear(&record(Kind::EndRequest, stray, b"short"));
        line.hear(&record(Kind::BeginRequest, stray, &[0; 8]));
        assert_eq!(line.channel.take_dropped(), 4);
    }
    line.says(other, "lives");
    line.ends(other);
    assert_eq!(line.take_text(other).get(..5), Some("lives"));
}

#[test]
fn a_long_message_goes_on_in_padded_records_of_8_kib_at_most() {
    let mut line = line();
    let id = line.begin(1);
    let message = vec![b'x'; 60_000];
    let mut all = record(Kind::Stderr, id, &message);
    let mut came = vec![];
    while came.len() < message.len() {
        line.hear(&std::mem::take(&mut all));
        let mut into = vec![];
        line.channel.take(id, &mut into, line.now);
        line.hear(&[]);
        let mut rest = &into[..];
        while let Some(header) = rest.first_chunk().map(Header::decode) {
            let whole = HEADER_LEN + usize::from(header.content) + usize::from(header.padding);
            assert!(whole <= 8 * 1024 && header.padding > 0, "{header:?}");
            came.extend_from_slice(&rest[HEADER_LEN..HEADER_LEN + usize::from(header.content)]);
            rest = &rest[whole..];
        }
    }
    assert_eq!(came, message);
}

#[test]
fn records_of_an_exchange_that_has_not_been_sent_are_dropped() {
    let mut line = line();
    let id = line.open(1);
    line.says(id, "too early");
    line.ends(id);
    assert_eq!((line.channel.take_dropped(), line.take(id)), (2, (vec![], None)));
    line.flush();
    line.says(id, "in time");
    assert_eq!(line.take_text(id), "in time");
}

#[test]
fn management_records_that_nobody_asked_for_are_dropped_and_counted() {
    let mut line = line();
    let id = line.begin(1);
    line.hear(&values(&[(variable::MPXS_CONNS, "1")]));
    assert_eq!((line.channel.take_dropped(), line.channel.values()), (1, None), "nobody asked");
    for kind in [Kind::UnknownType, Kind::GetValues, Kind::EndRequest, Kind::Stdout, Kind::Other(77)] {
        line.hear(&record(kind, MANAGEMENT_ID, &[0; 8]));
    }
    assert_eq!(line.channel.take_dropped(), 5);
    line.says(id, "lives");
    assert_eq!(line.take_text(id), "lives");
}

#[test]
fn an_answer_that_was_asked_for_is_read_and_a_second_one_changes_nothing() {
    let mut line = line();
    line.channel.ask(&record(Kind::GetValues, MANAGEMENT_ID, b"question"));
    assert!(line.channel.wants_driver());
    assert_eq!(line.flush(), [(Kind::GetValues, MANAGEMENT_ID, b"question".to_vec())]);
    let answer = values(&[(variable::MPXS_CONNS, "1"), (variable::MAX_REQS, "50")]);
    // In one piece, wherever it is cut.
    line.hear(&answer[..answer.len() - 1]);
    assert_eq!(line.channel.values(), None);
    line.hear(&answer[answer.len() - 1..]);
    let said = Values { multiplexes: true, connections: None, requests: Some(50) };
    assert_eq!(line.channel.values(), Some(said));
    // Go's manner.
    line.hear(&values(&[]));
    assert_eq!((line.channel.values(), line.channel.take_dropped()), (Some(said), 0));
}

#[test]
fn an_answer_that_is_too_long_says_nothing_and_is_dropped() {
    let mut line = line();
    line.channel.ask(&record(Kind::GetValues, MANAGEMENT_ID, b""));
    line.flush();
    line.hear(&record(Kind::GetValuesResult, MANAGEMENT_ID, &[b'x'; 1025]));
    assert_eq!((line.channel.values(), line.channel.take_dropped()), (None, 1));
    let id = line.begin(1);
    line.says(id, "lives");
    assert_eq!(line.take_text(id), "lives");
}

/// That exchange dies, and no other.
fn dies_alone(of: impl Fn(u16) -> Vec<u8>, words: &str) {
    let mut line = line();
    let (bad, good) = (line.begin(1), line.begin(2));
    line.says(bad, "part");
    line.channel.listen(bad, 1);
    line.channel.listen(good, 2);
    line.hear(&of(bad));
    assert_eq!(line.woken(), [1]);
    // What comes for it from now on need not be counted: its owner is about to leave.
    line.says(bad, "more");
    let (records, ending) = line.take(bad);
    assert_eq!(records, [(Kind::Stdout, 1, b"part".to_vec())]);
    assert_eq!(ending, Some(Ending::Broken { cause: Cause::Protocol(words.into()), unsent: false }));
    let known = of(bad)[1] == Kind::EndRequest.to_byte();
    assert_eq!(line.leave(bad), known, "an END_REQUEST is one, however long");
    let told = marks(&line.flush());
    assert_eq!(told.contains(&(Kind::AbortRequest, bad)), !known);
    if !known {
        line.ends(bad);
        assert_eq!(line.freed(), [Freed { id: bad, ended: true }]);
    }
    assert!(line.channel.resting.contains(&bad));
    line.says(good, "lives");
    line.ends(good);
    assert_eq!(line.take(good).1, completed());
    assert!(line.leave(good));
    assert_eq!(line.channel.in_flight(), 0);
}

#[test]
fn an_exchange_dies_of_an_end_request_of_a_wrong_length() {
    for length in [0, 7, 9, 100] {
        let words = format!("END_REQUEST of {length} bytes in place of 8");
        dies_alone(|id| record(Kind::EndRequest, id, &vec![0; length]), &words);
    }
}

#[test]
fn an_exchange_dies_of_a_record_that_is_not_an_applications() {
    let kinds = [
        Kind::BeginRequest,
        Kind::AbortRequest,
        Kind::Params,
        Kind::Stdin,
        Kind::Data,
        Kind::GetValues,
        Kind::GetValuesResult,
        Kind::UnknownType,
        Kind::Other(99),
    ];
    for kind in kinds {
        dies_alone(|id| record(kind, id, &[0; 8]), &format!("{} record during a request", kind.name()));
    }
}

#[test]
fn one_that_broke_and_is_ended_in_time_needs_no_abort() {
    let mut line = line();
    let id = line.begin(1);
    line.hear(&record(Kind::Params, id, b""));
    line.ends(id);
    assert!(matches!(line.take(id), (records, Some(Ending::Broken { .. })) if records.is_empty()));
    assert!(line.leave(id));
    assert_eq!(line.flush(), [(Kind::Stdin, id, vec![])]);
    assert!(line.channel.resting.contains(&id));
}

#[test]
fn one_that_is_refused_before_any_of_its_response_was_not_executed() {
    for status in [ProtocolStatus::Overloaded, ProtocolStatus::CantMpxConn] {
        let mut line = line();
        let id = line.begin(1);
        line.hear(&end(id, status));
        assert_eq!(line.take(id), (vec![], Some(Ending::Rejected(status))));
        assert!(line.leave(id));
        assert_eq!(line.channel.in_flight(), 0);
        // Behind a part of a response it is an end like others.
        for kind in [Kind::Stdout, Kind::Stderr] {
            let id = line.begin(2);
            line.hear(&record(kind, id, b"x"));
            line.hear(&end(id, status));
            let (records, ending) = line.take(id);
            assert_eq!(marks(&records), [(kind, 2), (Kind::EndRequest, 2)]);
            assert_eq!(ending, Some(Ending::Ended(status)));
            assert!(line.leave(id));
        }
    }
    let mut line = line();
    let id = line.begin(1);
    line.hear(&end(id, ProtocolStatus::UnknownRole));
    assert_eq!(line.take(id).1, Some(Ending::Ended(ProtocolStatus::UnknownRole)), "nor would another take it");
}

#[test]
fn another_protocol_is_an_error_behind_what_came_in_front_of_it() {
    let mut line = line();
    let id = line.begin(1);
    let bytes = [record(Kind::Stdout, id, b"part"), b"HTTP/1.1 400".to_vec()].concat();
    assert_eq!(line.channel.receive(&bytes, line.now), Err(ScanError { version: b'H' }));
    line.channel.fail(&Cause::Protocol("version".into()));
    let (records, ending) = line.take(id);
    assert_eq!(records, [(Kind::Stdout, 1, b"part".to_vec())]);
    assert_eq!(ending, Some(Ending::Broken { cause: Cause::Protocol("version".into()), unsent: false }));
}
