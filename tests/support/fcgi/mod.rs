//! A FastCGI peer that says what it is told to, right or wrong. It shares no code with the product, so that a mistake there
//! is not mirrored here.

mod application;
mod call;
mod connection;
mod incoming;
mod record;
mod reply;

pub use application::{Application, Stage, Unanswering, garbage, old_php, polite, silent};
pub use call::Call;
pub use connection::{Connection, End};
pub use incoming::Incoming;
pub use record::{
    ABORT_REQUEST, BEGIN_REQUEST, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, PARAMS, Record, STDERR, STDIN, STDOUT,
    UNKNOWN_TYPE, abort, begin, begin_role, empty_get_values, end_request, get_values, pair, pairs, params, record,
    record_padded, stdin, stdin_end,
};
pub use reply::Reply;
