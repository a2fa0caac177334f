//! Nodes to a [`Pool`].

use std::{ops::RangeInclusive, time::Duration};

use super::{
    Application, Body, Connections, Discovery, Params, Ping, Pool, Queue, Retry, ReuseAfterBody, Status, Timeouts,
    address,
    build::{IN_FLIGHT_AT_MOST, SOME_TIME, TIME_OR_NONE},
    node::Node,
    section::Section,
    source, value,
    word::Word,
};

/// Bounds that keep a mistyped number from being taken at its word; each is far beyond any use.
const PER_ENDPOINT_AT_MOST: u32 = 1000;
const QUEUE_AT_MOST: u32 = 1_000_000;
const PARAMS_AT_MOST: u32 = 100_000;
/// A param goes into one record (facts 9.4), which holds 65,528 bytes.
const PARAM_AT_MOST: usize = 65_000;
const PARAMS_SIZE: RangeInclusive<u64> = 1 << 10..=16 << 20;
/// Below it a record of ordinary size would be cut into many.
const BUFFER: RangeInclusive<u64> = 4 << 10..=16 << 20;
/// Keys of `connections` that mean something in one dialect alone.
const GENERIC_ONLY: &[&str] = &["multiplex", "max_requests_in_flight", "buffer", "stall_timeout"];
const PHP_FPM_ONLY: &[&str] = &["yield_after", "fence", "reprove_after", "heartbeat"];
/// More often would be an attack on a DNS server.
const REFRESH: RangeInclusive<Duration> = Duration::from_millis(100)..=*TIME_OR_NONE.end();
/// More often would be a load of its own.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=*TIME_OR_NONE.end();
/// More often would keep a worker from anything else.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_millis(10)..=*TIME_OR_NONE.end();
const MEMORY_AT_MOST: u64 = 1 << 30;
const BODY_AT_MOST: u64 = 1 << 40;
const ATTEMPTS_AT_MOST: u32 = 10;
const AGE_AT_MOST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn pool(name: &str, section: &Section<'_>) -> Pool {
    if let Err(message) = address::pool_name(name) {
        section.complain_here(message);
    }
    let application = section.value("application", Word::read);
    if application != Application::PhpFpm {
        let body = section.section("body");
        let given = ["memory", "directory"].into_iter().filter(|name| body.has(name));
        given.for_each(|name| body.complain(name, "only for `application: php-fpm`; remove it"));
        let queue = section.section("queue");
        if queue.has("abandoned") {
            queue.complain("abandoned", "only for `application: php-fpm`; remove it");
        }
        let given = ["reuse_after_body", "status", "ping"].into_iter().filter(|name| section.has(name));
        given.for_each(|name| section.complain(name, "only for `application: php-fpm`; remove it"));
    }
    Pool {
        name: name.to_owned(),
        application,
        endpoints: source::sources(section),
        discovery: Discovery { refresh: section.section("discovery").value("refresh", value::duration(REFRESH)) },
        slow_start: section.value("slow_start", value::or_off(value::duration(SOME_TIME))),
        status: status(&section.section("status")),
        ping: ping(&section.section("ping")),
        connections: connections(&section.section("connections"), application),
        queue: queue(&section.section("queue")),
        timeouts: timeouts(&section.section("timeouts")),
        on_failure: section.value("on_failure", Word::read),
        params: params(&section.section("params")),
        body: body(&section.section("body")),
        reuse_after_body: reuse_after_body(&section.section("reuse_after_body")),
        retry: retry(&section.section("retry")),
    }
}

fn status(section: &Section<'_>) -> Status {
    Status { port: section.value("port", value::or_off(value::port)), path: section.value("path", address::page_path) }
}

fn ping(section: &Section<'_>) -> Ping {
    Ping {
        path: section.value("path", value::or_off(address::page_path)),
        interval: section.value("interval", value::duration(INTERVAL)),
    }
}

fn connections(section: &Section<'_>, application: Application) -> Connections {
    let connections = Connections {
        per_endpoint: section.value("per_endpoint", value::small_count(1..=PER_ENDPOINT_AT_MOST)),
        idle_timeout: section.value("idle_timeout", value::duration(SOME_TIME)),
        surplus_idle: section.value("surplus_idle", value::duration(TIME_OR_NONE)),
        yield_after: section.value("yield_after", value::or_off(value::duration(SOME_TIME))),
        fence: section.value("fence", Word::read),
        reprove_after: section.value("reprove_after", value::duration(TIME_OR_NONE)),
        heartbeat: section
            .value("heartbeat", value::or_off(value::duration(HEARTBEAT)))
            .filter(|_| application == Application::PhpFpm),
        max_age: section.value("max_age", value::or_off(value::duration(*SOME_TIME.start()..=AGE_AT_MOST))),
        max_requests: section.value("max_requests", value::or_off(value::count(1..=u64::MAX))),
        multiplex: section.value("multiplex", Word::read),
        max_requests_in_flight: section.value("max_requests_in_flight", value::small_count(1..=IN_FLIGHT_AT_MOST)),
        buffer: section.value("buffer", value::size(BUFFER)),
        stall_timeout: section.value("stall_timeout", value::duration(SOME_TIME)),
    };
    let (own, others) = match application {
        Application::PhpFpm => ("generic", GENERIC_ONLY),
        Application::Generic => ("php-fpm", PHP_FPM_ONLY),
    };
    for name in others.iter().filter(|name| section.has(name)) {
        section.complain(name, format!("only for `application: {own}`; remove it"));
    }
    let (surplus, idle) = (connections.surplus_idle, connections.idle_timeout);
    if surplus > idle && section.is_sound(&["surplus_idle", "idle_timeout"]) {
        let (surplus, idle) = (value::duration_text(surplus), value::duration_text(idle));
        // At the key that stands in the file; the other may be a default.
        let name = if section.has("surplus_idle") { "surplus_idle" } else { "idle_timeout" };
        section.complain(name, format!("surplus_idle ({surplus}) may not be more than idle_timeout ({idle})"));
    }
    connections
}

fn queue(section: &Section<'_>) -> Queue {
    Queue {
        depth: section.value("depth", value::small_count(1..=QUEUE_AT_MOST)),
        timeout: section.value("timeout", value::duration(SOME_TIME)),
        abandoned: section.value("abandoned", Word::read),
    }
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    Timeouts {
        connect: section.value("connect", value::duration(SOME_TIME)),
        prove: section.value("prove", value::duration(SOME_TIME)),
        first_byte: section.value("first_byte", value::or_off(value::duration(SOME_TIME))),
        between_bytes: section.value("between_bytes", value::or_off(value::duration(SOME_TIME))),
        exchange: section.value("exchange", value::or_off(value::duration(SOME_TIME))),
    }
}

fn params(section: &Section<'_>) -> Params {
    let params = Params {
        max_size: section.value("max_size", value::size(PARAMS_SIZE)),
        max_count: section.value("max_count", value::small_count(1..=PARAMS_AT_MOST)),
        deny: section.list("deny", param_name),
        on_denied: section.value("on_denied", Word::read),
        set: section.pairs("set", param_value),
        remove: section.list("remove", param_name),
    };
    for (name, _) in params.set.iter().filter(|(name, _)| section.has("remove") && params.remove.contains(name)) {
        section
            .complain("remove", format!("{name} is in `set` as well; what is set replaces the web server's already"));
    }
    params
}

fn body(section: &Section<'_>) -> Body {
    Body {
        max_size: section.value("max_size", value::or_off(value::size(1..=BODY_AT_MOST))),
        memory: section.value("memory", value::size(1..=MEMORY_AT_MOST)),
        directory: section.given("directory", address::absolute_path).unwrap_or_else(std::env::temp_dir),
    }
}

fn reuse_after_body(section: &Section<'_>) -> ReuseAfterBody {
    ReuseAfterBody {
        post_up_to: section.value("post_up_to", value::or_off(value::size(1..=BODY_AT_MOST))),
        multipart: section.value("multipart", value::switch),
    }
}

fn retry(section: &Section<'_>) -> Retry {
    let attempts = section.value("attempts", value::or_off(value::small_count(1..=ATTEMPTS_AT_MOST)));
    Retry { attempts: attempts.unwrap_or(0), budget: section.value("budget", value::percent) }
}

fn param_name(node: &Node) -> Result<String, String> {
    match node {
        Node::Text(name) => address::param_name(name).map(|()| name.clone()),
        _ => Err(format!("{node} is not text; write the name of a param, such as PHP_VALUE")),
    }
}

fn param_value(name: &str, value: &Node) -> Result<String, String> {
    address::param_name(name)?;
    match value {
        Node::Text(text) if text.contains('\0') => Err("holds a NUL".to_owned()),
        Node::Text(text) if name.len() + text.len() > PARAM_AT_MOST => {
            Err(format!("is too long; a name and its value may have {PARAM_AT_MOST} bytes"))
        }
        Node::Text(text) => Ok(text.clone()),
        // Not shown: what stands here may be a password.
        _ => Err("is not text; write it in quotes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_param_that_is_set_fits_into_one_record() {
        let value = |len| param_value("NAME", &Node::Text("v".repeat(len)));
        assert!(value(PARAM_AT_MOST - 4).is_ok());
        assert!(value(PARAM_AT_MOST - 3).unwrap_err().contains("too long"));
        assert!(param_value("NAME", &Node::Text("a\0b".into())).is_err());
    }
}
