//! Where a pool's endpoints come from: the items of `endpoints`, and files that list some.

use std::{fmt, path::Path, str::FromStr};

use super::{
    ConfigError, EndpointAddress, EndpointSource, Origin, ServicePort, Violations, address, load,
    node::{Node, quoted},
    section::{Report, Section},
    value,
};

/// Keys of which an item has exactly one.
const ORIGINS: &[&str] = &["dns", "srv", "service", "address", "socket", "file"];
/// Where the items of a list of endpoints stand in the table of keys.
const ITEM: &str = "pools.*.endpoints[]";
/// What an item of a file of endpoints may hold: nothing that would have to be looked for in turn.
const ITEM_OF_FILE: &[&str] = &["address", "socket", "weight", "zone"];
const WEIGHT_AT_MOST: u32 = 100;
/// The value of a label in Kubernetes, which is where zones come from.
const ZONE_AT_MOST: usize = 63;
/// Names of namespaces, Services and their ports (RFC 1123).
const KUBERNETES_NAME_AT_MOST: usize = 63;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Dns { name, port } => write!(f, "dns {name}:{port}"),
            Self::Srv { name } => write!(f, "srv {name}"),
            Self::Service { namespace: Some(namespace), name, .. } => write!(f, "service {namespace}/{name}"),
            Self::Service { namespace: None, name, .. } => write!(f, "service {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// As on the command line: `host:port`, `ip:port`, `[v6]:port`, `unix:/path` or `/path`.
impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = address::unix_path(text) {
            return address::socket_path(&Node::text(path)).map(|path| Self::Address(EndpointAddress::Unix(path)));
        }
        let node = Node::text(text);
        if address::is_ip(text) { address::ip(&node).map(Self::Address) } else { dns(&node) }
    }
}

/// The endpoints that a file lists, of which each is an address of its own. A file without any holds `[]`.
///
/// # Errors
/// The file cannot be read, or every violation in it with the file's name.
pub fn endpoints_from_file(path: &Path) -> Result<Vec<EndpointSource>, ConfigError> {
    let text = load::read_again(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let endpoints = load::text(&text).and_then(|text| load::build(text, endpoints_of_file));
    endpoints.map_err(|violations: Violations| violations.in_file(path.display()).into())
}

fn endpoints_of_file(root: &Node, report: &Report) -> Option<Vec<EndpointSource>> {
    Some(distinct(Section::listed_root(root, "endpoints", ITEM, ITEM_OF_FILE, report)?))
}

/// The key `endpoints` of a pool.
pub(super) fn sources(section: &Section<'_>) -> Vec<EndpointSource> {
    let sections = section.listed_sections("endpoints").unwrap_or_default();
    if sections.is_empty() && section.is_sound(&["endpoints"]) {
        section.complain("endpoints", "missing; name at least one, such as `- dns: php:9000`");
    }
    distinct(sections)
}

fn distinct(sections: Vec<Section<'_>>) -> Vec<EndpointSource> {
    let mut sources: Vec<EndpointSource> = Vec::with_capacity(sections.len());
    for item in sections {
        let Some(source) = source(&item) else { continue };
        if sources.iter().any(|other| other.origin == source.origin) {
            item.complain_here(format!("{} stands here a second time; remove one", source.origin));
        } else {
            sources.push(source);
        }
    }
    sources
}

fn source(section: &Section<'_>) -> Option<EndpointSource> {
    let origin = origin(section);
    let weight = section.value("weight", value::small_count(1..=WEIGHT_AT_MOST));
    let zone = section.given("zone", zone);
    Some(EndpointSource { origin: origin?, weight, zone })
}

fn origin(section: &Section<'_>) -> Option<Origin> {
    let given: Vec<&str> = ORIGINS.iter().copied().filter(|name| section.has(name)).collect();
    let port = section.given("port", port);
    if port.is_some() && given != ["service"] {
        section.complain("port", "only for a service; remove it");
    }
    let [name] = given.as_slice() else {
        if section.is_sound_here() {
            let known: Vec<&str> = ORIGINS.iter().copied().filter(|name| section.knows(name)).collect();
            let found = match given.as_slice() {
                [] => String::new(),
                several => format!("; here are {}: make an item of each", several.join(" and ")),
            };
            section.complain_here(format!("an endpoint has one of: {}{found}", known.join(", ")));
        }
        return None;
    };
    match *name {
        "service" => {
            let (namespace, name) = section.given("service", service)?;
            Some(Origin::Service { namespace, name, port })
        }
        "dns" => section.given("dns", dns),
        "srv" => section.given("srv", |node| address::srv(node).map(|name| Origin::Srv { name })),
        "file" => section.given("file", |node| address::absolute_path(node).map(Origin::File)),
        "socket" => {
            section.given("socket", |node| address::socket_path(node).map(EndpointAddress::Unix)).map(Origin::Address)
        }
        _ => section.given("address", address::ip).map(Origin::Address),
    }
}

fn dns(node: &Node) -> Result<Origin, String> {
    address::dns(node).map(|(name, port)| Origin::Dns { name, port })
}

/// `shop/php`, or `php` in the namespace of this process.
fn service(node: &Node) -> Result<(Option<String>, String), String> {
    const EXAMPLE: &str = "write a Service of Kubernetes as namespace/name or name, such as shop/php";
    if !cfg!(feature = "kubernetes") {
        return Err(
            "this program was built without its feature `kubernetes`; write `dns:` with the Service's name".into()
        );
    }
    let Node::Text(text) = node else { return Err(format!("{node} is not text; {EXAMPLE}")) };
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text.as_str()),
    };
    match [name].into_iter().chain(namespace).find(|part| !is_kubernetes_name(part)) {
        None => Ok((namespace.map(str::to_owned), name.to_owned())),
        Some(part) => Err(format!("{} is not a name in Kubernetes; {EXAMPLE}", quoted(part))),
    }
}

fn port(node: &Node) -> Result<ServicePort, String> {
    const EXAMPLE: &str = "write the port's name, such as fastcgi, or a number from 1 to 65535";
    match node {
        Node::Integer(number) => match u16::try_from(*number) {
            Ok(number) if number > 0 => Ok(ServicePort::Number(number)),
            _ => Err(format!("{number} is not a port; {EXAMPLE}")),
        },
        // No name of a port is all digits, so that nothing else can be meant.
        Node::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
            Ok(number) if number > 0 => Ok(ServicePort::Number(number)),
            _ => Err(format!("{node} is not a port; {EXAMPLE}")),
        },
        Node::Text(text) if is_kubernetes_name(text) => Ok(ServicePort::Name(text.clone())),
        _ => Err(format!("{node} is not a port; {EXAMPLE}")),
    }
}

fn is_kubernetes_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=KUBERNETES_NAME_AT_MOST).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The name of a zone, as `topology.kubernetes.io/zone` holds it. Errors: what to write instead.
pub fn zone_from_text(text: &str) -> Result<String, String> {
    zone(&Node::text(text))
}

pub(super) fn zone(node: &Node) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match node {
        Node::Text(text) if (1..=ZONE_AT_MOST).contains(&text.len()) && text.bytes().all(plain) => Ok(text.clone()),
        Node::Text(_) => Err(format!(
            "{node} is not a zone; write 1 to {ZONE_AT_MOST} letters, digits, dots, _ and -, such as eu-1a"
        )),
        _ => Err(format!("{node} is not text; write the name of a zone, such as eu-1a, in quotes if need be")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Origin {
        Origin::Address(EndpointAddress::Tcp(text.parse().unwrap()))
    }

    fn name(name: &str, port: u16) -> Origin {
        Origin::Dns { name: name.into(), port }
    }

    fn file(text: &str) -> Result<Vec<EndpointSource>, String> {
        load::build(text, endpoints_of_file).map_err(|violations| violations.to_string())
    }

    #[test]
    fn an_upstream_is_read_in_every_form_and_shown_again() {
        let socket = || Origin::Address(EndpointAddress::Unix("/run/php.sock".into()));
        for (text, origin, shown) in [
            ("php:9000", name("php", 9000), "dns php:9000"),
            (
                "PHP.Shop.svc.cluster.local.:9000",
                name("php.shop.svc.cluster.local.", 9000),
                "dns php.shop.svc.cluster.local.:9000",
            ),
            ("10.0.0.7:9000", address("10.0.0.7:9000"), "10.0.0.7:9000"),
            ("[::1]:9000", address("[::1]:9000"), "[::1]:9000"),
            ("[0:0::1]:9000", address("[::1]:9000"), "[::1]:9000"),
            ("/run/php.sock", socket(), "/run/php.sock"),
            ("unix:/run/php.sock", socket(), "/run/php.sock"),
        ] {
            assert_eq!(text.parse(), Ok(origin.clone()), "{text}");
            assert_eq!(origin.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for text in [
            "",
            "php",
            ":9000",
            "php:",
            "php:0",
            "php:65536",
            "php:+1",
            "php:9000:9000",
            "::1:9000",
            "[::1]",
            "[php]:9000",
            "1.2.3:9000",
            "1.2.3.4.5:9000",
            "-php:9000",
            "a..b:9000",
            "p hp:9000",
            "unix:",
            "unix:run/x",
            "[fe80::1%2]:9000",
            "10.0.0.7:0",
            "tcp://php:9000",
            "https://php:9000/",
            "/run/",
            "/a\0b",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_service_has_a_name_and_may_have_a_namespace() {
        let of = |text: &str| service(&Node::text(text));
        assert_eq!(of("shop/php"), Ok((Some("shop".into()), "php".into())));
        assert_eq!(of("php-8"), Ok((None, "php-8".into())));
        for text in ["", "/", "shop/", "/php", "a/b/c", "Shop/php", "php.shop", "-php", "php_8", &"x".repeat(64)] {
            assert!(of(text).unwrap_err().contains("such as shop/php"), "{text}");
        }
        assert!(service(&Node::Null).is_err());
    }

    #[test]
    fn a_port_of_a_service_is_a_name_or_a_number() {
        assert_eq!(port(&Node::Integer(9000)), Ok(ServicePort::Number(9000)));
        assert_eq!(port(&Node::text("9000")), Ok(ServicePort::Number(9000)));
        assert_eq!(port(&Node::text("fastcgi-1")), Ok(ServicePort::Name("fastcgi-1".into())));
        for node in [
            Node::Integer(0),
            Node::Integer(65_536),
            Node::text("0"),
            Node::text("70000"),
            Node::text("a b"),
            Node::text(""),
        ] {
            assert!(port(&node).is_err(), "{node}");
        }
    }

    #[test]
    fn a_zone_is_the_value_of_a_label() {
        assert_eq!(zone_from_text("eu-1a"), Ok("eu-1a".into()));
        for text in ["", "eu 1a", "eu/1a", "ä", &"x".repeat(64)] {
            assert!(zone_from_text(text).is_err(), "{text}");
        }
        assert!(zone(&Node::Integer(1)).unwrap_err().contains("in quotes"));
    }

    #[test]
    fn a_file_of_endpoints_is_a_list_or_a_mapping_that_holds_it() {
        let list = "- {address: \"10.0.0.7:9000\", weight: 2}\n- {socket: /run/php.sock, zone: eu-1a}\n";
        let endpoints = file(list).unwrap();
        assert_eq!(endpoints[0], EndpointSource { origin: address("10.0.0.7:9000"), weight: 2, zone: None });
        assert_eq!((endpoints[1].weight, endpoints[1].zone.as_deref()), (1, Some("eu-1a")));
        assert_eq!(file(&format!("endpoints:\n{list}")), Ok(endpoints));
        assert_eq!(file("[]"), Ok(vec![]));
        assert_eq!(file("endpoints: []"), Ok(vec![]));
    }

    #[test]
    fn a_file_of_endpoints_is_held_to_addresses() {
        for (text, message) in [
            ("", "empty; write a list of endpoints, or [] for none"),
            ("endpoints:", "empty; write a list of endpoints, or [] for none"),
            ("pools: {}", "line 1: pools: unknown key; known here: endpoints"),
            ("5", "5 is not a list; begin each item with a dash"),
            ("endpoints: 5", "line 1: endpoints: 5 is not a list; begin each item with a dash"),
            (
                "- {dns: \"php:9000\"}",
                "line 1: [0].dns: cannot stand in a file of endpoints; known here: address, socket, weight, zone",
            ),
            ("\n- {weight: 2}", "line 2: [0]: an endpoint has one of: address, socket"),
            (
                "- {address: \"php:9000\"}",
                "line 1: [0].address: `php:9000` is not an IP address; write a name as `dns:`",
            ),
            ("- {socket: /a}\n- {socket: /a, weight: 2}", "line 2: [1]: /a stands here a second time; remove one"),
            (
                "endpoints: [{socket: /a, weigth: 2}]",
                "line 1: endpoints[0].weigth: unknown key; did you mean weight? known here: address, socket, weight, zone",
            ),
        ] {
            let shown = file(text).unwrap_err();
            assert!(shown.ends_with(message), "{text}: {shown}");
        }
    }

    #[test]
    fn a_violation_in_a_file_of_endpoints_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints.yaml");
        assert!(matches!(endpoints_from_file(&path), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&path, "- {socket: /a}\n- {socket: b}\n").unwrap();
        let shown = endpoints_from_file(&path).unwrap_err().to_string();
        assert!(shown.starts_with(&format!("{}:2: [1].socket: ", path.display())), "{shown}");
        std::fs::write(&path, b"- {socket: \xff}\n").unwrap();
        assert!(endpoints_from_file(&path).unwrap_err().to_string().ends_with("endpoints.yaml:1: not UTF-8 text"));
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(endpoints_from_file(&path).unwrap(), []);
    }
}
