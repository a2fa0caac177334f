//! A loopback port that no other test takes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use socket2::{Domain, Socket, Type};

/// Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes one in between.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Reserved among all test processes of this machine for as long as it lives.
pub struct Port {
    number: u16,
    /// Bound, and never listens: no other test binds the port, and the server that it is for may.
    _reservation: Socket,
}

impl Port {
    /// A port that nothing uses, TIME_WAIT sockets of an earlier test included.
    pub fn free() -> Self {
        let start = process::id().wrapping_mul(131) % u32::from(COUNT);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = u16::try_from((start + step) % u32::from(COUNT)).expect("below COUNT");
            let number = FIRST + offset;
            if let Some(reservation) = reserve(number) {
                return Self { number, _reservation: reservation };
            }
        }
        panic!("no free port");
    }

    /// Puts it in place of `{address}` and `{port}` in a server's configuration.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{address}", &self.address().to_string()).replace("{port}", &self.number().to_string())
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        loopback(self.number)
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Takes a port that nobody has: without SO_REUSEADDR one in TIME_WAIT cannot be bound either. Set behind that, the
/// option lets servers bind it as well, which all set it.
fn reserve(port: u16) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.bind(&loopback(port).into()).ok()?;
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    Some(socket)
}
