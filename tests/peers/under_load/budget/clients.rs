//! Clients of web servers that come and go: so many at a time at each sidecar, each with one request after the other.

use std::{
    fmt::Write,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::support::fcgi::{Call, Connection};
use crate::under_load::budget::stage::Stage;

/// What each script takes: long enough that the workers are what is scarce, and not the processor.
const SERVICE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a client notices that its phase has come.
const LOOK: Duration = Duration::from_millis(10);

/// So many clients at each sidecar, for so long.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) clients: Vec<usize>,
    pub(crate) lasts: Duration,
}

pub(crate) struct Clients {
    phases: Vec<Phase>,
}

/// What came of requests of one phase at one sidecar.
#[derive(Clone, Debug, Default)]
struct Part {
    /// Answers within the phase.
    answers: u32,
    /// The longest that one of its requests took beyond the script's own time.
    longest: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Tally {
    phases: Vec<Phase>,
    /// By phase, then by sidecar.
    parts: Vec<Vec<Part>>,
    pub(crate) errors: Vec<String>,
}

impl Clients {
    pub(crate) fn new(phases: Vec<Phase>) -> Self {
        Self { phases }
    }

    /// The same load on both at the same time: whatever else the machine does holds both up alike.
    pub(crate) fn run(&self, sidecars: &Stage, one: &Stage) -> (Tally, Tally) {
        let start = Instant::now() + Duration::from_millis(100);
        thread::scope(|scope| {
            let shared = scope.spawn(|| self.at(sidecars, start));
            let ideal = scope.spawn(|| self.at(one, start));
            (shared.join().expect("clients"), ideal.join().expect("clients"))
        })
    }

    fn at(&self, stage: &Stage, start: Instant) -> Tally {
        let sidecars = self.phases[0].clients.len();
        let sockets = stage.sockets(sidecars);
        let mut tally = Tally::new(&self.phases);
        thread::scope(|scope| {
            let mut running = vec![];
            for (sidecar, socket) in sockets.iter().enumerate() {
                let most = self.phases.iter().map(|phase| phase.clients[sidecar]).max().unwrap_or(0);
                for number in 0..most {
                    let token = format!("s{sidecar}n{number}");
                    let call = stage.call(&token, SERVICE);
                    let client = Client { sidecar, number, token, call, phases: &self.phases };
                    running.push(scope.spawn(move || client.run(socket, start)));
                }
            }
            running.into_iter().for_each(|client| tally.add(client.join().expect("a client")));
        });
        tally
    }
}

struct Client<'a> {
    sidecar: usize,
    /// It is there in phases in which its sidecar has more clients than that.
    number: usize,
    token: String,
    call: Call,
    phases: &'a [Phase],
}

impl Client<'_> {
    fn run(&self, socket: &Path, start: Instant) -> Tally {
        let mut tally = Tally::new(self.phases);
        thread::sleep(start.saturating_duration_since(Instant::now()));
        while let Some(phase) = self.phase_at(start.elapsed()) {
            if self.phases[phase].clients[self.sidecar] <= self.number {
                thread::sleep(LOOK);
                continue;
            }
            let began = Instant::now();
            let reply = Connection::unix(socket).call(&self.call, PATIENCE);
            let took = began.elapsed();
            if !reply.ended || reply.http_status() != 200 || reply.text() != format!("{}\n", self.token) {
                tally.errors.push(format!("{} after {took:?}: {reply:?}", self.token));
            }
            let longest = &mut tally.parts[phase][self.sidecar].longest;
            *longest = (*longest).max(took.saturating_sub(SERVICE));
            if let Some(phase) = self.phase_at(start.elapsed()) {
                tally.parts[phase][self.sidecar].answers += 1;
            }
        }
        tally
    }

    fn phase_at(&self, time: Duration) -> Option<usize> {
        let mut end = Duration::ZERO;
        self.phases.iter().position(|phase| {
            end += phase.lasts;
            time < end
        })
    }
}

impl Tally {
    fn new(phases: &[Phase]) -> Self {
        let parts = phases.iter().map(|phase| vec![Part::default(); phase.clients.len()]).collect();
        Self { phases: phases.to_vec(), parts, errors: vec![] }
    }

    fn add(&mut self, other: Self) {
        self.errors.extend(other.errors);
        for (part, more) in self.parts.iter_mut().flatten().zip(other.parts.into_iter().flatten()) {
            part.answers += more.answers;
            part.longest = part.longest.max(more.longest);
        }
    }

    /// The longest wait of any request.
    pub(crate) fn longest(&self) -> Duration {
        self.parts.iter().flatten().map(|part| part.longest).max().unwrap_or_default()
    }

    /// Answers compared with those of another, over all phases.
    pub(crate) fn share_of(&self, other: &Self) -> f64 {
        f64::from(self.answers()) / f64::from(other.answers().max(1))
    }

    /// Compared with as many as so many workers give that never rest.
    pub(crate) fn share_of_workers(&self, workers: usize) -> f64 {
        let most = self.phases.iter().map(|phase| phase.lasts).sum::<Duration>() * workers as u32;
        f64::from(self.answers()) * SERVICE.div_duration_f64(most)
    }

    fn answers(&self) -> u32 {
        self.parts.iter().map(|parts| answers(parts)).sum()
    }

    /// A table, a line a phase.
    pub(crate) fn compare(shared: &Self, ideal: &Self) -> String {
        let mut text = String::new();
        for (index, phase) in shared.phases.iter().enumerate() {
            let (ours, best) = (answers(&shared.parts[index]), answers(&ideal.parts[index]));
            let share = 100.0 * f64::from(ours) / f64::from(best.max(1));
            let each: Vec<_> = shared.parts[index].iter().map(|part| part.answers).collect();
            let [waits, one_queue] = [shared, ideal]
                .map(|tally| tally.parts[index].iter().map(|part| part.longest.as_millis()).collect::<Vec<_>>());
            let clients = &phase.clients;
            _ = writeln!(
                text,
                "{clients:?} clients: {ours} answers, one queue {best} ({share:.1} %); of each {each:?}, \
                 longest waits {waits:?} ms, one queue {one_queue:?} ms"
            );
        }
        let (share, waits) = (100.0 * shared.share_of(ideal), [shared, ideal].map(Self::longest));
        _ = writeln!(text, "in all {share:.1} %, longest wait {:.1?}, one queue {:.1?}", waits[0], waits[1]);
        text
    }
}

fn answers(parts: &[Part]) -> u32 {
    parts.iter().map(|part| part.answers).sum()
}
