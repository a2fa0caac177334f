//! Records that are read in one piece.

use super::questions::MAX_VALUES;
use crate::wire::{END_BODY_LEN, HEADER_LEN, Header, Kind, MANAGEMENT_ID, VERSION};

/// False while `bytes` start with a record that is read in one piece (END_REQUEST, GET_VALUES_RESULT) and is not whole.
pub(super) fn whole_at_once(bytes: &[u8]) -> bool {
    // What is no record is to be seen at once.
    let header = bytes.first_chunk::<HEADER_LEN>().map(Header::decode).filter(|header| header.version == VERSION);
    let Some(header) = header else { return true };
    let wanted = match header.kind {
        Kind::EndRequest if header.content == END_BODY_LEN as u16 => END_BODY_LEN,
        Kind::GetValuesResult if header.id == MANAGEMENT_ID && header.content <= MAX_VALUES => header.content.into(),
        _ => 0,
    };
    bytes.len() >= HEADER_LEN + wanted
}
