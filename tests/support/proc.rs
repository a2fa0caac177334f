//! What /proc says of a process.

use std::{fs, path::Path, time::Duration};

/// Linux counts CPU time in hundredths of a second (USER_HZ), whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

pub fn children(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The program a process runs, as /proc/PID/comm has it.
pub fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

pub fn rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

pub fn peak_rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

pub fn open_fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether it waits for something, in a read for instance, rather than runs.
pub fn is_asleep(pid: u32) -> bool {
    stat(pid).starts_with('S')
}

/// User and system time of all threads.
pub fn cpu_time(pid: u32) -> Duration {
    let fields = stat(pid);
    // Its 12th and 13th are utime and stime.
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// The fields of /proc/PID/stat behind the name in parentheses, which may hold spaces.
fn stat(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').map(|(_, fields)| fields.trim_start().to_owned()).unwrap_or_default()
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    value.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
