//! Why the API server could not be asked, in words that say what to do.

use kube::core::Status;
use std::{error::Error, time::Duration};

/// An answer that is no Kubernetes answer, such as the page of a proxy, is cut off here.
const LONGEST: usize = 300;

#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(
        "no Kubernetes API server is known here: {0}; in a pod it is where a service account's token is mounted \
         (automountServiceAccountToken)"
    )]
    Nowhere(String),
    #[error(
        "the API server does not let us {verb} endpointslices in the namespace {namespace}: a Role there must allow \
         get, list and watch on endpointslices of discovery.k8s.io, and a RoleBinding give it to our service account \
         ({message})"
    )]
    Forbidden { verb: &'static str, namespace: String, message: String },
    #[error(
        "the API server does not know who we are (401), the service account's token may be missing or too old: {0}"
    )]
    Unknown(String),
    /// What has changed since is known no more: nothing is wrong, but all must be listed anew.
    #[error("the API server no longer knows what has changed since: {0}")]
    Gone(String),
    #[error(
        "the API server answers {code} when asked to {verb} endpointslices in the namespace {namespace}: {message}"
    )]
    Refused { code: u16, verb: &'static str, namespace: String, message: String },
    #[error("the API server {server} did not answer within {after:?} when asked to {verb}")]
    Late { server: String, verb: &'static str, after: Duration },
    #[error("cannot ask the API server {server}: {error}")]
    Broken { server: String, error: String },
}

impl Trouble {
    pub(super) fn nowhere(error: impl Error) -> Self {
        Self::Nowhere(with_causes(&error))
    }

    pub(super) fn refused(status: Status, verb: &'static str, namespace: &str) -> Self {
        let message = short(&status.message);
        match status.code {
            401 => Self::Unknown(message),
            403 => Self::Forbidden { verb, namespace: namespace.to_owned(), message },
            410 => Self::Gone(message),
            code => Self::Refused { code, verb, namespace: namespace.to_owned(), message },
        }
    }

    pub(super) fn broken(server: &str, error: &kube::Error) -> Self {
        let error = match error {
            kube::Error::Service(error) => with_causes(error.as_ref()),
            other => with_causes(other),
        };
        Self::Broken { server: server.to_owned(), error }
    }
}

/// An error and what it comes from, where it does not say that itself.
fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !words.contains(&own) {
            words = format!("{words}: {own}");
        }
        cause = error.source();
    }
    short(&words)
}

fn short(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> String {
        Trouble::refused(Status::failure("no", "Because").with_code(code), "watch", "shop").to_string()
    }

    #[test]
    fn words_say_what_is_missing() {
        let words = refused(403);
        let parts = ["watch endpointslices in the namespace shop", "get, list and watch", "discovery.k8s.io", "(no)"];
        assert!(parts.iter().all(|part| words.contains(part)), "{words}");
        assert!(refused(401).contains("token"));
        assert_eq!(
            refused(500),
            "the API server answers 500 when asked to watch endpointslices in the namespace shop: no"
        );
        assert!(matches!(Trouble::refused(Status::failure("", "").with_code(410), "list", "shop"), Trouble::Gone(_)));
    }

    #[test]
    fn causes_are_said_once_and_a_page_of_a_proxy_is_cut_short() {
        #[derive(Debug, thiserror::Error)]
        #[error("{words}")]
        struct Layer {
            words: &'static str,
            source: Option<Box<Self>>,
        }
        let inner = Layer { words: "refused (os error 111)", source: None };
        let middle = Layer { words: "tcp connect error", source: Some(Box::new(inner)) };
        let outer = Layer { words: "client error: tcp connect error", source: Some(Box::new(middle)) };
        assert_eq!(with_causes(&outer), "client error: tcp connect error: refused (os error 111)");
        let page = "<p>\n   ü</p>".repeat(100);
        assert_eq!(short(&page).chars().count(), LONGEST + 3);
        assert!(short(&page).starts_with("<p> ü</p><p> ü</p>"));
    }
}
