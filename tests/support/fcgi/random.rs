//! Numbers that differ from part to part, and are the same in every run.

use std::sync::atomic::{AtomicU64, Ordering};

static PARTS: AtomicU64 = AtomicU64::new(1);

/// Xorshift.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One that no other part has.
    pub fn next_part() -> Self {
        Self::seeded(PARTS.fetch_add(1, Ordering::Relaxed))
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.word() >> 11) % (limit as u64)).expect("below a usize")
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// From 0 to `most`: mostly small, and each order of magnitude above 64 as likely as another.
    pub fn size(&mut self, most: u64) -> u64 {
        let bits = (u64::BITS - most.leading_zeros()) as usize;
        let least = bits.min(6);
        let top = 1_u64 << (least + self.below(bits - least + 1));
        (self.word() >> 11) % top.min(most + 1)
    }
}
