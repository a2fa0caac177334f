//! The command line's short form of a configuration. Flags become the same nodes that a file becomes, so that defaults,
//! limits and messages are the same; only the place of a fault is the name of a flag.

use super::{
    Config, Origin, Violations, address, build,
    node::{Node, Path},
    section::Report,
    show,
};

/// The name of the one pool.
const POOL: &str = "default";

/// What may be said without a file. Text is as the operator wrote it; what is missing has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `host:port`, `ip:port`, `[v6]:port`, `unix:/path` or `/path`; at least one.
    pub upstreams: Vec<String>,
    /// `/path`, `unix:/path` or `ip:port`.
    pub listen: Vec<String>,
    pub socket_mode: Option<String>,
    pub socket_group: Option<String>,
    pub per_endpoint: Option<u32>,
    pub threads: Option<u32>,
    /// `ip:port` or `off`.
    pub admin: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub access_log: bool,
    pub zone: Option<String>,
}

impl Config {
    /// One pool of the name `default`, in front of these upstreams. Errors: every violation, with the flag's name as its
    /// path.
    pub fn for_upstreams(flags: &Flags) -> Result<Self, Violations> {
        let report = Report::default();
        let root = tree(flags, &report);
        // With an upstream that could not be read, the pool would be reported as wrong once more.
        let config = report.is_sound(&Path::default()).then(|| build::config(&root, &report)).flatten();
        let mut violations = report.into_violations(|_| None);
        for violation in &mut violations {
            violation.path = flag_of(&violation.path).to_owned();
        }
        match config {
            Some(config) if violations.is_empty() => Ok(config),
            _ => Err(Violations::new(violations)),
        }
    }
}

fn tree(flags: &Flags, report: &Report) -> Node {
    let mut root = vec![
        ("listeners", listeners(flags, report)),
        ("pools", Node::map([(POOL, pool(flags, report))])),
        ("log", log(flags)),
    ];
    root.extend(flags.admin.as_ref().map(|listen| ("admin", Node::map([("listen", Node::text(listen))]))));
    root.extend(flags.zone.as_ref().map(|zone| ("zone", Node::text(zone))));
    root.extend(flags.threads.map(|threads| ("threads", Node::Integer(threads.into()))));
    map(root)
}

fn listeners(flags: &Flags, report: &Report) -> Node {
    let socket = |path: Option<&str>| {
        let mut entries: Vec<(&str, Node)> = path.map(|path| ("socket", Node::text(path))).into_iter().collect();
        entries.extend(flags.socket_mode.as_ref().map(|mode| ("mode", Node::text(mode))));
        entries.extend(flags.socket_group.as_ref().map(|group| ("group", Node::text(group))));
        map(entries)
    };
    if flags.listen.is_empty() {
        return Node::List(vec![socket(None)]);
    }
    let is_socket = |text: &String| address::unix_path(text).is_some();
    if !flags.listen.iter().any(is_socket) {
        for (given, flag) in
            [(flags.socket_mode.is_some(), "--socket-mode"), (flags.socket_group.is_some(), "--socket-group")]
        {
            if given {
                report.add(Path::default().key(flag), "only for a socket, and --listen names none");
            }
        }
    }
    let listener = |text: &String| match address::unix_path(text) {
        Some(path) => socket(Some(path)),
        None => Node::map([("tcp", Node::text(text))]),
    };
    Node::List(flags.listen.iter().map(listener).collect())
}

fn pool(flags: &Flags, report: &Report) -> Node {
    let path = Path::default().key("--upstream");
    if flags.upstreams.is_empty() {
        report.add(path.clone(), "missing; say where the application listens, such as --upstream php:9000");
    }
    let mut endpoints = Vec::with_capacity(flags.upstreams.len());
    for text in &flags.upstreams {
        match text.parse::<Origin>() {
            Ok(origin) => endpoints.push(map(show::origin_tree(&origin))),
            Err(message) => report.add(path.clone(), message),
        }
    }
    let mut pool = vec![("endpoints", Node::List(endpoints))];
    let per_endpoint = flags.per_endpoint.map(|number| Node::map([("per_endpoint", Node::Integer(number.into()))]));
    pool.extend(per_endpoint.map(|connections| ("connections", connections)));
    map(pool)
}

fn log(flags: &Flags) -> Node {
    let mut log = Vec::new();
    log.extend(flags.log_level.as_ref().map(|level| ("level", Node::text(level))));
    log.extend(flags.log_format.as_ref().map(|format| ("format", Node::text(format))));
    log.extend(flags.access_log.then_some(("access", Node::text("on"))));
    map(log)
}

fn map(entries: Vec<(&str, Node)>) -> Node {
    Node::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
}

/// The flag that put a value at this place of the tree.
fn flag_of(path: &str) -> &str {
    const FLAGS: &[(&str, &str)] = &[
        ("pools.default.endpoints", "--upstream"),
        ("pools.default.connections.per_endpoint", "--per-endpoint"),
        ("admin.listen", "--admin"),
        ("log.level", "--log-level"),
        ("log.format", "--log-format"),
        ("threads", "--threads"),
        ("zone", "--zone"),
    ];
    if path.starts_with("listeners") {
        return match path.rsplit('.').next() {
            Some("mode") => "--socket-mode",
            Some("group") => "--socket-group",
            _ => "--listen",
        };
    }
    FLAGS.iter().find(|(place, _)| path.starts_with(place)).map_or(path, |(_, flag)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddress;

    fn upstreams(upstreams: &[&str]) -> Flags {
        Flags { upstreams: upstreams.iter().map(|text| (*text).to_owned()).collect(), ..Flags::default() }
    }

    #[test]
    fn one_upstream_is_a_whole_configuration() {
        let config = Config::for_upstreams(&upstreams(&["php:9000"])).unwrap();
        let file = "pools:\n  default:\n    endpoints:\n      - dns: php:9000\n";
        assert_eq!(config, Config::from_yaml(file).unwrap());
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let flags = Flags {
            listen: vec!["/run/a.sock".into(), "unix:/run/b.sock".into(), "127.0.0.1:9001".into()],
            socket_mode: Some("0600".into()),
            socket_group: Some("www-data".into()),
            per_endpoint: Some(3),
            threads: Some(2),
            admin: Some("off".into()),
            log_level: Some("debug".into()),
            log_format: Some("text".into()),
            access_log: true,
            zone: Some("eu-1a".into()),
            ..upstreams(&["php:9000", "10.0.0.7:9000", "[::1]:9000", "unix:/run/php.sock"])
        };
        let config = Config::for_upstreams(&flags).unwrap();
        assert_eq!(config.pools[0].endpoints.len(), 4);
        assert_eq!((config.pools[0].connections.per_endpoint, config.threads.get()), (3, 2));
        let socket = ListenAddress::Unix { path: "/run/b.sock".into(), mode: 0o600, group: Some("www-data".into()) };
        assert_eq!(config.listeners[1].address, socket);
        assert_eq!(config.listeners[2].address.to_string(), "127.0.0.1:9001");
        assert_eq!(config.admin.listen, None);
        assert_eq!((config.log.level.as_str(), config.log.access), ("debug", Some(1.0)));
        assert_eq!(config.zone.as_deref(), Some("eu-1a"));
    }

    #[test]
    fn a_violation_names_its_flag() {
        let good = || upstreams(&["a:1"]);
        for (flags, begin) in [
            (upstreams(&[]), "--upstream: missing"),
            (upstreams(&["php"]), "--upstream: `php` has no port"),
            (upstreams(&["a:1", "a:1"]), "--upstream: dns a:1 stands here a second time"),
            (Flags { zone: Some("a b".into()), ..good() }, "--zone: `a b` is not a zone"),
            (Flags { listen: vec!["9000".into()], ..good() }, "--listen: `9000` is not an IP address"),
            (Flags { socket_mode: Some("x".into()), ..good() }, "--socket-mode: `x` is not a file mode"),
            (Flags { per_endpoint: Some(0), ..good() }, "--per-endpoint: 0 is out of range"),
            (Flags { threads: Some(65), ..good() }, "--threads: 65 is out of range"),
            (Flags { admin: Some("on".into()), ..good() }, "--admin: `on` is not an IP address"),
            (Flags { log_level: Some("x".into()), ..good() }, "--log-level: `x` is not one of"),
        ] {
            let shown = Config::for_upstreams(&flags).unwrap_err().to_string();
            assert!(shown.starts_with(begin) && !shown.contains('\n'), "{shown}");
        }
        let tcp = Flags { listen: vec!["127.0.0.1:9001".into()], socket_mode: Some("0600".into()), ..good() };
        let shown = Config::for_upstreams(&tcp).unwrap_err().to_string();
        assert_eq!(shown, "--socket-mode: only for a socket, and --listen names none");
    }
}
