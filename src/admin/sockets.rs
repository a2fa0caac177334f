//! Counts the TCP sockets of this network namespace, which the containers of a pod share, as the kernel lists them
//! (sock_diag(7)). /proc/net/tcp says the same at several times the price.

use crate::metrics::{SocketCounts, TimeWait};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::{
    fs,
    io::{self, ErrorKind},
    ops::RangeInclusive,
    os::fd::AsRawFd,
};

/// TCP_TIME_WAIT.
const TIME_WAIT: u8 = 6;
/// TCP_ESTABLISHED (1) to TCP_CLOSING (11), a bit each.
const EVERY_STATE: u32 = 0xffe;

/// Types of messages (linux/netlink.h, linux/sock_diag.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST | NLM_F_DUMP.
const LIST: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;

/// Bytes of a message's head (nlmsghdr), and of a question (inet_diag_req_v2).
const HEAD: usize = 16;
const QUESTION: usize = 56;
/// Bytes received at once; the kernel fills no more than this. A namespace may have a hundred thousand sockets, which are
/// never held as a whole.
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

/// Asks the kernel. Where it cannot say (another system, a sandbox without netlink) everything is `None`.
pub(super) fn count(ports: &SocketPorts) -> SocketCounts {
    let mut table = Table::new(ports);
    let listed = [AddressFamily::Inet, AddressFamily::Inet6].map(|family| list(family, |socket| table.add(&socket)));
    // Without IPv6 the second may fail.
    if listed.iter().all(Result::is_err) {
        return SocketCounts::default();
    }
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    SocketCounts {
        time_wait: Some(table.time_wait),
        ephemeral_ports_in_use: range.ok().and_then(|text| parse_range(&text)).map(|range| table.in_use(&range)),
    }
}

/// One socket, as far as it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    state: u8,
    local: u16,
    remote: u16,
}

/// Shows every TCP socket of a family to `each`.
fn list(family: AddressFamily, mut each: impl FnMut(Listed)) -> io::Result<()> {
    let kernel =
        socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(kernel.as_raw_fd(), &question(family), MsgFlags::empty())?;
    let mut buffer = vec![0; CHUNK];
    loop {
        // Each part is made when it is asked for: this does not wait.
        let length = recv(kernel.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if take(&buffer[..length], &mut each)? {
            return Ok(());
        }
    }
}

/// For every socket of a family, with no attribute besides.
fn question(family: AddressFamily) -> [u8; HEAD + QUESTION] {
    let mut bytes = [0; HEAD + QUESTION];
    bytes[..4].copy_from_slice(&((HEAD + QUESTION) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&LIST.to_ne_bytes());
    // AF_INET and AF_INET6 are small numbers.
    bytes[HEAD] = family as u8;
    bytes[HEAD + 1] = IPPROTO_TCP;
    bytes[HEAD + 4..HEAD + 8].copy_from_slice(&EVERY_STATE.to_ne_bytes());
    bytes
}

/// Takes the messages of one part. Returns whether it was the last.
fn take(mut part: &[u8], each: &mut impl FnMut(Listed)) -> io::Result<bool> {
    let broken = || io::Error::from(ErrorKind::InvalidData);
    if part.is_empty() {
        return Err(broken());
    }
    while let Some((head, _)) = part.split_first_chunk::<HEAD>() {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = part.get(HEAD..length).ok_or_else(broken)?;
        match u16::from_ne_bytes([head[4], head[5]]) {
            DONE => return Ok(true),
            ERROR => return Err(body.first_chunk().map_or_else(broken, |code| errno(i32::from_ne_bytes(*code)))),
            SOCK_DIAG_BY_FAMILY => each(listed(body).ok_or_else(broken)?),
            _ => {}
        }
        // Messages begin at multiples of four.
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The kernel gives them negated.
fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_neg())
}

/// Of inet_diag_msg: family, state, timer, retransmissions, then both ports in the order of the network.
fn listed(body: &[u8]) -> Option<Listed> {
    let [_, state, _, _, local_high, local_low, remote_high, remote_low] = *body.first_chunk::<8>()?;
    let (local, remote) = (u16::from_be_bytes([local_high, local_low]), u16::from_be_bytes([remote_high, remote_low]));
    Some(Listed { state, local, remote })
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

    fn add(&mut self, socket: &Listed) {
        self.used[usize::from(socket.local)] = true;
        if socket.state != TIME_WAIT {
            return;
        }
        // Local first: a listener's port may be the same number as an endpoint's on another machine.
        if self.ports.downstream.contains(&socket.local) {
            self.time_wait.downstream += 1;
        } else if self.ports.upstream.contains(&socket.remote) || self.ports.upstream.contains(&socket.local) {
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

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (low <= high).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        net::{TcpListener, TcpStream},
    };

    const ESTABLISHED: u8 = 1;

    fn time_wait(ports: &SocketPorts, sockets: &[(u16, u16, u8)]) -> TimeWait {
        let mut table = Table::new(ports);
        sockets.iter().for_each(|(local, remote, state)| {
            table.add(&Listed { local: *local, remote: *remote, state: *state });
        });
        table.time_wait
    }

    /// php-fpm on 9000, a listener of ours on 9001.
    fn ports() -> SocketPorts {
        SocketPorts::new(vec![9000, 9000], vec![9001])
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEAD, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn taken(part: &[u8]) -> (Vec<Listed>, io::Result<bool>) {
        let mut seen = vec![];
        let last = take(part, &mut |socket| seen.push(socket));
        (seen, last)
    }

    #[test]
    fn a_socket_towards_an_endpoint_counts_upstream() {
        let sockets = [(54321, 9000, TIME_WAIT), (54322, 9000, TIME_WAIT)];
        assert_eq!(time_wait(&ports(), &sockets), TimeWait { upstream: 2, downstream: 0 });
    }

    #[test]
    fn the_socket_of_an_endpoint_on_this_machine_counts_upstream() {
        assert_eq!(time_wait(&ports(), &[(9000, 54321, TIME_WAIT)]), TimeWait { upstream: 1, downstream: 0 });
    }

    #[test]
    fn a_socket_of_a_listener_counts_downstream() {
        assert_eq!(time_wait(&ports(), &[(9001, 54321, TIME_WAIT)]), TimeWait { upstream: 0, downstream: 1 });
    }

    #[test]
    fn a_socket_with_the_ports_of_both_sides_counts_once() {
        assert_eq!(time_wait(&ports(), &[(9001, 9000, TIME_WAIT)]), TimeWait { upstream: 0, downstream: 1 });
    }

    #[test]
    fn other_states_and_other_ports_do_not_count() {
        let sockets = [(9001, 0, 10), (54321, 9000, ESTABLISHED), (54322, 443, TIME_WAIT)];
        assert_eq!(time_wait(&ports(), &sockets), TimeWait::default());
    }

    #[test]
    fn the_ratio_counts_each_port_of_the_range_once() {
        let ports = ports();
        let mut table = Table::new(&ports);
        for local in [40000, 40000, 40001, 80] {
            table.add(&Listed { state: ESTABLISHED, local, remote: 9000 });
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
    fn messages_are_taken_one_after_the_other_up_to_the_last() {
        let socket = |local: u16| {
            let [high, low] = local.to_be_bytes();
            message(SOCK_DIAG_BY_FAMILY, &[2, TIME_WAIT, 0, 0, high, low, 0x23, 0x28, 9])
        };
        let part = [socket(40000), message(1, &[]), socket(40001)].concat();
        let (seen, last) = taken(&part);
        let expected = [40000, 40001].map(|local| Listed { state: TIME_WAIT, local, remote: 9000 });
        assert_eq!((seen.as_slice(), last.unwrap()), (&expected[..], false));
        assert!(taken(&[part, message(DONE, &[0; 4])].concat()).1.unwrap());
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_not_a_wait() {
        let refused = taken(&message(ERROR, &(-2_i32).to_ne_bytes())).1.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        let mut long = message(SOCK_DIAG_BY_FAMILY, &[0; 8]);
        long[0] = 200;
        let mut short = long.clone();
        short[0] = 3;
        for part in [vec![], long, short, message(SOCK_DIAG_BY_FAMILY, &[2, 6]), message(ERROR, &[])] {
            assert_eq!(taken(&part).1.unwrap_err().kind(), ErrorKind::InvalidData, "{part:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_of_this_machine_is_counted_when_it_has_ended_on_both_sides() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // There may be no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            let mut near = TcpStream::connect(address).unwrap();
            let (far, _) = listener.accept().unwrap();
            let before = count(&SocketPorts::new(vec![address.port()], vec![]));
            assert_eq!(before.time_wait, Some(TimeWait::default()));
            assert!(before.ephemeral_ports_in_use.is_some_and(|ratio| ratio > 0.0 && ratio <= 1.0));
            drop(far);
            assert_eq!(near.read(&mut [0]).unwrap(), 0);
            drop(near);
            let after = count(&SocketPorts::new(vec![address.port()], vec![]));
            assert_eq!(after.time_wait, Some(TimeWait { upstream: 1, downstream: 0 }));
        }
    }
}
