//! A question of our own: one GET without a body, on a connection that ends with its answer. For php-fpm's pages of its
//! own, `pm.status_path` and `ping.path`; no script runs.

use crate::wire::{BeginRequest, HEADER_LEN, Header, Kind, Piece, Role, ScanError, Scanner, put_pair, put_record};

/// The only request on its connection.
const ID: u16 = 1;

/// The whole request. The end of its empty body is left out, as behind every request (rule R11).
///
/// # Panics
/// If both together are longer than a record, which the configuration does not allow.
pub fn question(script: &str, query: &str) -> Vec<u8> {
    let mut params = vec![];
    let pairs =
        [("SCRIPT_NAME", script), ("SCRIPT_FILENAME", script), ("REQUEST_METHOD", "GET"), ("QUERY_STRING", query)];
    pairs.iter().for_each(|(name, value)| put_pair(&mut params, name.as_bytes(), value.as_bytes()));
    let mut out = Vec::with_capacity(params.len() + 4 * HEADER_LEN);
    put_record(&mut out, Kind::BeginRequest, ID, &BeginRequest { role: Role::Responder, keep_conn: false }.encode());
    put_record(&mut out, Kind::Params, ID, &params);
    put_record(&mut out, Kind::Params, ID, &[]);
    out
}

/// Why there is no page to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("{0}")]
    Scan(#[from] ScanError),
    #[error("{} record (id {id}) in an answer", kind.name())]
    Kind { kind: Kind, id: u16 },
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
    #[error("an answer without a header block")]
    Head,
    #[error("status {0}")]
    Status(u16),
}

/// Bytes of an answer besides its output: headers of records, padding, STDERR.
const AROUND: usize = 256 * 1024;

/// Takes in one answer, whole.
#[derive(Debug)]
pub struct Answer {
    scanner: Scanner,
    current: Kind,
    /// STDOUT so far, at most `limit` bytes.
    output: Vec<u8>,
    limit: usize,
    /// Bytes that have come in all, of whatever kind.
    taken: usize,
    /// Bytes of a header that is not whole.
    carry: Vec<u8>,
    ended: bool,
}

impl Answer {
    /// `limit`: bytes of STDOUT.
    pub fn new(limit: usize) -> Self {
        let (scanner, carry) = (Scanner::default(), vec![]);
        Self { scanner, current: Kind::Stdout, output: vec![], limit, taken: 0, carry, ended: false }
    }

    /// Takes what has been read, and says whether END_REQUEST is whole. What comes behind that is nobody's.
    ///
    /// # Errors
    /// The application broke the protocol or sends too much; nothing more is taken.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, AnswerError> {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > self.limit.saturating_add(AROUND) {
            return Err(AnswerError::TooLarge(self.limit));
        }
        let joined = match self.carry.is_empty() {
            true => None,
            false => Some([&std::mem::take(&mut self.carry), bytes].concat()),
        };
        let mut bytes = joined.as_deref().unwrap_or(bytes);
        while !self.ended {
            let Some(piece) = self.scanner.next(bytes)? else {
                self.carry = bytes.to_vec();
                break;
            };
            let (taken, rest) = bytes.split_at(piece.len());
            bytes = rest;
            match piece {
                Piece::Header(header) => self.current = judge(header)?,
                Piece::Content(_) if self.current == Kind::Stdout => self.keep(taken)?,
                Piece::Content(_) | Piece::Padding(_) => {}
            }
            self.ended = self.current == Kind::EndRequest && self.scanner.at_boundary();
        }
        Ok(self.ended)
    }

    /// What stands behind the header block.
    ///
    /// # Errors
    /// There is none, or its status is not 200.
    pub fn page(self) -> Result<Vec<u8>, AnswerError> {
        let ends = |mark: &'static [u8]| {
            let at = self.output.windows(mark.len()).position(|window| window == mark);
            at.map(|at| (at, at + mark.len()))
        };
        let first = [ends(b"\r\n\r\n"), ends(b"\n\n")].into_iter().flatten().min();
        let (head, body) = first.ok_or(AnswerError::Head)?;
        match status(&self.output[..head]) {
            200 => Ok(self.output[body..].to_vec()),
            other => Err(AnswerError::Status(other)),
        }
    }

    fn keep(&mut self, content: &[u8]) -> Result<(), AnswerError> {
        if content.len() > self.limit - self.output.len() {
            return Err(AnswerError::TooLarge(self.limit));
        }
        self.output.extend_from_slice(content);
        Ok(())
    }
}

fn judge(header: Header) -> Result<Kind, AnswerError> {
    match header.kind {
        kind @ (Kind::Stdout | Kind::Stderr | Kind::EndRequest) if header.id == ID => Ok(kind),
        kind => Err(AnswerError::Kind { kind, id: header.id }),
    }
}

/// Of a CGI header block: 200 unless it says another (RFC 3875, 6.3.3).
fn status(head: &[u8]) -> u16 {
    let fields = head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    let mut status = fields.filter(|(name, _)| name.eq_ignore_ascii_case("status"));
    let number = status.next().map(|(_, value)| value.split_whitespace().next().and_then(|word| word.parse().ok()));
    // A status that is no number is not 200.
    number.map_or(200, Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{END_BODY_LEN, Pairs, put_stderr};
    use proptest::prelude::*;

    fn answer(output: &[&str]) -> Vec<u8> {
        let mut out = vec![];
        for part in output {
            put_record(&mut out, Kind::Stdout, ID, part.as_bytes());
            put_stderr(&mut out, ID, b"PHP message");
        }
        put_record(&mut out, Kind::EndRequest, ID, &[0; END_BODY_LEN]);
        out
    }

    fn read<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Vec<u8>>, AnswerError> {
        let mut answer = Answer::new(limit);
        for chunk in chunks {
            if answer.take(chunk)? {
                return answer.page().map(Some);
            }
        }
        Ok(None)
    }

    fn page(output: &[&str]) -> Result<Vec<u8>, AnswerError> {
        read(1_000, [&answer(output)[..]]).map(|page| page.expect("an end"))
    }

    #[test]
    fn a_question_is_one_request_without_keep_conn_and_without_the_end_of_its_body() {
        let bytes = question("/status", "json&full");
        let (mut scanner, mut at, mut headers, mut params) = (Scanner::default(), 0, vec![], vec![]);
        while let Some(piece) = scanner.next(&bytes[at..]).unwrap() {
            match piece {
                Piece::Header(header) => headers.push((header.kind, header.id)),
                Piece::Content(len) => params = bytes[at..at + len].to_vec(),
                Piece::Padding(_) => panic!("padding"),
            }
            at += piece.len();
        }
        assert_eq!(at, bytes.len());
        assert_eq!(headers, [(Kind::BeginRequest, 1), (Kind::Params, 1), (Kind::Params, 1)]);
        assert!(!BeginRequest::decode(bytes[8..].first_chunk().unwrap()).keep_conn);
        let pairs: Vec<_> = Pairs::new(&params).map(Result::unwrap).collect();
        assert!(pairs.contains(&(b"SCRIPT_NAME", b"/status")) && pairs.contains(&(b"QUERY_STRING", b"json&full")));
        assert!(pairs.contains(&(b"SCRIPT_FILENAME", b"/status")) && pairs.contains(&(b"REQUEST_METHOD", b"GET")));
    }

    #[test]
    fn a_page_is_what_stands_behind_the_header_block() {
        assert_eq!(page(&["Content-type: a\r\n\r\npo", "ng"]), Ok(b"pong".to_vec()));
        assert_eq!(page(&["Content-type: a\n\n\r\n\r\n"]), Ok(b"\r\n\r\n".to_vec()));
        assert_eq!(page(&["STATUS: 200 OK\r\n\r\n"]), Ok(vec![]));
    }

    #[test]
    fn another_status_and_an_answer_without_a_head_are_errors() {
        assert_eq!(page(&["Status: 404 Not Found\r\n\r\nFile not found.\n"]), Err(AnswerError::Status(404)));
        assert_eq!(page(&["Content-type: a\r\nStatus:403\r\n\r\n"]), Err(AnswerError::Status(403)));
        assert_eq!(page(&["Status: often\r\n\r\n"]), Err(AnswerError::Status(0)));
        assert_eq!(page(&["Content-type: a\r\n"]), Err(AnswerError::Head));
        assert_eq!(page(&[]), Err(AnswerError::Head));
    }

    #[test]
    fn an_answer_is_bounded() {
        assert_eq!(read(9, [&answer(&["\r\n\r\n12345"])[..]]), Ok(Some(b"12345".to_vec())));
        assert_eq!(read(9, [&answer(&["\r\n\r\n1234", "56"])[..]]), Err(AnswerError::TooLarge(9)));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        let mut strange = vec![];
        put_record(&mut strange, Kind::Stdout, 2, b"\r\n\r\n");
        assert_eq!(read(9, [&strange[..]]), Err(AnswerError::Kind { kind: Kind::Stdout, id: 2 }));
        assert!(matches!(read(9, [&b"HTTP/1.1 400"[..]]), Err(AnswerError::Scan(_))));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_page(sizes in prop::collection::vec(1_usize..30, 1..9)) {
            let bytes = answer(&["Content-type: text/plain\r\n", "\r\n", "a page in ", "pieces"]);
            let (mut rest, mut chunks) = (&bytes[..], vec![]);
            for size in sizes.iter().cycle().take(bytes.len()) {
                let (chunk, behind) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = behind;
            }
            prop_assert_eq!(read(99, chunks), Ok(Some(b"a page in pieces".to_vec())));
            prop_assert_eq!(read(99, [&bytes[..bytes.len() - 1]]), Ok(None));
        }
    }
}
