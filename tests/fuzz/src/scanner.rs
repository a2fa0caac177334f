use super::input::{Input, reads};
use fcgimux::wire::{HEADER_LEN, Header, Piece, ScanError, Scanner};

/// Any split of any bytes gives the same records, or the same error at the same place.
pub fn scanner(data: &[u8]) {
    let mut input = Input(data);
    let count = input.below(8);
    let sizes = input.take(count);
    let bytes = input.0;
    let whole = read(std::iter::once(bytes));
    assert_eq!(read(reads(bytes, sizes)), whole);
    assert_eq!(read(bytes.chunks(1)), whole);
}

/// Headers with the sums of content and padding behind each; the error, if any, and how many bytes were taken.
type Records = (Vec<(Header, usize, usize)>, Option<ScanError>, usize);

fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Records {
    let (mut scanner, mut carry, mut records, mut total) = (Scanner::default(), vec![], vec![], 0);
    for chunk in chunks {
        carry.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let piece = match scanner.next(&carry[at..]) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return (records, Some(error), total + at),
            };
            assert!(!piece.is_empty() && at + piece.len() <= carry.len());
            at += piece.len();
            match (piece, records.last_mut()) {
                (Piece::Header(header), _) => records.push((header, 0, 0)),
                (Piece::Content(len), Some((_, content, 0))) => *content += len,
                (Piece::Padding(len), Some((_, _, padding))) => *padding += len,
                (piece, last) => panic!("{piece:?} behind {last:?}"),
            }
        }
        carry.drain(..at);
        total += at;
        assert!(carry.len() < HEADER_LEN, "more is held back than a header");
    }
    let boundary = records.last().is_none_or(|(header, content, padding)| {
        (usize::from(header.content), usize::from(header.padding)) == (*content, *padding)
    });
    assert_eq!(scanner.at_boundary(), boundary);
    (records, None, total)
}
