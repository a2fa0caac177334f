//! Two installations of one application, one before php-fpm and one before fcgimux: each step is done in both and compared.

use std::{
    fmt::Write,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::{
    browser::{Browser, Exchange, Page},
    normal::Names,
    stage::Stage,
};
use crate::support::{Nginx, Site};

/// An exchange through fcgimux may take so much longer: the machine has other work. A refusal that lingers takes five seconds.
const SLOWER: Duration = Duration::from_secs(4);
/// Headers that say nothing about the application.
const NOT_COMPARED: [&str; 1] = ["date"];
/// At the same time, each so often through all pages.
const VISITORS: usize = 6;
const ROUNDS: usize = 3;

/// One installation.
pub(super) struct Installation<'s> {
    pub(super) stage: &'s Stage,
    pub(super) nginx: Nginx,
    pub(super) root: PathBuf,
    pub(super) database: String,
    pub(super) browser: Browser,
    names: Names,
}

pub(super) struct Pair<'s> {
    direct: Installation<'s>,
    through: Installation<'s>,
    steps: usize,
    exchanges: usize,
    bytes: usize,
    took: [Duration; 2],
    differences: Vec<String>,
}

impl<'s> Installation<'s> {
    /// `site` says what nginx serves: its document root and to whom it passes scripts are given.
    fn new(stage: &'s Stage, name: &str, pass: &str, site: impl Fn(Site, &std::path::Path) -> Site) -> Self {
        let root = stage.folder.join(name);
        let database = format!("{name}_database");
        stage.database.create(&database);
        let nginx = site(Nginx::site(&root, pass), &root).start();
        let address = nginx.address();
        let names = Names::default()
            .read(&address.to_string(), "HOST")
            .read(&root.display().to_string(), "ROOT")
            .read(&database, "DATABASE");
        Self { stage, nginx, root, database, browser: Browser::at(address), names }
    }

    /// What the installation's database answers.
    #[track_caller]
    pub(super) fn query(&self, sql: &str) -> String {
        self.stage.database.query(&self.database, sql)
    }
}

impl Installation<'_> {
    /// Lets several visitors read pages at the same time: each gets what one alone gets.
    #[track_caller]
    pub(super) fn crowd(&mut self, paths: &[&str]) {
        let alone: Vec<Page> = paths.iter().map(|path| self.browser.open(path)).collect();
        let (address, names) = (self.nginx.address(), &self.names);
        let visit = |first: usize| {
            let mut browser = Browser::at(address);
            for turn in first..first + ROUNDS * paths.len() {
                let at = turn % paths.len();
                let page = browser.open(paths[at]);
                let difference = names.difference(&alone[at].text, names, &page.text);
                assert_eq!(
                    (page.status, difference),
                    (alone[at].status, None),
                    "{}, alone and among others",
                    page.path
                );
            }
        };
        thread::scope(|scope| (0..VISITORS).for_each(|first| drop(scope.spawn(move || visit(first)))));
    }
}

impl<'s> Pair<'s> {
    pub(super) fn on(stage: &'s Stage, site: impl Fn(Site, &std::path::Path) -> Site) -> Self {
        let direct = Installation::new(stage, "direct", &stage.direct(), &site);
        let through = Installation::new(stage, "through", &stage.mux.socket().display().to_string(), &site);
        let took = [Duration::ZERO; 2];
        Self { direct, through, steps: 0, exchanges: 0, bytes: 0, took, differences: Vec::new() }
    }

    pub(super) fn both(&mut self) -> [&mut Installation<'s>; 2] {
        [&mut self.direct, &mut self.through]
    }

    /// Does a step direct, then through fcgimux, and compares all that was answered.
    #[track_caller]
    pub(super) fn step(&mut self, name: &str, act: impl Fn(&mut Installation<'s>)) {
        self.steps += 1;
        let start = Instant::now();
        println!("{name}: direct");
        act(&mut self.direct);
        println!("{name}: through fcgimux ({:.1?})", start.elapsed());
        act(&mut self.through);
        println!("{name}: compared ({:.1?})", start.elapsed());
        let [direct, through] = self.both().map(|installation| installation.browser.take_exchanges());
        if direct.len() != through.len() {
            self.differences.push(format!("{name}: {} exchanges direct, {} through", direct.len(), through.len()));
        }
        for (direct, through) in direct.iter().zip(&through) {
            self.compare(name, direct, through);
        }
        println!("({:.1?})", start.elapsed());
    }

    fn compare(&mut self, step: &str, direct: &Exchange, through: &Exchange) {
        self.exchanges += 1;
        self.bytes += through.answer.body.len();
        self.took[0] += direct.took;
        self.took[1] += through.took;
        let request = &through.request;
        let difference = self.difference(&text(direct), &text(through));
        self.differences.extend(difference.map(|difference| format!("{step}: {request}: {difference}")));
        if through.took > direct.took + SLOWER {
            self.differences.push(format!("{step}: {request}: {:?} direct, {:?} through", direct.took, through.took));
        }
    }

    /// Compares what a query answers in both databases.
    #[track_caller]
    pub(super) fn compare_rows(&mut self, sql: &str) {
        let [direct, through] = self.both().map(|installation| installation.query(sql));
        let difference = self.difference(&direct, &through);
        self.differences.extend(difference.map(|difference| format!("{sql}: {difference}")));
    }

    fn difference(&self, direct: &str, through: &str) -> Option<String> {
        self.direct.names.difference(direct, &self.through.names, through)
    }

    /// Fails if anything differed, anything was executed more often or less often through fcgimux, or anything was noted there.
    #[track_caller]
    pub(super) fn finish(mut self) {
        let stage = self.direct.stage;
        let [direct, through] = self.both().map(|installation| installation.nginx.address());
        self.differences.extend(stage.executed_otherwise(direct, through));
        let [direct, through] = self.both().map(|installation| {
            installation.nginx.errors().iter().map(|line| complaint(line).to_owned() + "\n").collect::<String>()
        });
        let difference = self.difference(&direct, &through);
        self.differences.extend(difference.map(|difference| format!("nginx's log: {difference}")));
        let Self { steps, exchanges, bytes, took: [direct, through], differences, .. } = self;
        println!(
            "{steps} steps, {exchanges} exchanges each way, {bytes} bytes of answers; {direct:.1?} direct, {through:.1?} through; \
             {} differences; {}",
            differences.len(),
            stage.figures()
        );
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
        stage.assert_clean();
    }
}

/// A line of nginx's log without its process and its connection, and without whom it was passed to.
fn complaint(line: &str) -> &str {
    let text = line.split_once('*').and_then(|(_, rest)| rest.split_once(' ')).map_or(line, |(_, text)| text);
    text.split(", upstream: ").next().unwrap_or(text)
}

/// All of an exchange that two installations have in common.
fn text(exchange: &Exchange) -> String {
    let answer = &exchange.answer;
    let mut text = format!("{}\nstatus {}\n", exchange.request, answer.status);
    let body = std::str::from_utf8(&answer.body);
    for (name, value) in answer.headers.iter().filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str())) {
        // The length of a text counts its times and numbers.
        let value = if name == "content-length" && body.is_ok() { "..." } else { value };
        writeln!(text, "{name}: {value}").expect("write to a string");
    }
    match body {
        Ok(body) => text + "\n" + body,
        Err(_) => format!("{text}\n{} bytes, {:x?}", answer.body.len(), Sha256::digest(&answer.body)),
    }
}
