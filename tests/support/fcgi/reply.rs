//! What came back for one request.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    connection::{Connection, End},
    record::{END_REQUEST, GET_VALUES_RESULT, Record, STDERR, STDOUT},
};

#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Ids of the records it came in.
    pub ids: Vec<u16>,
    /// Whether END_REQUEST came.
    pub ended: bool,
    /// Application and protocol status of END_REQUEST.
    pub status: (u32, u8),
    /// GET_VALUES_RESULTs that came before the end.
    pub values: usize,
    /// Why reading stopped, unless it was END_REQUEST.
    pub broken: Option<End>,
    /// From the call to the end.
    pub took: Duration,
}

impl Reply {
    /// The part behind the header block.
    pub fn body(&self) -> &[u8] {
        let split = self.stdout.windows(4).position(|window| window == b"\r\n\r\n");
        split.map_or(&[], |at| &self.stdout[at + 4..])
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body()).into_owned()
    }

    /// Value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.stdout).into_owned();
        let head = head.split("\r\n\r\n").next().unwrap_or_default();
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    }

    /// Of the `Status` header; 200 without one.
    pub fn http_status(&self) -> u16 {
        self.header("Status").and_then(|status| status.split(' ').next()?.parse().ok()).unwrap_or(200)
    }

    #[track_caller]
    pub fn whole(self) -> Self {
        assert!(self.ended, "no END_REQUEST: {self:?}");
        self
    }

    /// The connection was hung up on in place of an answer, as php-fpm does that dies, with the reason for the log in front.
    #[track_caller]
    pub fn hung_up(self) -> Self {
        assert!(!self.ended && self.stdout.is_empty() && self.broken == Some(End::Reset), "not hung up on: {self:?}");
        assert!(self.stderr.starts_with(b"fcgimux: "), "no reason: {self:?}");
        self
    }

    pub(super) fn take(&mut self, record: &Record) {
        match record.kind {
            STDOUT => self.stdout.extend_from_slice(&record.content),
            STDERR => self.stderr.extend_from_slice(&record.content),
            GET_VALUES_RESULT => self.values += 1,
            END_REQUEST => {
                self.ended = true;
                let status = record.content.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                self.status = (status, record.content.get(4).copied().unwrap_or_default());
            }
            _ => {}
        }
        if record.kind != GET_VALUES_RESULT && !self.ids.contains(&record.id) {
            self.ids.push(record.id);
        }
    }
}

/// Replies of several requests on one connection, by id.
#[derive(Clone, Debug, Default)]
pub struct Replies(BTreeMap<u16, Reply>);

impl Replies {
    /// Reads until these have ended, or the connection has: then that is noted in those that have not.
    #[track_caller]
    pub fn read(connection: &mut Connection, ids: &[u16], limit: Duration) -> Self {
        let mut replies: BTreeMap<u16, Reply> = ids.iter().map(|id| (*id, Reply::default())).collect();
        let start = Instant::now();
        while replies.values().any(|reply| !reply.ended) {
            let record = match connection.read_record(limit.saturating_sub(start.elapsed())) {
                Ok(record) => record,
                Err(end) => {
                    replies.values_mut().filter(|reply| !reply.ended).for_each(|reply| reply.broken = Some(end));
                    break;
                }
            };
            let reply = replies.get_mut(&record.id).unwrap_or_else(|| panic!("nobody's: {record:?}"));
            assert!(!reply.ended, "behind END_REQUEST: {record:?}");
            reply.take(&record);
            reply.took = start.elapsed();
        }
        Self(replies)
    }

    pub fn ids(&self) -> impl Iterator<Item = u16> {
        self.0.keys().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, &Reply)> {
        self.0.iter().map(|(id, reply)| (*id, reply))
    }
}

impl std::ops::Index<u16> for Replies {
    type Output = Reply;

    fn index(&self, id: u16) -> &Reply {
        &self.0[&id]
    }
}
