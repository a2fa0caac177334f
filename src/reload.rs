//! The configuration is read again: when the process is told to (SIGHUP), and when its file has changed.
//!
//! It is checked wholly first; then it takes the place of the one before, or nothing changes at all.

use crate::{
    config::{self, Config, ConfigError, Violations},
    log,
    metrics::Metrics,
    net::{ListenError, Net, Prepared},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};

/// The file is read this often. Not by way of events of the file system: there are some without (NFS), and a mounted
/// ConfigMap changes by a symlink that stands elsewhere.
const EVERY: Duration = Duration::from_millis(500);
/// After SIGHUP, so long lies between two readings that must be equal.
const SETTLES: Duration = Duration::from_millis(20);
/// Then so many are made at most.
const READINGS: u32 = 50;

/// The file that a configuration came from, to be read again.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// That of the process, where the file names none.
    zone: Option<String>,
    /// It can be read again, unlike a pipe (`--config /dev/stdin`).
    lasting: bool,
    /// What was made a configuration of, or found wrong, last.
    reading: Reading,
}

/// What a file holds, or why it cannot be read.
type Reading = Result<Vec<u8>, String>;

impl ConfigFile {
    /// Reads a configuration for the first time.
    ///
    /// # Errors
    /// The file cannot be read, or every violation in it.
    pub fn open(path: &Path, zone: Option<String>) -> Result<(Self, Config), ConfigError> {
        let content = config::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let lasting = fs::metadata(path).is_ok_and(|found| found.is_file());
        let file = Self { path: path.to_owned(), zone, lasting, reading: Ok(content.clone()) };
        let config = file.parse(&content)?;
        Ok((file, config))
    }

    fn parse(&self, content: &[u8]) -> Result<Config, Violations> {
        let mut config = Config::from_content(content, &self.path)?;
        config.zone = config.zone.or_else(|| self.zone.clone());
        Ok(config)
    }
}

/// What is changed by another configuration.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) net: Net,
    pub(crate) metrics: Arc<Metrics>,
    /// The configuration in force.
    pub(crate) config: Config,
}

/// A configuration that can be put in force.
struct Checked {
    config: Config,
    /// Keys that the file has changed and only a restart can.
    kept: Vec<&'static str>,
    prepared: Prepared,
}

/// Why a configuration is not taken.
enum Refused {
    Unreadable(String),
    Invalid(Violations),
    Listen(ListenError),
}

/// Watches a file and the signal, and has each new configuration take the place of the one before. Never ends.
///
/// One at a time: while one is applied, a signal waits, and several that wait are one.
pub(crate) async fn watch(mut running: Running, file: Option<ConfigFile>, mut told: Signal) {
    let Some(mut file) = file.filter(|file| file.lasting) else {
        while told.recv().await.is_some() {
            tracing::warn!("told to read the configuration again, but it came from no file: there is nothing to read");
        }
        return std::future::pending().await;
    };
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Read once, and to be read the same once more before it is taken: it may be half written.
    let mut fresh = None;
    loop {
        let asked = tokio::select! { _ = told.recv() => true, _ = looks.tick() => false };
        let reading = if asked { settled(&file).await } else { read(&file).await };
        if !asked && reading == file.reading {
            fresh = None;
        } else if asked || fresh.as_ref() == Some(&reading) {
            fresh = None;
            file.reading = reading;
            running.take(&file).await;
        } else {
            fresh = Some(reading);
        }
    }
}

/// Reads until two readings in a row are equal.
async fn settled(file: &ConfigFile) -> Reading {
    let mut reading = read(file).await;
    for _ in 1..READINGS {
        sleep(SETTLES).await;
        let next = read(file).await;
        if next == reading {
            break;
        }
        reading = next;
    }
    reading
}

async fn read(file: &ConfigFile) -> Reading {
    let path = file.path.clone();
    // A file system may take its time.
    let read = spawn_blocking(move || config::read_again(&path).map_err(|error| error.to_string()));
    read.await.unwrap_or_else(|error| Err(error.to_string()))
}

impl Running {
    /// Puts what has been read in force, or says why not.
    async fn take(&mut self, file: &ConfigFile) {
        let (net, now, read) = (self.net.clone(), self.config.clone(), file.clone());
        let checked = spawn_blocking(move || check(&net, &now, &read)).await;
        let checked = checked.unwrap_or_else(|error| Err(Refused::Unreadable(error.to_string())));
        match checked {
            Ok(checked) => self.put(checked),
            Err(refused) => {
                refused.log(&file.path);
                self.metrics.config_loaded(false);
            }
        }
    }

    fn put(&mut self, checked: Checked) {
        let Checked { config, kept, prepared } = checked;
        let changes = config.changes_from(&self.config);
        self.net.apply(prepared);
        log::adapt(&config.log);
        self.metrics.set_listeners(&config.listeners);
        self.metrics.config_loaded(true);
        if changes.is_empty() {
            tracing::info!("configuration read again; nothing has changed");
        } else {
            let (listeners, pools) = (&changes.listeners, &changes.pools);
            tracing::info!(
                listeners_added = list(&listeners.added),
                listeners_removed = list(&listeners.removed),
                listeners_changed = list(&listeners.changed),
                pools_added = list(&pools.added),
                pools_removed = list(&pools.removed),
                pools_changed = list(&pools.changed),
                settings_changed = list(&changes.settings),
                %config,
                "configuration reloaded"
            );
        }
        if !kept.is_empty() {
            tracing::warn!("{} changes with a restart only, and stays as it was", kept.join(", "));
        }
        self.config = config;
    }
}

/// Reads and prepares, on a thread that may wait. The keys that differ but stay as they are come along.
fn check(net: &Net, now: &Config, file: &ConfigFile) -> Result<Checked, Refused> {
    let content = file.reading.as_ref().map_err(|error| Refused::Unreadable(error.clone()))?;
    let mut config = file.parse(content).map_err(Refused::Invalid)?;
    let mut kept = vec![];
    if config.threads != now.threads {
        config.threads = now.threads;
        kept.push("threads");
    }
    if config.admin.listen != now.admin.listen {
        config.admin.listen = now.admin.listen;
        kept.push("admin.listen");
    }
    let prepared = net.prepare(&config).map_err(Refused::Listen)?;
    Ok(Checked { config, kept, prepared })
}

impl Refused {
    fn log(&self, path: &Path) {
        const OUTCOME: &str = "the configuration before stays in force";
        let file = path.display().to_string();
        match self {
            Self::Unreadable(error) => tracing::error!(file, "configuration cannot be read: {error}; {OUTCOME}"),
            Self::Listen(error) => tracing::error!(file, "configuration refused: {error}; {OUTCOME}"),
            Self::Invalid(violations) => {
                for violation in violations.iter() {
                    let (line, path) = (violation.line, &violation.path);
                    tracing::error!(file, line, path, "configuration refused: {}", violation.message);
                }
                tracing::error!(file, violations = violations.iter().len(), "configuration not reloaded; {OUTCOME}");
            }
        }
    }
}

/// `None`, which is not logged, for nothing.
fn list(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use std::thread;

    const TEXT: &str = "pools:\n  php:\n    endpoints:\n      - dns: php:9000\n";

    #[test]
    fn a_file_is_read_with_the_zone_of_the_process_where_it_names_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fcgimux.yaml");
        let zone = |text: &str| {
            fs::write(&path, text).unwrap();
            let (file, config) = ConfigFile::open(&path, Some("eu-1a".into())).unwrap();
            assert!(file.lasting);
            config.zone
        };
        assert_eq!(zone(TEXT).as_deref(), Some("eu-1a"));
        assert_eq!(zone(&format!("zone: eu-1b\n{TEXT}")).as_deref(), Some("eu-1b"));
        fs::write(&path, "pools: {}").unwrap();
        assert!(matches!(ConfigFile::open(&path, None), Err(ConfigError::Invalid(_))));
    }

    #[test]
    fn a_pipe_is_read_once_and_not_looked_at_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let written = path.clone();
        let writer = thread::spawn(move || fs::write(written, TEXT).unwrap());
        let (file, _) = ConfigFile::open(&path, None).unwrap();
        writer.join().unwrap();
        assert!(!file.lasting);
    }
}
