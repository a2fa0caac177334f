//! Nodes to a [`Config`]: the file as a whole, its listeners and what stands beside the pools.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{
    Admin, Config, Dns, EndpointAddress, ListenAddress, Listener, Log, Origin, Pool, address,
    node::Node,
    pool,
    section::{Report, Section},
    source, value,
    word::Word,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Any duration that must pass before something happens. Zero would mean "at once, always".
pub(super) const SOME_TIME: RangeInclusive<Duration> = MILLISECOND..=DAY;
/// Request ids have 16 bits, and those of aborted requests rest (docs/applications.md).
pub(super) const IN_FLIGHT_AT_MOST: u32 = 10_000;
/// A duration where "at once" makes sense.
pub(super) const TIME_OR_NONE: RangeInclusive<Duration> = Duration::ZERO..=DAY;

/// `None` only if a violation was reported; there may be violations with `Some`, too.
pub(super) fn config(root: &Node, report: &Report) -> Option<Config> {
    let is_mapping = matches!(root, Node::Map(_) | Node::Null);
    let root = Section::root(root, report);
    if !is_mapping {
        return None;
    }
    let pool_sections = root.named_sections("pools");
    if pool_sections.is_empty() && root.is_sound(&["pools"]) {
        root.complain("pools", "missing; name at least one pool with its endpoints");
    }
    let pools: Vec<Pool> = pool_sections.iter().map(|(name, section)| pool::pool(name, section)).collect();
    let listeners = listeners(&root, &pools);
    let admin_section = root.section("admin");
    let listen = admin_section.value("listen", value::or_off(address::listen));
    let admin = Admin { listen, verbs: admin_section.value("verbs", Word::read) };
    refuse_shared_addresses(&listeners, &admin_section, &admin);
    for ((_, section), pool) in pool_sections.iter().zip(&pools) {
        refuse_loops(section, pool, &listeners);
    }
    let threads = NonZeroU32::new(root.value("threads", value::small_count(1..=64)))?;
    let drain_deadline = root.section("drain").value("deadline", value::duration(TIME_OR_NONE));
    let listeners = listeners.into_iter().map(|(_, listener)| listener).collect();
    let log = log(&root.section("log"));
    let zone = root.given("zone", source::zone);
    let dns = Dns { servers: root.section("dns").list("servers", address::dns_server) };
    Some(Config { listeners, pools, admin, log, zone, dns, threads, drain_deadline })
}

fn log(section: &Section<'_>) -> Log {
    Log {
        level: section.value("level", Word::read),
        format: section.value("format", Word::read),
        access: section.value("access", value::or_off(value::on_or_percent)),
    }
}

/// The listeners that have an address, each with its section for what is found wrong later.
fn listeners<'a>(root: &Section<'a>, pools: &[Pool]) -> Vec<(Section<'a>, Listener)> {
    // Those of pools that are wrong, too: a listener that names one of them has nothing wrong of its own.
    let pools: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    let sections = match root.listed_sections("listeners") {
        Some(sections) => sections,
        None if pools.len() > 1 => {
            root.complain("listeners", format!("missing, and there are several pools ({})", pools.join(", ")));
            return Vec::new();
        }
        None => vec![root.missing_item("listeners")],
    };
    if sections.is_empty() && root.is_sound(&["listeners"]) {
        root.complain("listeners", "empty; name at least one listener, or leave the key out");
    }
    let built = |section: Section<'a>| listener(&section, &pools).map(|listener| (section, listener));
    sections.into_iter().filter_map(built).collect()
}

fn listener(section: &Section<'_>, pools: &[&str]) -> Option<Listener> {
    let address = listen_address(section);
    let pool = listener_pool(section, pools);
    let max_connections = section.value("max_connections", value::small_count(1..=1_000_000));
    let max_requests_in_flight = section.value("max_requests_in_flight", value::small_count(1..=IN_FLIGHT_AT_MOST));
    let timeouts = section.section("timeouts");
    let read_timeout = timeouts.value("read", value::duration(SOME_TIME));
    let write_timeout = timeouts.value("write", value::duration(SOME_TIME));
    let (address, pool) = (address?, pool?);
    Some(Listener { address, pool, max_connections, max_requests_in_flight, read_timeout, write_timeout })
}

fn listen_address(section: &Section<'_>) -> Option<ListenAddress> {
    if !section.has("tcp") {
        let path = section.value("socket", address::socket_path);
        let mode = section.value("mode", value::mode);
        let group = section.given("group", address::group);
        // The default in place of a wrong path would clash with a listener that has that path.
        return section.is_sound(&["socket"]).then_some(ListenAddress::Unix { path, mode, group });
    }
    for name in ["mode", "group"].into_iter().filter(|name| section.has(name)) {
        section.complain(name, "only for a listener with a socket; remove it");
    }
    if section.has("socket") {
        section.complain("tcp", "a listener has one address; remove socket or tcp");
        return None;
    }
    section.given("tcp", address::listen).map(ListenAddress::Tcp)
}

fn listener_pool(section: &Section<'_>, pools: &[&str]) -> Option<String> {
    let named = section.given("pool", |node| match node {
        Node::Text(name) if pools.contains(&name.as_str()) => Ok(name.clone()),
        Node::Text(_) if pools.is_empty() => Err(format!("{node} is not a pool; there is none")),
        _ => Err(format!("{node} is not a pool; those that exist: {}", pools.join(", "))),
    });
    match pools {
        _ if named.is_some() || section.has("pool") => named,
        [only] => Some((*only).to_owned()),
        [] => None,
        _ => {
            section
                .complain("pool", format!("missing, and there are several pools; name one of: {}", pools.join(", ")));
            None
        }
    }
}

fn refuse_shared_addresses(listeners: &[(Section<'_>, Listener)], admin_section: &Section<'_>, admin: &Admin) {
    for (index, (section, listener)) in listeners.iter().enumerate() {
        if listeners[..index].iter().any(|(_, other)| same_address(&other.address, &listener.address)) {
            section.complain_here(format!("another listener has the address {} already", listener.address));
        }
    }
    let Some(listen) = admin.listen.map(ListenAddress::Tcp) else { return };
    if listeners.iter().any(|(_, listener)| same_address(&listener.address, &listen)) {
        admin_section.complain("listen", format!("a listener has the address {listen} already"));
    }
}

fn same_address(left: &ListenAddress, right: &ListenAddress) -> bool {
    match (left, right) {
        (ListenAddress::Unix { path: left, .. }, ListenAddress::Unix { path: right, .. }) => left == right,
        // Port 0 is another free port each time.
        (ListenAddress::Tcp(left), ListenAddress::Tcp(right)) => left == right && left.port() != 0,
        _ => false,
    }
}

/// A request that came back to its own listener would go round until every limit is reached.
fn refuse_loops(section: &Section<'_>, pool: &Pool, listeners: &[(Section<'_>, Listener)]) {
    let own = |endpoint: &&EndpointAddress| listeners.iter().any(|(_, of)| leads_to(endpoint, &of.address));
    // What a name or a service leads to is not known here.
    let mut known = pool.endpoints.iter().filter_map(|source| match &source.origin {
        Origin::Address(endpoint) => Some(endpoint),
        _ => None,
    });
    if let Some(endpoint) = known.find(own) {
        section.complain("endpoints", format!("{endpoint} is one of this program's own listeners"));
    }
}

fn leads_to(endpoint: &EndpointAddress, listener: &ListenAddress) -> bool {
    match (endpoint, listener) {
        (EndpointAddress::Unix(endpoint), ListenAddress::Unix { path, .. }) => endpoint == path,
        (EndpointAddress::Tcp(endpoint), ListenAddress::Tcp(address)) => endpoint == address,
        _ => false,
    }
}
