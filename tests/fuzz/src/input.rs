//! Bytes as decisions.

/// Takes decisions from the front of the bytes; zeros when they are used up.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, or what is left.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Cuts `bytes` into reads whose sizes follow from `sizes`, again and again.
pub(crate) fn reads<'a>(bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let (mut rest, mut turn) = (bytes, 0);
    std::iter::from_fn(move || {
        let size = sizes.get(turn % sizes.len().max(1)).map_or(1, |size| usize::from(*size).max(1));
        turn += 1;
        let (read, behind) = rest.split_at(size.min(rest.len()));
        rest = behind;
        (!read.is_empty()).then_some(read)
    })
}
