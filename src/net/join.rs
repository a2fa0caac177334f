//! How a connection to an application other than php-fpm is opened, and what is learned of the application meanwhile.

use super::{channel::Channel, pool::SharedPool, upstream::Upstream};
use crate::mux::{
    pool::{Handshake, Learned, OpenFailure, SlotKey},
    request::question,
};
use std::{future::poll_fn, io, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// An application that can answer what it can does so at once; one that does not within this time is served without.
const ASK_FOR: Duration = Duration::from_millis(500);

/// Connects to an endpoint, asks what there is to ask, and lets exchanges join.
pub(super) async fn open(pool: Arc<SharedPool>, key: SlotKey, endpoint: usize, handshake: Handshake) {
    let address = pool.address(endpoint).clone();
    let started = Instant::now();
    let connected = timeout(pool.config.timeouts.connect, Upstream::connect(&address, &pool.config.timeouts)).await;
    let upstream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(upstream) => upstream,
        Err(error) => {
            tracing::warn!(pool = pool.config.name, endpoint = %address, "cannot connect: {error}");
            pool.failed(key, endpoint, OpenFailure::Connect);
            return;
        }
    };
    pool.metrics.connect(started.elapsed());
    let channel = Channel::new(key, endpoint, &pool);
    if handshake != Handshake::Skip {
        channel.ask(&question());
    }
    tokio::spawn(channel.clone().drive(pool.clone(), upstream));
    let limit = match handshake {
        Handshake::Skip | Handshake::Remind => return pool.joined(&channel, Learned::Nothing),
        Handshake::Learn => ASK_FOR.min(pool.config.timeouts.prove),
        Handshake::Prove => pool.config.timeouts.prove,
    };
    pool.connected(key);
    let failure = match timeout(limit, poll_fn(|context| channel.poll_answer(context))).await {
        Ok(Some(values)) => {
            if handshake == Handshake::Learn {
                let many = if values.multiplexes { "many requests" } else { "one request" };
                tracing::info!(pool = pool.config.name, endpoint = %address, "application takes {many} at once on a connection");
            }
            return pool.joined(&channel, Learned::Values(values));
        }
        Err(_) if handshake == Handshake::Learn => {
            tracing::info!(
                pool = pool.config.name,
                endpoint = %address,
                "application does not answer GET_VALUES: it is given one request at a time on a connection"
            );
            return pool.joined(&channel, Learned::Mute);
        }
        Ok(None) if handshake == Handshake::Learn => OpenFailure::Unasked,
        Ok(None) => OpenFailure::Handshake,
        Err(_) => OpenFailure::Unanswered,
    };
    channel.close();
    tracing::warn!(pool = pool.config.name, endpoint = %address, "connection did not prove itself: {}", words(failure));
    pool.failed(key, endpoint, failure);
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
