//! A real HAProxy.

use std::net::{SocketAddr, TcpStream};

use super::{Folder, Port, Process};

pub struct Haproxy {
    process: Process,
    folder: Folder,
    port: Port,
}

impl Haproxy {
    /// Runs with these sections: a frontend, a backend and an fcgi-app. `{address}` and `{port}` in them stand for its own.
    #[track_caller]
    pub fn with(sections: &str) -> Self {
        Self::with_global("", sections)
    }

    /// The same with lines of the section `global`, such as `nbthread 1`.
    #[track_caller]
    pub fn with_global(global: &str, sections: &str) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let text = format!(
            "global\n    log stdout format raw local0\n    maxconn 2000\n    {global}\n\
             defaults\n    mode http\n    log global\n    option httplog\n    timeout connect 5s\n    timeout client 30s\n    \
             timeout server {TIMEOUT_SERVER}s\n{}\n",
            port.fill(sections),
        );
        let file = folder.write("haproxy.cfg", &text).display().to_string();
        let mut process = Process::start(&folder, "haproxy.log", "haproxy", ["-db", "-f", &file]);
        process.wait_ready(&folder, || TcpStream::connect(port.address()).is_ok());
        Self { process, folder, port }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logged: one line a request, and what applications write to STDERR.
    pub fn log(&self) -> String {
        self.process.log(&self.folder)
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

/// Seconds without a byte of the application after which it gives up. Short: some ends of exchanges are not seen by it
/// before.
const TIMEOUT_SERVER: u32 = 5;
