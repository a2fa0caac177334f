//! Many exchanges on one connection, on either side, as capabilities and configuration allow.
#![allow(clippy::disallowed_methods, reason = "real peers need the real clock")]

#[path = "multiplex/peers.rs"]
mod peers;
mod support;

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
