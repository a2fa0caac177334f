//! A real php-fpm with one pool.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Exit, Folder, PhpProgram, Port, Process,
    bounded::wait_until,
    fcgi::{Call, Connection},
    proc,
};

/// What a pool shall be; see [`PhpFpm::pool`].
#[derive(Clone)]
pub struct Pool {
    children: usize,
    /// The installed one unless it is said.
    program: Option<PhpProgram>,
    unix: bool,
    at: Option<SocketAddr>,
    network: Option<u32>,
    status: bool,
    global: Vec<String>,
    directives: Vec<String>,
}

pub struct PhpFpm {
    process: Process,
    folder: Folder,
    listens: Listens,
    status: Option<Port>,
    children: usize,
}

enum Listens {
    Tcp(Port),
    At(SocketAddr),
    Unix(PathBuf),
}

impl Pool {
    /// Is run by this php-fpm instead of the installed one.
    pub fn run_by(mut self, program: &PhpProgram) -> Self {
        self.program = Some(program.clone());
        self
    }

    /// Listens on a Unix socket instead of TCP.
    pub fn unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Listens here instead of at a free port of 127.0.0.1.
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.at = Some(address);
        self
    }

    /// Runs in the network of this process instead of the test's.
    pub fn in_network_of(mut self, pid: u32) -> Self {
        self.network = Some(pid);
        self
    }

    /// Serves [`PhpFpm::status`] from a port of its own, which answers also while every worker is busy.
    pub fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    /// A directive of the pool; a later one of the same name wins.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.directives.push(format!("{name} = {value}"));
        self
    }

    /// A directive of the `[global]` section.
    pub fn global(mut self, name: &str, value: &str) -> Self {
        self.global.push(format!("{name} = {value}"));
        self
    }

    /// A setting of php.ini that scripts cannot change.
    pub fn ini(self, name: &str, value: &str) -> Self {
        let name = format!("php_admin_value[{name}]");
        self.set(&name, value)
    }

    #[track_caller]
    pub fn start(self) -> PhpFpm {
        let folder = Folder::new();
        copy_scripts(&folder);
        folder.subfolder("log");
        let listens = match self.at {
            Some(address) => Listens::At(address),
            None if self.unix => Listens::Unix(folder.join("php.sock")),
            None => Listens::Tcp(Port::free()),
        };
        let status = self.status.then(Port::free);
        let file = folder.write("php-fpm.conf", &self.file(&folder, &listens, status.as_ref()));
        let file = file.display().to_string();
        let mut line = self.program.unwrap_or_else(PhpProgram::installed).command();
        line.extend(["-F".to_owned(), "-y".to_owned(), file]);
        if let Some(pid) = self.network {
            let inside = ["nsenter", "-t", &pid.to_string(), "-n", "--"].map(str::to_owned);
            line.splice(0..0, inside);
        }
        let process = Process::start(&folder, "php-fpm.log", &line[0], &line[1..]);
        let mut php = PhpFpm { process, folder, listens, status, children: self.children };
        php.wait_listening();
        php
    }

    fn file(&self, folder: &Folder, listens: &Listens, status: Option<&Port>) -> String {
        let (path, children) = (folder.path().display(), self.children);
        let listen = listens.address();
        let status = status.map(|port| format!("pm.status_path = /status\npm.status_listen = {}\n", port.address()));
        let (global, directives) = (self.global.join("\n"), self.directives.join("\n"));
        format!(
            "[global]\nerror_log = {path}/php-fpm.err\ndaemonize = no\n{global}\n\
             [test]\nuser = www-data\ngroup = www-data\nlisten = {listen}\nlisten.mode = 0666\n\
             pm = static\npm.max_children = {children}\n{status}\
             php_admin_value[error_log] = {path}/log/php.err\n{directives}\n",
            status = status.unwrap_or_default(),
        )
    }
}

impl PhpFpm {
    /// A static pool with so many workers.
    pub fn pool(children: usize) -> Pool {
        Pool {
            children,
            program: None,
            unix: false,
            at: None,
            network: None,
            status: false,
            global: Vec::new(),
            directives: Vec::new(),
        }
    }

    /// `host:port` or the path of the socket.
    pub fn address(&self) -> String {
        self.listens.address()
    }

    #[track_caller]
    pub fn port(&self) -> u16 {
        self.tcp_address().port()
    }

    #[track_caller]
    pub fn tcp_address(&self) -> SocketAddr {
        match &self.listens {
            Listens::Tcp(port) => port.address(),
            Listens::At(address) => *address,
            Listens::Unix(_) => panic!("this php-fpm listens on a Unix socket"),
        }
    }

    /// A connection past fcgimux.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        match &self.listens {
            Listens::Tcp(port) => Connection::tcp(port.address()),
            Listens::At(address) => Connection::tcp(*address),
            Listens::Unix(path) => Connection::unix(path),
        }
    }

    /// A connection that a worker has accepted.
    #[track_caller]
    pub fn proven(&self) -> Connection {
        let mut connection = self.connect();
        connection.fence(Duration::from_secs(10)).expect("a free worker");
        connection
    }

    /// One request on a connection of its own, past fcgimux.
    #[track_caller]
    pub fn call(&self, call: &Call) -> String {
        let mut connection = self.proven();
        let reply = connection.call(call, Duration::from_secs(30)).whole();
        connection.reset();
        reply.text()
    }

    /// Full path of a script of `tests/php`, or of one added.
    pub fn script(&self, name: &str) -> String {
        self.scripts().join(name).display().to_string()
    }

    /// The document root.
    pub fn scripts(&self) -> PathBuf {
        self.folder.join("scripts")
    }

    /// Writes a script; `text` goes behind `<?php`. Gives its path.
    pub fn add_script(&self, name: &str, text: &str) -> String {
        let path = self.folder.write(&format!("scripts/{name}"), &format!("<?php\n{text}\n"));
        path.display().to_string()
    }

    /// A folder that scripts may write to: log.php's files go there.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Lines of the side-effect log that log.php, partial.php and others write.
    pub fn side_effects(&self) -> Vec<String> {
        self.folder.read("log/side-effects").lines().map(str::to_owned).collect()
    }

    pub fn clear_side_effects(&self) {
        let _ = fs::remove_file(self.log_folder().join("side-effects"));
    }

    /// Pid of the master.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn workers(&self) -> Vec<u32> {
        proc::children(self.pid())
    }

    /// Signals the master.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Signals a worker, if it still exists.
    pub fn signal_worker(&self, worker: u32, signal: Signal) {
        let _ = super::process::send(worker, signal);
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Option<Exit> {
        self.process.wait_exit(limit)
    }

    /// What the master logged.
    pub fn error_log(&self) -> String {
        self.folder.read("php-fpm.err")
    }

    /// The full status page; its summary counters drift on kept connections (2.4), the processes' states do not.
    #[track_caller]
    pub fn status(&self) -> Value {
        let address = self.status.as_ref().expect("a pool with_status()").address();
        let call = Call::get("/status").query("json&full").last();
        let mut connection = Connection::tcp(address);
        let reply = connection.call(&call, Duration::from_secs(5)).whole();
        connection.reset();
        serde_json::from_slice(reply.body()).expect("JSON from the status page")
    }

    /// State of each worker, in the status page's words ("Idle", "Running", "Reading headers", ...).
    #[track_caller]
    pub fn worker_states(&self) -> Vec<String> {
        let status = self.status();
        let processes = status["processes"].as_array().expect("processes");
        processes.iter().map(|process| process["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[track_caller]
    fn wait_listening(&mut self) {
        let Self { process, folder, children, .. } = self;
        let master = process.pid();
        // Not by connecting: that would occupy a worker for a moment, and leave a TIME_WAIT socket. The master says so at
        // log_level notice, the default.
        process.wait_ready(folder, || folder.read("php-fpm.err").contains("ready to handle connections"));
        wait_until("the workers run", || *children == 0 || !proc::children(master).is_empty());
    }
}

impl Listens {
    fn address(&self) -> String {
        match self {
            Self::Tcp(port) => port.address().to_string(),
            Self::At(address) => address.to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

/// The checkout may lie where www-data may not look.
fn copy_scripts(folder: &Folder) {
    folder.subfolder("scripts");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/php");
    for entry in fs::read_dir(source).expect("tests/php") {
        let path = entry.expect("a script").path();
        let name = path.file_name().expect("a file name").to_string_lossy().into_owned();
        folder.write(&format!("scripts/{name}"), &fs::read_to_string(&path).expect("a script"));
    }
}
