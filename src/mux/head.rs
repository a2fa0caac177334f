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
    pub fn read(&mut self, mut records: &[u8]) {
        while !self.whole
            && let Some(header) = records.first_chunk::<HEADER_LEN>().map(Header::decode)
        {
            let rest = &records[HEADER_LEN..];
            let (content, padding) = (usize::from(header.content), usize::from(header.padding));
            let (content, behind) = rest.split_at(content.min(rest.len()));
            if header.kind == Kind::Stdout {
                self.read_text(content);
            }
            records = &behind[padding.min(behind.len())..];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_record;

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
