//! A real lighttpd (1.4).

use std::net::{SocketAddr, TcpStream};

use super::{Folder, Port, Process};

pub struct Lighttpd {
    process: Process,
    folder: Folder,
    port: Port,
}

impl Lighttpd {
    /// Runs with these settings: where it listens, the document root and `fastcgi.server`. `{address}` and `{port}` in them
    /// stand for its own.
    #[track_caller]
    pub fn with(site: &str) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let uploads = folder.subfolder("uploads").display().to_string();
        let path = folder.path().display().to_string();
        let text = format!(
            "server.username = \"www-data\"\nserver.groupname = \"www-data\"\nserver.errorlog = \"{path}/error.log\"\n\
             server.pid-file = \"{path}/lighttpd.pid\"\nserver.upload-dirs = ( \"{uploads}\" )\n{}\n",
            port.fill(site),
        );
        let file = folder.write("lighttpd.conf", &text).display().to_string();
        let mut process = Process::start(&folder, "lighttpd.log", "lighttpd", ["-D", "-f", &file]);
        process.wait_ready(&folder, || TcpStream::connect(port.address()).is_ok());
        Self { process, folder, port }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its error log.
    pub fn log(&self) -> String {
        self.folder.read("error.log")
    }
}
