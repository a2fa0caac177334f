//! Where one stands in a stream of records, over any splitting of its bytes.

use super::header::{HEADER_LEN, Header, VERSION};

/// What stands at the start of the bytes shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole header: [`HEADER_LEN`] bytes.
    Header(Header),
    /// So many bytes of the current record's content.
    Content(usize),
    /// So many bytes of the current record's padding.
    Padding(usize),
}

impl Piece {
    /// Bytes it takes.
    pub const fn len(self) -> usize {
        match self {
            Self::Header(_) => HEADER_LEN,
            Self::Content(n) | Self::Padding(n) => n,
        }
    }

    /// Never: a piece takes at least one byte.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The bytes are not FastCGI, version 1.
/// What a server of a protocol of lines waits for before it speaks, HTTP for one. No FastCGI application can take it for a
/// record.
pub const END_OF_LINES: &[u8] = b"\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a FastCGI record: version {version} in place of 1{}", self.looks_like())]
pub struct ScanError {
    pub version: u8,
}

impl ScanError {
    /// What speaks there, where its first byte says so: an HTTP server answers `HTTP/1.1 400 ...`, or with a page.
    fn looks_like(self) -> &'static str {
        match self.version {
            b'H' | b'<' => " (an HTTP server answers there)",
            _ => "",
        }
    }
}

/// An incremental, in-place reader of records. Holds no bytes: what it does not take (a header not yet whole) is shown
/// to it again with more behind it.
///
/// ```
/// use fcgimux::wire::{Kind, Piece, Scanner};
/// let bytes = [1, 6, 0, 1, 0, 2, 1, 0, b'h', b'i', 0];
/// let (mut scanner, mut at, mut kinds) = (Scanner::default(), 0, vec![]);
/// while let Some(piece) = scanner.next(&bytes[at..]).unwrap() {
///     at += piece.len();
///     kinds.push(piece);
/// }
/// assert!(scanner.at_boundary() && at == bytes.len());
/// assert_eq!(kinds[1..], [Piece::Content(2), Piece::Padding(1)]);
/// # assert!(matches!(kinds[0], Piece::Header(h) if h.kind == Kind::Stdout));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    /// Content of the current record not yet passed, in bytes.
    content: u16,
    /// Padding of the current record not yet passed, in bytes.
    padding: u8,
}

impl Scanner {
    /// Takes the next piece from the start of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// A header of another version; the scanner then stays where it is.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, ScanError> {
        if self.content > 0 && !bytes.is_empty() {
            let n = bytes.len().min(self.content.into());
            // n <= self.content, which is a u16
            self.content -= n as u16;
            return Ok(Some(Piece::Content(n)));
        }
        if self.padding > 0 && !bytes.is_empty() {
            let n = bytes.len().min(self.padding.into());
            // n <= self.padding, which is a u8
            self.padding -= n as u8;
            return Ok(Some(Piece::Padding(n)));
        }
        let Some(first) = bytes.first() else { return Ok(None) };
        // Seen at its first byte: a peer that speaks something else is told apart from a slow one.
        if *first != VERSION {
            return Err(ScanError { version: *first });
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header);
        (self.content, self.padding) = (header.content, header.padding);
        Ok(Some(Piece::Header(header)))
    }

    /// True between two records: nothing of a record is outstanding but, perhaps, a part of the next header.
    pub const fn at_boundary(&self) -> bool {
        self.content == 0 && self.padding == 0
    }

    /// Bytes of the current record that are still to come: content and padding.
    pub const fn outstanding(&self) -> (usize, usize) {
        (self.content as usize, self.padding as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, put_record};

    fn stream() -> Vec<u8> {
        let mut out = vec![];
        put_record(&mut out, Kind::Stdout, 1, &[b'a'; 300]);
        out.extend([1, 7, 0, 1, 0, 0, 3, 0, 9, 9, 9]); // empty content, 3 bytes of padding
        put_record(&mut out, Kind::EndRequest, 1, &[0; 8]);
        out
    }

    /// Headers, and the sums of content and padding between them, however the bytes are split.
    fn read(chunks: &[&[u8]]) -> Vec<(Header, usize, usize)> {
        let (mut scanner, mut carry, mut out) = (Scanner::default(), vec![], vec![]);
        for chunk in chunks {
            carry.extend_from_slice(chunk);
            let mut at = 0;
            while let Some(piece) = scanner.next(&carry[at..]).unwrap() {
                at += piece.len();
                match (piece, out.last_mut()) {
                    (Piece::Header(header), _) => out.push((header, 0, 0)),
                    (Piece::Content(n), Some((_, content, _))) => *content += n,
                    (Piece::Padding(n), Some((_, _, padding))) => *padding += n,
                    (_, None) => panic!("content before a header"),
                }
            }
            carry.drain(..at);
            assert!(carry.len() < HEADER_LEN, "more is held back than a header");
        }
        assert!(scanner.at_boundary() && carry.is_empty());
        out
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_records() {
        let bytes = stream();
        let whole = read(&[&bytes]);
        assert_eq!(whole.len(), 3);
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn another_protocol_is_seen_at_its_first_byte() {
        assert_eq!(Scanner::default().next(b"G"), Err(ScanError { version: b'G' }));
        assert_eq!(Scanner::default().next(b""), Ok(None));
    }
}
