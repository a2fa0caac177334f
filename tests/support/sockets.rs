//! The kernel's view of connections: what is left behind, what was opened.

use std::{collections::HashMap, fs, net::SocketAddr, process::Command};

/// Sockets in TIME_WAIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWait {
    /// On the side that listens at the port.
    pub listening: usize,
    /// On the side that connected to it.
    pub connecting: usize,
}

impl TimeWait {
    pub fn of(port: u16) -> Self {
        Self {
            listening: count("time-wait", &format!("( sport = :{port} )")),
            connecting: count("time-wait", &format!("( dport = :{port} )")),
        }
    }

    /// Of one address alone.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            listening: count("time-wait", &format!("( src {address} )")),
            connecting: count("time-wait", &format!("( dst {address} )")),
        }
    }

    pub fn total(self) -> usize {
        self.listening + self.connecting
    }
}

/// Established connections to a port, counted once each, on the connecting side.
pub fn established(port: u16) -> usize {
    count("established", &format!("( dport = :{port} )"))
}

/// The kernel's TCP counters of this network namespace since its start.
#[derive(Clone, Debug)]
pub struct Counters(HashMap<String, u64>);

impl Counters {
    pub fn now() -> Self {
        let mut counters = HashMap::new();
        for file in ["/proc/net/snmp", "/proc/net/netstat"] {
            let text = fs::read_to_string(file).expect("kernel counters");
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.chunks_exact(2).filter(|pair| pair[0].starts_with("Tcp")) {
                let values = pair[1].split_whitespace().map(|value| value.parse().unwrap_or(0));
                counters.extend(pair[0].split_whitespace().map(str::to_owned).zip(values).skip(1));
            }
        }
        Self(counters)
    }

    /// By the kernel's names: `ActiveOpens`, `PassiveOpens`, `RetransSegs`, `OutRsts`, `TW`, ...
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no TCP counter {name}"))
    }

    /// How much a counter grew since `before`.
    #[track_caller]
    pub fn since(&self, before: &Self, name: &str) -> u64 {
        self.get(name) - before.get(name)
    }
}

fn count(state: &str, filter: &str) -> usize {
    let output = Command::new("ss").args(["-Htan", "state", state, filter]).output().expect("ss (iproute2)");
    assert!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}
