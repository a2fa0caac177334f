//! Bytes <-> FastCGI records, after the FastCGI 1.0 specification (Open Market, 1996).
//!
//! Knows no sockets, clocks or payloads: a [`Scanner`] is shown a slice and says what stands at its start. Nothing here
//! allocates while decoding; encoding appends to a buffer of the caller's.

mod body;
mod header;
mod pairs;
mod scanner;

pub use body::{BEGIN_BODY_LEN, BeginRequest, END_BODY_LEN, EndRequest, ProtocolStatus, Role, UnknownType};
pub use header::{HEADER_LEN, Header, Kind, MANAGEMENT_ID, MAX_CONTENT, VERSION, put_record, put_stderr, set_id};
pub use pairs::{PairError, Pairs, pair_len, put_pair};
pub use scanner::{END_OF_LINES, Piece, ScanError, Scanner};

/// Variables that GET_VALUES may ask for (section 4.1).
pub mod variable {
    pub const MAX_CONNS: &[u8] = b"FCGI_MAX_CONNS";
    pub const MAX_REQS: &[u8] = b"FCGI_MAX_REQS";
    pub const MPXS_CONNS: &[u8] = b"FCGI_MPXS_CONNS";
}
