//! A word that comes back: whose answer is this?

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

use crate::cli::client::Request;

/// A token that must be found in a body, however that is cut.
#[derive(Debug)]
pub(super) struct Awaited {
    token: Vec<u8>,
    /// The end of what was looked at, shorter than the token.
    tail: Vec<u8>,
    found: bool,
}

/// Gives the request a token of its own in the param of the query that `name` says; none, and nothing is awaited.
pub(super) fn attach(request: &Request, name: Option<&str>) -> (Request, Awaited) {
    let Some(name) = name else {
        return (request.clone(), Awaited { token: vec![], tail: vec![], found: true });
    };
    let token = next();
    let request = request.with_query(&format!("{name}={token}"));
    (request, Awaited { token: token.into_bytes(), tail: vec![], found: false })
}

/// All of one length, so that none is the beginning of another; those of another process differ.
fn next() -> String {
    thread_local! {
        static PROCESS: u64 = RandomState::new().hash_one(0_u8);
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    let number = NUMBER.replace(NUMBER.get() + 1);
    PROCESS.with(|process| format!("{process:016x}{number:012x}"))
}

impl Awaited {
    pub(super) fn look_at(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        let joined = [&self.tail, bytes].concat();
        self.found = joined.windows(self.token.len()).any(|window| window == self.token);
        let keep = joined.len().min(self.token.len() - 1);
        self.tail = joined[joined.len() - keep..].to_vec();
    }

    pub(super) fn is_found(&self) -> bool {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_its_body_is_cut() {
        let (request, _) = attach(&Request::get("/a", "x=1"), Some("t"));
        let query = request.param("QUERY_STRING").unwrap().to_owned();
        let token = query.strip_prefix("x=1&t=").unwrap();
        let body = format!("some words, {token}, and more");
        for cut in 0..body.len() {
            let mut awaited = Awaited { token: token.into(), tail: vec![], found: false };
            let (begin, end) = body.as_bytes().split_at(cut);
            [begin, b"", end].into_iter().for_each(|part| awaited.look_at(part));
            assert!(awaited.is_found(), "{cut}");
        }
    }

    #[test]
    fn the_token_of_another_is_not_taken_for_ones_own() {
        let (other, _) = attach(&Request::get("/a", ""), Some("t"));
        let (_, mut awaited) = attach(&Request::get("/a", ""), Some("t"));
        awaited.look_at(other.param("QUERY_STRING").unwrap().as_bytes());
        assert!(!awaited.is_found());
    }

    #[test]
    fn without_a_name_nothing_is_awaited() {
        let (request, awaited) = attach(&Request::get("/a", "x"), None);
        assert!(awaited.is_found());
        assert_eq!(request, Request::get("/a", "x"));
    }
}
