//! A FastCGI client for the subcommands that speak to an application themselves: one connection, one request at a time.
//!
//! [`Target`] says where; [`Connection`] opens, asks and carries; [`Request`] is what is sent, [`Head`] what an answer
//! begins with; a [`Failure`] says what went wrong, what to do about it, and how the process ends.

mod connection;
mod failure;
mod head;
mod request;
mod stream;
mod target;

pub(super) use connection::{Answer, Connection, Output, Times};
pub(super) use failure::{Failure, Kind, NO_RUNTIME};
pub(super) use head::Head;
pub(super) use request::{Request, RequestError, RequestFlags};
pub(super) use target::Target;
