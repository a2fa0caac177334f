//! Where a pool's endpoints come from: several sources, one list.
//!
//! Each [`Source`] looks for endpoints by itself and tells its [`Sink`] the whole list whenever it differs. What it found
//! last stays while it cannot be asked. The lists of a pool's sources are merged by address and handed on together.

mod dns;
mod file;
mod fixed;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod sink;

use crate::{
    config::{self, EndpointAddress, EndpointSource, Origin},
    metrics::{DiscoveryMetrics, PoolMetrics},
    mux::pool::Member,
};
use dns::{Dns, Srv};
use file::FileSource;
use fixed::Fixed;
#[cfg(feature = "kubernetes")]
use kubernetes::Service;
use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc};
use tokio::task::JoinSet;

pub(super) use sink::{Sink, Sinks};

/// What all pools of a process share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Surroundings {
    /// The own zone.
    pub(super) zone: Option<String>,
    /// DNS servers; none: those of the system.
    pub(super) dns_servers: Vec<SocketAddr>,
}

/// The sources of one pool at work. Dropped, nobody looks any more.
pub(super) struct Discovery {
    sources: Vec<EndpointSource>,
    settings: config::Discovery,
    surroundings: Surroundings,
    sinks: Arc<Sinks>,
    _tasks: JoinSet<()>,
}

/// One endpoint as a source found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: EndpointAddress,
    pub(super) weight: u32,
    /// Zones that it serves; none: unknown.
    pub(super) zones: Vec<String>,
    /// It is on its way out: what runs there ends, nothing new comes.
    pub(super) leaving: bool,
}

/// Where endpoints come from.
pub(super) trait Source: Send + 'static {
    /// Looks for endpoints until it is dropped. Never ends by itself.
    fn watch(self, sink: Sink) -> impl Future<Output = ()> + Send;
}

impl Discovery {
    /// Has a pool's sources looked at; `told` is called with the whole list each time that it may differ. `before`: what has
    /// been at work for this pool until now. Sources that stay go on with what they have found; what others have found stays
    /// until each new source has answered once, so that a change of settings empties no pool.
    ///
    /// To be called inside a runtime.
    pub(super) fn start(
        pool: &config::Pool,
        surroundings: &Surroundings,
        metrics: &PoolMetrics,
        before: Option<Self>,
        told: impl Fn(Vec<Member>) + Send + Sync + 'static,
    ) -> Self {
        let same = |old: &Self| {
            (&old.sources, &old.settings, &old.surroundings) == (&pool.endpoints, &pool.discovery, surroundings)
        };
        let before = match before {
            Some(old) if same(&old) => return old,
            before => before,
        };
        let stays = match &before {
            Some(old) => old.of_others(&pool.endpoints),
            // The core begins with these as well: none of them leaves while the sources tell one by one.
            None => pool.endpoints.iter().filter_map(fixed).collect(),
        };
        let sinks = Sinks::new(&pool.name, surroundings.zone.clone(), pool.endpoints.len(), stays, told);
        let mut tasks = JoinSet::new();
        for (index, source) in pool.endpoints.iter().enumerate() {
            let name = source.origin.to_string();
            // A fixed address is never looked for again, and its last success would look older and older.
            let metrics = match source.origin {
                Origin::Address(_) => DiscoveryMetrics::default(),
                _ => metrics.discovery(&name),
            };
            let sink = sinks.sink(index, name, metrics);
            let known = before.as_ref().and_then(|old| old.find(source));
            known.into_iter().for_each(|list| sinks.carry(index, list));
            spawn(&mut tasks, source, pool, surroundings, sink);
        }
        sinks.tell();
        let (sources, settings) = (pool.endpoints.clone(), pool.discovery.clone());
        Self { sources, settings, surroundings: surroundings.clone(), sinks, _tasks: tasks }
    }

    /// What a source has found so far, if it is one of these.
    fn find(&self, source: &EndpointSource) -> Option<Option<Vec<Found>>> {
        let place = self.sources.iter().position(|own| own == source)?;
        Some(self.sinks.list(place))
    }

    /// What all sources but these have found.
    fn of_others(&self, sources: &[EndpointSource]) -> Vec<Found> {
        let others = self.sources.iter().filter(|source| !sources.contains(source));
        others.filter_map(|source| self.find(source)?).flatten().collect()
    }

    /// An endpoint could not be reached: it may have gone, with another in its place.
    pub(super) fn nudge(&self) {
        self.sinks.nudge();
    }
}

/// An endpoint that need not be looked for.
fn fixed(source: &EndpointSource) -> Option<Found> {
    let Origin::Address(address) = &source.origin else { return None };
    let zones = source.zone.iter().cloned().collect();
    Some(Found { address: address.clone(), weight: source.weight, zones, leaving: false })
}

fn spawn(
    tasks: &mut JoinSet<()>,
    source: &EndpointSource,
    pool: &config::Pool,
    surroundings: &Surroundings,
    sink: Sink,
) {
    let EndpointSource { origin, weight, zone } = source.clone();
    let options = |weight, zone| dns::Options {
        servers: surroundings.dns_servers.clone(),
        refresh: pool.discovery.refresh,
        weight,
        zone,
    };
    match origin {
        Origin::Address(address) => _ = tasks.spawn(Fixed::new(address, weight, zone).watch(sink)),
        Origin::Dns { name, port } => _ = tasks.spawn(Dns::new(name, port, options(weight, zone)).watch(sink)),
        Origin::Srv { name } => _ = tasks.spawn(Srv::new(name, options(weight, zone)).watch(sink)),
        Origin::File(path) => _ = tasks.spawn(FileSource::new(path, weight, zone).watch(sink)),
        #[cfg(feature = "kubernetes")]
        Origin::Service { namespace, name, port } => {
            _ = tasks.spawn(Service::new(namespace, name, port, weight, zone).watch(sink));
        }
        // Refused when the configuration was read.
        #[cfg(not(feature = "kubernetes"))]
        Origin::Service { .. } => {}
    }
}

/// The endpoints of all sources: an address that several name counts once, as the first of them describes it, and leaves
/// only when all of them say so.
fn merge<'a>(lists: impl IntoIterator<Item = &'a Vec<Found>>, zone: Option<&str>) -> Vec<Member> {
    let mut places: HashMap<&EndpointAddress, usize> = HashMap::new();
    let mut members: Vec<Member> = vec![];
    for found in lists.into_iter().flatten() {
        let place = *places.entry(&found.address).or_insert(members.len());
        match members.get_mut(place) {
            Some(member) => member.leaving &= found.leaving,
            None => members.push(Member {
                address: found.address.clone(),
                weight: found.weight,
                near: zone.is_none_or(|own| found.zones.is_empty() || found.zones.iter().any(|zone| zone == own)),
                leaving: found.leaving,
            }),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, zones: &[&str], leaving: bool) -> Found {
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        Found { address: EndpointAddress::Tcp(address.parse().unwrap()), weight: 1, zones, leaving }
    }

    #[test]
    fn an_address_of_several_sources_is_one_endpoint_that_stays_while_any_of_them_keeps_it() {
        let lists = [
            vec![found("10.0.0.1:9000", &[], true), found("10.0.0.2:9000", &[], true)],
            vec![found("10.0.0.1:9000", &[], false), found("10.0.0.3:9000", &[], false)],
        ];
        let members = merge(&lists, None);
        let leaving: Vec<_> = members.iter().map(|member| (member.address.to_string(), member.leaving)).collect();
        let at = |host: &str| format!("10.0.0.{host}:9000");
        assert_eq!(leaving, [(at("1"), false), (at("2"), true), (at("3"), false)]);
    }

    #[test]
    fn an_endpoint_is_near_in_the_own_zone_or_where_no_zone_is_known() {
        let lists = [vec![found("10.0.0.1:9000", &["a", "b"], false), found("10.0.0.2:9000", &["c"], false)]];
        let near = |zone| merge(&lists, zone).iter().map(|member| member.near).collect::<Vec<_>>();
        assert_eq!(near(None), [true, true]);
        assert_eq!(near(Some("b")), [true, false]);
        assert_eq!(near(Some("d")), [false, false]);
    }
}
