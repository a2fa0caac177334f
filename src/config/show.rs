//! A [`Config`] as YAML again, for `check` and for the log line at start.

use std::{fmt, time::Duration};

use super::{
    Application, Config, EndpointAddress, EndpointSource, ListenAddress, Listener, Origin, Params, Pool, ServicePort,
    node::Node,
    value::{duration_text, on_or_percent_text, percent_text, size_text},
    word::Word,
};

/// Values of `params.set` may be passwords, and both forms below end up in logs.
const HIDDEN: &str = "***";

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Secrets {
    Hidden,
    /// Only so that a test can read back all of what is written.
    #[cfg(test)]
    Shown,
}

impl Config {
    /// The effective configuration with every default filled in, as a file would hold it. Values of `params.set` are
    /// shown as `***`.
    pub fn to_yaml(&self) -> String {
        block_text(&tree(self, Secrets::Hidden))
    }
}

/// The same on one line, as JSON (which is YAML).
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_json(&tree(self, Secrets::Hidden), f)
    }
}

/// By hand, so that no value of `set` gets into a log by way of `{:?}`.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Params")
            .field("max_size", &self.max_size)
            .field("max_count", &self.max_count)
            .field("deny", &self.deny)
            .field("on_denied", &self.on_denied)
            .field("set", &set)
            .field("remove", &self.remove)
            .finish()
    }
}

fn tree(config: &Config, secrets: Secrets) -> Node {
    let pools = config.pools.iter().map(|pool| (pool.name.clone(), pool_tree(pool, secrets))).collect();
    let mut entries = vec![
        ("listeners", Node::List(config.listeners.iter().map(listener_tree).collect())),
        ("pools", Node::Map(pools)),
    ];
    entries.extend(rest(config));
    map(entries)
}

/// What stands beside listeners and pools.
pub(super) fn rest_tree(config: &Config) -> Node {
    map(rest(config))
}

fn rest(config: &Config) -> Vec<(&'static str, Node)> {
    let log = &config.log;
    let listen = or_off(config.admin.listen, Node::text);
    let mut entries = vec![
        ("admin", Node::map([("listen", listen), ("verbs", Node::text(config.admin.verbs.word()))])),
        (
            "log",
            Node::map([
                ("level", Node::text(log.level.word())),
                ("format", Node::text(log.format.word())),
                ("access", or_off(log.access, |share| Node::text(on_or_percent_text(share)))),
            ]),
        ),
    ];
    // A zone has no word for none.
    entries.extend(config.zone.as_ref().map(|zone| ("zone", Node::text(zone))));
    let servers = config.dns.servers.iter().map(Node::text).collect();
    entries.push(("dns", Node::map([("servers", Node::List(servers))])));
    entries.push(("threads", count(config.threads.get())));
    entries.push(("drain", Node::map([("deadline", duration(config.drain_deadline))])));
    entries
}

pub(super) fn listener_tree(listener: &Listener) -> Node {
    let mut entries = match &listener.address {
        ListenAddress::Tcp(address) => vec![("tcp", Node::text(address))],
        ListenAddress::Unix { path, mode, group } => {
            let mut entries = vec![("socket", Node::text(path.display())), ("mode", Node::text(format!("{mode:04o}")))];
            entries.extend(group.as_ref().map(|group| ("group", Node::text(group))));
            entries
        }
    };
    entries.push(("pool", Node::text(&listener.pool)));
    entries.push(("max_connections", count(listener.max_connections)));
    entries.push(("max_requests_in_flight", count(listener.max_requests_in_flight)));
    let timeouts = [("read", duration(listener.read_timeout)), ("write", duration(listener.write_timeout))];
    entries.push(("timeouts", Node::map(timeouts)));
    map(entries)
}

pub(super) fn pool_tree(pool: &Pool, secrets: Secrets) -> Node {
    let mut body = vec![("max_size", or_off(pool.body.max_size, size))];
    if pool.application == Application::PhpFpm {
        body.push(("memory", size(pool.body.memory)));
        body.push(("directory", Node::text(pool.body.directory.display())));
    }
    let retry = Node::map([
        ("attempts", or_off((pool.retry.attempts > 0).then_some(pool.retry.attempts), count)),
        ("budget", Node::text(percent_text(pool.retry.budget))),
    ]);
    let mut queue = vec![("depth", count(pool.queue.depth)), ("timeout", duration(pool.queue.timeout))];
    if pool.application == Application::PhpFpm {
        queue.push(("abandoned", Node::text(pool.queue.abandoned.word())));
    }
    let mut entries = vec![
        ("application", Node::text(pool.application.word())),
        ("endpoints", Node::List(pool.endpoints.iter().map(source_tree).collect())),
        ("discovery", Node::map([("refresh", duration(pool.discovery.refresh))])),
        ("slow_start", or_off(pool.slow_start, duration)),
        ("connections", connections_tree(&pool.connections, pool.application)),
        ("queue", map(queue)),
        ("timeouts", timeouts_tree(&pool.timeouts)),
        ("on_failure", Node::text(pool.on_failure.word())),
        ("params", params_tree(&pool.params, secrets)),
        ("body", map(body)),
    ];
    if pool.application == Application::PhpFpm {
        let reuse = &pool.reuse_after_body;
        let up_to = ("post_up_to", or_off(reuse.post_up_to, size));
        entries.push(("reuse_after_body", Node::map([up_to, ("multipart", Node::Bool(reuse.multipart))])));
        let (status, ping) = (&pool.status, &pool.ping);
        entries.push(("status", Node::map([("port", or_off(status.port, count)), ("path", Node::text(&status.path))])));
        let path = or_off(ping.path.as_ref(), Node::text);
        entries.push(("ping", Node::map([("path", path), ("interval", duration(ping.interval))])));
    }
    entries.push(("retry", retry));
    map(entries)
}

fn map(entries: Vec<(&str, Node)>) -> Node {
    Node::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
}

/// Also what a flag that names an upstream becomes.
pub(super) fn origin_tree(origin: &Origin) -> Vec<(&'static str, Node)> {
    match origin {
        Origin::Address(EndpointAddress::Unix(path)) => vec![("socket", Node::text(path.display()))],
        Origin::Address(EndpointAddress::Tcp(address)) => vec![("address", Node::text(address))],
        Origin::Dns { name, port } => vec![("dns", Node::text(format!("{name}:{port}")))],
        Origin::Srv { name } => vec![("srv", Node::text(name))],
        Origin::File(path) => vec![("file", Node::text(path.display()))],
        Origin::Service { namespace, name, port } => {
            let name = namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
            let mut entries = vec![("service", Node::text(name))];
            entries.extend(port.as_ref().map(|port| match port {
                ServicePort::Name(name) => ("port", Node::text(name)),
                ServicePort::Number(number) => ("port", count(*number)),
            }));
            entries
        }
    }
}

fn source_tree(source: &EndpointSource) -> Node {
    let mut entries = origin_tree(&source.origin);
    entries.push(("weight", count(source.weight)));
    entries.extend(source.zone.as_ref().map(|zone| ("zone", Node::text(zone))));
    map(entries)
}

fn connections_tree(connections: &super::Connections, application: Application) -> Node {
    let mut entries = vec![
        ("per_endpoint", count(connections.per_endpoint)),
        ("idle_timeout", duration(connections.idle_timeout)),
        ("surplus_idle", duration(connections.surplus_idle)),
        ("max_age", or_off(connections.max_age, duration)),
        ("max_requests", or_off(connections.max_requests, count)),
    ];
    // Those of another dialect would not be read back.
    entries.extend(match application {
        Application::PhpFpm => vec![
            ("yield_after", or_off(connections.yield_after, duration)),
            ("fence", Node::text(connections.fence.word())),
            ("reprove_after", duration(connections.reprove_after)),
            ("heartbeat", or_off(connections.heartbeat, duration)),
        ],
        Application::Generic => vec![
            ("multiplex", Node::text(connections.multiplex.word())),
            ("max_requests_in_flight", count(connections.max_requests_in_flight)),
            ("buffer", size(connections.buffer)),
            ("stall_timeout", duration(connections.stall_timeout)),
        ],
    });
    map(entries)
}

fn timeouts_tree(timeouts: &super::Timeouts) -> Node {
    Node::map([
        ("connect", duration(timeouts.connect)),
        ("prove", duration(timeouts.prove)),
        ("first_byte", or_off(timeouts.first_byte, duration)),
        ("between_bytes", or_off(timeouts.between_bytes, duration)),
        ("exchange", or_off(timeouts.exchange, duration)),
    ])
}

fn params_tree(params: &Params, secrets: Secrets) -> Node {
    let shown = |value: &str| Node::text(if secrets == Secrets::Hidden { HIDDEN } else { value });
    let names = |names: &[String]| Node::List(names.iter().map(Node::text).collect());
    Node::map([
        ("max_size", size(params.max_size)),
        ("max_count", count(params.max_count)),
        ("deny", names(&params.deny)),
        ("on_denied", Node::text(params.on_denied.word())),
        ("set", Node::Map(params.set.iter().map(|(name, value)| (name.clone(), shown(value))).collect())),
        ("remove", names(&params.remove)),
    ])
}

fn or_off<T>(value: Option<T>, show: impl Fn(T) -> Node) -> Node {
    value.map_or_else(|| Node::text("off"), show)
}

fn duration(value: Duration) -> Node {
    Node::text(duration_text(value))
}

fn size(value: u64) -> Node {
    Node::text(size_text(value))
}

fn count(value: impl Into<i128>) -> Node {
    Node::Integer(value.into())
}

/// What holds no list or mapping inside another stands on one line, the rest is indented.
fn block_text(node: &Node) -> String {
    let mut text = String::new();
    write_block(node, 0, &mut text);
    text
}

fn write_block(node: &Node, indent: usize, text: &mut String) {
    match node {
        Node::Map(entries) => {
            for (key, value) in entries {
                text.push_str(&format!("{:indent$}{}:", "", scalar(key)));
                if is_flat(value) {
                    text.push_str(&format!(" {}\n", flow_text(value)));
                } else {
                    text.push('\n');
                    write_block(value, indent + 2, text);
                }
            }
        }
        Node::List(items) => {
            for item in items {
                let begin = text.len();
                if is_flat(item) {
                    text.push_str(&format!("{:indent$}- {}\n", "", flow_text(item)));
                } else {
                    write_block(item, indent + 2, text);
                    // The dash goes into the indent of the item's first line.
                    text.replace_range(begin + indent..begin + indent + 1, "-");
                }
            }
        }
        scalar => text.push_str(&format!("{:indent$}{}\n", "", flow_text(scalar))),
    }
}

fn is_flat(node: &Node) -> bool {
    let is_scalar = |node: &Node| match node {
        Node::List(items) => items.is_empty(),
        Node::Map(entries) => entries.is_empty(),
        _ => true,
    };
    match node {
        Node::List(items) => items.iter().all(is_scalar),
        Node::Map(entries) => entries.iter().all(|(_, value)| is_scalar(value)),
        _ => true,
    }
}

fn flow_text(node: &Node) -> String {
    match node {
        Node::List(items) => format!("[{}]", items.iter().map(flow_text).collect::<Vec<_>>().join(", ")),
        Node::Map(entries) => {
            let entry = |(key, value): &(String, Node)| format!("{}: {}", scalar(key), flow_text(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Node::Text(text) => scalar(text),
        // Numbers and booleans; a configuration holds nothing else.
        other => other.to_string(),
    }
}

/// Plain where no reader of YAML, old or new, could take the text for anything but text (or `off`).
fn scalar(text: &str) -> String {
    const UNITS: &[&str] = &["ms", "s", "m", "h", "d", "B", "KiB", "MiB", "GiB", "%"];
    const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "y", "n"];
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let plain = begins && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./%-".contains(&byte));
    let behind_digits = text.trim_start_matches(|first: char| first.is_ascii_digit() || first == '.');
    let like_a_number = behind_digits.len() < text.len() && !UNITS.contains(&behind_digits);
    let like_a_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain && !like_a_number && !like_a_word { text.to_owned() } else { json_text(text) }
}

fn write_json(node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match node {
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                f.write_str(if index == 0 { "[" } else { "," })?;
                write_json(item, f)?;
            }
            f.write_str(if items.is_empty() { "[]" } else { "]" })
        }
        Node::Map(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                write!(f, "{}{}:", if index == 0 { "{" } else { "," }, json_text(key))?;
                write_json(value, f)?;
            }
            f.write_str(if entries.is_empty() { "{}" } else { "}" })
        }
        Node::Text(text) => f.write_str(&json_text(text)),
        other => write!(f, "{other}"),
    }
}

/// Escaped so that JSON and YAML agree: beyond ASCII only what both take as it is (above the first plane, where the two
/// write escapes differently).
fn json_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' | '\u{10000}'.. => quoted.push(character),
            _ => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = r##"
listeners:
  - {socket: /run/a.sock, mode: "0600", group: "33", pool: php, max_connections: 7, max_requests_in_flight: 9,
     timeouts: {read: 1s, write: 1500ms}}
  - {tcp: "[::1]:9001", pool: "8-2"}
pools:
  php:
    endpoints: [{dns: "php:9000"}, {address: "[::1]:9000", weight: 2, zone: "007"}, {address: "10.0.0.7:9000"},
      {socket: /run/php.sock}, {srv: _fastcgi._tcp.php.shop.}, {service: shop/php, port: fastcgi},
      {service: "8", port: 9000}, {service: php}, {file: /etc/end points.yaml}]
    discovery: {refresh: 1m}
    slow_start: off
    status: {port: 9001, path: /s}
    ping: {path: /ping, interval: 1s}
    connections: {heartbeat: off, yield_after: off, max_age: off, max_requests: 500, fence: always, reprove_after: 0s, surplus_idle: 0s}
    queue: {abandoned: run}
    timeouts: {first_byte: off, between_bytes: off, exchange: 90m}
    params:
      deny: []
      on_denied: strip
      set: {A: "off", B: "0x1B", C: "pass \"word\" \\ \n\t\u00e4\U0001F600\x7f", D: "", E: "~", "0xB": "1e3", F: "- x: #"}
      remove: ["null", HTTP_PROXY]
    body: {max_size: 2MiB, directory: "/var/my tmp"}
    reuse_after_body: {post_up_to: off, multipart: true}
    retry: {attempts: off, budget: 12.5%}
  8-2:
    application: generic
    endpoints: [{dns: "other:9000"}]
    slow_start: 1s
    connections: {multiplex: never, max_requests_in_flight: 7, buffer: 16KiB, stall_timeout: 500ms}
admin: {listen: off, verbs: on}
zone: eu-1a
dns: {servers: [10.96.0.10, "[::1]:5353"]}
log: {level: debug, format: text, access: 12.5%}
threads: 4
drain: {deadline: 0s}
"##;

    fn from(text: &str) -> Config {
        Config::from_yaml(text).unwrap_or_else(|violations| panic!("{violations}\n{text}"))
    }

    struct Json<'a>(&'a Node);

    impl fmt::Display for Json<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_json(self.0, f)
        }
    }

    #[test]
    fn a_configuration_is_read_back_from_both_forms() {
        for text in [EVERYTHING, "pools: {php: {endpoints: [{dns: \"php:9000\"}]}}"] {
            let config = from(text);
            let tree = tree(&config, Secrets::Shown);
            assert_eq!(from(&block_text(&tree)), config);
            assert_eq!(from(&Json(&tree).to_string()), config);
        }
    }

    #[test]
    fn values_of_set_are_never_shown() {
        let config = from(EVERYTHING);
        for shown in [config.to_string(), config.to_yaml(), format!("{config:?}"), format!("{config:#?}")] {
            assert!(!shown.contains("pass") && !shown.contains("1e3"), "{shown}");
        }
        let hidden = from(&config.to_yaml());
        assert!(hidden.pools[0].params.set.iter().all(|(_, value)| value == HIDDEN));
        assert_eq!(from(&config.to_string()), hidden);
    }

    #[test]
    fn the_log_form_is_one_line() {
        assert_eq!(from(EVERYTHING).to_string().lines().count(), 1);
    }

    #[test]
    fn small_sections_stand_on_one_line() {
        let yaml = from(EVERYTHING).to_yaml();
        assert!(yaml.starts_with("listeners:\n  - socket: /run/a.sock\n    mode: \"0600\"\n"), "{yaml}");
        assert!(yaml.contains("\n    queue: {depth: 1024, timeout: 10s, abandoned: run}\n"), "{yaml}");
        assert!(yaml.contains("\nadmin: {listen: off, verbs: \"on\"}\n"), "{yaml}");
    }

    #[test]
    fn text_that_looks_like_something_else_is_quoted() {
        for text in
            ["0660", "1e3", "0x1B", "true", "No", "null", "~", "", "-", "a: b", "1.5", ".inf", "5", "1_000", "a #b"]
        {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in ["off", "5s", "256KiB", "12.5%", "/tmp", "www-data", "HTTP_PROXY"] {
            assert_eq!(scalar(text), text);
        }
    }
}
