//! GET_VALUES as a proof that a worker is there and free: the handshake of a new connection, and the fence behind a
//! finished exchange (facts 1.2, 11.4).

use super::reply::Finished;
use crate::wire::{Header, Kind, MANAGEMENT_ID, Piece, ScanError, Scanner};

/// Anything but the answer that must come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("{0}")]
    Scan(#[from] ScanError),
    #[error("{} record (id {id}) in place of GET_VALUES_RESULT", kind.name())]
    Kind { kind: Kind, id: u16 },
    #[error("{0} bytes behind GET_VALUES_RESULT")]
    Trailing(usize),
}

/// A connection whose worker has just answered: free, and nothing left unread. The only way into the pool.
#[derive(Debug)]
#[must_use]
pub struct Clean(());

/// Waits for GET_VALUES_RESULT records.
#[derive(Debug)]
pub struct Proof {
    scanner: Scanner,
    /// The record under way is such an answer.
    in_result: bool,
    /// Answers that must still come.
    due: u8,
    /// What a finished request still writes is dropped (fact 11.2).
    strays_allowed: bool,
}

impl Proof {
    /// `answers`: how many GET_VALUES were sent; two tell whether the application keeps the connection behind the
    /// first (fact 1.2).
    pub fn handshake(answers: u8) -> Self {
        Self { scanner: Scanner::default(), in_result: false, due: answers, strays_allowed: false }
    }

    /// Behind a finished exchange.
    pub fn fence(_behind: Finished) -> Self {
        Self { scanner: Scanner::default(), in_result: false, due: 1, strays_allowed: true }
    }

    /// Answers that have not come.
    pub fn due(&self) -> u8 {
        self.due
    }

    /// Takes all of `bytes` but a header that is not whole: how many, and the token once the last answer is whole.
    ///
    /// # Errors
    /// Something else came, or more than the answer.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Clean>), ProofError> {
        let mut at = 0;
        while self.due > 0 {
            let Some(piece) = self.scanner.next(&bytes[at..])? else { return Ok((at, None)) };
            at += piece.len();
            if let Piece::Header(header) = piece {
                self.in_result = self.judge(header)?;
            }
            if self.in_result && self.scanner.at_boundary() {
                (self.in_result, self.due) = (false, self.due - 1);
            }
        }
        match bytes.len() - at {
            0 => Ok((at, Some(Clean(())))),
            trailing => Err(ProofError::Trailing(trailing)),
        }
    }

    fn judge(&self, header: Header) -> Result<bool, ProofError> {
        let stray = matches!(header.kind, Kind::Stdout | Kind::Stderr | Kind::EndRequest);
        match header.kind {
            Kind::GetValuesResult if header.id == MANAGEMENT_ID => Ok(true),
            _ if stray && self.strays_allowed => Ok(false),
            kind => Err(ProofError::Kind { kind, id: header.id }),
        }
    }
}
