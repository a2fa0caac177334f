//! Connecting to whatever listens.

use std::{net::SocketAddr, time::Duration};

use socket2::{Domain, SockAddr, Socket, Type};

/// To the path of a Unix socket, or to `ip:port`.
#[track_caller]
pub fn dial(address: &str) -> Socket {
    try_dial(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
}

pub fn try_dial(address: &str) -> std::io::Result<Socket> {
    let socket = if address.starts_with('/') {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&SockAddr::unix(address)?)?;
        socket
    } else {
        let address: SocketAddr = address.parse().expect("ip:port");
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect_timeout(&address.into(), Duration::from_secs(5))?;
        socket.set_tcp_nodelay(true)?;
        socket
    };
    // A peer that does not read shall fail the test, not hang it.
    socket.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok(socket)
}
