//! What a source tells, and what becomes of it: one list for the pool, a time for the metrics, a line for the log.

use super::{Found, merge};
use crate::{config::EndpointAddress, metrics::DiscoveryMetrics, mux::pool::Member, net::clock};
use std::{
    fmt::Display,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A source that cannot be asked is logged again this often.
const REMIND: Duration = Duration::from_secs(60);
/// ... and this often when something else is wrong.
const REMIND_OF_OTHER: Duration = Duration::from_secs(5);
/// A source is asked to look again, because of connections that failed, at most this often.
const NUDGE_PAUSE: Duration = Duration::from_secs(1);

/// Endpoints of one source; far beyond any use, and what a wrong answer may cost is bounded by it.
const ENDPOINTS_AT_MOST: usize = 2_000;

/// What is done with the merged list.
type Told = Box<dyn Fn(Vec<Member>) + Send + Sync>;

/// What the sources of one pool have in common.
pub(in crate::net) struct Sinks {
    pool: String,
    zone: Option<String>,
    lists: Mutex<Lists>,
    told: Told,
    /// Somebody could not connect.
    nudge: Notify,
}

struct Lists {
    /// By source; `None`: it has not answered yet.
    own: Vec<Option<Vec<Found>>>,
    /// By source: it is new and has not answered yet.
    awaited: Vec<bool>,
    /// What other sources have found that were there before; stays until each new one has answered.
    before: Vec<Found>,
}

/// Where one source tells what it found.
pub(in crate::net) struct Sink {
    sinks: Arc<Sinks>,
    /// Its place among the sources of its pool.
    index: usize,
    /// As in the configuration.
    name: String,
    metrics: DiscoveryMetrics,
    trouble: Mutex<Option<Trouble>>,
    /// When it was last asked to look again.
    nudged: Mutex<Option<Instant>>,
}

struct Trouble {
    since: Instant,
    logged: Instant,
    /// What was logged.
    words: String,
}

impl Sinks {
    /// `zone`: the own one. `told` is called with the merged list each time that a source has found something; while one
    /// call runs there is no other.
    pub(in crate::net) fn new(
        pool: &str,
        zone: Option<String>,
        sources: usize,
        before: Vec<Found>,
        told: impl Fn(Vec<Member>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let lists = Mutex::new(Lists { own: vec![None; sources], awaited: vec![true; sources], before });
        Arc::new(Self { pool: pool.to_owned(), zone, lists, told: Box::new(told), nudge: Notify::new() })
    }

    pub(in crate::net) fn sink(self: &Arc<Self>, index: usize, name: String, metrics: DiscoveryMetrics) -> Sink {
        Sink { sinks: self.clone(), index, name, metrics, trouble: Mutex::new(None), nudged: Mutex::new(None) }
    }

    /// A source that has been at work before, with what it has found so far.
    pub(in crate::net) fn carry(&self, index: usize, list: Option<Vec<Found>>) {
        let mut lists = self.lists.lock().expect("no panic under this lock");
        (lists.own[index], lists.awaited[index]) = (list, false);
    }

    /// What one source has found so far.
    pub(in crate::net) fn list(&self, index: usize) -> Option<Vec<Found>> {
        self.lists.lock().expect("no panic under this lock").own[index].clone()
    }

    /// Hands on what is in use.
    pub(in crate::net) fn tell(&self) {
        self.tell_of(&mut self.lists.lock().expect("no panic under this lock"));
    }

    fn tell_of(&self, lists: &mut Lists) {
        if !lists.awaited.contains(&true) {
            lists.before.clear();
        }
        (self.told)(merge(lists.all(), self.zone.as_deref()));
    }

    /// An endpoint could not be reached: it may have gone, with another in its place.
    pub(in crate::net) fn nudge(&self) {
        self.nudge.notify_waiters();
    }
}

/// A host's own address, that of nobody, or of many at once: what filters of DNS answer in place of a name's addresses.
fn is_possible(address: &EndpointAddress) -> bool {
    let EndpointAddress::Tcp(address) = address else { return true };
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast || address.port() == 0)
}

impl Lists {
    fn all(&self) -> impl Iterator<Item = &Vec<Found>> {
        self.own.iter().flatten().chain([&self.before])
    }
}

impl Sink {
    /// The whole list of this source, empty or not.
    pub(in crate::net) fn found(&self, mut all: Vec<Found>) {
        self.sort_out(&mut all);
        self.confirmed();
        self.metrics.endpoints(all.len());
        // Nothing that can panic is done under these locks but what the pool does, whose lock is as strict.
        let mut lists = self.sinks.lists.lock().expect("no panic under this lock");
        (lists.own[self.index], lists.awaited[self.index]) = (Some(all), false);
        self.sinks.tell_of(&mut lists);
    }

    /// Takes out what cannot be an endpoint, and what is too much.
    fn sort_out(&self, all: &mut Vec<Found>) {
        let (pool, source) = (&self.sinks.pool, &self.name);
        all.retain(|found| {
            let possible = is_possible(&found.address);
            if !possible {
                tracing::warn!(pool, source, "{} can be no endpoint; it is left out", found.address);
            }
            possible
        });
        if all.len() > ENDPOINTS_AT_MOST {
            let count = all.len();
            tracing::warn!(pool, source, "{count} endpoints found; {ENDPOINTS_AT_MOST} of them are used");
            all.truncate(ENDPOINTS_AT_MOST);
        }
    }

    /// Asked or heard with success; nothing is new.
    pub(in crate::net) fn confirmed(&self) {
        self.metrics.succeeded();
        let trouble = self.trouble.lock().expect("no panic under this lock").take();
        if let Some(Trouble { since, .. }) = trouble {
            let lasted = clock::now() - since;
            tracing::info!(pool = self.sinks.pool, source = self.name, "discovery works again after {lasted:.1?}");
        }
    }

    /// It has said for long enough that there is nothing: what it found before goes.
    pub(in crate::net) fn gone(&self, words: impl Display) {
        let (pool, source) = (&self.sinks.pool, &self.name);
        tracing::warn!(pool, source, "{words}");
        // Not a failure that is over.
        *self.trouble.lock().expect("no panic under this lock") = None;
        self.found(vec![]);
    }

    /// It could not be asked; what it found before stays.
    pub(in crate::net) fn failed(&self, words: impl Display) {
        let (now, words) = (clock::now(), words.to_string());
        let mut trouble = self.trouble.lock().expect("no panic under this lock");
        let lasted = match trouble.as_mut() {
            None => {
                *trouble = Some(Trouble { since: now, logged: now, words: words.clone() });
                Duration::ZERO
            }
            Some(trouble) if now - trouble.logged >= if trouble.words == words { REMIND } else { REMIND_OF_OTHER } => {
                (trouble.logged, trouble.words) = (now, words.clone());
                now - trouble.since
            }
            Some(_) => return,
        };
        drop(trouble);
        let (pool, source) = (&self.sinks.pool, &self.name);
        let rest = match self.sinks.list(self.index) {
            Some(_) => "the endpoints found before stay in use",
            None => "it has found none yet, and goes on looking",
        };
        tracing::warn!(pool, source, "discovery has failed for {:.0} s: {words}; {rest}", lasted.as_secs_f64());
    }

    /// Ready when somebody could not connect to an endpoint: worth looking again.
    pub(in crate::net) async fn nudged(&self) {
        self.sinks.nudge.notified().await;
        let last = self.nudged.lock().expect("no panic under this lock").replace(clock::now());
        if let Some(early) = last.and_then(|last| NUDGE_PAUSE.checked_sub(clock::now() - last)) {
            tokio::time::sleep(early).await;
        }
    }
}
