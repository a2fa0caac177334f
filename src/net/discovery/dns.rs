//! Endpoints by DNS: every address of a name, or the targets of its SRV records.
//!
//! What a lookup says and how it is found out is in [`resolver`]; when to ask and what to believe, in [`schedule`].

mod resolver;
mod schedule;
mod srv;
mod system;
#[cfg(test)]
mod tests;

use super::{Found, Sink, Source};
use crate::config::EndpointAddress;
use resolver::{Answer, Kind, Resolver, Trouble, addresses};
use schedule::{Known, Question};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub(super) use srv::Srv;

/// What the configuration says about a name.
#[derive(Clone, Debug)]
pub(in crate::net) struct Options {
    /// Asked in place of those of resolv.conf, unless it is empty.
    pub(in crate::net) servers: Vec<SocketAddr>,
    /// It is asked again after this at the latest.
    pub(in crate::net) refresh: Duration,
    /// Of each endpoint.
    pub(in crate::net) weight: u32,
    /// Of each endpoint.
    pub(in crate::net) zone: Option<String>,
}

/// Every address of a name, such as a headless Service's: its A records, or its AAAA records where it has no A.
#[derive(Debug)]
pub(in crate::net) struct Dns {
    name: String,
    port: u16,
    options: Options,
}

impl Dns {
    pub(in crate::net) fn new(name: String, port: u16, options: Options) -> Self {
        Self { name, port, options }
    }
}

impl Source for Dns {
    async fn watch(self, sink: Sink) {
        let resolver = Resolver::new(&self.name, &self.options.servers);
        let refresh = self.options.refresh;
        schedule::watch(Addresses { resolver, port: self.port, options: self.options }, refresh, sink).await;
    }
}

struct Addresses {
    resolver: Resolver,
    port: u16,
    options: Options,
}

impl Question for Addresses {
    async fn ask(&mut self) -> Result<Known, Trouble> {
        let Answer { records, lifetime, .. } = self.resolver.find(Kind::Addresses).await?;
        let found = addresses(&records).map(|ip| self.options.endpoint(ip, self.port, self.options.weight));
        Ok(Known::new(found.collect(), lifetime))
    }
}

impl Options {
    fn endpoint(&self, ip: IpAddr, port: u16, weight: u32) -> Found {
        let address = EndpointAddress::Tcp(SocketAddr::new(ip, port));
        Found { address, weight, zones: self.zone.iter().cloned().collect(), leaving: false }
    }
}
