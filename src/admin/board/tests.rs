use super::*;
use crate::{
    admin::tests::Stage,
    mux::label::{ConnectionState, EndpointState, Outcome, Refusal},
};
use http_body_util::BodyExt;
use hyper::Method;
use overview::{Level, Pool};

const SECOND: Duration = Duration::from_secs(1);

/// Ticks once a second.
async fn pass(stage: &Stage, seconds: u32) {
    for _ in 0..seconds {
        tokio::time::advance(SECOND).await;
        stage.board.tick(&stage.state);
    }
}

async fn overview(stage: &Stage) -> Overview {
    serde_json::from_str(&stage.get("/overview").await.1).unwrap()
}

/// The pool `php`, a second later: not from a document that has been kept.
async fn php(stage: &Stage) -> Pool {
    pass(stage, 1).await;
    overview(stage).await.pools.swap_remove(0)
}

fn exchanges(stage: &Stage, outcome: Outcome, count: u32, took: Duration) {
    (0..count).for_each(|_| stage.state.metrics.pool("php").exchange(outcome, took));
}

#[tokio::test(start_paused = true)]
async fn rates_and_times_are_those_of_the_last_seconds() {
    let stage = Stage::new();
    exchanges(&stage, Outcome::Ok, 1000, 10 * SECOND);
    stage.board.tick(&stage.state);
    exchanges(&stage, Outcome::Ok, 50, Duration::from_millis(30));
    exchanges(&stage, Outcome::Timeout, 10, Duration::from_millis(30));
    pass(&stage, 4).await;
    let pool = php(&stage).await;
    assert_eq!((pool.requests_per_second, pool.failures.per_second), (12.0, 2.0));
    let p99 = pool.p99_seconds.unwrap();
    assert!((0.025..=0.05).contains(&p99), "what was before does not count: {p99}");
    assert_eq!((pool.requests.ok, pool.requests.timeout, pool.failures.recent), (1050, 10, 10));
    pass(&stage, 20).await;
    let later = php(&stage).await;
    assert_eq!((later.requests_per_second, later.p99_seconds, later.failures.recent), (0.0, None, 10));
}

#[tokio::test(start_paused = true)]
async fn the_history_has_a_sample_every_five_seconds_whoever_looks() {
    let stage = Stage::new();
    stage.board.tick(&stage.state);
    for _ in 0..4 {
        exchanges(&stage, Outcome::Ok, 10, SECOND);
        pass(&stage, 2).await;
        // A page does not sample.
        overview(&stage).await;
        pass(&stage, 3).await;
    }
    let pool = php(&stage).await;
    assert_eq!(pool.history.requests_per_second, [2.0; 4]);
    assert_eq!(pool.history.queue_depth, [3; 4]);
    assert_eq!(pool.history.connections_in_use, [4; 4]);
    pass(&stage, 1000).await;
    assert_eq!(php(&stage).await.history.failures.len(), 180);
}

#[tokio::test(start_paused = true)]
async fn failures_between_samples_are_counted_once() {
    let stage = Stage::new();
    stage.board.tick(&stage.state);
    for number in 1..=17 {
        exchanges(&stage, Outcome::Broken, 1, SECOND);
        assert_eq!(php(&stage).await.failures.recent, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_saturated_pool_says_since_when_and_where() {
    let stage = Stage::new();
    stage.lock().pool.endpoints[0].saturated = true;
    stage.board.tick(&stage.state);
    pass(&stage, 129).await;
    let condition = php(&stage).await.condition;
    assert_eq!((condition.level, condition.for_seconds), (Level::Saturated, 130.0));
    let text = "Saturated for 2 min 10 s: 3 wait, oldest 1.5 s; 10.0.0.7:9000 has no free worker; /run/php.sock is not \
                well";
    assert_eq!(condition.text, text);
    assert_eq!(condition.cause, "10.0.0.7:9000 has no free worker; /run/php.sock is not well");
    let endpoints = php(&stage).await.endpoints;
    let saturated: Vec<_> = endpoints.iter().map(|one| (&*one.endpoint, one.saturated_for_seconds)).collect();
    assert_eq!(saturated, [("/run/php.sock", None), ("10.0.0.7:9000", Some(131.0))]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_empty_for_a_moment_is_still_the_same_saturation() {
    let stage = Stage::new();
    stage.board.tick(&stage.state);
    pass(&stage, 10).await;
    stage.lock().pool.queue_depth = 0;
    pass(&stage, 1).await;
    assert_eq!(php(&stage).await.condition.level, Level::Saturated);
    stage.lock().pool.queue_depth = 3;
    assert_eq!(php(&stage).await.condition.for_seconds, 13.0);
    stage.lock().pool.queue_depth = 0;
    pass(&stage, 3).await;
    assert_eq!(php(&stage).await.condition.level, Level::Degraded, "the other endpoint is ejected");
}

#[tokio::test(start_paused = true)]
async fn who_waits_a_moment_for_a_connection_is_no_saturation_unless_all_are_in_use() {
    let stage = Stage::new();
    stage.lock().pool.oldest_wait = Duration::from_millis(20);
    assert_eq!(php(&stage).await.condition.level, Level::Degraded);
    stage.lock().pool.endpoints[0].connections[ConnectionState::Idle as usize] = 0;
    stage.lock().pool.endpoints[0].connections[ConnectionState::Leased as usize] = 8;
    let pool = php(&stage).await;
    assert!(pool.endpoints[1].full);
    let said = "3 wait, oldest 20 ms; 10.0.0.7:9000 has all its connections in use; /run/php.sock is not well";
    assert_eq!(pool.condition.text, format!("Saturated for 0 s: {said}"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_says_the_worst_of_what_is_wrong_with_it() {
    let stage = Stage::new();
    let level = |pool: Pool| pool.condition;
    stage.lock().pool.queue_depth = 0;
    stage.lock().pool.endpoints[1].state = EndpointState::Up;
    let well = level(php(&stage).await);
    assert_eq!((well.level, &*well.text), (Level::Well, "Well: nobody waits; 4 of 16 connections in use"));
    stage.lock().pool.endpoints[1].state = EndpointState::Suspect;
    assert_eq!(level(php(&stage).await).text, "Degraded for 0 s: /run/php.sock is suspect; nobody waits");
    exchanges(&stage, Outcome::Broken, 3, SECOND);
    exchanges(&stage, Outcome::Ok, 9, SECOND);
    assert_eq!(level(php(&stage).await).text, "Failing for 0 s: 3 of the last 12 requests; nobody waits");
    stage.lock().pool.endpoints.iter_mut().for_each(|endpoint| endpoint.state = EndpointState::Ejected);
    let text = "Down for 0 s: /run/php.sock and 10.0.0.7:9000 are ejected; nobody waits";
    assert_eq!(level(php(&stage).await).text, text);
    stage.lock().pool.endpoints.clear();
    assert_eq!(level(php(&stage).await).text, "Down for 1 s: no endpoint has been found; nobody waits");
    stage.lock().pool.queue_depth = 1;
    stage.lock().pool.paused = true;
    assert_eq!(level(php(&stage).await).text, "Paused by an operator for 0 s: 1 waits, for 1.5 s");
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_is_shown_as_it_was_said() {
    let stage = Stage::new();
    assert_eq!(php(&stage).await.failures.last, None);
    let pool = stage.state.metrics.pool("php");
    pool.failed("broken", Some(&"10.0.0.7:9000"), &"<b>closed</b>\n\u{1b}[2J");
    pool.refused(Refusal::QueueFull);
    let shown = php(&stage).await;
    let last = shown.failures.last.unwrap();
    assert_eq!((&*last.what, last.endpoint.as_deref()), ("broken", Some("10.0.0.7:9000")));
    assert_eq!(last.why, "<b>closed</b>\n\u{1b}[2J");
    assert_eq!(shown.refused.into_iter().collect::<Vec<_>>(), [("queue_full".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_one_document() {
    let stage = Stage::new();
    let first = stage.get("/overview").await;
    stage.lock().pool.queue_depth = 77;
    assert_eq!(stage.get("/overview").await, first);
    tokio::time::advance(SECOND).await;
    assert_eq!(stage.json("/overview").await["pools"][0]["queue"]["depth"], 77);
}

#[tokio::test]
async fn a_browser_gets_the_page_and_everybody_else_the_text() {
    let stage = Stage::new();
    let get = async |path, accept: &[(&str, &str)]| {
        let answer = stage.answer(Method::GET, path, "127.0.0.1:40000", accept).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    let (headers, page) = get("/", &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]).await;
    assert_eq!((&*page, &headers["content-type"]), (PAGE, &"text/html; charset=utf-8".parse().unwrap()));
    assert_eq!(headers["content-security-policy"], CONTENT_SECURITY_POLICY);
    assert_eq!(
        (&headers["vary"], &headers["cache-control"]),
        (&"accept".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let help = get("/help", &[("accept", "text/html")]).await.1;
    for accept in [&[][..], &[("accept", "*/*")]] {
        let (headers, text) = get("/", accept).await;
        assert_eq!((&headers["content-type"], &text), (&"text/plain; charset=utf-8".parse().unwrap(), &help));
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
}
