//! A request as it arrives at an application.

use super::record::{BEGIN_REQUEST, PARAMS, Record, STDIN};

/// What was read of it so far.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    pub id: u16,
    pub keep: bool,
    pub params: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Every record, in order.
    pub records: Vec<Record>,
    began: bool,
    params_ended: bool,
    body_ended: bool,
}

impl Incoming {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As php-fpm sees it: the params ended, and the body is as long as CONTENT_LENGTH says.
    pub fn is_complete(&self) -> bool {
        let length = self.param("CONTENT_LENGTH").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.params_ended && (self.body_ended || self.body.len() >= length)
    }

    pub fn take(&mut self, record: Record) {
        match record.kind {
            BEGIN_REQUEST => {
                self.id = record.id;
                self.keep = record.content.get(2).is_some_and(|flags| flags & 1 == 1);
                self.began = true;
            }
            PARAMS if record.content.is_empty() => self.params_ended = true,
            PARAMS => self.params.extend(read_pairs(&record.content)),
            STDIN if record.content.is_empty() => self.body_ended = self.began,
            STDIN => self.body.extend_from_slice(&record.content),
            _ => {}
        }
        self.records.push(record);
    }

    /// Whether a request has begun.
    pub fn has_begun(&self) -> bool {
        self.began
    }
}

fn read_pairs(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while !bytes.is_empty() {
        let name = read_length(&mut bytes);
        let value = read_length(&mut bytes);
        let (pair, rest) = bytes.split_at(name + value);
        let (name, value) = pair.split_at(name);
        pairs.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
        bytes = rest;
    }
    pairs
}

fn read_length(bytes: &mut &[u8]) -> usize {
    if bytes[0] < 128 {
        let length = usize::from(bytes[0]);
        *bytes = &bytes[1..];
        return length;
    }
    let long = u32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]]);
    *bytes = &bytes[4..];
    usize::try_from(long).expect("a length")
}
