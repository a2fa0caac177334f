//! Name-value pairs (section 3.4): two lengths of one or four bytes each, then the name, then the value.

use std::iter::FusedIterator;

/// Lengths below this take one byte, others four with the top bit set.
const LONG: usize = 0x80;
const LONG_BIT: u32 = 1 << 31;

/// Why bytes are not a list of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("name-value pair {index} at byte {at} claims {claimed} bytes, {left} are left")]
pub struct PairError {
    /// Which pair, counted from 0.
    pub index: usize,
    /// Where it starts.
    pub at: usize,
    /// Bytes that its lengths say it takes; 0 where not even the lengths are whole.
    pub claimed: u64,
    /// Bytes from `at` to the end.
    pub left: usize,
}

/// Iterates over encoded pairs without copying; ends after the first malformed one.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    bytes: &'a [u8],
    at: usize,
    index: usize,
}

impl<'a> Pairs<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, index: 0 }
    }

    /// Where the next pair starts, in bytes from the beginning.
    pub const fn position(&self) -> usize {
        self.at
    }

    fn error(&mut self, claimed: u64) -> PairError {
        let error = PairError { index: self.index, at: self.at, claimed, left: self.bytes.len() - self.at };
        self.at = self.bytes.len();
        error
    }
}

/// A length at `at` and where the bytes behind it start.
fn length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    if usize::from(first) < LONG {
        return Some((usize::from(first), at + 1));
    }
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(((u32::from_be_bytes(*word) & !LONG_BIT) as usize, at + 4))
}

impl<'a> Iterator for Pairs<'a> {
    /// Name and value.
    type Item = Result<(&'a [u8], &'a [u8]), PairError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let lengths = length(self.bytes, self.at)
            .and_then(|(name, next)| length(self.bytes, next).map(|(value, start)| (name, value, start)));
        let Some((name_len, value_len, start)) = lengths else {
            return Some(Err(self.error(0)));
        };
        let left = self.bytes.len() - start;
        if name_len > left || value_len > left - name_len {
            let claimed = (start - self.at) as u64 + name_len as u64 + value_len as u64;
            return Some(Err(self.error(claimed)));
        }
        let (name, value) = self.bytes[start..start + name_len + value_len].split_at(name_len);
        self.at = start + name_len + value_len;
        self.index += 1;
        Some(Ok((name, value)))
    }
}

impl FusedIterator for Pairs<'_> {}

fn put_length(out: &mut Vec<u8>, len: usize) {
    if len < LONG {
        out.push(len as u8);
    } else {
        out.extend_from_slice(&(len as u32 | LONG_BIT).to_be_bytes());
    }
}

/// Encoded length of one pair, in bytes.
pub const fn pair_len(name: usize, value: usize) -> usize {
    let lengths = if name < LONG { 1 } else { 4 } + if value < LONG { 1 } else { 4 };
    lengths + name + value
}

/// Appends one pair.
///
/// # Panics
/// In debug builds, if a part is longer than 2^31 - 1 bytes, the most that the format can say.
pub fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(name.len().max(value.len()) < LONG_BIT as usize);
    put_length(out, name.len());
    put_length(out, value.len());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_every_length_form_survive_a_round_trip() {
        let lengths = [0, 1, 127, 128, 300, 70_000];
        let mut out = vec![];
        for name in lengths {
            for value in lengths {
                let before = out.len();
                put_pair(&mut out, &vec![b'n'; name], &vec![b'v'; value]);
                assert_eq!(out.len() - before, pair_len(name, value));
            }
        }
        let found: Vec<_> = Pairs::new(&out).map(|pair| pair.map(|(n, v)| (n.len(), v.len())).unwrap()).collect();
        let wanted: Vec<_> = lengths.iter().flat_map(|n| lengths.iter().map(move |v| (*n, *v))).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_lying_length_is_an_error_and_the_end() {
        let mut out = vec![];
        put_pair(&mut out, b"A", b"1");
        out.extend([200, 0, 0]);
        let mut pairs = Pairs::new(&out);
        assert_eq!(pairs.next(), Some(Ok((&b"A"[..], &b"1"[..]))));
        assert_eq!(pairs.next(), Some(Err(PairError { index: 1, at: 4, claimed: 0, left: 3 })));
        assert_eq!(pairs.next(), None);
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'x'];
        let error = Pairs::new(&huge).next().unwrap().unwrap_err();
        assert_eq!((error.claimed, error.left), (8 + 2 * 0x7fff_ffff, 9));
    }

    #[test]
    fn any_cut_of_valid_pairs_is_an_error_or_fewer_pairs_but_never_a_panic() {
        let mut out = vec![];
        for len in [0, 5, 127, 128, 200] {
            put_pair(&mut out, &vec![b'n'; len], &vec![b'v'; 200 - len]);
        }
        for cut in 0..out.len() {
            let whole = Pairs::new(&out[..cut]).filter(Result::is_ok).count();
            assert!(whole < 5);
        }
    }
}
