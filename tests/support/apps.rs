//! FastCGI applications that are not php-fpm: the programs of `tests/apps`, one per library, all with the same behaviour
//! (`tests/apps/README.md`). spawn-fcgi hands each its listening socket, as it is done in operation.

mod build;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    Folder, Port, Process,
    fcgi::{Call, Connection, Reply},
    proc,
};

/// One of each, for tests of all of them.
pub const ALL: [fn() -> Program; 5] = [Program::go, Program::libfcgi, Program::perl, Program::fcgiwrap, Program::flup];

/// Requests that a program without multiplexing serves at once, unless said otherwise.
const WORKERS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Go,
    Libfcgi,
    Perl,
    Fcgiwrap,
    Flup,
    FlupSerial,
}

/// What shall run; see [`Program::go`] and the others.
pub struct Program {
    library: Library,
    workers: usize,
    unix: bool,
}

/// One that runs.
pub struct App {
    library: Library,
    process: Process,
    folder: Folder,
    port: Option<Port>,
}

impl Program {
    /// Go's net/http/fcgi: a goroutine per request, any number of them.
    pub fn go() -> Self {
        Self::of(Library::Go)
    }

    /// libfcgi: a thread per connection, so many connections at once as there are workers.
    pub fn libfcgi() -> Self {
        Self::of(Library::Libfcgi)
    }

    /// perl FCGI: a process per connection.
    pub fn perl() -> Self {
        Self::of(Library::Perl)
    }

    /// fcgiwrap: a process per connection, and one more per request.
    pub fn fcgiwrap() -> Self {
        Self::of(Library::Fcgiwrap)
    }

    /// flup's multiplexing server: a thread per connection and one per request, any number of them.
    pub fn flup() -> Self {
        Self::of(Library::Flup)
    }

    /// flup without multiplexing, its default.
    pub fn flup_serial() -> Self {
        Self::of(Library::FlupSerial)
    }

    /// So many workers, in place of four, where the library has any.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Listens on a Unix socket instead of TCP.
    pub fn unix(mut self) -> Self {
        self.unix = true;
        self
    }

    #[track_caller]
    pub fn start(self) -> App {
        let (folder, port) = (Folder::new(), (!self.unix).then(Port::free));
        folder.subfolder("scripts");
        folder.subfolder("log");
        // A session of its own, and so a group that can be ended.
        let mut arguments = vec![build::need("spawn-fcgi", "spawn-fcgi"), "-n".to_owned()];
        match &port {
            Some(port) => arguments.extend(["-a".into(), "127.0.0.1".into(), "-p".into(), port.number().to_string()]),
            None => {
                arguments.extend(["-s".into(), socket_in(&folder).display().to_string(), "-M".into(), "0666".into()])
            }
        }
        arguments.push("--".to_owned());
        arguments.extend(self.command(&folder));
        let process = Process::start(&folder, "app.log", "setsid", arguments);
        let mut app = App { library: self.library, process, folder, port };
        app.wait_answering();
        app
    }

    fn of(library: Library) -> Self {
        Self { library, workers: WORKERS, unix: false }
    }

    #[track_caller]
    fn command(&self, folder: &Folder) -> Vec<String> {
        let workers = self.workers.to_string();
        match self.library {
            Library::Go => vec![build::go()],
            Library::Libfcgi => vec![build::c(), workers],
            Library::Perl => vec![build::perl(), build::source("perl.pl"), workers],
            Library::Fcgiwrap => {
                add_scripts(folder);
                vec![build::need("fcgiwrap", "fcgiwrap"), "-c".to_owned(), workers]
            }
            Library::Flup | Library::FlupSerial => {
                let multiplexed = if self.library == Library::Flup { "multiplexed" } else { "serial" };
                let path = format!("PYTHONPATH={}", build::flup());
                let env = build::need("env", "coreutils");
                vec![env, path, "python3".to_owned(), build::source("wsgi.py"), multiplexed.to_owned()]
            }
        }
    }
}

impl App {
    pub fn name(&self) -> &'static str {
        match self.library {
            Library::Go => "go",
            Library::Libfcgi => "libfcgi",
            Library::Perl => "perl",
            Library::Fcgiwrap => "fcgiwrap",
            Library::Flup => "flup",
            Library::FlupSerial => "flup-serial",
        }
    }

    /// Whether it serves many requests on one connection at once; what it announces is another matter.
    pub fn multiplexes(&self) -> bool {
        matches!(self.library, Library::Go | Library::Flup)
    }

    /// Whether libfcgi reads its records, in C or in perl.
    pub fn uses_libfcgi(&self) -> bool {
        matches!(self.library, Library::Libfcgi | Library::Perl | Library::Fcgiwrap)
    }

    /// `host:port` or the path of the socket.
    pub fn address(&self) -> String {
        match &self.port {
            Some(port) => port.address().to_string(),
            None => socket_in(&self.folder).display().to_string(),
        }
    }

    /// A connection past fcgimux.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        match &self.port {
            Some(port) => Connection::tcp(port.address()),
            None => Connection::unix(&socket_in(&self.folder)),
        }
    }

    /// A GET with this query.
    pub fn get(&self, query: &str) -> Call {
        self.request("GET", query)
    }

    /// A POST with this query and body.
    pub fn post(&self, query: &str, body: impl Into<Vec<u8>>) -> Call {
        self.request("POST", query).body("application/octet-stream", body)
    }

    /// One request on a connection of its own, past fcgimux, as nginx sends it: without keep-conn.
    #[track_caller]
    pub fn call(&self, call: &Call) -> Reply {
        self.connect().call(&call.clone().last(), Duration::from_secs(30)).whole()
    }

    /// The document root for a web server; what it passes on may be called `app.php` or `echo.php`.
    pub fn scripts(&self) -> PathBuf {
        self.folder.join("scripts")
    }

    /// A file that `watch` may note to.
    pub fn log_file(&self, name: &str) -> String {
        self.folder.join("log").join(name).display().to_string()
    }

    /// What `watch` noted there.
    pub fn notes(&self, name: &str) -> Vec<String> {
        self.folder.read(&format!("log/{name}")).lines().map(str::to_owned).collect()
    }

    /// Standard output and error of the program.
    pub fn log(&self) -> String {
        self.process.log(&self.folder)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn open_fds(&self) -> usize {
        proc::open_fds(self.pid())
    }

    fn request(&self, method: &str, query: &str) -> Call {
        let script = self.scripts().join("app.php").display().to_string();
        // Go and flup want what every web server sends.
        Call::new(method, &script)
            .query(query)
            .param("SCRIPT_NAME", "/app.php")
            .param("REQUEST_URI", &format!("/app.php?{query}"))
            .param("SERVER_PROTOCOL", "HTTP/1.1")
            .param("SERVER_NAME", "test")
            .param("SERVER_PORT", "80")
    }

    #[track_caller]
    fn wait_answering(&mut self) {
        let Self { process, folder, port, .. } = self;
        process.wait_ready(folder, || match port {
            Some(port) => std::net::TcpStream::connect(port.address()).is_ok(),
            None => std::os::unix::net::UnixStream::connect(socket_in(folder)).is_ok(),
        });
        let reply = self.connect().call(&self.get("early").last(), Duration::from_secs(15));
        assert!(reply.ended && reply.text() == "early\n", "{}: {reply:?}\n{}", self.name(), self.log());
    }
}

impl Drop for App {
    /// All at once, workers and what they run: a parent would start others in the place of those that end. None has
    /// anything to put in order.
    fn drop(&mut self) {
        let group = i32::try_from(self.pid()).expect("a pid");
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        self.process.wait_exit(Duration::from_secs(3));
    }
}

fn socket_in(folder: &Folder) -> PathBuf {
    folder.join("app.sock")
}

/// The CGI program, under names that nginx's configuration of the tests passes on.
fn add_scripts(folder: &Folder) {
    let text = fs::read_to_string(build::source("perl.pl")).expect("perl.pl");
    build::perl();
    for name in ["app.php", "echo.php"] {
        let path = folder.write(&format!("scripts/{name}"), &text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
}
