//! The flags that stand for a whole configuration.

use clap::Args;
use fcgimux::config::{Flags, key_at};

/// Each by its name, so that a conflict with a file names the flags given and not all there are.
pub(super) const SHORT: [&str; 11] = [
    "upstream",
    "listen",
    "socket_mode",
    "socket_group",
    "per_endpoint",
    "threads",
    "admin",
    "log_level",
    "log_format",
    "access_log",
    "zone",
];

#[derive(Args, Debug)]
pub(super) struct Short {
    /// Where the application listens: HOST:PORT, IP:PORT, [IPV6]:PORT or /PATH; may be repeated or hold several with commas
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    upstream: Vec<String>,

    #[arg(long, value_name = "ADDRESS", help = help("Where to listen: /PATH or IP:PORT; may be repeated", "listeners[].socket"))]
    listen: Vec<String>,

    #[arg(long, value_name = "MODE", help = help("Permission bits of the socket, octal", "listeners[].mode"))]
    socket_mode: Option<String>,

    /// Group of the socket, by name or number
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    #[arg(long, value_name = "N", help = help("Connections to one endpoint at most", "pools.*.connections.per_endpoint"))]
    per_endpoint: Option<u32>,

    #[arg(long, value_name = "N", help = help("Threads that carry exchanges", "threads"))]
    threads: Option<u32>,

    #[arg(long, value_name = "ADDRESS", help = help("Where to serve metrics, health and state: IP:PORT or off", "admin.listen"))]
    admin: Option<String>,

    #[arg(long, value_name = "LEVEL", help = help("error, warn, info or debug", "log.level"))]
    log_level: Option<String>,

    #[arg(long, value_name = "FORMAT", help = help("json or text", "log.format"))]
    log_format: Option<String>,

    /// Log one line per exchange
    #[arg(long)]
    access_log: bool,

    /// Zone that this process runs in, whose endpoints are preferred [default: $FCGIMUX_ZONE]
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
}

/// The text of a flag with the default of the setting it stands for.
fn help(text: &str, key: &str) -> String {
    match key_at(key).and_then(|key| key.default) {
        Some(default) => format!("{text} [default: {}]", default.trim_matches('"')),
        None => text.to_owned(),
    }
}

impl From<Short> for Flags {
    fn from(short: Short) -> Self {
        Self {
            upstreams: short.upstream,
            listen: short.listen,
            socket_mode: short.socket_mode,
            socket_group: short.socket_group,
            per_endpoint: short.per_endpoint,
            threads: short.threads,
            admin: short.admin,
            log_level: short.log_level,
            log_format: short.log_format,
            access_log: short.access_log,
            zone: short.zone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_shows_the_default_of_its_setting() {
        assert_eq!(help("N", "threads"), "N [default: 1]");
        assert_eq!(help("N", "listeners[].mode"), "N [default: 0660]");
    }
}
