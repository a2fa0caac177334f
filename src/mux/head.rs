//! Has the header block of a CGI response come to its end?
//!
//! HAProxy 2.6 dies of a response that ends inside it (docs/web-servers.md), and nobody can make anything of one.

use crate::wire::{HEADER_LEN, Header, Kind};

/// Follows the STDOUT of one response.
#[derive(Debug, Default)]
pub struct Head {
    /// Characters in the line so far, without carriage returns.
    line: usize,
    begun: bool,
    whole: bool,
}

impl Head {
    /// `records`: whole records of the response.
    pub fn read(&mut self, records: &[u8]) {
        if !self.whole {
            output(records).for_each(|text| self.read_text(text));
        }
    }

    /// The same of a part of one record's content.
    pub fn read_text(&mut self, text: &[u8]) {
        if self.whole {
            return;
        }
        self.begun |= !text.is_empty();
        for byte in text {
            match byte {
                b'\n' if self.line == 0 => {
                    self.whole = true;
                    return;
                }
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
    }

    /// It has begun and is not whole.
    pub fn is_cut(&self) -> bool {
        self.begun && !self.whole
    }

    /// The empty line has come.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

/// The contents of the STDOUT records among these, which are whole.
fn output(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while let Some(header) = records.first_chunk::<HEADER_LEN>().map(Header::decode) {
            let rest = &records[HEADER_LEN..];
            let (content, padding) = (usize::from(header.content), usize::from(header.padding));
            let (content, behind) = rest.split_at(content.min(rest.len()));
            records = &behind[padding.min(behind.len())..];
            if header.kind == Kind::Stdout {
                return Some(content);
            }
        }
        None
    })
}

/// The HTTP status that a response begins with (RFC 3875, 6.3.3); where it names none, what web servers take that for. `None`
/// where it cannot be told. `records`: whole ones, with the header block among them.
pub fn status(records: &[u8]) -> Option<u16> {
    let text = output(records).collect::<Vec<_>>().concat();
    let mut unnamed = 200;
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        match line.split_once(':') {
            None if line.is_empty() => return Some(unnamed),
            Some((name, value)) if name.eq_ignore_ascii_case("status") => return value.trim().get(..3)?.parse().ok(),
            Some((name, _)) if name.eq_ignore_ascii_case("location") => unnamed = 302,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_record;

    #[test]
    fn the_status_is_that_of_the_header_block() {
        use Kind::{Stderr, Stdout};
        for (parts, expected) in [
            (&[(Stdout, "Status: 404 Not Found\r\nA: b\r\n\r\n")][..], Some(404)),
            (&[(Stderr, "Status: 500\n\n"), (Stdout, "A: b\nsta"), (Stdout, "tus:503\n\nbody")], Some(503)),
            (&[(Stdout, "A: b\r\n\r\nStatus: 404\r\n")], Some(200)),
            (&[(Stdout, "Location: /there\r\n\r\n")], Some(302)),
            (&[(Stdout, "Location: /there\r\nStatus: 301 Moved\r\n\r\n")], Some(301)),
            (&[(Stdout, "Status: what\r\n\r\n")], None),
            (&[(Stdout, "Status: 4é\r\n\r\n")], None),
            (&[(Stdout, "A: b\r\n")], None),
            (&[], None),
        ] {
            let mut records = vec![];
            parts.iter().for_each(|(kind, text)| put_record(&mut records, *kind, 1, text.as_bytes()));
            assert_eq!(status(&records), expected, "{parts:?}");
        }
    }

    fn is_whole(parts: &[(Kind, &str)]) -> bool {
        let (mut at_once, mut one_by_one, mut records) = (Head::default(), Head::default(), vec![]);
        for (kind, text) in parts {
            let mut record = vec![];
            put_record(&mut record, *kind, 1, text.as_bytes());
            one_by_one.read(&record);
            records.extend(record);
        }
        at_once.read(&records);
        assert_eq!(at_once.is_whole(), one_by_one.is_whole());
        at_once.is_whole()
    }

    #[test]
    fn a_header_block_ends_with_an_empty_line_of_standard_output() {
        use Kind::{Stderr, Stdout};
        assert!(is_whole(&[(Stdout, "A: b\r\n\r\nbody")]));
        assert!(is_whole(&[(Stdout, "A: b\n\nbody")]));
        assert!(is_whole(&[(Stdout, "A: b\r"), (Stderr, "words\n\n"), (Stdout, "\n"), (Stdout, "\r\n")]));
        assert!(is_whole(&[(Stdout, "\r\n")]), "there need be no field");
        assert!(!is_whole(&[]));
        assert!(!is_whole(&[(Stdout, "A: b\r\n"), (Stderr, "\n\n"), (Kind::EndRequest, "\n\n")]));
        assert!(!is_whole(&[(Stdout, "A: b\r\nC: d")]));
    }
}
