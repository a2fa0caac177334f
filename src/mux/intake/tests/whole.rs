//! When a request is whole, and what goes on of its length.

use super::*;

#[test]
fn a_length_without_a_body_goes_on_as_it_is_and_with_an_end_of_stdin() {
    for (method, reusable) in [("POST", true), ("GET", false), ("PUT", false)] {
        let pairs = [("REQUEST_METHOD", method), ("CONTENT_LENGTH", "7")];
        let mut intake = intake("");
        let bytes = request(1, &pairs, b"");
        let Some(Event::Request(request)) = intake.take(&bytes).unwrap().event else { panic!("no request") };
        assert_eq!((request.body, request.ends_stdin, request.reusable), (0, true, reusable), "{method}");
        assert_eq!(request.params, encoded(&pairs));
    }
}

#[test]
fn of_several_lengths_the_last_one_goes_on_and_an_empty_one_says_that_there_is_no_body() {
    for (first, second, body, wanted) in [("7", "", "", ""), ("7", "", "hello", ""), ("5", "5", "hello", "5")] {
        let pairs = [("CONTENT_LENGTH", first), ("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", second)];
        let params = params_of(&seen(&request(1, &pairs, body.as_bytes())));
        let wanted = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", wanted)];
        assert_eq!(params, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[test]
fn a_request_is_whole_as_soon_as_nothing_of_it_can_be_missing() {
    let whole_without_end = |pairs: &[(&str, &str)], body: &[u8]| {
        let mut bytes = head(1, pairs);
        if !body.is_empty() {
            bytes.extend(record(Kind::Stdin, 1, body, 3));
        }
        matches!(seen(&bytes)[..], [.., Seen::Request { .. }])
    };
    assert!(whole_without_end(&[("REQUEST_METHOD", "GET")], b""));
    assert!(whole_without_end(&[("REQUEST_METHOD", "HEAD"), ("CONTENT_LENGTH", "")], b""));
    assert!(whole_without_end(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "0")], b""));
    assert!(whole_without_end(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")], b"hello"));
    assert!(!whole_without_end(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "6")], b"hello"));
    assert!(!whole_without_end(&[("REQUEST_METHOD", "POST")], b""), "HTTP/2 needs no length");
    assert!(!whole_without_end(&[("REQUEST_METHOD", "GET"), ("HTTP_TRANSFER_ENCODING", "chunked")], b""));
    assert!(!whole_without_end(&[("REQUEST_METHOD", "GET"), ("CONTENT_LENGTH", "5")], b""));
}

#[test]
fn a_request_is_said_with_its_end_which_goes_with_it_where_it_is_there() {
    let requests = [
        request(1, &[("REQUEST_METHOD", "GET")], b""),
        request(1, &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")], b"hello"),
        [head(1, &[("REQUEST_METHOD", "GET")]), record(Kind::Stdin, 1, b"", 9)].concat(),
        request(1, &[("REQUEST_METHOD", "POST")], b"hello"),
    ];
    for bytes in requests {
        let mut whole = intake("");
        let (mut at, mut announced) = (0, false);
        while let Taken { consumed, event: Some(event) } = whole.take(&bytes[at..]).unwrap() {
            at += consumed;
            announced = matches!(event, Event::Request(_));
        }
        assert!(announced && whole.is_said() && at == bytes.len(), "{at} of {}", bytes.len());

        let mut cut = intake("");
        let (mut at, mut announced) = (0, false);
        for end in 1..=bytes.len() {
            assert!(!(announced && cut.is_said()) || end > bytes.len() - 9, "said with {} of {}", end - 1, bytes.len());
            loop {
                let Taken { consumed, event } = cut.take(&bytes[at..end]).unwrap();
                at += consumed;
                announced |= matches!(event, Some(Event::Request(_)));
                if event.is_none() {
                    break;
                }
            }
        }
        assert!(announced && cut.is_said(), "byte by byte");
    }
}

#[test]
fn php_fpm_serves_a_request_of_id_0_and_so_do_we() {
    assert_eq!(seen(&get(0)), [got(0)]);
}
