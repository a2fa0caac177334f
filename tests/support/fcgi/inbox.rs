//! Received bytes taken apart into records in place, for peers through which much passes.

use std::io::{self, Read};

const ROOM: usize = 256 * 1024;
const HEADER: usize = 8;

/// Holds what was read and not yet taken.
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A record where it lies.
pub struct Piece<'a> {
    pub version: u8,
    pub kind: u8,
    pub id: u16,
    pub content: &'a [u8],
}

impl Inbox {
    pub fn new() -> Self {
        Self { buffer: vec![0; ROOM], start: 0, end: 0 }
    }

    /// Reads once; 0 at the end of the connection.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.fill_up_to(from, ROOM)
    }

    /// Reads once and no more than this.
    pub fn fill_up_to(&mut self, from: &mut impl Read, most: usize) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = (self.buffer.len() - self.end).min(most);
        loop {
            match from.read(&mut self.buffer[self.end..self.end + room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
            }
        }
    }

    pub fn next(&mut self) -> Option<Piece<'_>> {
        let bytes = &self.buffer[self.start..self.end];
        let header = bytes.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let whole = HEADER + length + usize::from(header[6]);
        if bytes.len() < whole {
            return None;
        }
        self.start += whole;
        Some(Piece {
            version: header[0],
            kind: header[1],
            id: u16::from_be_bytes([header[2], header[3]]),
            content: &bytes[HEADER..HEADER + length],
        })
    }

    /// Whether the bytes end inside a record.
    pub fn is_inside(&self) -> bool {
        self.start != self.end
    }
}
