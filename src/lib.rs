//! fcgimux: takes FastCGI requests from an unmodified web server, one short connection each, and carries them over a
//! few long-lived connections to php-fpm.
//!
//! Layers, from the top; imports only go down: `admin`, `net`, `metrics`, `mux`, then `config` and `wire`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod log;
pub mod metrics;
pub mod mux;
pub mod net;
mod reload;
mod run;
pub mod wire;

pub use reload::ConfigFile;
pub use run::{RunError, run, run_until};
