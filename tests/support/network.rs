//! A network namespace for one test, where its counters count nothing else.

use std::{
    env,
    process::{Command, Stdio},
};

const INSIDE: &str = "FCGIMUX_TEST_INSIDE_NETWORK";

/// True inside a network of the test's own, with loopback up. Outside it runs the test named `test` once more inside, as a
/// process of its own, fails when that fails, and returns false. The time limit belongs inside.
/// Needs root. `test` is its full path: `module::the_test_function` inside a module.
///
/// ```ignore
/// if !in_own_network("the_test_function") { return; }
/// ```
#[track_caller]
pub fn in_own_network(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip (iproute2)");
        assert!(up.success(), "loopback did not come up");
        return true;
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(env::current_exe().expect("path of the test program"))
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare (util-linux; needs root)");
    assert!(status.success(), "{test} failed in its own network");
    false
}
