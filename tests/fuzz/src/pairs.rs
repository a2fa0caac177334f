use fcgimux::{
    config::Config,
    mux::{
        intake::{Event, Intake, Limits},
        policy::Policy,
        request::{Framing, Front},
    },
    wire::{BeginRequest, HEADER_LEN, Header, Kind, MAX_CONTENT, Pairs, Role, pair_len, put_pair, put_record},
};
use std::sync::{Arc, LazyLock};

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let text = "pools: {p: {endpoints: [{dns: 'php:9000'}], params: {max_size: 1MiB, max_count: 100, deny: [DENY], \
                on_denied: strip, remove: [REMOVE], set: {SET: value}}}}";
    Arc::new(Policy::new(&Config::from_yaml(text).expect("a sound file").pools[0]))
});

/// Any bytes are pairs or an error; what is read can be written, and a request made of it keeps the rules.
pub fn pairs(data: &[u8]) {
    let (mut pairs, mut out, mut error) = (Pairs::new(data), vec![], None);
    let mut start = 0;
    while let Some(pair) = pairs.next() {
        match pair {
            Ok((name, value)) => {
                // Lengths below 128 may be written in four bytes as well.
                let len = pairs.position() - start;
                assert!(len >= pair_len(name.len(), value.len()) && len <= 8 + name.len() + value.len());
                put_pair(&mut out, name, value);
            }
            Err(found) => error = Some(found),
        }
        start = pairs.position();
    }
    assert!(pairs.next().is_none(), "it ends once");
    assert_eq!(pairs.position(), data.len());
    let again = Pairs::new(&out).map(|pair| pair.expect("what we write"));
    assert!(again.eq(Pairs::new(data).filter_map(Result::ok)));
    request(data, error.is_some());
}

/// The same bytes as the params of a request.
fn request(params: &[u8], malformed: bool) {
    let mut bytes = vec![];
    put_record(&mut bytes, Kind::BeginRequest, 1, &BeginRequest { role: Role::Responder, keep_conn: true }.encode());
    params.chunks(MAX_CONTENT).for_each(|part| put_record(&mut bytes, Kind::Params, 1, part));
    put_record(&mut bytes, Kind::Params, 1, &[]);
    let ends_at = bytes.len();
    put_record(&mut bytes, Kind::Stdin, 1, &[]);
    let mut intake: Intake<()> = Intake::new(POLICY.clone(), Limits { connections: 1, requests: 1 });
    let taken = intake.take(&bytes).expect("sound records");
    let request = match taken.event {
        Some(Event::Request(request)) => request,
        Some(Event::Refused { id: 1, keep_conn: true, .. }) => return,
        other => panic!("{other:?}"),
    };
    // One that says that it has no body is whole before the end of STDIN.
    assert!(!malformed && [ends_at, bytes.len()].contains(&taken.consumed));
    let mut head = vec![];
    request.put_head(&mut head, Framing { id: 2, keep_conn: true, front: &Front::Nothing });
    check_head(&head[HEADER_LEN + 8..]);
}

/// No pair spans two records, none is one that must go, and the one to be set is there once.
fn check_head(mut records: &[u8]) {
    let mut set = 0;
    while let Some((header, behind)) = records.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(header);
        // Of a length without a body.
        if header.kind == Kind::Stdin {
            assert!((header, behind) == (Header::new(Kind::Stdin, 2, 0), &[]));
            break;
        }
        assert_eq!(header, Header::new(Kind::Params, 2, header.content));
        let (content, rest) = behind.split_at(header.content.into());
        assert_eq!(
            content.is_empty(),
            rest.is_empty() || rest[1] == Kind::Stdin.to_byte(),
            "the empty record is the last"
        );
        for pair in Pairs::new(content) {
            let (name, value) = pair.expect("whole pairs");
            assert!(name != b"DENY" && name != b"REMOVE");
            set += usize::from(name == b"SET" && value == b"value");
            assert!(name != b"SET" || value == b"value");
        }
        records = rest;
    }
    assert_eq!(set, 1);
}
