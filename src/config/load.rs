//! A file to a [`Config`], or to everything that is wrong with it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

use super::{
    Config, ConfigError, Violation, Violations, build,
    file::{self, FILE_AT_MOST},
    node::Node,
    section::Report,
};

impl Config {
    /// Reads YAML text. Errors: every violation, in the order of the text.
    pub fn from_yaml(text: &str) -> Result<Self, Violations> {
        build(text, build::config)
    }

    /// Reads a file. Errors: the file cannot be read, or every violation in it with the file's name.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let content = read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self::from_content(&content, path)?)
    }

    /// Makes a configuration of what [`read`] has read from the file. Errors: every violation in it with the file's name.
    pub fn from_content(content: &[u8], path: &Path) -> Result<Self, Violations> {
        text(content).and_then(Self::from_yaml).map_err(|violations| violations.in_file(path.display()))
    }
}

/// The text of a file.
pub(super) fn text(content: &[u8]) -> Result<&str, Violations> {
    std::str::from_utf8(content).map_err(|error| Violations::new(vec![not_text(&content[..error.valid_up_to()])]))
}

/// Makes something of YAML text by a builder that reports what is wrong.
pub(super) fn build<T>(text: &str, builder: impl FnOnce(&Node, &Report) -> Option<T>) -> Result<T, Violations> {
    let root = file::parse(text).map_err(|violation| Violations::new(vec![violation]))?;
    let report = Report::default();
    let built = builder(&root, &report);
    let violations = report.into_violations(|path| file::locate(text, &root, path));
    match built {
        Some(built) if violations.is_empty() => Ok(built),
        _ => Err(Violations::new(violations)),
    }
}

/// What a file holds: at most one byte more than a configuration may have, whatever the path leads to (a device, a
/// pipe).
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?)
}

/// The same of a regular file: whoever opens or reads a pipe that has come in its place may wait for ever.
pub fn read_again(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    bounded(file)
}

fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let at_most = u64::try_from(FILE_AT_MOST).unwrap_or(u64::MAX).saturating_add(1);
    file.take(at_most).read_to_end(&mut text)?;
    Ok(text)
}

fn not_text(before: &[u8]) -> Violation {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Violation { line: Some(line), column: None, path: String::new(), message: "not UTF-8 text".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{
        Application, EndpointAddress, EndpointSource, Fence, KEYS, ListenAddress, LogFormat, LogLevel, OnDenied,
        OnFailure, Origin, ServicePort, Verbs,
    };

    const POOL: &str = "pools:\n  php:\n    endpoints:\n      - dns: php:9000\n";

    fn from(text: &str) -> Config {
        Config::from_yaml(text).unwrap_or_else(|violations| panic!("{violations}"))
    }

    fn violations(text: &str) -> Vec<String> {
        let violations = Config::from_yaml(text).map(|config| panic!("{config}")).unwrap_err();
        violations.to_string().lines().map(str::to_owned).collect()
    }

    /// The one violation of a file.
    fn violation(text: &str) -> String {
        let violations = violations(text);
        assert_eq!(violations.len(), 1, "{violations:#?}");
        violations[0].clone()
    }

    /// The one violation of a pool that holds this line as well.
    fn pool_violation(line: &str) -> String {
        violation(&format!("{POOL}    {line}\n"))
    }

    #[test]
    fn a_pool_with_an_endpoint_is_a_whole_configuration() {
        let config = from(POOL);
        let pool = &config.pools[0];
        assert_eq!((pool.name.as_str(), pool.application), ("php", Application::PhpFpm));
        let origin = Origin::Dns { name: "php".into(), port: 9000 };
        assert_eq!(pool.endpoints, [EndpointSource { origin, weight: 1, zone: None }]);
        let socket = ListenAddress::Unix { path: "/run/fcgimux.sock".into(), mode: 0o660, group: None };
        let listener = &config.listeners[0];
        assert_eq!((&listener.address, listener.pool.as_str(), listener.max_connections), (&socket, "php", 10_000));
        assert_eq!((listener.read_timeout, listener.write_timeout), (Duration::from_secs(60), Duration::from_secs(60)));
        assert_eq!(config.admin.listen, Some("127.0.0.1:9253".parse().unwrap()));
        assert_eq!(config.admin.verbs, Verbs::Loopback);
        assert_eq!((config.zone, config.dns.servers.len()), (None, 0));
        assert_eq!((config.log.level, config.log.format, config.log.access), (LogLevel::Info, LogFormat::Json, None));
        assert_eq!((config.threads.get(), config.drain_deadline), (1, Duration::from_secs(25)));
    }

    #[test]
    fn a_pool_has_the_defaults_of_the_table() {
        let seconds = Duration::from_secs;
        let pool = &from(POOL).pools[0];
        let connections = &pool.connections;
        assert_eq!((connections.per_endpoint, connections.idle_timeout), (8, seconds(30)));
        assert_eq!((connections.surplus_idle, connections.yield_after), (seconds(1), Some(seconds(1))));
        assert_eq!(connections.fence, Fence::Adaptive);
        assert_eq!(connections.reprove_after, Duration::from_millis(100));
        assert_eq!(connections.heartbeat, Some(Duration::from_millis(250)));
        assert_eq!((pool.discovery.refresh, pool.slow_start), (seconds(5), Some(seconds(10))));
        assert_eq!((pool.status.port, pool.status.path.as_str()), (None, "/status"));
        assert_eq!((pool.ping.path.as_ref(), pool.ping.interval), (None, seconds(5)));
        assert_eq!((connections.max_age, connections.max_requests), (Some(seconds(3600)), None));
        assert_eq!((pool.queue.depth, pool.queue.timeout), (1024, seconds(10)));
        assert_eq!((pool.timeouts.connect, pool.timeouts.prove), (seconds(1), seconds(5)));
        assert_eq!((pool.timeouts.first_byte, pool.timeouts.between_bytes), (None, None));
        assert_eq!(pool.timeouts.exchange, None);
        let params = &pool.params;
        assert_eq!((params.max_size, params.max_count, params.on_denied), (256 << 10, 10_000, OnDenied::Refuse));
        assert!(params.deny.is_empty());
        assert_eq!(pool.on_failure, OnFailure::HangUp);
        assert_eq!((params.set.len(), &params.remove), (0, &vec!["HTTP_PROXY".to_owned()]));
        assert_eq!((pool.body.max_size, pool.body.memory), (None, 256 << 10));
        assert_eq!(pool.body.directory, std::env::temp_dir());
        assert_eq!((pool.reuse_after_body.post_up_to, pool.reuse_after_body.multipart), (Some(16 << 10), false));
        assert_eq!((pool.retry.attempts, pool.retry.budget), (1, 0.2));
    }

    #[test]
    fn all_violations_are_reported_in_the_order_of_the_file() {
        let text = "threads: 0\nlog: {level: loud}\npools:\n  php:\n    endpoints:\n      - dns: php\n    queue:\n      \
                    depth: 0\n      timeout: 10\n      size: 5\n";
        assert_eq!(
            violations(text),
            [
                "line 1: threads: 0 is out of range; write 1 to 64",
                "line 2: log.level: `loud` is not one of: error, warn, info, debug",
                "line 6: pools.php.endpoints[0].dns: `php` has no port; write a name and a port, such as php:9000",
                "line 8: pools.php.queue.depth: 0 is out of range; write 1 to 1000000",
                "line 9: pools.php.queue.timeout: 10 has no unit; write a duration such as 5s (units: ms, s, m, h, d)",
                "line 10: pools.php.queue.size: unknown key; known here: depth, timeout, abandoned",
            ]
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known() {
        let message = pool_violation("conections: {}");
        assert!(
            message.starts_with("line 5: pools.php.conections: unknown key; did you mean connections? known here: ")
        );
        assert!(
            message.contains("application, endpoints, discovery, slow_start, status, ping, connections, queue"),
            "{message}"
        );
        assert!(violation(&format!("{POOL}<<: {{}}\n")).contains("unknown key"));
    }

    #[test]
    fn a_key_given_twice_is_refused_at_the_second() {
        let message = violation(&format!("threads: 1\n{POOL}threads: 2\n"));
        assert_eq!(message, "line 6: threads: stands here a second time; remove one");
        let message = violation(&format!("{POOL}  php:\n    endpoints: []\n"));
        assert_eq!(message, "line 5: pools.php: stands here a second time; remove one");
        let message = pool_violation("params: {set: {A: x, A: y}}");
        assert_eq!(message, "line 5: pools.php.params.set.A: stands here a second time; remove one");
    }

    #[test]
    fn an_empty_file_says_what_is_missing() {
        for text in ["", "---", "# x\n", "pools:", "pools: {}"] {
            assert!(violation(text).ends_with("pools: missing; name at least one pool with its endpoints"), "{text}");
        }
        assert!(violation("5").contains("not a mapping"));
    }

    #[test]
    fn surplus_idle_may_not_exceed_idle_timeout() {
        let message = pool_violation("connections: {idle_timeout: 500ms}");
        assert_eq!(
            message,
            "line 5: pools.php.connections.idle_timeout: surplus_idle (1s) may not be more than idle_timeout (500ms)"
        );
        from(&format!("{POOL}    connections: {{idle_timeout: 1s, surplus_idle: 1s}}\n"));
    }

    #[test]
    fn a_wrong_value_is_not_compared_with_others() {
        assert!(pool_violation("connections: {idle_timeout: 500ms, surplus_idle: 7}").contains("no unit"));
    }

    #[test]
    fn a_listener_names_a_pool_that_exists() {
        let two = "pools: {a: {endpoints: [{dns: \"a:1\"}]}, b: {endpoints: [{dns: \"b:1\"}]}}\n";
        assert!(violation(&format!("{two}listeners: [{{pool: c}}]")).ends_with("those that exist: a, b"));
        assert!(violation(&format!("{two}listeners: [{{}}]")).contains("several pools; name one of: a, b"));
        assert!(violation(two).ends_with("listeners: missing, and there are several pools (a, b)"));
        from(&format!("{two}listeners: [{{pool: a}}, {{pool: b, tcp: \"127.0.0.1:9001\"}}]"));
    }

    #[test]
    fn two_listeners_have_two_addresses() {
        let message = violation(&format!("{POOL}listeners:\n  - {{}}\n  - socket: /run/fcgimux.sock\n"));
        assert_eq!(message, "line 7: listeners[1]: another listener has the address /run/fcgimux.sock already");
        let message = violation(&format!("{POOL}admin: {{}}\nlisteners: [{{tcp: \"127.0.0.1:9253\"}}]\n"));
        assert_eq!(message, "line 5: admin.listen: a listener has the address 127.0.0.1:9253 already");
    }

    #[test]
    fn a_listener_is_a_socket_or_a_tcp_address() {
        let of = |keys: &str| violation(&format!("{POOL}listeners: [{{{keys}}}]\n"));
        assert!(of("socket: /a, tcp: \"127.0.0.1:1\"").contains("one address"));
        assert!(of("tcp: \"127.0.0.1:1\", mode: \"0600\"").contains("only for a listener with a socket"));
        assert!(of("mode: 660").contains("in quotes"));
        assert!(of("tcp: localhost:9000").contains("not an IP address"));
        assert!(of("socket: run/x").contains("not absolute"));
        assert!(violation(&format!("{POOL}listeners: []")).contains("at least one"));
    }

    #[test]
    fn two_endpoints_differ_and_none_is_a_listener() {
        let endpoints = |list: &str| violation(&format!("pools: {{php: {{endpoints: {list}}}}}"));
        let twice = endpoints("[{dns: \"php:1\"}, {dns: \"PHP:1\"}]");
        assert!(twice.contains("endpoints[1]: dns php:1 stands here a second time"), "{twice}");
        assert!(endpoints("[{socket: /run/fcgimux.sock}]").contains("own listeners"));
        let both = endpoints("[{dns: \"a:1\", socket: /b}]");
        assert!(both.contains("one of: dns, srv, service, address, socket, file; here are dns and socket"), "{both}");
        assert!(
            endpoints("[php:9000]").contains("with keys: dns, srv, service, port, address, socket, file, weight, zone")
        );
        assert!(endpoints("[]").contains("missing"));
        assert!(endpoints("php:9000").contains("not a list"));
    }

    #[test]
    fn endpoints_come_from_several_kinds_of_sources() {
        let text = "zone: eu-1a\ndns: {servers: [10.96.0.10]}\npools:\n  php:\n    endpoints:\n      \
                    - {address: \"10.0.0.7:9000\", weight: 2, zone: eu-1a}\n      - socket: /run/php.sock\n      \
                    - srv: _fastcgi._tcp.php\n      - {service: shop/php, port: fastcgi}\n      \
                    - {service: shop/php, port: 9001}\n      - service: php\n      - file: /etc/endpoints.yaml\n";
        let config = from(text);
        assert_eq!(
            (config.zone.as_deref(), config.dns.servers),
            (Some("eu-1a"), vec!["10.96.0.10:53".parse().unwrap()])
        );
        let of = |origin| EndpointSource { origin, weight: 1, zone: None };
        let service = |namespace: Option<&str>, port| {
            of(Origin::Service { namespace: namespace.map(str::to_owned), name: "php".into(), port })
        };
        let address = Origin::Address(EndpointAddress::Tcp("10.0.0.7:9000".parse().unwrap()));
        let expected = [
            EndpointSource { origin: address, weight: 2, zone: Some("eu-1a".into()) },
            of(Origin::Address(EndpointAddress::Unix("/run/php.sock".into()))),
            of(Origin::Srv { name: "_fastcgi._tcp.php".into() }),
            service(Some("shop"), Some(ServicePort::Name("fastcgi".into()))),
            service(Some("shop"), Some(ServicePort::Number(9001))),
            service(None, None),
            of(Origin::File("/etc/endpoints.yaml".into())),
        ];
        assert_eq!(config.pools[0].endpoints, expected);
    }

    #[test]
    fn a_source_that_is_wrong_says_what_to_write() {
        for (item, message) in [
            ("{dns: \"php:1\", port: fastcgi}", "endpoints[0].port: only for a service; remove it"),
            ("{port: fastcgi}", "endpoints[0].port: only for a service; remove it"),
            ("{dns: \"php:1\", weight: 0}", "endpoints[0].weight: 0 is out of range; write 1 to 100"),
            ("{dns: \"php:1\", weight: 101}", "write 1 to 100"),
            ("{dns: \"php:1\", zone: a b}", "endpoints[0].zone: `a b` is not a zone"),
            ("{service: shop/php/x}", "`php/x` is not a name in Kubernetes"),
            ("{service: shop/php, port: [1]}", "endpoints[0].port: a list is not a port"),
            ("{srv: \"php:9000\"}", "SRV records name themselves"),
            ("{file: endpoints.yaml}", "not absolute"),
            ("{address: \"php:9000\"}", "write a name as `dns:`"),
        ] {
            let found = violation(&format!("pools: {{php: {{endpoints: [{item}]}}}}"));
            assert!(found.contains(message), "{item}: {found}");
        }
        assert!(violation(&format!("zone: 1\n{POOL}")).starts_with("line 1: zone: 1 is not text"));
        assert!(
            violation(&format!("dns: {{servers: [x]}}\n{POOL}")).contains("dns.servers[0]: `x` is not an IP address")
        );
    }

    #[test]
    fn what_only_php_fpm_has_is_refused_elsewhere() {
        for line in ["status: {port: 9001}", "ping: {path: /ping}", "connections: {heartbeat: 1s}"] {
            from(&format!("{POOL}    {line}\n"));
            let found = pool_violation(&format!("application: generic\n    {line}"));
            assert!(found.contains("only for `application: php-fpm`; remove it"), "{found}");
        }
        let generic = from(&format!("{POOL}    application: generic\n"));
        assert_eq!(generic.pools[0].connections.heartbeat, None);
    }

    #[test]
    fn params_are_held_to_their_limits() {
        assert!(pool_violation("params: {max_size: 1023B}").contains("write 1KiB to 16MiB"));
        assert!(pool_violation("params: {deny: [OK, \"A=B\"]}").contains("params.deny[1]: `A=B` cannot name"));
        assert!(pool_violation("params: {set: {\"A B\": x}}").contains("cannot name a param"));
        assert!(pool_violation("params: {set: {A: x}, remove: [A]}").contains("A is in `set` as well"));
        let message = pool_violation("params: {set: {A: 4711}}");
        assert!(message.contains("in quotes") && !message.contains("4711"), "{message}");
    }

    #[test]
    fn every_key_of_the_table_is_read() {
        for key in KEYS {
            let (mut place, mut closing) = (String::new(), String::new());
            for step in key.path.split('.') {
                let (name, open, close) = step.strip_suffix("[]").map_or((step, "", "}"), |name| (name, "[", "]}"));
                let name = if name == "*" { "php" } else { name };
                place.push_str(&format!("{{{name}: {open}"));
                closing.insert_str(0, close);
            }
            // A tag is wrong everywhere, so that whoever reads the key complains.
            let text = format!("{place}!wrong x{closing}");
            let last = key.path.rsplit('.').next().unwrap();
            let found = violations(&text);
            assert!(found.iter().any(|found| found.contains(&format!("{last}: the tag"))), "{text}: {found:#?}");
            assert!(!found.iter().any(|found| found.contains("unknown key")), "{text}: {found:#?}");
        }
    }

    #[test]
    fn a_file_full_of_faults_is_cut_short() {
        let keys: String = (0..5000).map(|index| format!("x{index}: 1\n")).collect();
        let found = violations(&keys);
        assert_eq!(found.len(), 101);
        assert_eq!(found[100], "4901 more, not shown");
    }

    /// What breaks readers of YAML, put anywhere into a good file.
    const PIECES: &[&str] = &[
        "",
        "[",
        "]",
        "{",
        "}",
        ":",
        "- ",
        "? ",
        "| ",
        "> ",
        "*a",
        "&a ",
        "!x ",
        "!!int ",
        "!!binary ",
        "\"",
        "'",
        "%",
        "@",
        "\t",
        "\r",
        "\n---\n",
        "\n...\n",
        "#",
        "~",
        "off",
        "-1",
        "1e999",
        ".nan",
        "340282366920938463463374607431768211455",
        "\u{feff}",
        "\0",
        "\u{85}",
        "\u{10ffff}",
        "<<: ",
        "? [a]\n: b\n",
        "&a [*a]",
    ];

    #[test]
    fn nothing_that_a_file_may_hold_makes_it_panic() {
        let base: Vec<char> = from(POOL).to_yaml().chars().collect();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            // xorshift64: varied enough, and the same in each run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        for _ in 0..3000 {
            let mut text = base.clone();
            for _ in 0..=next(3) {
                let from = next(text.len());
                let until = (from + next(12)).min(text.len());
                text.splice(from..until, PIECES[next(PIECES.len())].chars());
            }
            if let Err(violations) = Config::from_yaml(&text.iter().collect::<String>()) {
                assert!(violations.iter().next().is_some());
            }
        }
    }

    #[test]
    fn a_file_that_is_no_text_or_not_there_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        assert!(matches!(Config::from_file(&path), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&path, b"threads: 1\nlog: \xff\n").unwrap();
        let message = Config::from_file(&path).unwrap_err().to_string();
        assert!(message.ends_with("config.yaml:2: not UTF-8 text"), "{message}");
        std::fs::write(&path, vec![b'#'; FILE_AT_MOST + 1]).unwrap();
        let message = Config::from_file(&path).unwrap_err().to_string();
        assert!(message.contains("larger than 1 MiB"), "{message}");
        std::fs::write(&path, POOL).unwrap();
        assert_eq!(Config::from_file(&path).unwrap(), from(POOL));
    }
}
