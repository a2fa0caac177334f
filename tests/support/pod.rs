//! php-fpm pods: each at an address of its own, all at one port, with one journal of what ran in them.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::signal::Signal;

use super::{Exit, Folder, PhpFpm, Pool, Port, proc, process};

/// Answers like echo.php of `tests/php`, and writes down when it began and ended, and in which pod. Its time is that of
/// the clock (a signal does not cut it short), five times as long in a worker that [`Pods::slow_down`] has named.
const ECHO: &str = r#"<?php
$token = $_GET['token'] ?? 'none';
$n = (int) ($_GET['n'] ?? 0);
$us = (int) ($_GET['us'] ?? 0);
function journal(string $what): void
{
    $line = sprintf("%s %s %s %.6f\n", $what, getenv('POD') ?: 'none', $_SERVER['REQUEST_METHOD'], microtime(true));
    file_put_contents(__DIR__ . '/../log/journal', $line, FILE_APPEND);
}
$body = file_get_contents('php://input');
journal("start $token");
if (str_contains((string) @file_get_contents(__DIR__ . '/../log/slow'), ' ' . getmypid() . ' ')) {
    $us *= 5;
}
$until = microtime(true) + $us / 1e6;
while (($left = $until - microtime(true)) > 0) {
    usleep((int) max(1, $left * 1e6));
}
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
header('X-Length: ' . strlen($body));
header('X-Sha256: ' . hash('sha256', $body));
echo $n > 0 ? substr(str_repeat("$token ", intdiv($n, strlen($token) + 1) + 1), 0, $n) : "$token\n";
journal("end $token");
"#;

/// What all pods of a test have in common.
pub struct Pods {
    folder: Folder,
    /// At 127.0.0.1, where nobody listens: it keeps other tests away from the same port of other addresses.
    port: Port,
    started: u8,
}

/// One php-fpm.
pub struct Pod {
    pub name: String,
    address: SocketAddr,
    pool: Pool,
    php: PhpFpm,
}

/// One execution of a script.
#[derive(Clone, Debug)]
pub struct Run {
    pub token: String,
    pub method: String,
    pub pod: String,
    /// Since 1970.
    pub started: Duration,
    /// None: it was cut off.
    pub ended: Option<Duration>,
}

/// Everything that ran, in the order in which it began.
#[derive(Debug, Default)]
pub struct Journal {
    pub runs: Vec<Run>,
}

impl Pods {
    pub fn new() -> Self {
        let folder = Folder::new();
        folder.subfolder("scripts");
        folder.subfolder("log");
        folder.write("scripts/echo.php", ECHO);
        Self { folder, port: Port::free(), started: 0 }
    }

    /// One more, at the next address of 127.0.0.0/8.
    #[track_caller]
    pub fn start(&mut self, pool: Pool) -> Pod {
        self.start_at(IpAddr::from(Ipv4Addr::new(127, 0, 0, self.started + 2)), pool)
    }

    #[track_caller]
    pub fn start_at(&mut self, host: IpAddr, pool: Pool) -> Pod {
        self.started += 1;
        let name = format!("pod-{}", self.started);
        let address = SocketAddr::from((host, self.port.number()));
        let pool = pool.at(address).set("env[POD]", &name);
        let php = pool.clone().start();
        Pod { name, address, pool, php }
    }

    /// The document root of all.
    pub fn scripts(&self) -> PathBuf {
        self.folder.join("scripts")
    }

    /// Port of all.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// These workers take five times as long for everything from now on, and no others.
    pub fn slow_down(&self, workers: &[u32]) {
        let list: String = workers.iter().map(|worker| format!(" {worker} ")).collect();
        self.folder.write("log/slow", &list);
    }

    pub fn journal(&self) -> Journal {
        Journal::parse(&self.folder.read("log/journal"))
    }

    /// Forgets what ran so far.
    pub fn clear_journal(&self) {
        let _ = fs::remove_file(self.folder.join("log/journal"));
    }
}

impl Pod {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn php(&self) -> &PhpFpm {
        &self.php
    }

    pub fn workers(&self) -> Vec<u32> {
        self.php.workers()
    }

    /// Signals the master.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.php.signal(signal);
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Option<Exit> {
        self.php.wait_exit(limit)
    }

    /// Ends it and all its workers at once, as a node that loses its power, but with the kernel still there.
    #[track_caller]
    pub fn kill(&mut self) {
        let workers = self.workers();
        self.php.signal(Signal::SIGKILL);
        for worker in &workers {
            let _ = process::send(*worker, Signal::SIGKILL);
        }
        self.php.wait_exit(Duration::from_secs(5)).expect("a killed php-fpm is gone");
        // They have no parent any more that would wait for them, so they go by themselves.
        super::wait_until("killed workers are gone", || workers.iter().all(|worker| !is_running(*worker)));
    }

    /// When it has ended, seen from a thread of its own; none: not within `limit`.
    pub fn gone_at(&self, limit: Duration) -> JoinHandle<Option<Duration>> {
        let pid = self.php.pid();
        thread::spawn(move || super::eventually(limit, || !is_running(pid)).then(since_epoch))
    }

    /// Starts it again at its address, after it ended.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.php = self.pool.clone().start();
    }
}

impl Journal {
    pub fn parse(text: &str) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut open: HashMap<(String, String), usize> = HashMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, token, pod, method, at] = words[..] else { panic!("a line of the journal: {line}") };
            let at = Duration::from_secs_f64(at.parse().expect("a time in the journal"));
            let key = (token.to_owned(), pod.to_owned());
            if what == "start" {
                open.insert(key.clone(), runs.len());
                let [token, method, pod] = [token, method, pod].map(str::to_owned);
                runs.push(Run { token, method, pod, started: at, ended: None });
            } else if let Some(index) = open.remove(&key) {
                runs[index].ended = Some(at);
            }
        }
        Self { runs }
    }

    /// How often each request of a method ran.
    pub fn executions(&self, method: &str) -> HashMap<&str, u32> {
        let mut executions = HashMap::new();
        for run in self.runs.iter().filter(|run| run.method == method) {
            *executions.entry(run.token.as_str()).or_default() += 1;
        }
        executions
    }

    pub fn of(&self, pod: &Pod) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.pod == pod.name)
    }

    /// When the last of a pod's scripts ended, or was cut off having begun.
    pub fn last_of(&self, pod: &Pod) -> Duration {
        self.of(pod).map(|run| run.ended.unwrap_or(run.started)).max().unwrap_or_default()
    }

    /// Fails when a POST ran twice.
    #[track_caller]
    pub fn assert_posts_once(&self) {
        let twice: Vec<_> = self.executions("POST").into_iter().filter(|(_, count)| *count > 1).collect();
        let told = |run: &&Run| twice.iter().any(|(token, _)| *token == run.token);
        assert!(twice.is_empty(), "POSTs that ran twice: {:#?}", self.runs.iter().filter(told).collect::<Vec<_>>());
    }
}

/// Now, as the journal counts.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    proc::exists(pid) && !status.contains(") Z ")
}
