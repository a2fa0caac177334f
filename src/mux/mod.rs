//! Every decision of the data plane, without I/O: bytes, events and the time go in, directives come out.
//!
//! * [`intake`]: what a web server sends, up to a whole [`Request`].
//! * [`reply`] and [`proof`]: what an application sends during an exchange and around it.
//! * [`channel`]: a connection to an application that many exchanges share.
//! * [`pool`]: who gets which connection; when to connect, reap, yield, refuse.
//! * [`failure`] and [`refuse`]: what becomes of an exchange that breaks, and what the web server is told.

mod about;
pub mod budget;
pub mod channel;
pub mod command;
pub mod failure;
pub mod head;
pub mod inquiry;
pub mod intake;
pub mod label;
pub mod policy;
pub mod pool;
pub mod proof;
pub mod refuse;
pub mod reply;
pub mod request;
pub mod scoreboard;
pub mod snapshot;
pub mod trace;

pub use request::Request;
