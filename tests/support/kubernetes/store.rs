//! The slices and the history of their changes, as far as it is still known.

use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) struct Store {
    version: u64,
    /// Changes up to here are forgotten.
    compacted: u64,
    /// By namespace and name.
    slices: BTreeMap<(String, String), Value>,
    changes: Vec<Change>,
}

/// Before and after; none where it did not exist.
struct Change {
    version: u64,
    namespace: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// What is asked for.
#[derive(Clone)]
pub(super) struct Selection {
    pub(super) namespace: String,
    /// A label and its value.
    pub(super) label: Option<(String, String)>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { version: 1000, compacted: 1000, slices: BTreeMap::new(), changes: vec![] }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn apply(&mut self, mut slice: Value) {
        self.version += 1;
        let text = |value: &Value| value.as_str().expect("namespace and name of a slice").to_owned();
        let (namespace, name) = (text(&slice["metadata"]["namespace"]), text(&slice["metadata"]["name"]));
        slice["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.slices.insert((namespace.clone(), name), slice.clone());
        self.changes.push(Change { version: self.version, namespace, before, after: Some(slice) });
    }

    /// Whether it was there.
    pub(super) fn delete(&mut self, namespace: &str, name: &str) -> bool {
        self.version += 1;
        let Some(before) = self.slices.remove(&(namespace.to_owned(), name.to_owned())) else { return false };
        let (version, namespace) = (self.version, namespace.to_owned());
        self.changes.push(Change { version, namespace, before: Some(before), after: None });
        true
    }

    pub(super) fn advance(&mut self) {
        self.version += 1;
    }

    pub(super) fn compact(&mut self) {
        self.advance();
        self.compacted = self.version;
        self.changes.clear();
    }

    pub(super) fn knows(&self, version: u64) -> bool {
        version >= self.compacted
    }

    pub(super) fn list(&self, selection: &Selection) -> Value {
        let items: Vec<_> = self
            .slices
            .iter()
            .filter(|((namespace, _), slice)| selection.takes(namespace, slice))
            .map(|(_, slice)| {
                // A list says once what its items are.
                let mut slice = slice.clone();
                if let Some(fields) = slice.as_object_mut() {
                    fields.remove("kind");
                    fields.remove("apiVersion");
                }
                slice
            })
            .collect();
        json!({
            "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items,
        })
    }

    /// The events behind a version, with the version that each leads to.
    pub(super) fn since(&self, version: u64, selection: &Selection) -> Vec<(u64, Value)> {
        let changes = self.changes.iter().filter(|change| change.version > version);
        changes.filter_map(|change| Some((change.version, change.event(selection)?))).collect()
    }
}

impl Change {
    /// A slice that no longer matches is deleted, for who asked for those that do.
    fn event(&self, selection: &Selection) -> Option<Value> {
        let matching = |slice: &Option<Value>| slice.clone().filter(|slice| selection.takes(&self.namespace, slice));
        let (kind, mut slice) = match (matching(&self.before), matching(&self.after)) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(before), None) => ("DELETED", before),
        };
        slice["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Some(json!({"type": kind, "object": slice}))
    }
}

impl Selection {
    fn takes(&self, namespace: &str, slice: &Value) -> bool {
        let labelled = |(label, value): &(String, String)| slice["metadata"]["labels"][label] == json!(value);
        namespace == self.namespace && self.label.as_ref().is_none_or(labelled)
    }
}
