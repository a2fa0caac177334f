//! Many pods that come, go, fill up and break, under load: what their users notice of it.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod black_hole;
mod broken;
mod echoes;
mod list;
mod loss;
mod many;
mod quiet;
mod rollout;
mod share;
mod site;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
