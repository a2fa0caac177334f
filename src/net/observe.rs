//! Watches one endpoint for as long as it is a member of its pool: reads its status page, and pings it.

use super::{
    ping::Pong,
    pool::SharedPool,
    status::{self, Page, StatusError},
    target::Target,
};
use crate::{
    config,
    mux::{
        pool::Workers,
        scoreboard::{Children, Scoreboard},
    },
};
use std::sync::{Arc, Weak};

/// Runs until the endpoint or the pool is gone. Begins anew when the pool gets other settings.
pub(super) async fn observe(pool: Weak<SharedPool>, target: Arc<Target>) {
    let Some(mut settings) = pool.upgrade().map(|pool| pool.settings()) else { return };
    loop {
        settings.mark_unchanged();
        let Some(config) = pool.upgrade().map(|pool| pool.config().clone()) else { return };
        tokio::select! {
            () = target.gone.cancelled() => return,
            changed = settings.changed() => if changed.is_err() { return },
            ((), ()) = async { tokio::join!(read_status(&pool, &target, &config), ping(&pool, &target, &config)) } => return,
        }
    }
}

/// Never ends where there is nothing to read.
async fn read_status(pool: &Weak<SharedPool>, target: &Arc<Target>, config: &config::Pool) {
    let Some(port) = config.status.port else {
        target.metrics.not_looked_at();
        return std::future::pending().await;
    };
    let page = page(target, config, status::address(&target.address, port), &config.status.path);
    let mut children = Children::default();
    let report = |board: Result<Scoreboard, StatusError>| {
        target.metrics.looked(board.as_ref().ok());
        let workers = board.ok().map(|board| Workers {
            full: board.is_full(),
            wanted: board.wanted(),
            limit: children.look(&board),
        });
        pool.upgrade().into_iter().for_each(|pool| pool.workers(target, workers));
    };
    page.keep_asking(status::PERIOD, report).await;
}

async fn ping(pool: &Weak<SharedPool>, target: &Arc<Target>, config: &config::Pool) {
    let Some(path) = &config.ping.path else { return std::future::pending().await };
    let address =
        config.status.port.map_or_else(|| target.address.clone(), |port| status::address(&target.address, port));
    let report = |pong: Result<Pong, StatusError>| {
        let well = match pong {
            Ok(Pong::Answered) => true,
            Ok(Pong::Late) => return,
            Err(_) => false,
        };
        pool.upgrade().into_iter().for_each(|pool| pool.checked(target, well));
    };
    page(target, config, address, path).keep_pinging(config.ping.interval, report).await;
}

fn page(target: &Target, config: &config::Pool, address: config::EndpointAddress, path: &str) -> Page {
    let (pool, endpoint, path) = (config.name.clone(), target.to_string(), path.to_owned());
    Page { pool, endpoint, address, path, timeouts: config.timeouts.clone() }
}
