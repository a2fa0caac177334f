//! Where something listens, and names: how they are read and shown.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{
    EndpointAddress, ListenAddress,
    node::{Node, quoted},
};

/// `sun_path` holds 108 bytes, one of which is the NUL at its end (unix(7)).
const SOCKET_PATH_AT_MOST: usize = 107;
/// RFC 1035, 2.3.4.
const DNS_NAME_AT_MOST: usize = 253;
const DNS_LABEL_AT_MOST: usize = 63;
const DNS_PORT: u16 = 53;
/// Far beyond any in use.
const PAGE_PATH_AT_MOST: usize = 256;
/// Longest name of a pool: it stands in every line of a scrape.
const POOL_NAME_AT_MOST: usize = 63;
/// Longest name of a param in `params.*`; far beyond any that is in use.
const PARAM_NAME_AT_MOST: usize = 256;

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// The path in `unix:/path` or `/path`.
pub(super) fn unix_path(text: &str) -> Option<&str> {
    text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text))
}

/// `10.0.0.7:9000` or `[::1]:9000`.
pub(super) fn ip(node: &Node) -> Result<EndpointAddress, String> {
    const EXAMPLE: &str = "write an IP address and a port, such as 10.0.0.7:9000 or \"[::1]:9000\"";
    let text = text(node, EXAMPLE)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(format!("{node} has no port to connect to; {EXAMPLE}")),
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 => {
            Err(format!("{node} has a zone, which cannot be used here; {EXAMPLE}"))
        }
        Ok(address) => Ok(EndpointAddress::Tcp(address)),
        Err(_) if dns(node).is_ok() => Err(format!("{node} is not an IP address; write a name as `dns:`")),
        Err(_) => Err(format!("{node} is not an IP address with a port; {EXAMPLE}")),
    }
}

/// `php.shop.svc.cluster.local:9000`.
pub(super) fn dns(node: &Node) -> Result<(String, u16), String> {
    const EXAMPLE: &str = "write a name and a port, such as php:9000";
    let text = text(node, EXAMPLE)?;
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{node} has no port; {EXAMPLE}"));
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => port,
        _ => return Err(format!("{} is not a port from 1 to 65535; {EXAMPLE}", quoted(port))),
    };
    let is_ip = host.parse::<IpAddr>().is_ok() || host.starts_with('[');
    if is_ip {
        return Err(format!("{} is an IP address; write it as `address:`", quoted(host)));
    }
    if !is_dns_name(host) {
        return Err(format!("{} is not a DNS name; {EXAMPLE}", quoted(host)));
    }
    // Names are the same in any case (RFC 4343), and two equal sources must be seen as equal.
    Ok((host.to_ascii_lowercase(), port))
}

/// `_fastcgi._tcp.php.shop.svc.cluster.local`.
pub(super) fn srv(node: &Node) -> Result<String, String> {
    const EXAMPLE: &str = "write a name such as _fastcgi._tcp.php.shop";
    let text = text(node, EXAMPLE)?;
    if text.rsplit_once(':').is_some_and(|(name, _)| is_dns_name(name)) {
        return Err(format!("{node} has a port, which SRV records name themselves; {EXAMPLE}"));
    }
    if !is_dns_name(text) {
        return Err(format!("{node} is not a DNS name; {EXAMPLE}"));
    }
    Ok(text.to_ascii_lowercase())
}

/// Where a DNS server listens: an IP address, with or without a port.
pub(super) fn dns_server(node: &Node) -> Result<SocketAddr, String> {
    const EXAMPLE: &str = "write an IP address with or without a port, such as 10.96.0.10 or 127.0.0.1:5353";
    let text = text(node, EXAMPLE)?;
    let address = text.parse::<SocketAddr>().or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, DNS_PORT).into()));
    match address {
        Ok(address) if address.port() == 0 => Err(format!("{node} has no port to send to; {EXAMPLE}")),
        Ok(address) => Ok(address),
        Err(_) => Err(format!("{node} is not an IP address; {EXAMPLE}")),
    }
}

/// Meant for an IP address with a port.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok() || text.starts_with('[')
}

/// A path of php-fpm's own pages, as php-fpm takes it (`pm.status_path`, `ping.path`).
pub(super) fn page_path(node: &Node) -> Result<String, String> {
    const EXAMPLE: &str = "write it as in php-fpm's own configuration, such as /status";
    let text = text(node, EXAMPLE)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let fits = (2..=PAGE_PATH_AT_MOST).contains(&text.len());
    if !text.starts_with('/') || !fits || !text.bytes().all(plain) {
        return Err(format!("{node} is not a path that begins with /, of letters, digits and /-_.~; {EXAMPLE}"));
    }
    Ok(text.to_owned())
}

/// An address to listen on. Port 0 asks the system for a free one.
pub(super) fn listen(node: &Node) -> Result<SocketAddr, String> {
    const EXAMPLE: &str = "write an IP address and a port, such as 127.0.0.1:9001 or \"[::]:9001\"";
    let text = text(node, EXAMPLE)?;
    text.parse().map_err(|_| format!("{node} is not an IP address with a port; {EXAMPLE}"))
}

pub(super) fn socket_path(node: &Node) -> Result<PathBuf, String> {
    let path = absolute_path(node)?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_AT_MOST {
        return Err(format!("a socket's path has at most {SOCKET_PATH_AT_MOST} bytes, this one has {length}"));
    }
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(format!("{node} is a directory; write the path of a socket, such as /run/fcgimux.sock"));
    }
    Ok(path)
}

pub(super) fn absolute_path(node: &Node) -> Result<PathBuf, String> {
    const EXAMPLE: &str = "write an absolute path, such as /run/fcgimux.sock";
    let text = text(node, EXAMPLE)?;
    // It stands in lines of the log, and names an endpoint there.
    if text.contains(char::is_control) {
        return Err(format!("{node} holds a control character; {EXAMPLE}"));
    }
    if !Path::new(text).is_absolute() {
        return Err(format!("{node} is not absolute; {EXAMPLE}"));
    }
    Ok(PathBuf::from(text))
}

/// A group by name or, with or without quotes, by number.
pub(super) fn group(node: &Node) -> Result<String, String> {
    let name = match node {
        Node::Integer(number) => number.to_string(),
        Node::Text(text) => text.clone(),
        _ => String::new(),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-$".contains(&byte);
    if name.is_empty() || name.starts_with('-') || !name.bytes().all(plain) {
        return Err(format!("{node} is not a group; write its name or number, such as www-data"));
    }
    Ok(name)
}

/// The name of a pool is a label value and stands in logs: `[a-z0-9_-]+`.
pub(super) fn pool_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > POOL_NAME_AT_MOST || !name.bytes().all(plain) {
        return Err(format!(
            "{} cannot name a pool; use 1 to {POOL_NAME_AT_MOST} of the characters a-z, 0-9, _ and -",
            quoted(name)
        ));
    }
    Ok(())
}

/// The name of a param: visible ASCII without `=`, which would end it in PHP's environment.
pub(super) fn param_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'=';
    if name.is_empty() || name.len() > PARAM_NAME_AT_MOST || !name.bytes().all(plain) {
        return Err(format!("{} cannot name a param; write a name such as PHP_VALUE", quoted(name)));
    }
    Ok(())
}

fn text<'a>(node: &'a Node, example: &str) -> Result<&'a str, String> {
    match node {
        Node::Text(text) => Ok(text),
        _ => Err(format!("{node} is not text; {example}")),
    }
}

/// Letters, digits, `-` and, as in many service names, `_`; a dot at the end is the root and stays.
fn is_dns_name(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let label = |label: &str| {
        (1..=DNS_LABEL_AT_MOST).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // "10.0.0" or "1.2.3.4.5" is a mistyped IP address, never a name: no top level domain is all digits.
    let last_is_number = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() <= DNS_NAME_AT_MOST && labels.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_address_are_told_apart() {
        assert!(dns(&Node::text("10.0.0.7:9000")).unwrap_err().contains("`address:`"));
        assert!(dns(&Node::text("[::1]:9000")).unwrap_err().contains("`address:`"));
        assert!(ip(&Node::text("php:9000")).unwrap_err().contains("`dns:`"));
    }

    #[test]
    fn an_srv_record_is_a_name_alone() {
        assert_eq!(srv(&Node::text("_FastCGI._tcp.php.shop.")), Ok("_fastcgi._tcp.php.shop.".into()));
        assert!(srv(&Node::text("_fastcgi._tcp.php:9000")).unwrap_err().contains("name themselves"));
        for text in ["", "a b", "10.0.0.7", "a..b", "_fastcgi._tcp.", "/run/x"] {
            let result = srv(&Node::text(text));
            assert_eq!(result.is_ok(), text == "_fastcgi._tcp.", "{text}");
        }
    }

    #[test]
    fn a_dns_server_has_port_53_where_none_is_given() {
        for (text, address) in [
            ("10.96.0.10", "10.96.0.10:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(dns_server(&Node::text(text)).unwrap().to_string(), address);
        }
        for text in ["", "dns", "dns:53", "10.96.0.10:0", "10.96.0.10:x", "[::1]"] {
            assert!(dns_server(&Node::text(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_of_php_fpm_has_a_path_that_php_fpm_takes() {
        assert_eq!(page_path(&Node::text("/fpm/status.php~1")), Ok("/fpm/status.php~1".into()));
        for text in ["", "/", "status", "/a b", "/status?json", "/ä", &format!("/{}", "x".repeat(256))] {
            assert!(page_path(&Node::text(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_path_must_fit_the_address_of_the_system() {
        let longest = format!("/{}", "x".repeat(106));
        assert!(socket_path(&Node::text(&longest)).is_ok());
        let message = socket_path(&Node::text(format!("{longest}x"))).unwrap_err();
        assert_eq!(message, "a socket's path has at most 107 bytes, this one has 108");
        assert!(socket_path(&Node::text("run/x.sock")).unwrap_err().contains("not absolute"));
        for text in ["/run/x\0", "/run/x\nWARN forged", "/run/\u{1b}[2J"] {
            assert!(socket_path(&Node::text(text)).unwrap_err().contains("a control character"), "{text:?}");
        }
    }

    #[test]
    fn a_group_is_a_name_or_a_number() {
        assert_eq!(group(&Node::text("www-data")), Ok("www-data".into()));
        assert_eq!(group(&Node::Integer(33)), Ok("33".into()));
        for node in [Node::text(""), Node::text("a b"), Node::Integer(-1), Node::Null, Node::Bool(true)] {
            assert!(group(&node).is_err(), "{node}");
        }
    }

    #[test]
    fn names_are_held_to_their_characters() {
        assert!(pool_name("php-8_2").is_ok());
        for name in ["", "PHP", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(pool_name(name).is_err(), "{name}");
        }
        assert!(param_name("HTTP_PROXY").is_ok());
        for name in ["", "A=B", "A B", "Ä", "A\n"] {
            assert!(param_name(name).is_err(), "{name}");
        }
    }
}
