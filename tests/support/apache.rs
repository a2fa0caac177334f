//! A real Apache (2.4, mpm_event) with the modules that FastCGI needs.

use std::net::{SocketAddr, TcpStream};

use super::{Folder, Port, Process};

const MODULES: &str = "/usr/lib/apache2/modules";

pub struct Apache {
    process: Process,
    folder: Folder,
    port: Port,
}

impl Apache {
    /// Runs with these directives: `Listen`, a virtual host and what it passes to FastCGI. `{address}` and `{port}` in them
    /// stand for its own.
    #[track_caller]
    pub fn with(site: &str) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        let file = folder.write("apache.conf", &file(&folder, &port.fill(site))).display().to_string();
        let mut process = Process::start(&folder, "apache.log", "apache2", ["-D", "FOREGROUND", "-f", &file]);
        process.wait_ready(&folder, || TcpStream::connect(port.address()).is_ok());
        Self { process, folder, port }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its error log at level `info`.
    pub fn log(&self) -> String {
        self.folder.read("error.log")
    }
}

fn file(folder: &Folder, site: &str) -> String {
    let path = folder.path().display();
    let modules: String = ["mpm_event", "authz_core", "dir", "proxy", "proxy_fcgi"]
        .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
        .concat();
    format!(
        "ServerRoot {path}\nDefaultRuntimeDir {path}\nPidFile {path}/apache.pid\nMutex file:{path}\nServerName test\n\
         {modules}User www-data\nGroup www-data\nErrorLog {path}/error.log\nLogLevel info\n\
         ServerLimit 1\nStartServers 1\nThreadsPerChild 64\nMaxRequestWorkers 64\nKeepAliveTimeout 1\n{site}\n"
    )
}
