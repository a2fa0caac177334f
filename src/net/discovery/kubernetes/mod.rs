//! The endpoints of a Kubernetes Service, by watching its EndpointSlices.
//!
//! A list of the slices, then a watch from the list's version on. What breaks the watch ends in a new list, which takes
//! the place of all that was known at once: nothing is taken away for having not been heard of yet. A watch that just
//! ends, as each does after some minutes, is continued from where it was, without a list.
//!
//! Not `kube::runtime::watcher`: it keeps bookmarks and new connections to itself, so that a quiet Service could not be
//! told from a dead connection; it goes on at once, and for ever, with a server that ends each watch as soon as it has
//! begun; and a version that the server refuses in any way but by an event of 410 is asked for again without end.

mod api;
mod lines;
mod pace;
mod slices;
#[cfg(test)]
mod tests;
mod trouble;

use super::{Found, Sink, Source};
use crate::{config::ServicePort, net::clock};
use api::{Api, Events, Known};
use futures_util::StreamExt;
use pace::{Pace, random};
use slices::Wanted;
use std::{collections::BTreeSet, convert::Infallible, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};
use trouble::Trouble;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// An answer of the API server: the whole list, or the beginning of a watch.
    answer: Duration,
    /// A watch that has not been heard of for so long may be on a dead connection, and begins anew. A server sends a
    /// bookmark a minute where nothing else is to be said.
    silence: Duration,
    /// As above, while there is somebody who could not connect to an endpoint.
    doubt: Duration,
    /// What changes in so short a time is one change: a pod that moves from one slice to another may be in none for a
    /// moment.
    settle: Duration,
    /// Between attempts: the first, and the longest.
    pause: (Duration, Duration),
}

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(15),
    silence: Duration::from_secs(65),
    doubt: Duration::from_secs(10),
    settle: Duration::from_millis(50),
    pause: (Duration::from_millis(200), Duration::from_secs(15)),
};

/// One Service as a source of endpoints.
pub(super) struct Service {
    /// Without one, the own.
    namespace: Option<String>,
    name: String,
    wanted: Wanted,
    /// The way to the API server; without one it is looked for at each attempt.
    way: Option<kube::Config>,
    patience: Patience,
}

impl Service {
    pub(super) fn new(
        namespace: Option<String>,
        name: String,
        port: Option<ServicePort>,
        weight: u32,
        zone: Option<String>,
    ) -> Self {
        Self { namespace, name, wanted: Wanted { port, weight, zone }, way: None, patience: PATIENCE }
    }
}

impl Source for Service {
    async fn watch(self, sink: Sink) {
        let mut report = Report { service: &self, sink: &sink, found: None, ignored: BTreeSet::new() };
        let mut pace = Pace::new(self.patience.pause);
        loop {
            let Err(trouble) = self.follow(&mut report, &mut pace).await;
            sink.failed(trouble);
            pace.rest().await;
        }
    }
}

impl Service {
    /// Until something goes wrong.
    async fn follow(&self, report: &mut Report<'_>, pace: &mut Pace) -> Result<Infallible, Trouble> {
        let (namespace, answer) = (self.namespace.as_deref(), self.patience.answer);
        let api = match &self.way {
            Some(way) => Api::reach(way.clone(), namespace, &self.name, answer).await?,
            None => Api::find(namespace, &self.name, answer).await?,
        };
        loop {
            let mut known = api.list().await?;
            // It need not last: where only the watch fails, each list is no reason to say that all is well.
            report.tell_news(&known);
            match self.listen(&api, &mut known, report, pace).await {
                Err(Trouble::Gone(words)) => tracing::debug!(service = self.name, "listed anew: {words}"),
                Err(trouble) => return Err(trouble),
                Ok(never) => match never {},
            }
            pace.rest().await;
        }
    }

    /// One watch after the other.
    async fn listen(
        &self,
        api: &Api,
        known: &mut Known,
        report: &mut Report<'_>,
        pace: &mut Pace,
    ) -> Result<Infallible, Trouble> {
        loop {
            let mut events = api.watch(known).await?;
            report.tell(known);
            self.hear(&mut events, api, known, report).await?;
            pace.rest().await;
        }
    }

    /// To the end of one watch.
    async fn hear(
        &self,
        events: &mut Events,
        api: &Api,
        known: &mut Known,
        report: &mut Report<'_>,
    ) -> Result<(), Trouble> {
        loop {
            let heard = tokio::select! {
                heard = timeout(self.patience.silence, events.next()) => heard,
                () = self.doubted(report.sink) => return Ok(()),
            };
            let Ok(Some(mut event)) = heard else { return Ok(()) };
            let settled = Instant::now() + self.patience.settle;
            let ended = loop {
                known.apply(event.map_err(|error| api.trouble("watch", error))?, api)?;
                match timeout_at(settled, events.next()).await {
                    Ok(Some(next)) => event = next,
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            report.tell(known);
            if ended {
                return Ok(());
            }
        }
    }

    /// Ready when an endpoint could not be reached, and its end may have been missed. One that is still in the slices may
    /// just be ill: those who watch it are many, so that this is asked only after a while of silence.
    async fn doubted(&self, sink: &Sink) {
        let since = clock::now();
        loop {
            sink.nudged().await;
            if clock::now() - since >= self.patience.doubt {
                return;
            }
        }
    }
}

/// What the sink has been told.
struct Report<'s> {
    service: &'s Service,
    sink: &'s Sink,
    found: Option<Vec<Found>>,
    /// What has been said of those left out.
    ignored: BTreeSet<String>,
}

impl Report<'_> {
    fn tell(&mut self, known: &Known) {
        if !self.tell_news(known) {
            self.sink.confirmed();
        }
    }

    /// Only what differs from what has been told; false where nothing does.
    fn tell_news(&mut self, known: &Known) -> bool {
        let merged = match slices::merge(known.slices.values(), &self.service.wanted) {
            Ok(merged) => merged,
            Err(no_port) => {
                self.sink.failed(no_port);
                return true;
            }
        };
        for words in merged.ignored.difference(&self.ignored) {
            tracing::warn!(service = self.service.name, "{words}");
        }
        self.ignored = merged.ignored;
        if self.found.as_ref() == Some(&merged.found) {
            return false;
        }
        if known.slices.is_empty() {
            let name = &self.service.name;
            tracing::warn!(
                service = name,
                "it has no EndpointSlices: is there a Service of this name, with a selector?"
            );
        }
        self.sink.found(merged.found.clone());
        self.found = Some(merged.found);
        true
    }
}
