//! The EndpointSlices of one Service made into one list of endpoints.
//!
//! A Service with many pods has several slices, one of two address families two sets of them. While a pod moves from one
//! slice to another it is in both, and an address may belong to a pod that ends and to its successor at once.

use super::super::Found;
use crate::config::{EndpointAddress, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    net::{IpAddr, SocketAddr},
};

/// What the configuration says of a Service's endpoints.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Without one, each slice must have a single port.
    pub(super) port: Option<ServicePort>,
    pub(super) weight: u32,
    /// In place of what the slices say.
    pub(super) zone: Option<String>,
}

/// The endpoints by address, and what the operator should know of what is not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) found: Vec<Found>,
    pub(super) ignored: BTreeSet<String>,
}

/// There are pods, but none has the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPort {
    wanted: Option<ServicePort>,
    /// Ports of the slices that have endpoints.
    offered: BTreeSet<String>,
}

/// # Errors
/// No slice that has endpoints has the port that is wanted.
pub(super) fn merge<'s>(
    slices: impl IntoIterator<Item = &'s EndpointSlice>,
    wanted: &Wanted,
) -> Result<Merged, NoPort> {
    let mut ignored = BTreeSet::new();
    let slices = of_one_family(slices, &mut ignored);
    let (with, without): (Vec<_>, Vec<_>) = slices
        .into_iter()
        .filter(|slice| slice.endpoints.as_ref().is_some_and(|endpoints| !endpoints.is_empty()))
        .map(|slice| (slice, port_of(slice, wanted.port.as_ref())))
        .partition(|(_, port)| port.is_some());
    if !without.is_empty() {
        let offered = without.iter().flat_map(|(slice, _)| tcp_ports(slice).map(name_of)).collect();
        let missing = NoPort { wanted: wanted.port.clone(), offered };
        if with.is_empty() {
            return Err(missing);
        }
        ignored.insert(format!("some pods of it are not used: {missing}"));
    }
    let mut found: BTreeMap<SocketAddr, (bool, Found)> = BTreeMap::new();
    for (endpoint, port) in with.into_iter().flat_map(|(slice, port)| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.filter_map(move |endpoint| port.map(|port| (endpoint, port)))
    }) {
        match address_of(endpoint, port) {
            Ok(address) => add(&mut found, address, endpoint, wanted),
            Err(words) => _ = ignored.insert(words),
        }
    }
    let mut found: Vec<_> = found.into_values().collect();
    // As kube-proxy does where nobody else is there (KEP-1669): a pod that ends serves on until it is told to stop.
    if found.iter().all(|(_, one)| one.leaving) {
        found.iter_mut().for_each(|(serving, one)| one.leaving = !*serving);
    }
    Ok(Merged { found: found.into_iter().map(|(_, one)| one).collect(), ignored })
}

/// IPv4 where the Service has endpoints of it, as for names: each pod of a Service of both families is in slices of both. One that
/// has just been given the other family has slices of both, of which one set is empty.
fn of_one_family<'s>(
    slices: impl IntoIterator<Item = &'s EndpointSlice>,
    ignored: &mut BTreeSet<String>,
) -> Vec<&'s EndpointSlice> {
    let (mut ipv4, mut ipv6) = (vec![], vec![]);
    for slice in slices {
        match slice.address_type.as_str() {
            "IPv4" => ipv4.push(slice),
            "IPv6" => ipv6.push(slice),
            other => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                ignored.insert(format!("the EndpointSlice {name} is not used: its addresses are of the type {other}"));
            }
        }
    }
    let has_endpoints =
        |slices: &[&EndpointSlice]| slices.iter().any(|slice| slice.endpoints.iter().flatten().any(is_used));
    if has_endpoints(&ipv4) || !has_endpoints(&ipv6) && !ipv4.is_empty() { ipv4 } else { ipv6 }
}

/// It gets requests.
fn is_used(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let [ready, terminating] = [conditions.and_then(|each| each.ready), conditions.and_then(|each| each.terminating)];
    ready.unwrap_or(true) && !terminating.unwrap_or(false)
}

fn port_of(slice: &EndpointSlice, wanted: Option<&ServicePort>) -> Option<u16> {
    let mut numbers = tcp_ports(slice).filter_map(number_of);
    match wanted {
        // A slice without ports says nothing about them: they are "not restricted".
        Some(ServicePort::Number(number)) => {
            (tcp_ports(slice).next().is_none() || numbers.any(|port| port == *number)).then_some(*number)
        }
        Some(ServicePort::Name(name)) => {
            tcp_ports(slice).find(|port| port.name.as_deref() == Some(name)).and_then(number_of)
        }
        None => {
            let first = numbers.next()?;
            numbers.all(|port| port == first).then_some(first)
        }
    }
}

fn tcp_ports(slice: &EndpointSlice) -> impl Iterator<Item = &EndpointPort> {
    slice.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

fn number_of(port: &EndpointPort) -> Option<u16> {
    port.port.and_then(|number| u16::try_from(number).ok())
}

fn name_of(port: &EndpointPort) -> String {
    let number = number_of(port).map_or_else(|| "any".to_owned(), |number| number.to_string());
    match port.name.as_deref() {
        None | Some("") => number,
        Some(name) => format!("{name} ({number})"),
    }
}

/// All addresses of an endpoint reach the same pod; the first is enough.
fn address_of(endpoint: &Endpoint, port: u16) -> Result<SocketAddr, String> {
    let address = endpoint.addresses.first().map_or("", String::as_str);
    match address.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => Err(format!("an endpoint of it is not used: '{address}' is no IP address")),
    }
}

/// A pod that is not ready is left out, so that what runs there ends; of two at one address the ready one counts. With each stands
/// whether it serves though it ends.
fn add(found: &mut BTreeMap<SocketAddr, (bool, Found)>, address: SocketAddr, endpoint: &Endpoint, wanted: &Wanted) {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let leaving = conditions.terminating.unwrap_or(false);
    if !leaving && !conditions.ready.unwrap_or(true) {
        return;
    }
    let zones = match &wanted.zone {
        Some(zone) => vec![zone.clone()],
        None => zones_of(endpoint),
    };
    let serves = leaving && conditions.serving.unwrap_or(false);
    let one = (serves, Found { address: EndpointAddress::Tcp(address), weight: wanted.weight, zones, leaving });
    match found.entry(address) {
        Entry::Vacant(place) => _ = place.insert(one),
        Entry::Occupied(mut other) if other.get().1.leaving && !leaving => _ = other.insert(one),
        Entry::Occupied(_) => {}
    }
}

/// The zones that should use it, where the cluster hints at them, and otherwise the one that it is in.
fn zones_of(endpoint: &Endpoint) -> Vec<String> {
    let hints = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
    match hints {
        Some(zones) if !zones.is_empty() => zones.iter().map(|zone| zone.name.clone()).collect(),
        _ => endpoint.zone.iter().cloned().collect(),
    }
}

impl fmt::Display for NoPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered: Vec<_> = self.offered.iter().map(String::as_str).collect();
        let offered = if offered.is_empty() { "no TCP port".to_owned() } else { offered.join(", ") };
        match &self.wanted {
            Some(ServicePort::Name(name)) => write!(f, "its EndpointSlices have no port '{name}'; they have {offered}"),
            Some(ServicePort::Number(number)) => {
                write!(f, "its EndpointSlices have no port {number} (that of the pods counts); they have {offered}")
            }
            None => write!(f, "its EndpointSlices have {offered}: say which with `port`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(ports: &Value, endpoints: &Value) -> EndpointSlice {
        typed_slice("IPv4", ports, endpoints)
    }

    fn typed_slice(address_type: &str, ports: &Value, endpoints: &Value) -> EndpointSlice {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "php-abc"},
            "addressType": address_type, "ports": ports, "endpoints": endpoints,
        });
        serde_json::from_value(slice).unwrap()
    }

    fn fastcgi() -> Value {
        json!([{"name": "fastcgi", "port": 9000, "protocol": "TCP"}])
    }

    fn wanted(port: Option<ServicePort>) -> Wanted {
        Wanted { port, weight: 1, zone: None }
    }

    fn name(port: &str) -> Option<ServicePort> {
        Some(ServicePort::Name(port.to_owned()))
    }

    /// Addresses of what was found; `-` for one that leaves.
    fn found(slices: &[EndpointSlice], wanted: &Wanted) -> Vec<String> {
        let merged = merge(slices, wanted).unwrap();
        assert_eq!(merged.ignored, BTreeSet::new());
        merged.found.iter().map(|one| format!("{}{}", if one.leaving { "-" } else { "" }, one.address)).collect()
    }

    #[test]
    fn all_slices_of_the_service_count_together() {
        let slices = [
            slice(&fastcgi(), &json!([{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1", "10.9.9.9"]}])),
            slice(&fastcgi(), &json!([{"addresses": ["10.0.0.3"], "conditions": {"ready": true}}])),
            slice(&Value::Null, &Value::Null),
        ];
        assert_eq!(found(&slices, &wanted(None)), ["10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.3:9000"]);
        assert_eq!(found(&[], &wanted(None)), [""; 0]);
    }

    #[test]
    fn conditions_say_who_is_used_who_leaves_and_who_is_left_out() {
        let endpoints: Vec<_> = [
            json!({"ready": null, "serving": null, "terminating": null}),
            json!({"ready": true, "serving": true, "terminating": false}),
            json!({"ready": false, "serving": false, "terminating": false}),
            json!({"ready": false, "serving": true, "terminating": true}),
            json!({"ready": false, "serving": false, "terminating": true}),
            json!({"ready": true, "serving": true, "terminating": true}),
        ]
        .into_iter()
        .zip(1..)
        .map(|(conditions, n)| json!({"addresses": [format!("10.0.0.{n}")], "conditions": conditions}))
        .collect();
        let slices = [slice(&fastcgi(), &json!(endpoints))];
        let expected = ["10.0.0.1:9000", "10.0.0.2:9000", "-10.0.0.4:9000", "-10.0.0.5:9000", "-10.0.0.6:9000"];
        assert_eq!(found(&slices, &wanted(None)), expected);
    }

    #[test]
    fn where_nobody_else_is_there_those_that_end_and_serve_are_used() {
        let pod = |n: u8, ready: bool, serving: bool, terminating: bool| {
            let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
            json!({"addresses": [format!("10.0.0.{n}")], "conditions": conditions})
        };
        let of = |pods: &[Value]| found(&[slice(&fastcgi(), &json!(pods))], &wanted(None));
        let (serving, ended, unready) =
            (pod(1, false, true, true), pod(2, false, false, true), pod(3, false, false, false));
        assert_eq!(of(&[serving.clone(), ended.clone(), unready]), ["10.0.0.1:9000", "-10.0.0.2:9000"]);
        assert_eq!(of(std::slice::from_ref(&ended)), ["-10.0.0.2:9000"]);
        assert_eq!(of(&[serving, pod(4, true, true, false)]), ["-10.0.0.1:9000", "10.0.0.4:9000"]);
    }

    #[test]
    fn an_address_in_two_slices_counts_once_and_the_ready_one_wins() {
        let at = |ready: bool, terminating: bool, zone: &str| {
            let conditions = json!({"ready": ready, "terminating": terminating});
            slice(&fastcgi(), &json!([{"addresses": ["10.0.0.1"], "conditions": conditions, "zone": zone}]))
        };
        let (ready, leaving, out) = (at(true, false, "a"), at(false, true, "b"), at(false, false, "c"));
        for slices in [
            vec![ready.clone(), leaving.clone(), out.clone()],
            vec![out.clone(), leaving.clone(), ready.clone()],
            vec![leaving.clone(), ready.clone(), leaving.clone()],
        ] {
            let merged = merge(&slices, &wanted(None)).unwrap().found;
            assert_eq!(merged.len(), 1);
            assert!(!merged[0].leaving);
            assert_eq!(merged[0].zones, ["a"]);
        }
        assert_eq!(found(&[out, leaving], &wanted(None)), ["-10.0.0.1:9000"]);
    }

    #[test]
    fn a_port_is_found_by_name_by_number_or_because_it_is_the_only_one() {
        let ports = json!([
            {"name": "fastcgi", "port": 9000, "protocol": "TCP"},
            {"name": "status", "port": 9001},
            {"name": "fastcgi", "port": 53, "protocol": "UDP"},
        ]);
        let both = [slice(&ports, &json!([{"addresses": ["10.0.0.1"]}]))];
        assert_eq!(found(&both, &wanted(name("status"))), ["10.0.0.1:9001"]);
        assert_eq!(found(&both, &wanted(name("fastcgi"))), ["10.0.0.1:9000"]);
        assert_eq!(found(&both, &wanted(Some(ServicePort::Number(9000)))), ["10.0.0.1:9000"]);
        let same = json!([{"name": "a", "port": 9000}, {"name": "b", "port": 9000}]);
        assert_eq!(found(&[slice(&same, &json!([{"addresses": ["10.0.0.1"]}]))], &wanted(None)), ["10.0.0.1:9000"]);
        // A headless Service need not name ports.
        let none = [slice(&Value::Null, &json!([{"addresses": ["10.0.0.1"]}]))];
        assert_eq!(found(&none, &wanted(Some(ServicePort::Number(9000)))), ["10.0.0.1:9000"]);
        let says = |slices: &[EndpointSlice], port| merge(slices, &wanted(port)).unwrap_err().to_string();
        assert_eq!(says(&both, None), "its EndpointSlices have fastcgi (9000), status (9001): say which with `port`");
        assert_eq!(
            says(&both, name("php")),
            "its EndpointSlices have no port 'php'; they have fastcgi (9000), status (9001)"
        );
        assert_eq!(
            says(&both, Some(ServicePort::Number(80))),
            "its EndpointSlices have no port 80 (that of the pods counts); they have fastcgi (9000), status (9001)"
        );
        assert_eq!(says(&none, None), "its EndpointSlices have no TCP port: say which with `port`");
        assert_eq!(says(&none, name("php")), "its EndpointSlices have no port 'php'; they have no TCP port");
    }

    #[test]
    fn slices_without_the_port_are_left_out_where_others_have_it() {
        let old = slice(&json!([{"name": "http", "port": 8080}]), &json!([{"addresses": ["10.0.0.1"]}]));
        let empty = slice(&json!([{"name": "http", "port": 8080}]), &json!([]));
        let new = slice(&json!([{"name": "fastcgi", "port": 9001}]), &json!([{"addresses": ["10.0.0.2"]}]));
        let merged = merge(&[old.clone(), new.clone()], &wanted(name("fastcgi"))).unwrap();
        assert_eq!(merged.found.len(), 1);
        let words =
            "some pods of it are not used: its EndpointSlices have no port 'fastcgi'; they have http (8080)".to_owned();
        assert_eq!(merged.ignored, BTreeSet::from([words]));
        // Nobody is missed who is not there.
        assert_eq!(found(&[empty.clone(), new], &wanted(name("fastcgi"))), ["10.0.0.2:9001"]);
        assert_eq!(found(&[empty], &wanted(name("fastcgi"))), [""; 0]);
        // Pods that are not ready say which ports there are as well.
        let unready = slice(&fastcgi(), &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]));
        assert!(merge(std::slice::from_ref(&unready), &wanted(name("http"))).is_err());
        assert_eq!(found(&[unready], &wanted(name("fastcgi"))), [""; 0]);
    }

    #[test]
    fn ipv6_is_used_where_the_service_has_no_ipv4_and_names_never() {
        let v6 = typed_slice("IPv6", &fastcgi(), &json!([{"addresses": ["fd00::1"]}]));
        let v4 = slice(&fastcgi(), &json!([{"addresses": ["10.0.0.1"]}]));
        let empty = slice(&Value::Null, &json!([]));
        let unready = slice(&fastcgi(), &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]));
        let fqdn = typed_slice("FQDN", &fastcgi(), &json!([{"addresses": ["php.example"]}]));
        assert_eq!(found(std::slice::from_ref(&v6), &wanted(None)), ["[fd00::1]:9000"]);
        assert_eq!(found(&[v6.clone(), v4], &wanted(None)), ["10.0.0.1:9000"]);
        // The Service was given IPv4 a moment ago.
        assert_eq!(found(&[v6.clone(), empty.clone()], &wanted(None)), ["[fd00::1]:9000"]);
        assert_eq!(found(&[v6, unready.clone()], &wanted(None)), ["[fd00::1]:9000"]);
        assert_eq!(found(&[empty, unready], &wanted(None)), [""; 0]);
        let merged = merge(&[fqdn], &wanted(None)).unwrap();
        assert_eq!(merged.found, []);
        let words = "the EndpointSlice php-abc is not used: its addresses are of the type FQDN".to_owned();
        assert_eq!(merged.ignored, BTreeSet::from([words]));
    }

    #[test]
    fn zones_are_those_hinted_at_then_the_own_one_and_the_configuration_overrides_both() {
        let hints = json!({"forZones": [{"name": "b"}, {"name": "c"}]});
        let slices = [slice(
            &fastcgi(),
            &json!([
                {"addresses": ["10.0.0.1"], "zone": "a"},
                {"addresses": ["10.0.0.2"], "zone": "a", "hints": hints},
                {"addresses": ["10.0.0.3"], "zone": "a", "hints": {"forZones": []}},
                {"addresses": ["10.0.0.4"]},
            ]),
        )];
        let zones = |wanted: &Wanted| {
            let found = merge(&slices, wanted).unwrap().found;
            found.into_iter().map(|one| one.zones.join("+")).collect::<Vec<_>>()
        };
        assert_eq!(zones(&wanted(None)), ["a", "b+c", "a", ""]);
        let own = Wanted { port: None, weight: 3, zone: Some("x".to_owned()) };
        assert_eq!(zones(&own), ["x"; 4]);
        assert!(merge(&slices, &own).unwrap().found.iter().all(|one| one.weight == 3));
    }

    #[test]
    fn what_is_no_address_is_left_out_and_said() {
        let slices =
            [slice(&fastcgi(), &json!([{"addresses": ["php-1"]}, {"addresses": []}, {"addresses": ["10.0.0.1"]}]))];
        let merged = merge(&slices, &wanted(None)).unwrap();
        assert_eq!(merged.found.len(), 1);
        assert_eq!(merged.ignored.len(), 2);
        assert!(merged.ignored.contains("an endpoint of it is not used: 'php-1' is no IP address"));
    }
}
