//! The body of a request that goes on as it comes: what the web server has sent and the application has not been given.

use crate::wire::{HEADER_LEN, Header, Kind, MAX_CONTENT, put_record};

/// Whole records, without an id.
#[derive(Debug, Default)]
pub(super) struct Upload {
    records: Vec<u8>,
    /// Where the last record starts, while it may still grow.
    growing: Option<usize>,
    /// Bytes of content so far.
    content: u64,
}

impl Upload {
    /// Appends content in records of no more than a quarter of `limit`, so that they fit where there is little room.
    pub(super) fn push(&mut self, kind: Kind, mut content: &[u8], limit: usize) {
        self.content += content.len() as u64;
        let most = (limit / 4).min(MAX_CONTENT);
        while !content.is_empty() {
            let start = self.grow(kind);
            let have = self.records.len() - start - HEADER_LEN;
            let (now, later) = content.split_at(content.len().min(most - have));
            self.records.extend_from_slice(now);
            let header = Header::new(kind, 0, (have + now.len()) as u16);
            self.records[start..start + HEADER_LEN].copy_from_slice(&header.encode());
            if have + now.len() == most {
                self.growing = None;
            }
            content = later;
        }
    }

    fn grow(&mut self, kind: Kind) -> usize {
        *self.growing.get_or_insert_with(|| {
            let start = self.records.len();
            self.records.extend_from_slice(&Header::new(kind, 0, 0).encode());
            start
        })
    }

    /// Appends the end of a stream.
    pub(super) fn end(&mut self, kind: Kind) {
        self.growing = None;
        put_record(&mut self.records, kind, 0, &[]);
    }

    /// Moves whole records of `room` bytes at most behind those in `into`.
    pub(super) fn take(&mut self, room: usize, into: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(header) = self.records[at..].first_chunk::<HEADER_LEN>().map(Header::decode) {
            let next = at + HEADER_LEN + usize::from(header.content);
            if next > room {
                break;
            }
            at = next;
        }
        into.extend_from_slice(&self.records[..at]);
        self.records.drain(..at);
        self.growing = None;
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of content so far.
    pub(super) fn content(&self) -> u64 {
        self.content
    }
}

/// What has been sent of a body, for as long as it is little enough to be sent once more.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// `None`: not all of it is there any more.
    records: Option<Vec<u8>>,
    limit: usize,
}

impl Replay {
    /// `limit`: bytes that are kept at most.
    pub(super) fn new(limit: usize) -> Self {
        Self { records: Some(vec![]), limit }
    }

    pub(super) fn push(&mut self, records: &[u8]) {
        let limit = self.limit;
        let fits = |kept: &Vec<u8>| kept.len() + records.len() <= limit;
        self.records = self.records.take().filter(fits).map(|mut kept| {
            kept.extend_from_slice(records);
            kept
        });
    }

    /// All that has been sent; `None` if that cannot be sent again.
    pub(super) fn records(&self) -> Option<&[u8]> {
        self.records.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds and contents.
    fn read(mut records: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut out = vec![];
        while let Some(header) = records.first_chunk::<HEADER_LEN>().map(Header::decode) {
            let (content, rest) = records[HEADER_LEN..].split_at(header.content.into());
            out.push((header.kind, content.to_vec()));
            records = rest;
        }
        assert!(records.is_empty(), "a record is not whole");
        out
    }

    #[test]
    fn what_comes_goes_on_in_whole_records_however_little_room_there_is() {
        let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let (mut upload, mut out) = (Upload::default(), vec![]);
        for part in body.chunks(7_001) {
            upload.push(Kind::Stdin, part, 16_384);
            upload.take(5_000, &mut out);
        }
        upload.end(Kind::Stdin);
        while upload.len() > 0 {
            let before = out.len();
            upload.take(4_104, &mut out);
            assert!(out.len() > before && out.len() - before <= 4_104);
        }
        let records = read(&out);
        assert_eq!(records.last(), Some(&(Kind::Stdin, vec![])));
        assert_eq!(records.into_iter().flat_map(|(_, content)| content).collect::<Vec<_>>(), body);
        assert_eq!(upload.content(), 100_000);
    }

    #[test]
    fn only_what_is_kept_whole_can_be_sent_again() {
        let mut replay = Replay::new(10);
        assert_eq!(replay.records(), Some(&b""[..]));
        replay.push(b"12345678");
        assert_eq!(replay.records(), Some(&b"12345678"[..]));
        replay.push(b"901");
        assert_eq!(replay.records(), None);
        replay.push(b"");
        assert_eq!(replay.records(), None);
    }
}
