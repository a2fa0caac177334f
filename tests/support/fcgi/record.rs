//! Records as bytes.

pub const BEGIN_REQUEST: u8 = 1;
pub const ABORT_REQUEST: u8 = 2;
pub const END_REQUEST: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const DATA: u8 = 8;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;

/// One record as it was received, without its padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.content[..self.content.len().min(60)];
        write!(
            out,
            "type {} id {} length {} {:?}",
            self.kind,
            self.id,
            self.content.len(),
            String::from_utf8_lossy(shown)
        )
    }
}

pub fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    record_padded(kind, id, content, 0)
}

pub fn record_padded(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("the content of a record").to_be_bytes();
    let id = id.to_be_bytes();
    let mut bytes = vec![1, kind, id[0], id[1], length[0], length[1], padding, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(padding), 0);
    bytes
}

pub fn begin(id: u16, keep: bool) -> Vec<u8> {
    begin_role(id, 1, u8::from(keep))
}

pub fn begin_role(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let role = role.to_be_bytes();
    record(BEGIN_REQUEST, id, &[role[0], role[1], flags, 0, 0, 0, 0, 0])
}

pub fn abort(id: u16) -> Vec<u8> {
    record(ABORT_REQUEST, id, &[])
}

pub fn end_request(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    let mut content = app_status.to_be_bytes().to_vec();
    content.extend([protocol_status, 0, 0, 0]);
    record(END_REQUEST, id, &content)
}

/// One name-value pair.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for length in [name.len(), value.len()] {
        match u8::try_from(length) {
            Ok(short) if short < 128 => bytes.push(short),
            _ => bytes.extend((u32::try_from(length).expect("the length of a pair") | 1 << 31).to_be_bytes()),
        }
    }
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
    bytes
}

pub fn pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    pairs.into_iter().flat_map(|(name, value)| pair(name.as_ref().as_bytes(), value.as_ref().as_bytes())).collect()
}

/// PARAMS with these pairs (none split over records), ended.
pub fn params<N: AsRef<str>, V: AsRef<str>>(id: u16, values: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut content = Vec::new();
    for (name, value) in values {
        let pair = pair(name.as_ref().as_bytes(), value.as_ref().as_bytes());
        if content.len() + pair.len() > 65_000 && !content.is_empty() {
            bytes.extend(record(PARAMS, id, &content));
            content.clear();
        }
        content.extend(pair);
    }
    if !content.is_empty() {
        bytes.extend(record(PARAMS, id, &content));
    }
    bytes.extend(record(PARAMS, id, &[]));
    bytes
}

/// STDIN with this body in records as large as they may be, not ended.
pub fn stdin(id: u16, body: &[u8]) -> Vec<u8> {
    body.chunks(65_535).flat_map(|chunk| record(STDIN, id, chunk)).collect()
}

pub fn stdin_end(id: u16) -> Vec<u8> {
    record(STDIN, id, &[])
}

/// The question that php-fpm answers with `FCGI_MPXS_CONNS=0`.
pub fn get_values() -> Vec<u8> {
    record(GET_VALUES, 0, &pair(b"FCGI_MPXS_CONNS", b""))
}

pub fn empty_get_values() -> Vec<u8> {
    record(GET_VALUES, 0, &[])
}
