//! One php-fpm and one fcgimux for the cases of a theme, and the two sides of each case.

use std::{
    any::Any,
    collections::VecDeque,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::{
    case::Case,
    scripts::PREPEND,
    seen::Seen,
    site::{Ground, Running, Site},
};
use crate::support::{
    Fcgimux, Folder, PhpFpm, Pool, Port, Setup,
    apps::App,
    bounded, eventually,
    fcgi::{self, Connection, Incoming},
};

const LIMIT: Duration = Duration::from_secs(120);
/// For a late execution to show in the ledger.
const SETTLED: Duration = Duration::from_secs(2);
/// Cases that run at once.
const AT_ONCE: usize = 3;
/// Judged again so often where only the time was wrong.
const ATTEMPTS: usize = 3;
/// Runs only cases whose names hold this.
const FILTER: &str = "FCGIMUX_TEST_CASE";

/// What cases of a theme share.
pub(crate) struct Theme {
    pub(crate) folder: Folder,
    shared: Application,
}

/// What web servers speak to: directly, and through fcgimux.
pub(crate) struct Application {
    pub(crate) address: String,
    pub(crate) mux: Fcgimux,
    /// What runs behind the address.
    _runs: Box<dyn Any + Send + Sync>,
}

/// One of the two ways to an application.
pub(crate) struct Side<'c> {
    name: &'static str,
    root: PathBuf,
    /// What the web server is pointed at.
    application: String,
    server: Option<Running>,
    mux: &'c Fcgimux,
}

impl Application {
    pub(crate) fn new(address: String, mux: Fcgimux, runs: impl Any + Send + Sync) -> Self {
        Self { address, mux, _runs: Box::new(runs) }
    }

    /// A php-fpm of the case's own.
    #[track_caller]
    pub(crate) fn php(theme: &Theme, pool: impl Fn(Pool) -> Pool, mux: impl Fn(Setup) -> Setup) -> Self {
        let php = pool(php(&theme.folder, 6)).start();
        let mux = mux(Fcgimux::to(php.address())).start();
        Self::new(php.address(), mux, php)
    }

    /// A port that nobody listens at.
    #[track_caller]
    pub(crate) fn nobody() -> Self {
        let port = Port::free();
        let mux = Fcgimux::to(port.address()).start();
        Self::new(port.address().to_string(), mux, port)
    }

    /// Another FastCGI application than php-fpm.
    #[track_caller]
    pub(crate) fn of(app: App) -> Self {
        let mux = Fcgimux::to(app.address()).pool("application: generic").start();
        Self::new(app.address(), mux, app)
    }

    /// Anything else that listens at an address.
    #[track_caller]
    pub(crate) fn beside(address: String, runs: impl Any + Send + Sync) -> Self {
        let mux = Fcgimux::to(&address).start();
        Self::new(address, mux, runs)
    }

    /// An application that plays a part for each request of it.
    #[track_caller]
    pub(crate) fn scripted(part: impl Fn(&mut Connection, &Incoming) + Send + Sync + 'static) -> Self {
        let application = fcgi::Application::tcp(move |mut connection, _| {
            let mut incoming = Incoming::default();
            while let Ok(record) = connection.read_record(Duration::from_secs(30)) {
                if record.kind == fcgi::GET_VALUES {
                    let values = fcgi::pair(b"FCGI_MPXS_CONNS", b"0");
                    let _ = connection.try_send(&fcgi::record(fcgi::GET_VALUES_RESULT, 0, &values));
                } else if incoming.has_begun() || record.kind == fcgi::BEGIN_REQUEST {
                    incoming.take(record);
                }
                if incoming.is_complete() {
                    part(&mut connection, &std::mem::take(&mut incoming));
                }
            }
        });
        let mux = Fcgimux::to(application.address()).start();
        Self::new(application.address(), mux, application)
    }
}

/// A pool whose scripts write to the ledgers, and whose messages go to the web server.
pub(crate) fn php(folder: &Folder, workers: usize) -> Pool {
    let prepend = folder.join("prepend.php").display().to_string();
    PhpFpm::pool(workers).ini("auto_prepend_file", &prepend).ini("error_log", "").ini("log_errors", "On")
}

impl Theme {
    #[track_caller]
    fn new() -> Self {
        let folder = Folder::new();
        folder.write("prepend.php", PREPEND);
        let php = php(&folder, 24).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 12}").start();
        let shared = Application::new(php.address(), mux, php);
        Self { folder, shared }
    }
}

impl Side<'_> {
    /// Of the web server.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("a web server").address()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_through(&self) -> bool {
        self.name == "through"
    }

    /// Full path of a script.
    pub(crate) fn script(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    /// A connection to what the web server speaks to.
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        Connection::from_socket(fcgi::dial(&self.application))
    }

    /// fcgimux, which is there on both sides.
    pub(crate) fn mux(&self) -> &Fcgimux {
        self.mux
    }

    /// What the web server has logged.
    #[track_caller]
    pub(crate) fn log(&self) -> String {
        self.server.as_ref().expect("a web server").log()
    }

    /// Whether a script has noted this, or been executed: "run GET env.php".
    pub(crate) fn has_noted(&self, words: &str) -> bool {
        self.ledger().contains(words)
    }

    fn ledger(&self) -> String {
        let text = fs::read_to_string(self.root.join("ledger")).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.join(" | ")
    }

    fn executions(&self) -> usize {
        self.ledger().split(" | ").filter(|line| line.starts_with("run ")).count()
    }

    fn visit(&self, case: &Case) -> Seen {
        let start = Instant::now();
        let mut seen = (case.visit)(self);
        seen.took = start.elapsed();
        seen.own.push((self.root.display().to_string(), "{root}"));
        if let Some(server) = &self.server {
            seen.own.push((server.address().port().to_string(), "{port}"));
            seen.frames_by_time = server.frames_by_time();
        }
        seen
    }
}

/// Runs every case with each of its web servers, and fails with the list of those that failed.
#[track_caller]
pub(crate) fn run(cases: fn() -> Vec<Case>) {
    bounded(LIMIT, move || {
        let (cases, theme) = (cases(), Theme::new());
        let filter = std::env::var(FILTER).unwrap_or_default();
        let pairs = cases.iter().flat_map(|case| {
            let sites = case.sites.iter().map(Some).chain(case.sites.is_empty().then_some(None));
            sites.map(move |site| (case.name_with(site), case, site))
        });
        let pairs: Vec<_> = pairs.filter(|(name, _, _)| name.contains(&filter)).enumerate().collect();
        let (count, queue, failed) = (pairs.len(), Mutex::new(VecDeque::from(pairs)), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((number, (name, case, site))) = next(&queue) {
                        let start = Instant::now();
                        if let Err(words) = judged(&theme, number, case, site) {
                            failed.lock().expect("failures").push(format!("{name}:\n    {words}"));
                        }
                        println!("{name}: {:?}", start.elapsed());
                    }
                });
            }
        });
        assert!(!theme.shared.mux.log().contains("panicked"), "{}", theme.shared.mux.log());
        let mut failed = failed.into_inner().expect("failures");
        failed.sort();
        assert!(failed.is_empty(), "{} of {count} failed\n  {}\n", failed.len(), failed.join("\n  "));
    });
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().expect("the queue").pop_front()
}

/// A case whose only fault is its time is judged again.
fn judged(theme: &Theme, number: usize, case: &Case, site: Option<&Site>) -> Result<(), String> {
    let mut late = Vec::new();
    for attempt in 0..ATTEMPTS {
        let once = catch_unwind(AssertUnwindSafe(|| once(theme, &format!("{number}-{attempt}"), case, site)));
        let found = once.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Found { wrong: vec![text.unwrap_or_default()], late: None }
        });
        if !found.wrong.is_empty() {
            return Err(found.wrong.into_iter().chain(found.late).collect::<Vec<_>>().join("\n    "));
        }
        let Some(words) = found.late else { return Ok(()) };
        late.push(words);
    }
    Err(late.join("\n    "))
}

#[derive(Default)]
struct Found {
    wrong: Vec<String>,
    late: Option<String>,
}

fn once(theme: &Theme, number: &str, case: &Case, site: Option<&Site>) -> Found {
    let own = case.own.as_ref().map(|own| own(theme));
    let application = own.as_ref().unwrap_or(&theme.shared);
    let folders = [Folder::new(), Folder::new()];
    let side = |name: &'static str, address: String| {
        let root = furnished(&theme.folder, &format!("{}-{number}", &name[..1]), case);
        let server = site.map(|site| {
            site.start(&Ground {
                side: name,
                root: &root,
                folder: &folders[usize::from(name == "through")],
                application: &address,
                spare: &theme.shared.address,
            })
        });
        Side { name, root, application: address, server, mux: &application.mux }
    };
    let direct = side("direct", application.address.clone());
    let through = side("through", application.mux.socket().display().to_string());
    let (one, two) = if case.in_turn {
        (direct.visit(case), through.visit(case))
    } else {
        thread::scope(|scope| {
            let other = scope.spawn(|| through.visit(case));
            let one = direct.visit(case);
            (one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    };
    let mut found = Found::default();
    found.wrong.extend(case.misses(&one));
    found.wrong.extend(case.differences(&one, &two));
    found.wrong.extend(ledgers(case, &direct, &through));
    found.wrong.extend(logs(case, [&direct, &through]));
    let times = format!("took {:?} directly and {:?} through fcgimux", one.took, two.took);
    if two.took > one.took + case.slack {
        found.late = Some(times.clone());
    }
    found.late = found.late.or(two.late).or(one.late);
    if !found.wrong.is_empty() {
        found.wrong.push(times);
        found.late = None;
    }
    found
}

/// A document root with the scripts of a case and an empty ledger.
fn furnished(folder: &Folder, name: &str, case: &Case) -> PathBuf {
    let root = folder.subfolder(name);
    case.furnish(&root);
    let ledger = root.join("ledger");
    fs::write(&ledger, "").expect("an empty ledger");
    open_to_all(&ledger);
    root
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod");
}

fn ledgers(case: &Case, direct: &Side<'_>, through: &Side<'_>) -> Option<String> {
    if !case.ledgered {
        return None;
    }
    let agree = || {
        let runs = [direct, through].map(Side::executions);
        direct.ledger() == through.ledger() && case.runs.is_none_or(|count| runs == [count; 2])
    };
    let wanted = case.runs.map_or_else(String::new, |count| format!(", {count} wanted"));
    (!eventually(SETTLED, agree))
        .then(|| format!("executed{wanted}:\n      direct  {}\n      through {}", direct.ledger(), through.ledger()))
}

fn logs(case: &Case, sides: [&Side<'_>; 2]) -> Vec<String> {
    let Some(words) = &case.log_has else { return Vec::new() };
    let holds = |side: &Side<'_>| side.server.as_ref().is_none_or(|server| server.log().contains(words));
    let missing = sides.into_iter().filter(|side| !eventually(SETTLED, || holds(side)));
    missing
        .map(|side| {
            let log = side.server.as_ref().map(Running::log).unwrap_or_default();
            let end = log.lines().rev().take(3).collect::<Vec<_>>().join("\n      ");
            format!("{}: no {words:?} in the web server's log:\n      {end}", side.name)
        })
        .collect()
}
