//! What is answered on which path.

use super::{AdminState, Limits};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use tokio::time;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

const INDEX: &str = concat!(
    "fcgimux ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "/metrics  for Prometheus\n",
    "/livez    200 while the event loop turns\n",
    "/readyz   200 while requests are taken\n",
);

type Answer = Response<Full<Bytes>>;

pub(super) async fn respond<B>(state: &AdminState, limits: Limits, request: &Request<B>) -> Answer {
    let path = request.uri().path();
    if !matches!(path, "/" | "/metrics" | "/livez" | "/readyz") {
        return text(StatusCode::NOT_FOUND, "no such page\n");
    }
    // hyper leaves out the body of an answer to HEAD.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/metrics" => answer(StatusCode::OK, PROMETHEUS, state.scrape()),
        "/livez" => live(state, limits).await,
        "/readyz" => ready(state),
        _ => text(StatusCode::OK, INDEX),
    }
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

fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, TEXT, body)
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
