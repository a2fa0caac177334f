//! A real Caddy (2).

use std::net::{SocketAddr, TcpStream};

use super::{Folder, Port, Process};

pub struct Caddy {
    process: Process,
    folder: Folder,
    port: Port,
}

impl Caddy {
    /// Runs with these site blocks of a Caddyfile. `{address}` and `{port}` in them stand for its own.
    #[track_caller]
    pub fn with(sites: &str) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let text = format!("{{\n    admin off\n    auto_https off\n}}\n{}\n", port.fill(sites));
        let file = folder.write("Caddyfile", &text).display().to_string();
        // Where it keeps certificates and its last configuration; its home otherwise.
        let own = ["XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| format!("{name}={}", folder.path().display()));
        let arguments = [&own[0], &own[1], "caddy", "run", "--config", &file, "--adapter", "caddyfile"];
        let mut process = Process::start(&folder, "caddy.log", "env", arguments);
        process.wait_ready(&folder, || TcpStream::connect(port.address()).is_ok());
        Self { process, folder, port }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logged, JSON lines.
    pub fn log(&self) -> String {
        self.process.log(&self.folder)
    }
}
