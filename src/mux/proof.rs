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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mux::reply::Reply, wire::HEADER_LEN};
    use proptest::prelude::*;

    fn record(kind: Kind, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let mut out = Header { padding, ..Header::new(kind, id, content.len() as u16) }.encode().to_vec();
        out.extend_from_slice(content);
        out.resize(out.len() + usize::from(padding), 0xa5);
        out
    }

    fn result() -> Vec<u8> {
        record(Kind::GetValuesResult, 0, b"\x0f\x01FCGI_MPXS_CONNS0", 6)
    }

    fn fence() -> Proof {
        let mut reply = Reply::new(1, 1, &crate::mux::request::Front::Nothing);
        let scan = reply.scan(&mut record(Kind::EndRequest, 1, &[0; 8], 0)).unwrap();
        assert_eq!(scan.forward, 16);
        Proof::fence(reply.finish().unwrap())
    }

    /// Whether the proof came, and with which byte; shows what is not taken again with more behind it.
    fn read<'a>(mut proof: Proof, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<bool, ProofError> {
        let (mut carry, mut proven) = (vec![], false);
        for chunk in chunks {
            assert!(!proven, "bytes are shown behind the proof");
            carry.extend_from_slice(chunk);
            let (taken, clean) = proof.take(&carry)?;
            carry.drain(..taken);
            assert!(carry.len() < HEADER_LEN);
            proven = clean.is_some();
        }
        Ok(proven)
    }

    #[test]
    fn a_handshake_is_proven_by_as_many_answers_as_were_asked_for() {
        assert_eq!(read(Proof::handshake(1), [&result()[..]]), Ok(true));
        assert_eq!(read(Proof::handshake(2), [&result()[..]]), Ok(false));
        assert_eq!(read(Proof::handshake(2), [&result()[..], &result()]), Ok(true));
        assert_eq!(read(Proof::handshake(1), [&record(Kind::GetValuesResult, 0, &[], 0)[..]]), Ok(true));
    }

    #[test]
    fn which_answers_are_missing_is_known() {
        let mut proof = Proof::handshake(2);
        assert!(proof.take(&result()).unwrap().1.is_none());
        assert_eq!(proof.due(), 1);
    }

    #[test]
    fn a_handshake_takes_nothing_but_the_answer() {
        let kinds =
            [Kind::Stdout, Kind::Stderr, Kind::EndRequest, Kind::UnknownType, Kind::BeginRequest, Kind::Other(0)];
        for kind in kinds {
            let error = read(Proof::handshake(1), [&[record(kind, 1, &[0; 8], 0), result()].concat()[..]]);
            assert_eq!(error, Err(ProofError::Kind { kind, id: 1 }));
        }
        let wrong_id = record(Kind::GetValuesResult, 1, &[], 0);
        let error = ProofError::Kind { kind: Kind::GetValuesResult, id: 1 };
        assert_eq!(read(Proof::handshake(1), [&wrong_id[..]]), Err(error));
        assert!(matches!(read(Proof::handshake(1), [&b"SSH-2.0"[..]]), Err(ProofError::Scan(_))));
    }

    #[test]
    fn a_fence_passes_over_what_the_finished_request_still_writes() {
        let strays = [record(Kind::Stdout, 1, &[7; 20_000], 8), record(Kind::Stderr, 9, b"x", 0), result()].concat();
        assert_eq!(read(fence(), [&strays[..]]), Ok(true));
        assert_eq!(read(fence(), strays.chunks(1)), Ok(true));
        let begin = record(Kind::BeginRequest, 1, &[0; 8], 0);
        assert_eq!(read(fence(), [&begin[..]]), Err(ProofError::Kind { kind: Kind::BeginRequest, id: 1 }));
    }

    #[test]
    fn bytes_behind_the_last_answer_are_an_error_and_no_proof() {
        for trailing in [&b"\x01"[..], &result(), &record(Kind::Stdout, 1, b"late", 0)] {
            for proof in [Proof::handshake(1), fence()] {
                let error = read(proof, [&[&result(), trailing].concat()[..]]);
                assert_eq!(error, Err(ProofError::Trailing(trailing.len())));
            }
        }
    }

    proptest! {
        #[test]
        fn the_proof_comes_with_the_last_byte_of_the_answer_and_not_before(
            strays in prop::collection::vec((0_usize..300, any::<u8>()), 0..4),
            sizes in prop::collection::vec(1_usize..100, 1..20),
        ) {
            let strays = strays.iter().flat_map(|(len, padding)| record(Kind::Stdout, 1, &vec![1; *len], *padding));
            let bytes: Vec<u8> = strays.chain(result()).collect();
            let (mut rest, mut chunks) = (&bytes[..], vec![]);
            for size in sizes.iter().cycle().take(bytes.len()) {
                let (chunk, behind) = rest.split_at(rest.len().min(*size));
                chunks.push(chunk);
                rest = behind;
            }
            prop_assert_eq!(read(fence(), chunks.into_iter().filter(|chunk| !chunk.is_empty())), Ok(true));
            prop_assert_eq!(read(fence(), [&bytes[..bytes.len() - 1]]), Ok(false));
        }
    }
}
