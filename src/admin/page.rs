//! What is answered on which path.

use super::{
    AdminState, Limits,
    board::{Board, CONTENT_SECURITY_POLICY, PAGE},
    guard, json,
    route::{Route, Shown},
    show::{self, Missing},
    verb::{self, Patience},
};
use crate::mux::command::Command;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY as CSP, CONTENT_TYPE, HeaderName, HeaderValue,
        REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde::Serialize;
use std::net::SocketAddr;
use tokio::{sync::Semaphore, time};
use tokio_util::sync::CancellationToken;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const INDEX: &str = concat!(
    "fcgimux ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "/          the pool page in a browser, otherwise this text\n",
    "/help      this text\n",
    "/overview  what the pool page shows, as JSON\n",
    "/metrics   for Prometheus\n",
    "/livez     200 while the event loop turns\n",
    "/readyz    200 while requests are taken\n",
    "\n",
    "/pools                            every pool, as JSON\n",
    "/pools/POOL                       one of them\n",
    "/pools/POOL/endpoints             where its requests go\n",
    "/pools/POOL/endpoints/ENDPOINT    one of those\n",
    "/pools/POOL/connections           its connections to applications\n",
    "/pools/POOL/waiters               its requests that wait for one\n",
    "\n",
    "By POST, from where admin.verbs allows it; with ?wait=10s answered once it is done:\n",
    "/pools/POOL/pause                        requests wait, nothing is sent\n",
    "/pools/POOL/resume\n",
    "/pools/POOL/reconnect                    every connection is replaced\n",
    "/pools/POOL/endpoints/ENDPOINT/drain     what runs there ends, nothing new comes\n",
    "/pools/POOL/endpoints/ENDPOINT/undrain\n",
);

type Answer = Response<Full<Bytes>>;

/// Who asks.
pub(super) struct Client<'a> {
    pub(super) address: SocketAddr,
    /// See [`Limits::waits`].
    pub(super) waits: &'a Semaphore,
    /// Its connection is about to end: an answer that can be given later is given now.
    pub(super) ending: &'a CancellationToken,
}

pub(super) async fn respond<B>(
    state: &AdminState,
    board: &Board,
    limits: Limits,
    client: &Client<'_>,
    request: &Request<B>,
) -> Answer {
    let path = request.uri().path();
    let Some(route) = Route::of(path) else {
        return error(path, StatusCode::NOT_FOUND, "no such page; / lists them");
    };
    if let Route::Verb { pool, command } = route {
        return verb(state, limits, client, request, &pool, &command).await;
    }
    // hyper leaves out the body of an answer to HEAD.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed(path, "GET, HEAD");
    }
    match route {
        Route::Metrics => answer(StatusCode::OK, PROMETHEUS, state.scrape()),
        Route::Live => live(state, limits).await,
        Route::Ready => ready(state),
        Route::Show(shown) => show(state, &shown),
        Route::Overview => answer(StatusCode::OK, JSON, board.document(state)),
        Route::Index => index(request),
        Route::Help | Route::Verb { .. } => text(StatusCode::OK, INDEX),
    }
}

/// The page for whoever takes one: curl and programs get the text that they have always got.
fn index<B>(request: &Request<B>) -> Answer {
    let takes_pages = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|all| all.contains("text/html")));
    let mut answer = if takes_pages { answer(StatusCode::OK, HTML, PAGE) } else { text(StatusCode::OK, INDEX) };
    let headers = [
        (VARY, "accept"),
        (CSP, CONTENT_SECURITY_POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    headers
        .into_iter()
        .for_each(|(name, value)| _ = answer.headers_mut().insert(name, HeaderValue::from_static(value)));
    answer
}

async fn live(state: &AdminState, limits: Limits) -> Answer {
    match time::timeout(limits.ping, state.process.ping()).await {
        Ok(Ok(())) => text(StatusCode::OK, "ok\n"),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "event loop ended\n"),
        Err(_) => {
            let message = format!("event loop did not turn within {:?}\n", limits.ping);
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, message)
        }
    }
}

fn ready(state: &AdminState) -> Answer {
    if state.process.ready() {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "not ready: a listener is not bound yet, or draining\n")
    }
}

fn show(state: &AdminState, shown: &Shown) -> Answer {
    found(show::show(&*state.process, shown))
}

async fn verb<B>(
    state: &AdminState,
    limits: Limits,
    client: &Client<'_>,
    request: &Request<B>,
    pool: &str,
    command: &Command,
) -> Answer {
    if request.method() != Method::POST {
        return not_allowed(request.uri().path(), "POST");
    }
    let process = &*state.process;
    let (uri, headers) = (request.uri(), request.headers());
    if let Some(why) = guard::refusal(process.verbs(), client.address.ip(), uri, headers) {
        tracing::debug!(peer = %client.address, path = uri.path(), "a verb was refused: {why}");
        return error(uri.path(), StatusCode::FORBIDDEN, why);
    }
    let wait = match verb::wait_of(uri.query(), limits.connection_age) {
        Ok(wait) => wait,
        Err(why) => return error(uri.path(), StatusCode::BAD_REQUEST, &why),
    };
    let patience = Patience { wait, places: client.waits, ending: client.ending };
    found(verb::perform(process, client.address, pool, command, patience).await)
}

fn found(text: Result<String, Missing>) -> Answer {
    match text {
        Ok(text) => answer(StatusCode::OK, JSON, text),
        Err(missing) => answer(StatusCode::NOT_FOUND, JSON, json::text(&missing)),
    }
}

/// As JSON where answers are JSON.
fn error(path: &str, status: StatusCode, why: &str) -> Answer {
    #[derive(Serialize)]
    struct Why<'a> {
        error: &'a str,
    }
    if path.starts_with("/pools") {
        answer(status, JSON, json::text(&Why { error: why }))
    } else {
        answer(status, TEXT, format!("{why}\n"))
    }
}

fn not_allowed(path: &str, allowed: &'static str) -> Answer {
    let mut answer = error(path, StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, TEXT, body)
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
