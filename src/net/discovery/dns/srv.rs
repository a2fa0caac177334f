//! SRV records: endpoints with a port and a weight each.
//!
//! Only the targets with the lowest priority number are used of which at least one has an address; those behind are a
//! reserve for when they are gone, not for when they fail. Weights say how targets of one priority relate, so they are
//! reduced by what they have in common: a cluster that gives each of its three pods the weight 33 means "alike". Times
//! the weight of the item in the configuration; scaled down where the largest would be above 100, to 1 at least.

use super::{
    Options,
    resolver::{Answer, Kind, Resolver, Trouble, addresses},
    schedule::{self, Known, Question},
};
use crate::net::discovery::{Found, Sink, Source};
use futures_util::future::join_all;
use hickory_resolver::proto::rr::{RData, Record, rdata::SRV};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Targets whose addresses are asked for at the same time.
const AT_ONCE: usize = 16;
/// Largest weight of an endpoint.
const WEIGHT_AT_MOST: u64 = 100;

/// The targets of a name's SRV records.
#[derive(Debug)]
pub(in crate::net) struct Srv {
    name: String,
    options: Options,
}

impl Srv {
    pub(in crate::net) fn new(name: String, options: Options) -> Self {
        Self { name, options }
    }
}

impl Source for Srv {
    async fn watch(self, sink: Sink) {
        let resolver = Resolver::new(&self.name, &self.options.servers);
        let refresh = self.options.refresh;
        schedule::watch(Services { resolver, options: self.options }, refresh, sink).await;
    }
}

pub(super) struct Services {
    pub(super) resolver: Resolver,
    pub(super) options: Options,
}

/// Addresses of one target.
struct Target<'a> {
    record: &'a SRV,
    addresses: Vec<IpAddr>,
    lifetime: Duration,
}

impl Question for Services {
    async fn ask(&mut self) -> Result<Known, Trouble> {
        let Answer { records, additional, lifetime } = self.resolver.find(Kind::Services).await?;
        let mut nothing = None;
        for records in by_priority(&records).into_values() {
            let mut targets = vec![];
            for some in records.chunks(AT_ONCE) {
                for target in join_all(some.iter().map(|record| self.target(record, &additional))).await {
                    match target {
                        Ok(target) => targets.push(target),
                        Err(Trouble::Nothing(words)) => nothing = Some(words),
                        Err(failed) => return Err(failed),
                    }
                }
            }
            if !targets.is_empty() {
                let lifetime = targets.iter().map(|target| target.lifetime).fold(lifetime, Duration::min);
                return Ok(Known::new(self.endpoints(&targets), lifetime));
            }
        }
        Err(Trouble::Nothing(nothing.unwrap_or_else(|| format!("{} is said not to be offered", self.resolver.name()))))
    }
}

impl Services {
    async fn target<'a>(&self, record: &'a SRV, additional: &[Record]) -> Result<Target<'a>, Trouble> {
        let brought: Vec<_> = additional.iter().filter(|other| other.name == record.target).cloned().collect();
        if let Some((addresses, lifetime)) = preferred(&brought) {
            return Ok(Target { record, addresses, lifetime });
        }
        let Answer { records, lifetime, .. } = self.resolver.addresses(&record.target).await?;
        Ok(Target { record, addresses: addresses(&records).collect(), lifetime })
    }

    fn endpoints(&self, targets: &[Target<'_>]) -> Vec<Found> {
        let weights = weights(targets.iter().map(|target| target.record.weight), self.options.weight);
        let of_target = |(target, weight): (&Target<'_>, u32)| {
            let port = target.record.port;
            target.addresses.iter().map(|ip| self.options.endpoint(*ip, port, weight)).collect::<Vec<_>>()
        };
        targets.iter().zip(weights).flat_map(of_target).collect()
    }
}

/// Without those whose target is the root: it says that there is no such service (RFC 2782). Port 0 cannot be connected to.
fn by_priority(records: &[Record]) -> BTreeMap<u16, Vec<&SRV>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        if let RData::SRV(record) = &record.data
            && !record.target.is_root()
            && record.port != 0
        {
            groups.entry(record.priority).or_default().push(record);
        }
    }
    groups
}

/// The addresses among records that came along: those of IPv4, or where there are none those of IPv6.
fn preferred(records: &[Record]) -> Option<(Vec<IpAddr>, Duration)> {
    let any_v4 = addresses(records).any(|ip| ip.is_ipv4());
    let addresses: Vec<_> = addresses(records).filter(|ip| ip.is_ipv4() == any_v4).collect();
    let lifetime = records.iter().map(|record| record.ttl).min()?;
    (!addresses.is_empty()).then_some((addresses, Duration::from_secs(lifetime.into())))
}

fn weights(records: impl Iterator<Item = u16>, item: u32) -> Vec<u32> {
    let given: Vec<u64> = records.map(|weight| u64::from(weight.max(1))).collect();
    let common = given.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<u64> = given.iter().map(|weight| weight / common * u64::from(item)).collect();
    let largest = weights.iter().copied().max().unwrap_or_default().max(WEIGHT_AT_MOST);
    // At most 100, so it fits.
    let scaled = |weight: u64| u32::try_from((weight * WEIGHT_AT_MOST).div_ceil(largest)).unwrap_or(1);
    weights.into_iter().map(|weight| scaled(weight).max(1)).collect()
}

fn greatest_common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_reduced_by_what_they_have_in_common() {
        for (records, item, expected) in [
            (vec![33, 33, 33], 1, vec![1, 1, 1]),
            (vec![0, 0], 3, vec![3, 3]),
            (vec![10, 20, 0], 1, vec![10, 20, 1]),
            (vec![10, 20, 50], 2, vec![2, 4, 10]),
            (vec![1, 1000], 1, vec![1, 100]),
            (vec![65_535, 32_767, 1], 100, vec![100, 50, 1]),
            (vec![3, 2], 50, vec![100, 67]),
            (vec![], 1, vec![]),
        ] {
            assert_eq!(weights(records.iter().copied(), item), expected, "{records:?} times {item}");
        }
    }
}
