//! How a connection to an application other than php-fpm is opened, and what is learned of the application meanwhile.

use super::{channel::Channel, pool::SharedPool, target::Target, upstream::Upstream};
use crate::mux::{
    pool::{Handshake, Learned, OpenFailure, SlotKey},
    request::question,
};
use std::{future::poll_fn, io, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// An application that can answer what it can does so at once; one that does not within this time is served without.
const ASK_FOR: Duration = Duration::from_millis(500);

/// Connects to an endpoint, asks what there is to ask, and lets exchanges join.
pub(super) async fn open(pool: Arc<SharedPool>, key: SlotKey, target: Arc<Target>, handshake: Handshake) {
    let timeouts = pool.config().timeouts.clone();
    let started = Instant::now();
    let connected = timeout(timeouts.connect, Upstream::connect(&target.address, &timeouts)).await;
    let upstream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(upstream) => upstream,
        Err(error) => {
            target.complain(&pool.name, format_args!("cannot connect: {error}"));
            pool.failed(key, &target, OpenFailure::Connect);
            return;
        }
    };
    pool.metrics.connect(started.elapsed());
    let channel = Channel::new(key, target.clone(), &pool);
    if handshake != Handshake::Skip {
        channel.ask(&question());
    }
    tokio::spawn(channel.clone().drive(pool.clone(), upstream));
    let limit = match handshake {
        Handshake::Skip | Handshake::Remind => return pool.joined(&channel, Learned::Nothing),
        Handshake::Learn => ASK_FOR.min(timeouts.prove),
        Handshake::Prove => timeouts.prove,
    };
    pool.connected(key);
    let failure = match timeout(limit, poll_fn(|context| channel.poll_answer(context))).await {
        Ok(Some(values)) => {
            if handshake == Handshake::Learn {
                let many = if values.multiplexes { "many requests" } else { "one request" };
                tracing::info!(pool = pool.name, endpoint = %target, "application takes {many} at once on a connection");
            }
            return pool.joined(&channel, Learned::Values(values));
        }
        Err(_) if handshake == Handshake::Learn => {
            tracing::info!(
                pool = pool.name,
                endpoint = %target,
                "application does not answer GET_VALUES: it is given one request at a time on a connection"
            );
            return pool.joined(&channel, Learned::Mute);
        }
        Ok(None) if handshake == Handshake::Learn => OpenFailure::Unasked,
        Ok(None) => OpenFailure::Handshake,
        Err(_) => OpenFailure::Unanswered,
    };
    channel.close();
    target.complain(&pool.name, format_args!("connection did not prove itself: {}", words(failure)));
    pool.failed(key, &target, failure);
}

fn words(failure: OpenFailure) -> &'static str {
    match failure {
        OpenFailure::Unanswered => "nobody answered in time (timeouts.prove): all workers may be busy",
        OpenFailure::Unasked => {
            "application closed where it was asked with GET_VALUES; one that does so twice is not asked again"
        }
        _ => "application closed the connection",
    }
}
