//! Many pods that come, go, fill up and break, under load: what their users notice of it.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

#[path = "load_fleet/black_hole.rs"]
mod black_hole;
#[path = "load_fleet/broken.rs"]
mod broken;
#[path = "load_fleet/echoes.rs"]
mod echoes;
#[path = "load_fleet/list.rs"]
mod list;
#[path = "load_fleet/loss.rs"]
mod loss;
#[path = "load_fleet/many.rs"]
mod many;
#[path = "load_fleet/quiet.rs"]
mod quiet;
#[path = "load_fleet/rollout.rs"]
mod rollout;
#[path = "load_fleet/share.rs"]
mod share;
#[path = "load_fleet/site.rs"]
mod site;
mod support;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
