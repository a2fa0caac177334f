//! A FastCGI peer that says what it is told to, right or wrong. It shares no code with the product, so that a mistake there
//! is not mirrored here.

mod application;
mod call;
mod connection;
mod dial;
mod errand;
mod inbox;
mod incoming;
mod multiplexer;
mod pattern;
mod random;
mod record;
mod reply;
mod wanted;
mod web_server;

pub use application::{Application, Stage, Unanswering, garbage, old_php, polite, silent};
pub use call::Call;
pub use connection::{Connection, End};
pub use dial::dial;
pub use errand::{Abort, Done, Errand};
pub use incoming::Incoming;
pub use multiplexer::{Manner, Multiplexer, Tally, Values};
pub use pattern::Pattern;
pub use random::Random;
pub use record::{
    ABORT_REQUEST, BEGIN_REQUEST, DATA, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, PARAMS, Record, STDERR, STDIN,
    STDOUT, UNKNOWN_TYPE, abort, begin, begin_role, empty_get_values, end_request, get_values, pair, pairs, params,
    record, record_padded, stdin, stdin_end,
};
pub use reply::{Replies, Reply};
pub use web_server::{Pace, WebServer, run_alone};
