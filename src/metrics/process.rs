//! The `process_*` metrics that every exporter has, read when they are asked for.
//!
//! Written as text here and not through the recorder, whose counters are whole numbers: CPU seconds are not.

use super::{
    definition::{self, Definition},
    text::Family,
};
use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeValLike,
};
use std::{fmt::Display, fs};

/// Unit of the times in /proc/self/stat: USER_HZ, part of the kernel's interface and 100 on every architecture that
/// this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends what can be read; what cannot (no /proc, or one that is restricted) is left out.
pub(super) fn render(text: &mut String) {
    write(text, &definition::PROCESS_RESIDENT_MEMORY, resident_memory());
    write(text, &definition::PROCESS_CPU, cpu_seconds());
    write(text, &definition::PROCESS_OPEN_FDS, open_files());
    write(text, &definition::PROCESS_MAX_FDS, max_files());
    write(text, &definition::PROCESS_START_TIME, start_time());
}

fn write(text: &mut String, definition: &'static Definition, value: Option<impl Display>) {
    if let Some(value) = value {
        Family::new(text, definition).sample(&[], value);
    }
}

fn resident_memory() -> Option<u64> {
    parse_resident_memory(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(microseconds as f64 / 1e6)
}

fn open_files() -> Option<usize> {
    // The directory that is being read is one of them.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

fn max_files() -> Option<u64> {
    Some(getrlimit(Resource::RLIMIT_NOFILE).ok()?.0)
}

fn start_time() -> Option<f64> {
    let since_boot = parse_start_ticks(&fs::read_to_string("/proc/self/stat").ok()?)? as f64 / TICKS_PER_SECOND;
    Some(parse_boot_time(&fs::read_to_string("/proc/stat").ok()?)? as f64 + since_boot)
}

/// proc(5): field 22. The name, field 2, stands in parentheses and may hold spaces and parentheses itself.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn parse_boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(parse_resident_memory("VmHWM:\t    9000 kB\nVmRSS:\t    4096 kB\n"), Some(4_194_304));
        assert_eq!(parse_resident_memory("Name:\tfcgimux\n"), None);
        assert_eq!(parse_resident_memory("VmRSS:\t18446744073709551615 kB\n"), None);
    }

    #[test]
    fn the_start_time_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 90 0 0 0 5 6 0 0 20 0 2 0 12345 1000 90 18446744073709551615";
        assert_eq!(parse_start_ticks(stat), Some(12345));
        assert_eq!(parse_start_ticks("7 (short) S 1"), None);
        assert_eq!(parse_boot_time("cpu 1 2\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_running_process_has_every_value() {
        let mut text = String::new();
        render(&mut text);
        for definition in definition::ALL.iter().filter(|definition| definition.name.starts_with("process_")) {
            assert!(text.contains(&format!("\n{} ", definition.name)), "{} is missing in {text}", definition.name);
        }
    }
}
