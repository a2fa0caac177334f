//! A real nginx with its default FastCGI settings.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
};

use nix::sys::signal::Signal;

use super::{Folder, Port, Process, proc};

/// What nginx shall serve; see [`Nginx::site`].
pub struct Site {
    root: String,
    pass: String,
    main: Vec<String>,
    http: Vec<String>,
    server: Vec<String>,
    location: Vec<String>,
    workers: usize,
}

pub struct Nginx {
    process: Process,
    folder: Folder,
    port: Port,
}

impl Site {
    /// A directive at the top of the file, without its semicolon.
    pub fn main(mut self, directive: &str) -> Self {
        self.main.push(format!("{directive};"));
        self
    }

    /// A directive of `http`, without its semicolon.
    pub fn http(mut self, directive: &str) -> Self {
        self.http.push(format!("{directive};"));
        self
    }

    /// A directive of `server`, without its semicolon.
    pub fn server(mut self, directive: &str) -> Self {
        self.server.push(format!("{directive};"));
        self
    }

    /// A directive of the location that passes to FastCGI, without its semicolon.
    pub fn location(mut self, directive: &str) -> Self {
        self.location.push(format!("{directive};"));
        self
    }

    /// One by default.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    #[track_caller]
    pub fn start(self) -> Nginx {
        let (folder, port) = (Folder::new(), Port::free());
        folder.subfolder("temp");
        let file = folder.write("nginx.conf", &self.file(&folder, &port)).display().to_string();
        let error_log = folder.join("error.log").display().to_string();
        let prefix = folder.path().display().to_string();
        let arguments = ["-p", &prefix, "-e", &error_log, "-c", &file];
        let mut process = Process::start(&folder, "nginx.log", "nginx", arguments);
        process.wait_ready(&folder, || TcpStream::connect(port.address()).is_ok());
        Nginx { process, folder, port }
    }

    fn file(&self, folder: &Folder, port: &Port) -> String {
        let path = folder.path().display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {path}/temp/{kind};\n"))
            .concat();
        let Self { root, pass, workers, .. } = self;
        let [main, http, server, location] =
            [&self.main, &self.http, &self.server, &self.location].map(|lines| lines.join("\n"));
        format!(
            "daemon off;\nuser www-data;\nworker_processes {workers};\npid {path}/nginx.pid;\n\
             error_log {path}/error.log info;\nworker_rlimit_nofile 8192;\n{main}\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n    access_log off;\n{temp}{http}\n    server {{\n        listen {listen};\n        \
             root {root};\n        client_max_body_size 0;\n        {server}\n        location ~ \\.php$ {{\n            \
             include /etc/nginx/fastcgi_params;\n            \
             fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n            \
             fastcgi_pass {pass};\n            {location}\n        }}\n    }}\n}}\n",
            listen = port.address(),
        )
    }
}

impl Nginx {
    /// Passes every `.php` below `root` to `pass`, which is `host:port` or the path of a Unix socket.
    pub fn site(root: &Path, pass: impl AsRef<Path>) -> Site {
        let pass = pass.as_ref().display().to_string();
        Site {
            root: root.display().to_string(),
            pass: if pass.starts_with('/') { format!("unix:{pass}") } else { pass },
            main: Vec::new(),
            http: Vec::new(),
            server: Vec::new(),
            location: Vec::new(),
            workers: 1,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn workers(&self) -> Vec<u32> {
        proc::children(self.pid())
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn error_log(&self) -> String {
        self.folder.read("error.log")
    }

    /// Lines of the error log at level `error` and above: an upstream that broke off, or refused.
    pub fn errors(&self) -> Vec<String> {
        let log = self.error_log();
        let serious =
            |line: &&str| ["[error]", "[crit]", "[alert]", "[emerg]"].iter().any(|level| line.contains(level));
        log.lines().filter(serious).map(str::to_owned).collect()
    }
}
