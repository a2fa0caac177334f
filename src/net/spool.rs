//! The body of one request, kept until it has been sent: in memory up to a limit, behind that in an unlinked file.
//!
//! Kept as the STDIN records that will go upstream, so that sending is a write of memory or a sendfile and nothing is
//! copied again.

use crate::{
    mux::request::stdin_header,
    wire::{HEADER_LEN, MAX_CONTENT},
};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

/// Where the bodies of requests are kept.
#[derive(Clone, Debug)]
pub(super) struct BodyStorage {
    /// Bytes of one body in memory.
    pub(super) memory: u64,
    pub(super) directory: Arc<Path>,
    /// Bytes of a body that goes on as it comes, kept to be sent once more.
    pub(super) replay: usize,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// Id in the headers of the records.
    id: u16,
    /// The records that follow those in `file`.
    memory: Vec<u8>,
    /// Where in `memory` the last record starts, while it may still grow.
    growing: Option<usize>,
    file: Option<File>,
    /// Bytes of records in `file`.
    file_len: u64,
}

impl Spool {
    /// `id` is our request id for the exchange.
    pub(super) fn new(id: u16) -> Self {
        Self { id, ..Self::default() }
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Appends body bytes. What exceeds `limit` bytes in memory goes to a file in `directory`.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub(super) fn push(&mut self, mut bytes: &[u8], limit: u64, directory: &Path) -> io::Result<()> {
        while !bytes.is_empty() {
            let start = self.grow();
            let have = self.memory.len() - start - HEADER_LEN;
            let (now, later) = bytes.split_at(bytes.len().min(MAX_CONTENT - have));
            self.memory.extend_from_slice(now);
            let content = have + now.len();
            // At most MAX_CONTENT, which fits.
            self.memory[start..start + HEADER_LEN].copy_from_slice(&stdin_header(self.id, content as u16));
            if content == MAX_CONTENT {
                self.growing = None;
            }
            bytes = later;
        }
        // Whole records only: the one that still grows stays.
        let settled = self.growing.unwrap_or(self.memory.len());
        if self.memory.len() as u64 > limit && settled > 0 {
            self.spill(settled, directory)?;
        }
        Ok(())
    }

    /// Where the record that takes more bytes starts; begun if there is none.
    fn grow(&mut self) -> usize {
        *self.growing.get_or_insert_with(|| {
            let start = self.memory.len();
            self.memory.extend_from_slice(&[0; HEADER_LEN]);
            start
        })
    }

    /// Moves the first `settled` bytes to the file.
    fn spill(&mut self, settled: usize, directory: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(directory)?),
        };
        file.write_all(&self.memory[..settled])?;
        self.file_len += settled as u64;
        self.memory.drain(..settled);
        self.growing = self.growing.map(|start| start - settled);
        Ok(())
    }

    /// The file and the bytes in it.
    pub(super) fn file(&self) -> Option<(&File, u64)> {
        self.file.as_ref().map(|file| (file, self.file_len))
    }

    /// The records behind the file.
    pub(super) fn memory(&self) -> &[u8] {
        &self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Kind, Piece, Scanner};
    use std::io::{Read, Seek};

    /// Content of all records, which must be whole STDIN records with the right id.
    fn content(spool: &Spool) -> Vec<u8> {
        let mut bytes = vec![];
        if let Some((mut file, len)) = spool.file() {
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, len);
        }
        bytes.extend_from_slice(spool.memory());
        let (mut scanner, mut at, mut out) = (Scanner::default(), 0, vec![]);
        while let Some(piece) = scanner.next(&bytes[at..]).unwrap() {
            match piece {
                Piece::Header(header) => assert_eq!((header.kind, header.id), (Kind::Stdin, 77)),
                Piece::Content(n) => out.extend_from_slice(&bytes[at..at + n]),
                Piece::Padding(_) => panic!("padding"),
            }
            at += piece.len();
        }
        assert!(scanner.at_boundary() && at == bytes.len());
        out
    }

    #[test]
    fn a_body_comes_back_as_it_went_in_whatever_its_size_and_pieces() {
        let directory = std::env::temp_dir();
        for (piece, limit) in [(1, 300), (1000, 300), (1000, 100_000), (70_000, 100_000), (300_000, 1)] {
            let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
            let body = if piece == 1 { &body[..2000] } else { &body };
            let mut spool = Spool::new(77);
            for part in body.chunks(piece) {
                spool.push(part, limit, &directory).unwrap();
                assert!(spool.memory().len() as u64 <= limit + (MAX_CONTENT + HEADER_LEN + piece) as u64);
            }
            assert_eq!(content(&spool), body, "pieces of {piece}, limit {limit}");
        }
    }

    #[test]
    fn no_body_is_no_record() {
        let spool = Spool::new(77);
        assert!(spool.memory().is_empty() && spool.file().is_none());
    }
}
