//! Bytes that follow from a token: each can be told right or wrong by where it stands.

/// An endless stream of bytes; that of another token differs from its first bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(u64);

const WORD: usize = 8;

impl Pattern {
    pub fn of(token: &str) -> Self {
        // FNV-1a.
        let hash = token
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash)
    }

    /// What a request of this token has in its STDIN.
    pub fn of_body(token: &str) -> Self {
        Self(Self::of(token).0 ^ 0x5555_5555_5555_5555)
    }

    /// What a request of this token has in its DATA.
    pub fn of_data(token: &str) -> Self {
        Self(Self::of(token).0 ^ 0x3333_3333_3333_3333)
    }

    /// Names the token in a table.
    pub fn key(self) -> u64 {
        self.0
    }

    /// Writes the bytes that stand at `offset`.
    pub fn fill(self, offset: u64, out: &mut [u8]) {
        self.words(offset, out.len(), |range, bytes| out[range].copy_from_slice(bytes));
    }

    pub fn bytes(self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(0, &mut bytes);
        bytes
    }

    /// Where `bytes`, which stand at `offset`, are first wrong.
    pub fn first_difference(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut wrong = None;
        self.words(offset, bytes.len(), |range, right| {
            if wrong.is_none() && bytes[range.clone()] != *right {
                let at = bytes[range.clone()].iter().zip(right).take_while(|(is, right)| is == right).count();
                wrong = Some(offset + (range.start + at) as u64);
            }
        });
        wrong
    }

    /// Hands out the bytes from `offset` on, a word or a part of one at a time, each with its place.
    fn words(self, offset: u64, length: usize, mut each: impl FnMut(std::ops::Range<usize>, &[u8])) {
        let mut at = 0;
        while at < length {
            let place = offset + at as u64;
            let inside = (place % WORD as u64) as usize;
            let word =
                mix(self.0.wrapping_add((place / WORD as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes();
            let count = (WORD - inside).min(length - at);
            each(at..at + count, &word[inside..inside + count]);
            at += count;
        }
    }
}

/// The finish of SplitMix64.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
