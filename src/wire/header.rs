//! The record header: the one place that knows its layout (section 3.3).

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// The only version there is.
pub const VERSION: u8 = 1;
/// Request id of management records.
pub const MANAGEMENT_ID: u16 = 0;
/// Content of one record at most, in bytes. A multiple of 8, so that no padding is needed, and content + padding stay
/// below the 65,535 bytes that php-fpm takes for both together (fact 9.3).
pub const MAX_CONTENT: usize = 65_528;

/// A record's type. One that the specification does not know is a value, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BeginRequest,
    AbortRequest,
    EndRequest,
    Params,
    Stdin,
    Stdout,
    Stderr,
    Data,
    GetValues,
    GetValuesResult,
    UnknownType,
    Other(u8),
}

impl Kind {
    /// Its records belong to a request, whatever id they bear.
    pub const fn is_of_a_request(self) -> bool {
        matches!(self, Self::BeginRequest | Self::AbortRequest | Self::Params | Self::Stdin | Self::Data)
    }

    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::BeginRequest,
            2 => Self::AbortRequest,
            3 => Self::EndRequest,
            4 => Self::Params,
            5 => Self::Stdin,
            6 => Self::Stdout,
            7 => Self::Stderr,
            8 => Self::Data,
            9 => Self::GetValues,
            10 => Self::GetValuesResult,
            11 => Self::UnknownType,
            other => Self::Other(other),
        }
    }

    pub const fn to_byte(self) -> u8 {
        match self {
            Self::BeginRequest => 1,
            Self::AbortRequest => 2,
            Self::EndRequest => 3,
            Self::Params => 4,
            Self::Stdin => 5,
            Self::Stdout => 6,
            Self::Stderr => 7,
            Self::Data => 8,
            Self::GetValues => 9,
            Self::GetValuesResult => 10,
            Self::UnknownType => 11,
            Self::Other(byte) => byte,
        }
    }

    /// The specification's name without its prefix, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeginRequest => "BEGIN_REQUEST",
            Self::AbortRequest => "ABORT_REQUEST",
            Self::EndRequest => "END_REQUEST",
            Self::Params => "PARAMS",
            Self::Stdin => "STDIN",
            Self::Stdout => "STDOUT",
            Self::Stderr => "STDERR",
            Self::Data => "DATA",
            Self::GetValues => "GET_VALUES",
            Self::GetValuesResult => "GET_VALUES_RESULT",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::Other(_) => "unknown",
        }
    }
}

/// A decoded header. Says what stands on the wire; whether that is allowed is decided by whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u8,
    pub kind: Kind,
    pub id: u16,
    /// Bytes of content behind the header.
    pub content: u16,
    /// Bytes of padding behind the content.
    pub padding: u8,
}

impl Header {
    pub const fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        Self {
            version: bytes[0],
            kind: Kind::from_byte(bytes[1]),
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            content: u16::from_be_bytes([bytes[4], bytes[5]]),
            padding: bytes[6],
        }
    }

    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let (id, content) = (self.id.to_be_bytes(), self.content.to_be_bytes());
        [self.version, self.kind.to_byte(), id[0], id[1], content[0], content[1], self.padding, 0]
    }

    /// A header as we write it: no padding, which is optional and which php-fpm does not consume on empty records
    /// (fact 9.3).
    pub const fn new(kind: Kind, id: u16, content: u16) -> Self {
        Self { version: VERSION, kind, id, content, padding: 0 }
    }
}

/// Writes another request id into an encoded header; `bytes` starts with the header.
///
/// # Panics
/// If `bytes` is shorter than 4 bytes.
pub fn set_id(bytes: &mut [u8], id: u16) {
    bytes[2..4].copy_from_slice(&id.to_be_bytes());
}

/// Appends one record without padding.
///
/// # Panics
/// If `content` is longer than 65,535 bytes: callers cut it at [`MAX_CONTENT`].
pub fn put_record(out: &mut Vec<u8>, kind: Kind, id: u16, content: &[u8]) {
    let len = u16::try_from(content.len()).expect("callers cut content at MAX_CONTENT");
    out.extend_from_slice(&Header::new(kind, id, len).encode());
    out.extend_from_slice(content);
}

/// Appends one STDERR record with padding: HAProxy 2.6 dies of one that ends with its content and has nothing behind it
/// (docs/web-servers.md).
///
/// # Panics
/// As [`put_record`].
pub fn put_stderr(out: &mut Vec<u8>, id: u16, content: &[u8]) {
    const PADDING: u8 = 8;
    let len = u16::try_from(content.len()).expect("callers cut content at MAX_CONTENT");
    out.extend_from_slice(&Header { padding: PADDING, ..Header::new(Kind::Stderr, id, len) }.encode());
    out.extend_from_slice(content);
    out.extend_from_slice(&[0; PADDING as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_byte_survives_a_round_trip() {
        for byte in 0..=255 {
            assert_eq!(Kind::from_byte(byte).to_byte(), byte);
        }
    }

    #[test]
    fn a_header_survives_a_round_trip_but_for_its_reserved_byte() {
        let header = Header { version: 1, kind: Kind::Stdout, id: 0xabcd, content: 0x1234, padding: 7 };
        assert_eq!(header.encode(), [1, 6, 0xab, 0xcd, 0x12, 0x34, 7, 0]);
        assert_eq!(Header::decode(&header.encode()), header);
    }

    #[test]
    fn an_id_is_rewritten_in_place() {
        let mut out = vec![];
        put_record(&mut out, Kind::Stdout, 1, b"x");
        set_id(&mut out, 0x0203);
        assert_eq!(out, [1, 6, 2, 3, 0, 1, 0, 0, b'x']);
    }
}
