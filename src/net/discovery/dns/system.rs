//! What the machine says about names: /etc/resolv.conf and /etc/hosts.

use hickory_resolver::{proto::rr::Name, system_conf::parse_resolv_conf};
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Of a server in resolv.conf.
const DNS_PORT: u16 = 53;
/// Asked where resolv.conf names no server, as the C library does.
const NO_SERVER: &str = "\nnameserver 127.0.0.1\n";

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
}

/// What the files held.
#[derive(Debug)]
pub(super) struct System {
    /// That they have not changed since.
    stamps: [Stamp; 2],
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that are tried behind a name.
    search: Vec<Name>,
    /// A name with so many dots is tried as it is first.
    dots: usize,
    /// What a server is given for one try, where resolv.conf says so.
    pub(super) timeout: Option<Duration>,
    /// By names in lower case without a dot at the end.
    hosts: HashMap<String, Vec<IpAddr>>,
}

/// Inode, length and time of change; none: not there.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;

impl Default for Files {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }
}

impl Files {
    #[cfg(test)]
    pub(super) fn of(folder: &Path) -> Self {
        Self { resolv_conf: folder.join("resolv.conf"), hosts: folder.join("hosts") }
    }

    fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.resolv_conf), stamp(&self.hosts)]
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.len(), about.modified().ok()))
}

impl System {
    /// A file that is not there counts as empty.
    ///
    /// # Errors
    /// In words, when resolv.conf cannot be read or understood.
    pub(super) fn read(files: &Files) -> Result<Self, String> {
        // Before what they hold: a change in between is seen at the next look.
        let stamps = files.stamps();
        let name = files.resolv_conf.display();
        let text = match fs::read_to_string(&files.resolv_conf) {
            Ok(text) => text,
            Err(error) if stamps[0].is_some() => return Err(format!("cannot read {name}: {error}")),
            Err(_) => String::new(),
        };
        let (text, bad) = sound(&text);
        if !bad.is_empty() {
            let bad = bad.join(" ");
            tracing::warn!(file = %name, "passed over in resolv.conf, since it cannot be understood: {}", bad.escape_debug());
        }
        let timeout = text.lines().any(|line| line.trim_start().starts_with("options") && line.contains("timeout:"));
        let parsed = parse_resolv_conf(&text).or_else(|_| parse_resolv_conf(text + NO_SERVER));
        let (config, options) = parsed.map_err(|error| format!("{name}: {error}"))?;
        let servers = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, DNS_PORT)).collect();
        let mut search = config.search().to_vec();
        if search.is_empty() {
            search.extend(config.domain().cloned());
        }
        let hosts = hosts(&fs::read_to_string(&files.hosts).unwrap_or_default());
        let timeout = timeout.then_some(options.timeout).filter(|limit| !limit.is_zero());
        Ok(Self { stamps, servers, search, dots: options.ndots, timeout, hosts })
    }

    pub(super) fn is_outdated(&self, files: &Files) -> bool {
        self.stamps != files.stamps()
    }

    /// Full names to try one after the other.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut full = name.clone();
        full.set_fqdn(true);
        if name.is_fqdn() {
            return vec![full];
        }
        // A name that grows too long with a domain cannot be there.
        let mut names: Vec<_> =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        let as_it_is_first = usize::from(name.num_labels()) > self.dots;
        names.insert(if as_it_is_first { 0 } else { names.len() }, full);
        names
    }

    /// The addresses of a name in the hosts file: those of IPv4, or where there are none those of IPv6.
    pub(super) fn hosts(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let all = self.hosts.get(plain(&name.to_ascii()).as_str())?;
        let any_v4 = all.iter().any(IpAddr::is_ipv4);
        Some(all.iter().copied().filter(|ip| ip.is_ipv4() == any_v4).collect())
    }
}

/// The lines that can be understood, and what cannot, as the C library passes it over: one bad search domain must not hide all
/// servers and all names.
fn sound(text: &str) -> (String, Vec<&str>) {
    let is_sound = |line: &str| parse_resolv_conf(format!("{line}{NO_SERVER}")).is_ok();
    let (mut lines, mut bad) = (vec![], vec![]);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            _ if is_sound(line) => lines.push(line.to_owned()),
            Some(key @ ("search" | "domain" | "options")) => {
                let (good, wrong): (Vec<_>, Vec<_>) = words.partition(|word| is_sound(&format!("{key} {word}")));
                bad.extend(wrong);
                if !good.is_empty() {
                    lines.push(format!("{key} {}", good.join(" ")));
                }
            }
            _ => bad.push(line),
        }
    }
    (lines.join("\n") + "\n", bad)
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// hosts(5): an address and its names on each line, `#` begins a comment.
fn hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<_, Vec<_>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        // An address with a zone (fe80::1%eth0) can be no endpoint.
        let Some(ip) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words {
            hosts.entry(plain(name)).or_default().push(ip);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(resolv_conf: &str, hosts: &str) -> System {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("resolv.conf"), resolv_conf).unwrap();
        fs::write(folder.path().join("hosts"), hosts).unwrap();
        System::read(&Files::of(folder.path())).unwrap()
    }

    fn candidates(system: &System, name: &str) -> Vec<String> {
        let name = Name::from_ascii(name).unwrap();
        system.candidates(&name).iter().map(Name::to_ascii).collect()
    }

    const IN_A_CLUSTER: &str = "search web.svc.cluster.local svc.cluster.local cluster.local\n\
        nameserver 10.96.0.10\noptions ndots:5\n";

    #[test]
    fn a_short_name_is_sought_in_the_domains_of_a_cluster_first() {
        let system = system(IN_A_CLUSTER, "");
        assert_eq!(system.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(
            candidates(&system, "php.shop"),
            ["php.shop.web.svc.cluster.local.", "php.shop.svc.cluster.local.", "php.shop.cluster.local.", "php.shop."]
        );
        assert_eq!(candidates(&system, "php.shop.svc.cluster.local.").len(), 1);
        assert_eq!(
            candidates(&system, "_fcgi._tcp.php.shop.svc.cluster.local")[0],
            "_fcgi._tcp.php.shop.svc.cluster.local."
        );
    }

    #[test]
    fn a_name_with_a_dot_is_tried_as_it_is_first_unless_more_dots_are_asked_for() {
        let system = system("search example.com.\nnameserver 10.0.0.1\nnameserver fd00::1\n", "");
        assert_eq!(system.servers.len(), 2);
        assert_eq!(candidates(&system, "php.shop"), ["php.shop.", "php.shop.example.com."]);
        assert_eq!(candidates(&system, "php"), ["php.example.com.", "php."]);
    }

    #[test]
    fn what_cannot_be_understood_is_passed_over_and_the_rest_holds() {
        let long = format!("search {} example.com\nnameserver 10.0.0.1\n", "a".repeat(64));
        for (text, candidate) in [
            ("search .internal shop.svc.cluster.local\nnameserver 10.0.0.1\n", "php.shop.svc.cluster.local."),
            ("search bad..label example.com\nnameserver 10.0.0.1\n", "php.example.com."),
            (&long, "php.example.com."),
            ("nameserver fe80::1%\nnameserver 10.0.0.1\nsearch example.com\n", "php.example.com."),
            ("options ndots:many rotate\nnameserver 10.0.0.1\nsearch example.com\n", "php.example.com."),
            ("domain bad..label\nnameserver 10.0.0.1\nrubbish\n", "php."),
        ] {
            let system = system(text, "");
            assert_eq!(system.servers, ["10.0.0.1:53".parse().unwrap()], "{text:?}");
            assert_eq!(candidates(&system, "php")[0], candidate, "{text:?}");
        }
    }

    #[test]
    fn a_timeout_of_the_file_is_kept_to() {
        assert_eq!(
            system("nameserver 10.0.0.1\noptions timeout:5 attempts:3\n", "").timeout,
            Some(Duration::from_secs(5))
        );
        assert_eq!(system("nameserver 10.0.0.1\noptions ndots:2\n", "").timeout, None);
    }

    #[test]
    fn without_a_server_that_of_the_machine_is_asked() {
        for text in ["", "search example.com\n", "# nothing"] {
            assert_eq!(system(text, "").servers, ["127.0.0.1:53".parse().unwrap()], "{text:?}");
        }
        let nowhere = Files::of(Path::new("/nonexistent"));
        assert_eq!(System::read(&nowhere).unwrap().servers.len(), 1);
    }

    #[test]
    fn the_hosts_file_is_read_with_its_comments_and_v4_comes_before_v6() {
        let system = system(
            "",
            "127.0.0.1 localhost Php.Shop # db\n# 10.0.0.9 db\n::1 localhost six\nfe80::1%lo zone\n10.0.0.2 php.shop\nrubbish\n",
        );
        let of = |name: &str| system.hosts(&Name::from_ascii(name).unwrap());
        let ips = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>());
        assert_eq!(of("localhost"), ips(&["127.0.0.1"]));
        assert_eq!(of("six."), ips(&["::1"]));
        assert_eq!(of("PHP.shop."), ips(&["127.0.0.1", "10.0.0.2"]));
        assert_eq!([of("db"), of("zone"), of("rubbish")], [None, None, None]);
    }

    #[test]
    fn a_change_of_either_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of(folder.path());
        for name in ["resolv.conf", "hosts"] {
            let system = System::read(&files).unwrap();
            assert!(!system.is_outdated(&files));
            fs::write(folder.path().join(name), "# one\n").unwrap();
            assert!(system.is_outdated(&files), "{name}");
        }
    }
}
