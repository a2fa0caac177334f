//! Every key that a file may hold, with its default and one line on what it is for.
//!
//! The one table: the readers take their defaults and the known keys from here, flags go through the same readers, and
//! the documentation is held to it.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `pools.*.queue.depth`: `*` is a name the operator chooses, `[]` an item of a list.
    pub path: &'static str,
    /// As one would write it in a file; `None`: must be given, or depends on something (then `doc` says on what).
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

const fn key(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { path, default: Some(default), doc }
}

const fn key_without_default(path: &'static str, doc: &'static str) -> Key {
    Key { path, default: None, doc }
}

/// In the order in which a file is best written.
pub const KEYS: &[Key] = &[
    key("listeners[].socket", "/run/fcgimux.sock", "path of the Unix socket that web servers connect to"),
    key_without_default("listeners[].tcp", "IP address and port to listen on, instead of a Unix socket"),
    key("listeners[].mode", "\"0660\"", "permission bits of the socket, octal, in quotes"),
    key_without_default("listeners[].group", "group of the socket, by name or number; without it that of the process"),
    key_without_default("listeners[].pool", "name of the pool that serves it; may be left out when there is one pool"),
    key("listeners[].max_connections", "10000", "above so many connections at once a web server is answered 503"),
    key("listeners[].max_requests_in_flight", "128", "above so many at once on one connection a request is refused"),
    key("listeners[].timeouts.read", "60s", "a web server that owes bytes of a request for so long is hung up on"),
    key("listeners[].timeouts.write", "60s", "a web server that takes no byte of a response for so long is hung up on"),
    key("pools.*.application", "php-fpm", "the kind of application: php-fpm, or generic for any other"),
    key_without_default("pools.*.endpoints[].dns", "name and port; every address of the name is an endpoint"),
    key_without_default("pools.*.endpoints[].srv", "name whose SRV records lead to endpoints"),
    key_without_default("pools.*.endpoints[].service", "Service of Kubernetes, as namespace/name or name"),
    key_without_default(
        "pools.*.endpoints[].port",
        "port of that Service, by name or number; may be left out where it has one port",
    ),
    key_without_default("pools.*.endpoints[].address", "IP address and port of an endpoint"),
    key_without_default("pools.*.endpoints[].socket", "path of an endpoint's Unix socket"),
    key_without_default("pools.*.endpoints[].file", "path of a file that lists endpoints, and is watched"),
    key("pools.*.endpoints[].weight", "1", "share of the load that each endpoint found gets, against others; 1 to 100"),
    key_without_default(
        "pools.*.endpoints[].zone",
        "zone of each endpoint found; without it what the source says, or none",
    ),
    key("pools.*.discovery.refresh", "5s", "a DNS name is asked again after its TTL, and after this at the latest"),
    key("pools.*.slow_start", "10s", "an endpoint that comes later gets its share over this time; or off"),
    key(
        "pools.*.status.port",
        "off",
        "port of pm.status_listen on each endpoint's host, to read how busy it is; or off; php-fpm only",
    ),
    key("pools.*.status.path", "/status", "pm.status_path; php-fpm only"),
    key("pools.*.ping.path", "off", "ping.path, to check each endpoint by it; or off; php-fpm only"),
    key("pools.*.ping.interval", "5s", "it is asked this often, on a connection of its own; php-fpm only"),
    key("pools.*.connections.per_endpoint", "8", "connections to one endpoint at most, in any state"),
    key("pools.*.connections.idle_timeout", "30s", "one idle connection per endpoint may stay for so long"),
    key("pools.*.connections.surplus_idle", "1s", "idle connections beyond that one go after so long"),
    key(
        "pools.*.connections.yield_after",
        "1s",
        "an endpoint with several of our connections gets a worker back this often; or off",
    ),
    key(
        "pools.*.connections.fence",
        "adaptive",
        "whether a used connection proves its worker free always before, or under load with, the next request",
    ),
    key(
        "pools.*.connections.reprove_after",
        "100ms",
        "a connection idle for longer proves itself before the next request",
    ),
    key(
        "pools.*.connections.heartbeat",
        "250ms",
        "an idle connection is asked this often whether its worker is still there; or off; php-fpm only",
    ),
    key("pools.*.connections.max_age", "1h", "an older connection ends with its exchange; or off"),
    key("pools.*.connections.max_requests", "off", "a connection ends after so many exchanges; or off"),
    key(
        "pools.*.connections.multiplex",
        "auto",
        "whether a connection carries many exchanges at once: auto asks the application; generic only",
    ),
    key(
        "pools.*.connections.max_requests_in_flight",
        "32",
        "exchanges at once on a connection that carries many; generic only",
    ),
    key(
        "pools.*.connections.buffer",
        "64KiB",
        "bytes kept of one exchange in each direction where a connection is shared; generic only",
    ),
    key(
        "pools.*.connections.stall_timeout",
        "5s",
        "an exchange whose full buffer holds up others for so long is aborted; generic only",
    ),
    key("pools.*.queue.depth", "1024", "exchanges that may wait; one more is answered 503"),
    key("pools.*.queue.timeout", "10s", "an exchange that waits for longer is answered 503"),
    key(
        "pools.*.queue.abandoned",
        "drop",
        "whether a request whose client leaves while it waits is run all the same, or dropped; php-fpm only",
    ),
    key("pools.*.timeouts.connect", "1s", "a connection must be open after so long"),
    key("pools.*.timeouts.prove", "5s", "an application must answer the handshake within so long"),
    key(
        "pools.*.timeouts.first_byte",
        "off",
        "the first byte of a response must come within so long; or off: the web server's own timeout decides",
    ),
    key(
        "pools.*.timeouts.between_bytes",
        "off",
        "so long may pass between two bytes of a response; or off: the web server's own timeout decides",
    ),
    key("pools.*.timeouts.exchange", "off", "an exchange must end within so long; or off"),
    key(
        "pools.*.on_failure",
        "hang_up",
        "what a web server gets where the application cannot be reached or breaks off: hang_up as from the application \
         itself, or respond with a 502",
    ),
    key("pools.*.params.max_size", "256KiB", "size of all params of a request together"),
    key("pools.*.params.max_count", "10000", "number of params of a request"),
    key("pools.*.params.deny", "[]", "params that a request may not carry"),
    key("pools.*.params.on_denied", "refuse", "what becomes of a request that does: refuse it, or strip the param"),
    key("pools.*.params.set", "{}", "params that are added to every request, or replace those of the web server"),
    key("pools.*.params.remove", "[HTTP_PROXY]", "params that are taken out of every request"),
    key("pools.*.body.max_size", "off", "a larger request body is answered 413; or off"),
    key(
        "pools.*.body.memory",
        "256KiB",
        "bytes of one request body kept in memory, the rest goes to a file; php-fpm only",
    ),
    key_without_default("pools.*.body.directory", "where that file is made; without it $TMPDIR, or /tmp"),
    key(
        "pools.*.reuse_after_body.post_up_to",
        "16KiB",
        "after a POST body up to this a connection is used again; or off",
    ),
    key("pools.*.reuse_after_body.multipart", "false", "whether that holds for multipart/form-data as well"),
    key(
        "pools.*.retry.attempts",
        "1",
        "how often a request that may have been executed is sent again where its method allows it; or off",
    ),
    key("pools.*.retry.budget", "20%", "retries at most as a share of requests"),
    key("admin.listen", "127.0.0.1:9253", "address of metrics, health and state; or off"),
    key("admin.verbs", "loopback", "who may use the verbs: only clients on loopback, on for everyone, or off"),
    key("log.level", "info", "error, warn, info or debug"),
    key("log.format", "json", "json or text"),
    key(
        "log.access",
        "off",
        "a line for each exchange: on, off, or a share of those that went well, such as 1%; all others have one then",
    ),
    key_without_default(
        "zone",
        "the zone this process runs in, whose endpoints are preferred; without it $FCGIMUX_ZONE, or none",
    ),
    key(
        "dns.servers",
        "[]",
        "IP addresses of DNS servers, with or without a port; without any those of /etc/resolv.conf",
    ),
    key("threads", "1", "threads that carry exchanges"),
    key("drain.deadline", "25s", "running exchanges may go on for so long after SIGTERM"),
];

/// The key of that path, if it is one.
pub fn key_at(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_once_and_says_what_it_is_for() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!key.doc.is_empty() && !key.doc.ends_with('.'), "{}", key.path);
            assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{}", key.path);
            assert_eq!(key_at(key.path), Some(key));
        }
    }
}
