//! Asking the API server: a list of slices, then a stream of what becomes of them.

use super::{lines::Lines, trouble::Trouble};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Client, Config, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
    client::ClientBuilder,
};
use std::{collections::BTreeMap, future::Future, ops::Range, pin::Pin, time::Duration};
use tokio::time::timeout;
use tower::util::MapResponseLayer;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a watch is asked to last, in seconds. The connection may be let go of then; what changes meanwhile is told
/// by the next one. Less than the 295 that the client library allows, and not the same for all: they do not come back
/// together.
const LASTS: Range<u32> = 230..290;

/// The slices of one Service, in the namespace and with the rights of this process.
pub(super) struct Api {
    slices: kube::Api<EndpointSlice>,
    selector: String,
    namespace: String,
    server: String,
    /// How long an answer may take.
    answer: Duration,
}

/// The slices by name, as of a version.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) slices: BTreeMap<String, EndpointSlice>,
    /// Where a watch begins.
    version: String,
}

pub(super) type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<EndpointSlice>>> + Send>>;

impl Api {
    /// Finds the API server: by a kubeconfig (`KUBECONFIG`, `~/.kube/config`), otherwise as a pod does. All files are
    /// read anew each time; later the token's and the authority's once a minute.
    pub(super) async fn find(namespace: Option<&str>, service: &str, answer: Duration) -> Result<Self, Trouble> {
        let config = Config::infer().await.map_err(Trouble::nowhere)?;
        Self::reach(config, namespace, service, answer).await
    }

    pub(super) async fn reach(
        mut config: Config,
        namespace: Option<&str>,
        service: &str,
        answer: Duration,
    ) -> Result<Self, Trouble> {
        config.connect_timeout = Some(CONNECT);
        // It would try again silently, for minutes.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        // It may run a program for a token, and builds a store of certificates: not beside requests.
        let client = tokio::task::spawn_blocking(|| client(config)).await;
        let client = client.map_err(Trouble::nowhere)?.map_err(Trouble::nowhere)?;
        // That of a pod is read from a file.
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().trim()).to_owned();
        let slices = kube::Api::namespaced(client, &namespace);
        Ok(Self { slices, selector: format!("kubernetes.io/service-name={service}"), namespace, server, answer })
    }

    pub(super) async fn list(&self) -> Result<Known, Trouble> {
        let parameters = ListParams::default().labels(&self.selector);
        let list = self.in_time("list", self.slices.list(&parameters)).await?;
        let slices = list.items.into_iter().map(|slice| (slice.name_any(), slice)).collect();
        Ok(Known { slices, version: list.metadata.resource_version.unwrap_or_default() })
    }

    /// What has changed since, and what changes from now on; with a sign of life a minute where nothing does.
    pub(super) async fn watch(&self, known: &Known) -> Result<Events, Trouble> {
        let lasts = LASTS.start + (LASTS.end - LASTS.start) * u32::from(super::random()) / 256;
        let parameters = WatchParams::default().labels(&self.selector).timeout(lasts);
        let events = self.in_time("watch", self.slices.watch(&parameters, &known.version)).await?;
        Ok(events.boxed())
    }

    async fn in_time<T>(&self, verb: &'static str, asked: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        match timeout(self.answer, asked).await {
            Ok(answer) => answer.map_err(|error| self.trouble(verb, error)),
            Err(_) => Err(Trouble::Late { server: self.server.clone(), verb, after: self.answer }),
        }
    }

    pub(super) fn trouble(&self, verb: &'static str, error: kube::Error) -> Trouble {
        match error {
            kube::Error::Api(status) => Trouble::refused(*status, verb, &self.namespace),
            other => Trouble::broken(&self.server, &other),
        }
    }
}

fn client(config: Config) -> kube::Result<Client> {
    let bounded = MapResponseLayer::new(|response: hyper::Response<_>| response.map(Lines::new));
    Ok(ClientBuilder::try_from(config)?.with_layer(&bounded).build())
}

impl Known {
    /// # Errors
    /// What the API server says in place of an event.
    pub(super) fn apply(&mut self, event: WatchEvent<EndpointSlice>, api: &Api) -> Result<(), Trouble> {
        let version = match event {
            WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                let version = slice.resource_version();
                self.slices.insert(slice.name_any(), slice);
                version
            }
            WatchEvent::Deleted(slice) => {
                self.slices.remove(&slice.name_any());
                slice.resource_version()
            }
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(api.trouble("watch", kube::Error::Api(status))),
        };
        if let Some(version) = version {
            self.version = version;
        }
        Ok(())
    }
}
