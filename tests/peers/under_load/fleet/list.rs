//! Where a program learns which pods there are.

use std::{fs, path::PathBuf};

use crate::support::{Folder, Pod};
use crate::under_load::fleet::site::items;

/// A list of endpoints that changes.
pub(crate) trait List {
    /// The item of the program's configuration.
    fn item(&self) -> String;
    /// What the program is started behind: `env NAME=VALUE`.
    fn command(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether the program has opened all that it keeps open to hear of changes.
    fn is_followed(&self) -> bool {
        true
    }
    /// From now on these; `leaving` is on its way out.
    fn publish(&self, pods: &[&Pod], leaving: Option<&Pod>);
}

/// A file of endpoints that is changed as Kubernetes changes a mounted one: replaced, never written to.
pub(crate) struct Endpoints {
    folder: Folder,
}

impl Endpoints {
    pub(crate) fn of(items: &[String]) -> Self {
        let endpoints = Self { folder: Folder::new() };
        endpoints.write(items);
        endpoints
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("endpoints.yaml")
    }

    /// Each item as it stands in the file: `{address: ..., weight: 2}`.
    pub(crate) fn write(&self, items: &[String]) {
        let text: String = items.iter().map(|item| format!("- {item}\n")).collect();
        let fresh = self.folder.write("fresh", if text.is_empty() { "[]\n" } else { &text });
        fs::rename(fresh, self.path()).expect("replace the file of endpoints");
    }
}

impl List for Endpoints {
    fn item(&self) -> String {
        format!("file: {}", self.path().display())
    }

    /// One that leaves is not in the file any more.
    fn publish(&self, pods: &[&Pod], _leaving: Option<&Pod>) {
        self.write(&items(pods));
    }
}

/// A Service of Kubernetes.
#[cfg(feature = "kubernetes")]
pub(crate) struct Service {
    api: crate::support::kubernetes::KubeApi,
    folder: Folder,
    port: u16,
}

#[cfg(feature = "kubernetes")]
impl Service {
    pub(crate) fn of(pods: &crate::support::Pods) -> Self {
        let service =
            Self { api: crate::support::kubernetes::KubeApi::start(), folder: Folder::new(), port: pods.port() };
        service.folder.write("kubeconfig", &service.api.kubeconfig("shop"));
        service
    }
}

#[cfg(feature = "kubernetes")]
impl List for Service {
    fn item(&self) -> String {
        "service: php".to_owned()
    }

    fn command(&self) -> Vec<String> {
        vec!["env".to_owned(), format!("KUBECONFIG={}", self.folder.join("kubeconfig").display())]
    }

    /// A connection for the list, and perhaps one of its own for the watch behind the list.
    fn is_followed(&self) -> bool {
        self.api.watches() > 0
    }

    fn publish(&self, pods: &[&Pod], leaving: Option<&Pod>) {
        let slice = crate::support::kubernetes::Slice::of("shop/php", "php-abc").port("fastcgi", self.port);
        let address = |pod: &Pod| pod.address().ip().to_string();
        let slice = pods.iter().fold(slice, |slice, pod| slice.ready(&address(pod)));
        self.api.apply(leaving.into_iter().fold(slice, |slice, pod| slice.terminating(&address(pod))));
    }
}
