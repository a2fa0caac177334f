//! The program itself.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{
    Exit, Folder, Measures, Port, Process,
    fcgi::{Call, Connection, Reply},
    http, proc,
};

/// What it shall do; see [`Fcgimux::to`].
pub struct Setup {
    endpoints: Vec<String>,
    pool: Vec<String>,
    listener: Vec<String>,
    top: Vec<String>,
}

pub struct Fcgimux {
    process: Process,
    folder: Folder,
    admin: Port,
}

impl Setup {
    /// One more endpoint.
    pub fn and(mut self, endpoint: impl ToString) -> Self {
        self.endpoints.push(endpoint.to_string());
        self
    }

    /// A line of the pool: `connections: {per_endpoint: 4}`.
    pub fn pool(mut self, line: &str) -> Self {
        self.pool.push(line.to_owned());
        self
    }

    /// A line of the listener: `timeouts: {read: 1s}`.
    pub fn listener(mut self, line: &str) -> Self {
        self.listener.push(line.to_owned());
        self
    }

    /// A line of the top level: `drain: {deadline: 5s}`.
    pub fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    #[track_caller]
    pub fn start(self) -> Fcgimux {
        Fcgimux::yaml(&self.file())
    }

    fn file(&self) -> String {
        let mut lines = vec!["listeners:".to_owned(), "  - socket: {socket}".to_owned()];
        lines.extend(["    mode: \"0666\"".to_owned(), "    pool: default".to_owned()]);
        lines.extend(self.listener.iter().map(|line| format!("    {line}")));
        lines.extend(["pools:".to_owned(), "  default:".to_owned(), "    endpoints:".to_owned()]);
        lines.extend(self.endpoints.iter().map(|endpoint| format!("      - {}: {endpoint}", key_of(endpoint))));
        lines.extend(self.pool.iter().map(|line| format!("    {line}")));
        lines.push("admin: {listen: {admin}}".to_owned());
        lines.extend(self.top.iter().cloned());
        lines.join("\n") + "\n"
    }
}

impl Fcgimux {
    /// A pool `default` with this endpoint: `ip:port`, `name:port`, or the path of a Unix socket.
    pub fn to(endpoint: impl ToString) -> Setup {
        let endpoints = vec![endpoint.to_string()];
        Setup { endpoints, pool: Vec::new(), listener: Vec::new(), top: Vec::new() }
    }

    /// Runs with a whole configuration; `{socket}`, `{admin}` and `{folder}` in it stand for its own socket's path, its
    /// admin address and a folder that goes with it.
    #[track_caller]
    pub fn yaml(text: &str) -> Self {
        Self::behind(&[], text)
    }

    /// The same behind a command that becomes the program: `env NAME=VALUE`.
    #[track_caller]
    pub fn behind(command: &[&str], text: &str) -> Self {
        let (folder, admin) = (Folder::new(), Port::free());
        let text = text
            .replace("{socket}", &socket_in(&folder).display().to_string())
            .replace("{admin}", &admin.address().to_string())
            .replace("{folder}", &folder.path().display().to_string());
        let file = folder.write("fcgimux.yaml", &text).display().to_string();
        Self::start(folder, admin, command, &["--config", &file])
    }

    /// Runs with `--listen`, `--admin` and these flags. Everybody may connect to its socket once this returns.
    #[track_caller]
    pub fn flags(flags: &[&str]) -> Self {
        let (folder, admin) = (Folder::new(), Port::free());
        let (socket, address) = (socket_in(&folder).display().to_string(), admin.address().to_string());
        let own = ["--listen", &socket, "--admin", &address];
        let fcgimux = Self::start(folder, admin, &[], &[&own, flags].concat());
        // The web server is another user here.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("chmod");
        fcgimux
    }

    #[track_caller]
    fn start(folder: Folder, admin: Port, command: &[&str], arguments: &[&str]) -> Self {
        let line = [command, &[env!("CARGO_BIN_EXE_fcgimux")], arguments].concat();
        let mut process = Process::start(&folder, "fcgimux.log", line[0], &line[1..]);
        let socket = socket_in(&folder);
        process.wait_ready(&folder, || UnixStream::connect(&socket).is_ok());
        Self { process, folder, admin }
    }

    /// Path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }

    /// A web server's connection to it.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::unix(&self.socket())
    }

    /// One request on a connection of its own, as nginx sends it: without keep-conn.
    #[track_caller]
    pub fn call(&self, call: &Call, limit: Duration) -> Reply {
        self.connect().call(&call.clone().last(), limit)
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// A page of the admin server: status and text.
    pub fn page(&self, path: &str) -> (u16, String) {
        match http::get(self.admin(), path, Duration::from_secs(5)) {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(error) => (0, error.to_string()),
        }
    }

    #[track_caller]
    pub fn metrics(&self) -> Measures {
        let (status, text) = self.page("/metrics");
        assert_eq!(status, 200, "/metrics: {text}");
        Measures::parse(&text)
    }

    /// Its standard output and error so far.
    pub fn log(&self) -> String {
        self.process.log(&self.folder)
    }

    /// Its own folder, where `{folder}` points to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts another configuration in place of the first, with the same placeholders; it is read at SIGHUP.
    pub fn rewrite(&self, text: &str) {
        let text = text
            .replace("{socket}", &self.socket().display().to_string())
            .replace("{admin}", &self.admin().to_string())
            .replace("{folder}", &self.folder().display().to_string());
        fs::write(self.folder.join("fcgimux.yaml"), text).expect("rewrite the configuration");
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Option<Exit> {
        self.process.wait_exit(limit)
    }

    pub fn rss_kib(&self) -> u64 {
        proc::rss_kib(self.pid())
    }

    /// The most it ever had.
    pub fn peak_rss_kib(&self) -> u64 {
        proc::peak_rss_kib(self.pid())
    }

    pub fn open_fds(&self) -> usize {
        proc::open_fds(self.pid())
    }

    pub fn cpu_time(&self) -> Duration {
        proc::cpu_time(self.pid())
    }
}

/// The key that an endpoint's address belongs under.
fn key_of(endpoint: &str) -> &'static str {
    match endpoint.parse::<SocketAddr>() {
        _ if endpoint.starts_with('/') => "socket",
        Ok(_) => "address",
        Err(_) => "dns",
    }
}

fn socket_in(folder: &Folder) -> PathBuf {
    folder.join("fcgimux.sock")
}
