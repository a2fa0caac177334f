//! G12: roles.

use sha2::{Digest, Sha256};

use crate::generic_facts::{
    A_WHILE, LIBFCGI, SHARING, SOON, drain, each, ends, protocol_status, serves, stdout, until_end,
};
use crate::support::{
    apps::{App, Program},
    fcgi::{self, End},
};

const AUTHORIZER: u16 = 2;
const FILTER: u16 = 3;
const NO_ROLE: u16 = 9;
const DATA: u8 = 8;
const UNKNOWN_ROLE: u8 = 3;

/// A request in this role: BEGIN, and what follows it.
fn in_role(app: &App, role: u16, query: &str) -> (Vec<u8>, Vec<u8>) {
    let params = fcgi::params(1, app.get(query).params);
    let mut rest = [params, fcgi::stdin(1, b"body"), fcgi::stdin_end(1)].concat();
    if role == FILTER {
        rest.extend(fcgi::record(DATA, 1, &[b'd'; 20_000]));
        rest.extend(fcgi::record(DATA, 1, &[]));
    }
    (fcgi::begin_role(1, role, 1), rest)
}

#[test]
fn g12_go_and_flup_are_responders_only() {
    each(&SHARING, |app| {
        for role in [AUTHORIZER, FILTER, NO_ROLE] {
            let (begin, rest) = in_role(app, role, "allow");
            let mut connection = app.connect();
            connection.send(&begin);
            // Go refuses at BEGIN, and skips what follows.
            let at_once = connection.read_record(A_WHILE).into_iter().collect::<Vec<_>>();
            connection.send(&rest);
            let records = [at_once.clone(), drain(&mut connection, A_WHILE).0].concat();
            assert_eq!((records.len(), protocol_status(&records, 1)), (1, UNKNOWN_ROLE), "role {role}: {records:?}");
            assert_eq!(at_once.len(), usize::from(app.name() == "go"));
            assert!(serves(app, &mut connection, 1));
        }
    });
}

#[test]
fn g12_libfcgi_closes_at_a_role_that_it_does_not_know() {
    each(&LIBFCGI, |app| {
        let mut connection = app.connect();
        connection.send(&in_role(app, NO_ROLE, "allow").0);
        let (records, end) = drain(&mut connection, SOON);
        assert!(records.is_empty() && end != End::TimedOut, "{records:?} {end:?}");
    });
}

#[test]
fn g12_libfcgi_serves_an_authorizer() {
    each(&[Program::libfcgi], |app| {
        for (query, expected) in [("allow", "Variable-USER: somebody"), ("", "403 Forbidden")] {
            let mut connection = app.connect();
            let (begin, rest) = in_role(app, AUTHORIZER, query);
            connection.send(&[begin, rest].concat());
            assert!(stdout(&until_end(&mut connection, 1), 1).contains(expected));
            assert!(serves(app, &mut connection, 2));
        }
    });
}

#[test]
fn g12_libfcgi_serves_a_filter_with_its_data() {
    each(&[Program::libfcgi], |app| {
        let sum = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut connection = app.connect();
        let (begin, rest) = in_role(app, FILTER, "");
        connection.send(&[begin, rest].concat());
        let text = stdout(&until_end(&mut connection, 1), 1);
        let expected = format!("STDIN 4 {}\nDATA 20000 {}\n", sum(b"body"), sum(&[b'd'; 20_000]));
        assert!(text.ends_with(&expected), "{text}");
        assert!(serves(app, &mut connection, 2));
    });
}

#[test]
fn g12_perl_and_fcgiwrap_answer_every_role_as_a_responder_and_close_over_the_data_of_a_filter() {
    each(&[Program::perl, Program::fcgiwrap], |app| {
        let (begin, rest) = in_role(app, AUTHORIZER, "token=a");
        let mut connection = app.connect();
        connection.send(&[begin, rest].concat());
        assert!(stdout(&until_end(&mut connection, 1), 1).contains("X-Length: 4\r\n"));
        assert!(serves(app, &mut connection, 2));
        let mut connection = app.connect();
        let (begin, rest) = in_role(app, FILTER, "token=a");
        connection.send(&[begin, rest].concat());
        let (records, end) = drain(&mut connection, SOON);
        assert!(stdout(&records, 1).contains("X-Length: 4\r\n"));
        assert_eq!(ends(&records, 1), 1);
        assert_ne!(end, End::TimedOut);
    });
}
