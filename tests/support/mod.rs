//! Real peers for tests: php-fpm, nginx and fcgimux itself as processes, a load that notices a mixed-up response, and a
//! FastCGI peer that can be told to misbehave.
//!
//! Everything listens on loopback or on a Unix socket in a folder of its own, waits for a condition instead of sleeping,
//! and is gone when the test is, also when it panics. Start processes from the test's own thread (or one that lives as
//! long as they shall): they are ended with the thread that started them.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its own part of the support")]
#![allow(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod aftermath;
mod apache;
pub mod apps;
mod attempts;
mod bounded;
mod caddy;
mod dnsmasq;
pub mod fcgi;
mod fcgimux;
mod folder;
mod haproxy;
mod http;
pub mod kubernetes;
mod level;
mod lighttpd;
mod load;
pub mod mariadb;
mod measures;
mod network;
mod nginx;
mod php_fpm;
mod php_program;
pub mod planted;
mod pod;
mod port;
pub mod proc;
mod process;
mod router;
pub mod sockets;
mod transfer;

pub use aftermath::{Before, warnings};
pub use apache::Apache;
pub use attempts::in_three_attempts;
pub use bounded::{bounded, eventually, wait_until};
pub use caddy::Caddy;
pub use dnsmasq::Dnsmasq;
pub use fcgimux::{Fcgimux, Setup};
pub use folder::Folder;
pub use haproxy::Haproxy;
pub use http::{Answer, HttpError, ask, get};
pub use level::Level;
pub use lighttpd::Lighttpd;
pub use load::{Failure, Load, Report, Request, Running};
pub use mariadb::Mariadb;
pub use measures::Measures;
pub use network::in_own_network;
pub use nginx::{Nginx, Site};
pub use php_fpm::{PhpFpm, Pool};
pub use php_program::{PhpProgram, Unread};
pub use pod::{Journal, Pod, Pods, Run, since_epoch};
pub use port::Port;
pub use process::{Exit, Process};
pub use router::{Host, Lost, Router};
pub use transfer::{Sum, download, sum_of_big, upload};
