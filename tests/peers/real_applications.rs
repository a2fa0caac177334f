//! Real applications from Debian's packages: what they do before fcgimux is what they do before php-fpm alone. Two installations
//! of each, every step in both: all answers are compared, and so is what php-fpm executed.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

mod browser;
mod form;
mod markup;
mod mediawiki;
mod normal;
mod pair;
mod picture;
mod stage;
mod wordpress;

use std::time::Duration;

/// For one application: its installation, its steps, and what it does behind its answers.
const LIMIT: Duration = Duration::from_secs(170);
