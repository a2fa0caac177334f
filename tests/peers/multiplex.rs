//! Many exchanges on one connection, on either side, as capabilities and configuration allow.
#![allow(clippy::disallowed_methods, reason = "real peers need the real clock")]

mod capabilities;
mod peers;
mod php_fpm;
mod roles;
mod streams;

use std::time::Duration;

use crate::support::{Fcgimux, fcgi::Multiplexer};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Before an application of the generic dialect: keys of the pool's connections, and a line of the pool.
#[track_caller]
fn generic(application: &Multiplexer, connections: &str, line: &str) -> Fcgimux {
    Fcgimux::to(application.address())
        .pool("application: generic")
        .pool(&format!("connections: {{{connections}}}"))
        .pool(line)
        .start()
}
