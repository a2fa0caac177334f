//! What is sent: heads in one piece, turns by record, bounded buffers.

use super::*;

/// The application reads so little at a time.
fn trickle(line: &mut Line, bytes: usize) -> Vec<u8> {
    let part = line.channel.to_send();
    let part = part[..part.len().min(bytes)].to_vec();
    line.channel.sent(part.len());
    part
}

#[test]
fn a_head_goes_on_in_one_piece() {
    let mut line = line();
    let long = |id, out: &mut Vec<u8>| {
        put_record(out, Kind::BeginRequest, id, &[0; 8]);
        (0..5).for_each(|_| put_record(out, Kind::Params, id, &[b'p'; 50_000]));
        put_record(out, Kind::Params, id, &[]);
    };
    let opening = Opening { theirs: 1, streams: &[Kind::Stdin], question: None };
    let other = line.open(7);
    (0..4).for_each(|_| line.push(other, b"between"));
    let id = line.channel.open(opening, long, line.now).unwrap();
    assert_eq!(line.channel.room(id), 0, "first its head");
    let sent = marks(&line.flush());
    let start = sent.iter().position(|mark| *mark == (Kind::BeginRequest, id)).unwrap();
    assert!(sent[start..start + 7].iter().all(|(_, each)| *each == id));
    assert_eq!(line.channel.room(id), BUFFER / 2);
}

#[test]
fn each_in_turn_gives_one_record() {
    let mut line = line();
    let ids = [1, 2, 3].map(|theirs| line.begin(theirs));
    // One that has much, and two that have little.
    (0..4).for_each(|_| line.push(ids[0], &[b'x'; 1000]));
    line.push(ids[1], b"y");
    line.push(ids[1], b"");
    line.push(ids[2], b"z");
    let order: Vec<_> = line.flush().into_iter().map(|(_, id, _)| id).collect();
    let [a, b, c] = ids;
    assert_eq!(order, [a, b, c, a, b, a, a]);
}

#[test]
fn one_that_never_runs_dry_does_not_keep_others_from_their_turns() {
    let mut line = line();
    let (greedy, other) = (line.begin(1), line.begin(2));
    let mut waited = 0;
    (0..3).for_each(|_| line.push(greedy, &[b'x'; 2000]));
    trickle(&mut line, 500);
    line.push(other, b"little");
    loop {
        if line.channel.room(greedy) >= 2008 {
            line.push(greedy, &[b'x'; 2000]);
        }
        let before = line.channel.to_send().len();
        if trickle(&mut line, 500).windows(6).any(|part| part == b"little") {
            break;
        }
        assert!(before > 0);
        waited += 500;
        assert!(waited < SEND_AT_ONCE + 10_000, "it gets no turn");
    }
}

#[test]
fn the_room_for_a_body_is_half_of_the_buffer_and_comes_back_as_it_goes_on() {
    let mut line = line();
    let id = line.begin(1);
    line.channel.listen(id, 9);
    let mut pushed = 0;
    while line.channel.room(id) >= 1008 {
        line.push(id, &[b'x'; 1000]);
        pushed += 1008;
    }
    assert_eq!((pushed + line.channel.room(id), line.woken()), (BUFFER / 2, vec![]));
    assert!(!line.channel.to_send().is_empty());
    assert_eq!((line.woken(), line.channel.room(id)), (vec![9], BUFFER / 2));
}

#[test]
fn nothing_more_is_taken_of_a_body_behind_the_end_of_its_response() {
    let mut line = line();
    let id = line.begin(1);
    line.ends(id);
    assert_eq!(line.channel.room(id), 0);
    line.push(id, b"late");
    assert_eq!(line.flush(), []);
    assert_eq!(line.channel.room(4711), 0);
}

#[test]
fn what_has_been_handed_on_is_not_kept() {
    let mut line = line();
    // So many that one round does not empty any of them.
    let ids: Vec<_> = (0..40).map(|theirs| line.begin(theirs)).collect();
    let mut sent = 0;
    for _ in 0..2000 {
        for id in &ids {
            while line.channel.room(*id) >= 1008 {
                line.push(*id, &[b'x'; 1000]);
            }
        }
        sent += trickle(&mut line, 20_000).len();
    }
    assert!(sent > 30_000_000);
    for id in ids {
        let kept = line.channel.exchanges[&id].kept();
        assert!(kept <= 2 * BUFFER, "{kept} bytes are kept");
    }
    assert!(line.channel.out.capacity() <= 4 * SEND_AT_ONCE);
}

#[test]
fn the_driver_is_called_for_what_there_is_to_send() {
    let mut line = line();
    assert!(!line.channel.wants_driver());
    let id = line.open(1);
    assert!(line.channel.wants_driver());
    line.flush();
    assert!(!line.channel.wants_driver());
    line.push(id, b"x");
    assert!(line.channel.wants_driver());
    line.flush();
    assert!(!line.leave(id));
    assert!(line.channel.wants_driver(), "for its ABORT_REQUEST");
}
