use super::*;
use crate::{
    config::Config,
    wire::{HEADER_LEN, Header, Kind},
};
use proptest::prelude::*;

fn policy(pool: &str) -> Policy {
    let text = format!("pools: {{p: {{endpoints: [{{dns: 'php:9000'}}], {pool}}}}}");
    let config = Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Policy::new(&config.pools[0])
}

fn encoded<T: AsRef<[u8]>>(pairs: &[(T, T)]) -> Vec<u8> {
    let mut out = vec![];
    pairs.iter().for_each(|(name, value)| put_pair(&mut out, name.as_ref(), value.as_ref()));
    out
}

fn refusal(pool: &str, params: &[u8]) -> Option<Refusal> {
    policy(pool).inspect(params).err().map(|refused| refused.refusal)
}

/// Whether a connection is used again behind such a request.
fn reused(pool: &str, pairs: &[(&str, &str)], body: u64) -> bool {
    let policy = policy(pool);
    let found = policy.inspect(&encoded(pairs)).unwrap();
    policy.reusable_after(&found, body)
}

// ---------------------------------------------------------------- reuse behind a body (fact 10.5)

const KIB16: u64 = 16 * 1024;

#[test]
fn a_connection_is_used_again_behind_a_request_without_a_body_whatever_its_method() {
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "", "post", "BREW"] {
        for pool in ["", "reuse_after_body: {post_up_to: off}"] {
            assert!(reused(pool, &[("REQUEST_METHOD", method)], 0), "{method}");
        }
    }
    assert!(reused("", &[("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", "multipart/form-data")], 0));
}

#[test]
fn a_connection_is_used_again_behind_a_post_that_php_itself_reads_whole() {
    let post = [("REQUEST_METHOD", "POST")];
    assert!(reused("", &post, 1));
    assert!(reused("", &post, KIB16));
    assert!(!reused("", &post, KIB16 + 1), "PHP spills the rest to a disk that may be full");
    assert!(reused("reuse_after_body: {post_up_to: 1MiB}", &post, 1 << 20));
    assert!(!reused("reuse_after_body: {post_up_to: off}", &post, 1));
}

#[test]
fn only_the_exact_word_post_counts_as_one() {
    for method in ["post", "Post", "POST ", " POST", "POST\0", "PUT", "PATCH", "GET", "DELETE", "OPTIONS", "QUERY", ""]
    {
        assert!(!reused("", &[("REQUEST_METHOD", method)], 1), "{method:?}");
    }
    assert!(!reused("", &[("request_method", "POST")], 1));
    assert!(!reused("", &[], 1), "no method at all");
}

#[test]
fn the_last_of_several_methods_counts_as_it_does_in_php() {
    assert!(!reused("", &[("REQUEST_METHOD", "POST"), ("REQUEST_METHOD", "PUT")], 1));
    assert!(reused("", &[("REQUEST_METHOD", "PUT"), ("REQUEST_METHOD", "POST")], 1));
    assert!(!reused("params: {set: {REQUEST_METHOD: PUT}}", &[("REQUEST_METHOD", "POST")], 1));
    // One that is taken out does not count.
    assert!(!reused("params: {remove: [REQUEST_METHOD]}", &[("REQUEST_METHOD", "POST")], 1));
}

#[test]
fn a_multipart_post_is_not_trusted_however_it_is_written() {
    let types = [
        "multipart/form-data; boundary=x",
        "Multipart/Form-Data",
        "MULTIPART/FORM-DATA,x",
        " multipart/form-data",
        "\tmultipart/form-data",
        "multipart/mixed",
    ];
    for content_type in types {
        let pairs = [("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", content_type)];
        assert!(!reused("", &pairs, 100), "{content_type:?}");
        assert!(reused("reuse_after_body: {multipart: true}", &pairs, 100), "{content_type:?}");
    }
    let others = ["", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain"];
    for content_type in others {
        assert!(reused("", &[("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", content_type)], 100));
    }
    let last = [("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", "text/plain"), ("CONTENT_TYPE", "multipart/form-data")];
    assert!(!reused("", &last, 100));
}

// ---------------------------------------------------------------- limits and names

#[test]
fn a_pair_as_large_as_one_record_goes_on_and_a_larger_one_is_refused() {
    let pair = |value: usize| encoded(&[(b"N".to_vec(), vec![b'v'; value])]);
    let largest = MAX_CONTENT - 6;
    assert_eq!(pair(largest).len(), MAX_CONTENT);
    assert_eq!(refusal("", &pair(largest)), None);
    assert_eq!(refusal("", &pair(largest + 1)), Some(Refusal::ParamsTooLarge));
    // Also behind others: what counts is the pair, not where it stands.
    assert_eq!(refusal("", &[pair(10), pair(largest)].concat()), None);
    assert_eq!(refusal("", &[pair(10), pair(largest + 1)].concat()), Some(Refusal::ParamsTooLarge));
}

#[test]
fn names_are_compared_byte_by_byte() {
    let deny = "params: {deny: [PHP_VALUE, PHP_ADMIN_VALUE]}";
    let refused = |name| refusal(deny, &encoded(&[(name, "x")])) == Some(Refusal::ParamDenied);
    assert!(refused("PHP_VALUE") && refused("PHP_ADMIN_VALUE"));
    for other in ["php_value", "PHP_VALUE ", "PHP_VALUES", "PHP_VALU", "PHP_VALUE\0", "HTTP_PHP_VALUE"] {
        assert!(!refused(other), "{other:?}");
    }
    assert_eq!(refusal(deny, &encoded(&[("PHP_VALUE", "")])), None, "it changes nothing");
    assert_eq!(refusal("", &encoded(&[("PHP_VALUE", "x")])), None, "it is the web server's to say");
    // A name longer than the table of lengths has bits.
    let long = "N".repeat(200);
    let pool = format!("params: {{deny: [{long}]}}");
    assert_eq!(refusal(&pool, &encoded(&[(long.as_str(), "")])), Some(Refusal::ParamDenied));
    assert_eq!(refusal(&pool, &encoded(&["N".repeat(199), "N".repeat(63)].map(|name| (name, String::new())))), None);
}

#[test]
fn a_message_shows_a_name_short_and_without_control_characters_and_no_value() {
    let policy_of = || policy("params: {max_size: 1MiB}");
    let evil = &b"1\n\x1b[31m\xff\"evil"[..];
    let detail = policy_of().inspect(&encoded(&[(evil, &[b'v'; 70_000][..])])).unwrap_err().detail;
    assert!(!detail.contains(char::is_control) && detail.contains("evil") && !detail.contains("vv"), "{detail}");
    let detail = policy_of().inspect(&encoded(&[(&b"CONTENT_LENGTH"[..], evil)])).unwrap_err().detail;
    assert_eq!(detail, "CONTENT_LENGTH is no length");
    let long = vec![b'n'; 70_000];
    let detail = policy("").inspect(&encoded(&[(&long[..], &b""[..])])).unwrap_err().detail;
    assert!(detail.len() < 200, "{detail}");
}

#[test]
fn a_method_is_idempotent_by_the_book() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert_eq!(Method::from_bytes(method.as_bytes()), Method::Idempotent);
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "", "PROPFIND"] {
        assert_ne!(Method::from_bytes(method.as_bytes()), Method::Idempotent);
    }
}

#[test]
fn params_that_no_rule_touches_are_not_rewritten() {
    let (policy, params) = (policy(""), encoded(&[("A", "1"), ("CONTENT_LENGTH", "0")]));
    let found = policy.inspect(&params).unwrap();
    assert_eq!(policy.rewrite(&params, &found, None), None);
}

// ---------------------------------------------------------------- records

/// Content of the PARAMS records that were written, checked for id, order and end.
fn records(params: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut records) = (vec![], vec![]);
    put_params(&mut out, 513, params);
    let mut rest = &out[..];
    while let Some((head, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(head);
        assert_eq!(header, Header::new(Kind::Params, 513, header.content), "no padding (facts 9.3)");
        let (content, behind) = behind.split_at(header.content.into());
        records.push(content.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty());
    assert_eq!(records.pop(), Some(vec![]), "the end of PARAMS");
    assert!(records.iter().all(|record| !record.is_empty()), "an end before the end");
    records
}

#[test]
fn params_that_fit_go_into_one_record() {
    assert!(records(&[]).is_empty());
    let params = encoded(&[("A", "1"), ("B", "2")]);
    assert_eq!(records(&params), [params]);
    let full = encoded(&[(b"N".to_vec(), vec![b'v'; MAX_CONTENT - 6])]);
    assert_eq!(records(&full), [full]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_pair_never_spans_two_records_and_no_record_is_too_large(
        lengths in prop::collection::vec(
            (prop_oneof![0_usize..300, Just(127), Just(128)],
             prop_oneof![3 => 0_usize..300, 1 => 0_usize..65_000, 1 => 60_000_usize..65_200]),
            0..40,
        ),
    ) {
        let mut pairs: Vec<_> = lengths.iter().map(|(name, value)| (vec![b'n'; *name], vec![b'v'; *value])).collect();
        pairs.retain(|(name, value)| pair_len(name.len(), value.len()) <= MAX_CONTENT);
        let records = records(&encoded(&pairs));
        let mut seen = vec![];
        for record in &records {
            prop_assert!(record.len() <= MAX_CONTENT);
            for pair in Pairs::new(record) {
                let (name, value) = pair.expect("whole pairs in each record");
                seen.push((name.to_vec(), value.to_vec()));
            }
        }
        prop_assert_eq!(seen, pairs);
        // Two neighbours never fit into one.
        for two in records.windows(2) {
            let (name, value) = Pairs::new(&two[1]).next().unwrap().unwrap();
            prop_assert!(two[0].len() + pair_len(name.len(), value.len()) > MAX_CONTENT);
        }
    }

    #[test]
    fn any_bytes_are_inspected_without_a_panic_and_rewritten_by_the_rules(
        bytes in prop::collection::vec(prop_oneof![0_u8..6, Just(b'A'), any::<u8>()], 0..200),
        length in prop::option::of(0_u64..1000),
    ) {
        let policy = policy("params: {deny: [AA], on_denied: strip, remove: [A], set: {AAA: x}}");
        if let Ok(found) = policy.inspect(&bytes) {
            let out = policy.rewrite(&bytes, &found, length).expect("a pair is always set");
            let pairs: Vec<_> = Pairs::new(&out).map(Result::unwrap).collect();
            prop_assert!(pairs.iter().all(|(name, _)| *name != b"A" && *name != b"AA"));
            prop_assert_eq!(pairs.iter().filter(|(name, _)| *name == b"AAA").count(), 1);
            prop_assert_eq!(pairs.last().unwrap().0 == CONTENT_LENGTH, length.is_some());
        }
    }
}
