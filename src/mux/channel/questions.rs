//! What the application has been asked on a connection, and what it has answered.

use super::Values;
use crate::wire::Header;

/// A GET_VALUES_RESULT longer than this says nothing that is known.
pub(super) const MAX_VALUES: u16 = 1024;

/// GET_VALUES and their answers, which come in order.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Handed over so far.
    asked: u64,
    /// Never more than were asked: Go's net/http/fcgi sends an empty answer behind the first.
    answered: u64,
    /// The first answer.
    values: Option<Values>,
}

impl Questions {
    /// A GET_VALUES is handed over. Returns its number.
    pub(super) fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// A GET_VALUES_RESULT has come, of which `behind` holds the content if it is not too long. Returns false for one
    /// that means nothing.
    pub(super) fn handle_answer(&mut self, header: Header, behind: &[u8]) -> bool {
        let asked = self.answered < self.asked;
        self.answered += u64::from(asked);
        if self.values.is_none() && asked && header.content <= MAX_VALUES {
            self.values = Some(Values::decode(&behind[..header.content.into()]));
        }
        self.values.is_some()
    }

    pub(super) fn is_answered(&self, question: u64) -> bool {
        question <= self.answered
    }

    /// What the application has said of itself, if it has.
    pub(super) fn values(&self) -> Option<Values> {
        self.values
    }
}
