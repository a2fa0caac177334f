//! One lookup, as the system would do it but never from a cache: /etc/hosts, then the servers, with search domains.
//!
//! * Servers are asked one after the other, beginning with the one that had an answer last, so that a dead one costs its
//!   timeout once. They are not raced: two that do not agree for a moment would make endpoints come and go.
//! * That there is no such name is believed of the one that is asked first only. Those behind it may be for other names:
//!   Consul's server and then that of the network. As long as the first is silent, such a word says nothing.
//! * A name without a dot at its end is sought in the search domains. Where it was found first it is asked from then
//!   on: when `php.shop` has no pods for a moment, the `php.shop.` of somebody else's domain must not take its place.
//! * /etc/resolv.conf and /etc/hosts are read again once they change.

use super::system::{Files, System};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, Record, RecordType},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// How long a server may take where resolv.conf does not say (`options timeout:`); what is lost on the way is sent again within it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A server that did not answer is asked so often again before the next one's turn: a resolver that had to ask others
/// first has the answer by then.
const AGAIN: usize = 1;
/// What is in the hosts file holds for so long: until somebody looks again.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// Of which type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A, or AAAA where there is no A.
    Addresses,
    Services,
}

/// Records of a name; one at least.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    /// What the server thinks will be asked for next.
    pub(super) additional: Vec<Record>,
    pub(super) lifetime: Duration,
}

/// Why there are no records, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A server says that there are none.
    Nothing(String),
    /// Nobody answered.
    Failed(String),
}

/// Looks one name up, again and again.
pub(super) struct Resolver {
    name: String,
    /// In place of those of resolv.conf; may be empty.
    servers: Vec<SocketAddr>,
    files: Files,
    setup: Option<Setup>,
    /// The full name that it was found under.
    found_as: Option<Name>,
}

/// What one round of questions is asked with.
struct Setup {
    system: System,
    servers: Vec<Server>,
    /// Had an answer last.
    preferred: AtomicUsize,
}

struct Server {
    address: SocketAddr,
    client: TokioResolver,
}

impl Resolver {
    pub(super) fn new(name: &str, servers: &[SocketAddr]) -> Self {
        Self::with_files(name, servers, Files::default())
    }

    pub(super) fn with_files(name: &str, servers: &[SocketAddr], files: Files) -> Self {
        Self { name: name.to_owned(), servers: servers.to_vec(), files, setup: None, found_as: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Looks the name up, in the search domains as well.
    pub(super) async fn find(&mut self, kind: Kind) -> Result<Answer, Trouble> {
        let name = Name::from_ascii(&self.name).map_err(|error| Trouble::Failed(error.to_string()))?;
        let before = self.setup.take();
        if before.as_ref().is_some_and(|before| before.system.is_outdated(&self.files)) {
            // The domain that it was found in may not be searched any more.
            self.found_as = None;
        }
        let setup = self.setup.insert(Setup::new(&self.files, &self.servers, before).map_err(Trouble::Failed)?);
        if let Some(answer) = setup.listed(&name, kind) {
            return Ok(answer);
        }
        if let Some(full) = &self.found_as {
            return setup.lookup(full, kind).await;
        }
        let (full, answer) = setup.search(&name, kind).await?;
        self.found_as = full;
        Ok(answer)
    }

    /// The addresses of another name, in full. To be called behind [`Self::find`].
    pub(super) async fn addresses(&self, full: &Name) -> Result<Answer, Trouble> {
        let Some(setup) = &self.setup else { return Err(Trouble::Failed("no servers".into())) };
        match setup.listed(full, Kind::Addresses) {
            Some(answer) => Ok(answer),
            None => setup.lookup(full, Kind::Addresses).await,
        }
    }
}

impl Setup {
    /// With what still holds of the setup before.
    ///
    /// Nothing that is connected does: behind a kept connection there may be a process of the server that knows nothing
    /// newer (dnsmasq).
    fn new(files: &Files, servers: &[SocketAddr], before: Option<Self>) -> Result<Self, String> {
        let (system, preferred) = match before {
            Some(before) if !before.system.is_outdated(files) => (before.system, before.preferred),
            _ => (System::read(files)?, AtomicUsize::new(0)),
        };
        let servers = if servers.is_empty() { &system.servers } else { servers };
        let timeout = system.timeout.unwrap_or(TIMEOUT);
        let servers = servers.iter().map(|address| Server::new(*address, timeout)).collect::<Result<_, _>>()?;
        Ok(Self { system, servers, preferred })
    }

    fn listed(&self, name: &Name, kind: Kind) -> Option<Answer> {
        let addresses = self.system.hosts(name).filter(|_| kind == Kind::Addresses)?;
        let records = addresses.into_iter().map(|ip| Record::from_rdata(name.clone(), 0, RData::from(ip))).collect();
        Some(Answer { records, additional: vec![], lifetime: FOR_EVER })
    }

    /// Tries the name's candidates until one has records, and says which, if it is sure that those before have none.
    ///
    /// As in the C library a candidate that nobody knows anything about is passed over: it may be in the domain of a
    /// server that cannot be reached at all. If none has records, such a one leaves open whether there are any.
    async fn search(&self, name: &Name, kind: Kind) -> Result<(Option<Name>, Answer), Trouble> {
        let mut trouble: Option<Trouble> = None;
        for full in self.system.candidates(name) {
            match self.lookup(&full, kind).await {
                Ok(answer) => {
                    let sure = !matches!(trouble, Some(Trouble::Failed(_)));
                    return Ok((sure.then_some(full), answer));
                }
                // The last word of those who know, but the first failure.
                Err(Trouble::Nothing(_)) if matches!(trouble, Some(Trouble::Failed(_))) => {}
                Err(failed @ Trouble::Failed(_)) => {
                    trouble = Some(trouble.filter(|first| matches!(first, Trouble::Failed(_))).unwrap_or(failed));
                }
                Err(nothing) => trouble = Some(nothing),
            }
        }
        Err(trouble.unwrap_or_else(|| Trouble::Failed(format!("{name} is too long for the search domains"))))
    }

    async fn lookup(&self, full: &Name, kind: Kind) -> Result<Answer, Trouble> {
        match kind {
            Kind::Services => self.ask(full, RecordType::SRV).await.map_err(|refusal| refusal.trouble),
            Kind::Addresses => match self.ask(full, RecordType::A).await {
                Err(Refusal { exists: true, .. }) => {
                    self.ask(full, RecordType::AAAA).await.map_err(|refusal| refusal.trouble)
                }
                answer => answer.map_err(|refusal| refusal.trouble),
            },
        }
    }

    /// Asks one server after the other until one answers, be it that there is nothing.
    async fn ask(&self, full: &Name, kind: RecordType) -> Result<Answer, Refusal> {
        let first = self.preferred.load(Ordering::Relaxed);
        let (mut failures, mut exists) = (vec![], false);
        for number in (first..self.servers.len()).chain(0..first) {
            let Server { address, client } = &self.servers[number];
            let error = match client.lookup(full.clone(), kind).await {
                Ok(lookup) => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Answer::new(&lookup, kind).ok_or_else(|| Refusal::nothing(full, kind, true));
                }
                Err(error) => error,
            };
            if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error {
                exists |= none.response_code != ResponseCode::NXDomain;
                if failures.is_empty() {
                    return Err(Refusal::nothing(full, kind, exists));
                }
            }
            failures.push(format!("{address}: {}", in_words(&error)));
        }
        let words = format!("cannot look {full} up: {}", failures.join("; "));
        Err(Refusal { trouble: Trouble::Failed(words), exists })
    }
}

struct Refusal {
    trouble: Trouble,
    /// The name has records of another type, as far as the server says.
    exists: bool,
}

impl Refusal {
    fn nothing(full: &Name, kind: RecordType, exists: bool) -> Self {
        let words = if exists { format!("{full} has no {kind} record") } else { format!("{full} does not exist") };
        Self { trouble: Trouble::Nothing(words), exists }
    }
}

fn in_words(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::ResponseCode(code)) => format!("{code:?}"),
        NetError::Dns(DnsError::NoRecordsFound(_)) => "no such record, but it was not the first to be asked".into(),
        NetError::Timeout => "no answer in time".into(),
        NetError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl Server {
    fn new(address: SocketAddr, timeout: Duration) -> Result<Self, String> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = timeout;
        options.attempts = AGAIN;
        // Who remembers an answer hides the next.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let client = builder.build().map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { address, client })
    }
}

impl Answer {
    /// None: no record of this type, but a CNAME that leads nowhere.
    fn new(lookup: &Lookup, kind: RecordType) -> Option<Self> {
        let all = lookup.answers();
        let records: Vec<_> = all.iter().filter(|record| record.record_type() == kind).cloned().collect();
        let shortest = all.iter().map(|record| record.ttl).min()?;
        let lifetime = Duration::from_secs(shortest.into());
        let additional = lookup.additionals().to_vec();
        (!records.is_empty()).then_some(Self { records, additional, lifetime })
    }
}

/// The addresses in records of type A and AAAA.
pub(super) fn addresses(records: &[Record]) -> impl Iterator<Item = IpAddr> {
    records.iter().filter_map(|record| record.data.ip_addr())
}
