//! Counts sockets in the system's tables, /proc/net/tcp and /proc/net/tcp6 (proc_net_tcp in the kernel's
//! documentation): those of this network namespace, which the containers of a pod share.

use crate::metrics::{SocketCounts, TimeWait};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    ops::RangeInclusive,
};

/// TCP_TIME_WAIT in the column `st`.
const TIME_WAIT: &str = "06";

/// Bytes read at once. A table may have a hundred thousand lines of 150 bytes: it is never held as a whole.
const CHUNK: usize = 32 * 1024;

/// The TCP ports whose sockets are ours. Ports and not addresses: an endpoint that has gone leaves its sockets behind, and
/// most often another one with the same port.
pub(super) struct SocketPorts {
    /// Ports that endpoints listen on, each once.
    upstream: Vec<u16>,
    /// Ports that our listeners are bound to.
    downstream: Vec<u16>,
}

impl SocketPorts {
    pub(super) fn new(mut upstream: Vec<u16>, downstream: Vec<u16>) -> Self {
        // Hundreds of endpoints have one port, and every socket of the system is compared with these.
        upstream.sort_unstable();
        upstream.dedup();
        Self { upstream, downstream }
    }
}

/// Reads the tables. What is not there (another system, a restricted /proc) is `None`.
pub(super) fn count(ports: &SocketPorts) -> SocketCounts {
    let mut table = Table::new(ports);
    let read = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| table.read(path));
    // Without IPv6 the second is missing.
    if read.iter().all(Result::is_err) {
        return SocketCounts::default();
    }
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    SocketCounts {
        time_wait: Some(table.time_wait),
        ephemeral_ports_in_use: range.ok().and_then(|text| parse_range(&text)).map(|range| table.in_use(&range)),
    }
}

/// What was seen so far; its size does not depend on the number of sockets.
struct Table<'a> {
    ports: &'a SocketPorts,
    time_wait: TimeWait,
    /// One per local port: whether a socket has it, in any state.
    used: Vec<bool>,
}

impl<'a> Table<'a> {
    fn new(ports: &'a SocketPorts) -> Self {
        Self { ports, time_wait: TimeWait::default(), used: vec![false; 1 << 16] }
    }

    fn read(&mut self, path: &str) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(CHUNK, File::open(path)?);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            self.add(&line);
            line.clear();
        }
        Ok(())
    }

    /// One line of a table; the head and whatever else is no socket does not count.
    fn add(&mut self, line: &str) {
        let Some((local, remote, state)) = parse_line(line) else { return };
        self.used[usize::from(local)] = true;
        if state != TIME_WAIT {
            return;
        }
        // Local first: a listener's port may be the same number as an endpoint's on another machine.
        if self.ports.downstream.contains(&local) {
            self.time_wait.downstream += 1;
        } else if self.ports.upstream.contains(&remote) || self.ports.upstream.contains(&local) {
            // An endpoint on this machine that closes first has the socket with its own port.
            self.time_wait.upstream += 1;
        }
    }

    /// Share of the ports of `range` that a socket has. One port can serve connections to several addresses, so that 1.0
    /// is not the end yet, but connections to one address fail before that.
    fn in_use(&self, range: &RangeInclusive<u16>) -> f64 {
        let ports = &self.used[usize::from(*range.start())..=usize::from(*range.end())];
        ports.iter().filter(|used| **used).count() as f64 / ports.len() as f64
    }
}

/// Local port, remote port and state of `  0: 0100007F:1F90 00000000:0000 0A ...`.
fn parse_line(line: &str) -> Option<(u16, u16, &str)> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
    Some((parse_port(local)?, parse_port(remote)?, state))
}

fn parse_port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (low <= high).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn line(local: &str, remote: &str, state: &str) -> String {
        format!("   0: {local} {remote} {state} 00000000:00000000 03:0000176F 00000000     0        0 0 3 0000000000\n")
    }

    fn time_wait(ports: &SocketPorts, lines: &[String]) -> TimeWait {
        let mut table = Table::new(ports);
        table.add(HEAD);
        lines.iter().for_each(|line| table.add(line));
        table.time_wait
    }

    /// php-fpm on 9000 (0x2328), a listener of ours on 9001 (0x2329).
    fn ports() -> SocketPorts {
        SocketPorts::new(vec![9000, 9000], vec![9001])
    }

    #[test]
    fn a_socket_towards_an_endpoint_counts_upstream() {
        let lines = [line("0500000A:D431", "0600000A:2328", "06"), line("0500000A:D432", "0600000A:2328", "06")];
        assert_eq!(time_wait(&ports(), &lines), TimeWait { upstream: 2, downstream: 0 });
    }

    #[test]
    fn the_socket_of_an_endpoint_on_this_machine_counts_upstream() {
        let lines = [line("0100007F:2328", "0100007F:D431", "06")];
        assert_eq!(time_wait(&ports(), &lines), TimeWait { upstream: 1, downstream: 0 });
    }

    #[test]
    fn a_socket_of_a_listener_counts_downstream_in_both_address_families() {
        let lines = [
            line("0100007F:2329", "0100007F:D431", "06"),
            line("0000000000000000FFFF00000100007F:2329", "0000000000000000FFFF00000100007F:D432", "06"),
        ];
        assert_eq!(time_wait(&ports(), &lines), TimeWait { upstream: 0, downstream: 2 });
    }

    #[test]
    fn a_socket_with_the_ports_of_both_sides_counts_once() {
        let lines = [line("0100007F:2329", "0600000A:2328", "06")];
        assert_eq!(time_wait(&ports(), &lines), TimeWait { upstream: 0, downstream: 1 });
    }

    #[test]
    fn other_states_and_other_ports_do_not_count() {
        let lines = [
            line("00000000:2329", "00000000:0000", "0A"),
            line("0500000A:D431", "0600000A:2328", "01"),
            line("0500000A:D433", "0600000A:01BB", "06"),
        ];
        assert_eq!(time_wait(&ports(), &lines), TimeWait::default());
    }

    #[test]
    fn lines_that_are_no_sockets_are_passed_over() {
        let ports = ports();
        let mut table = Table::new(&ports);
        for text in ["", "\n", HEAD, "0: x y 06", "0: 0100007F:2329", "0: 0100007F:12329 0100007F:D431 06"] {
            table.add(text);
        }
        assert_eq!(table.time_wait, TimeWait::default());
        assert!(!table.used.contains(&true));
    }

    #[test]
    fn the_ratio_counts_each_port_of_the_range_once() {
        let ports = ports();
        let mut table = Table::new(&ports);
        // 40000 twice, 40001 once, 80 outside.
        for local in ["0500000A:9C40", "0600000A:9C40", "0500000A:9C41", "0500000A:0050"] {
            table.add(&line(local, "0600000A:2328", "01"));
        }
        assert_eq!(table.in_use(&(40000..=40003)), 0.5);
        assert_eq!(table.in_use(&(0..=u16::MAX)), 3.0 / 65536.0);
    }

    #[test]
    fn a_range_is_two_ports_in_order() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_range("60999 32768"), None);
        assert_eq!(parse_range("0 65536"), None);
        assert_eq!(parse_range("1"), None);
    }

    #[test]
    fn a_table_that_is_not_there_is_an_error_and_counts_nothing() {
        let ports = ports();
        let mut table = Table::new(&ports);
        assert!(table.read("/proc/net/no-such-table").is_err());
        assert_eq!(table.time_wait, TimeWait::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_tables_of_this_machine_can_be_read() {
        let counts = count(&ports());
        assert!(counts.time_wait.is_some());
        let ratio = counts.ephemeral_ports_in_use.unwrap();
        assert!((0.0..=1.0).contains(&ratio), "{ratio}");
    }
}
