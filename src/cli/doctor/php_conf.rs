//! php-fpm's own configuration, as far as it matters to whoever keeps connections.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files of one `include`, and files within files.
const INCLUDES_AT_MOST: usize = 100;

/// The file with all that it includes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PhpConf {
    global: Settings,
    /// By name, in the order of the files.
    pools: Vec<(String, Settings)>,
}

/// One section. A later line wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// `30`, `30s`, `5m`, `1h` or `1d`.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        let text = self.get(name)?;
        let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return None,
        };
        Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?))
    }
}

impl PhpConf {
    /// # Errors
    /// A file cannot be read: which one.
    pub(super) fn read(path: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut conf = Self::default();
        let mut waiting = vec![path.to_owned()];
        for _ in 0..INCLUDES_AT_MOST {
            let Some(path) = waiting.pop() else { break };
            let text = fs::read_to_string(&path).map_err(|error| (path.clone(), error))?;
            let mut more = conf.take(&text);
            more.reverse();
            for pattern in more {
                let found = matching(&pattern).map_err(|error| (pattern, error))?;
                waiting.extend(found.into_iter().rev());
            }
        }
        Ok(conf)
    }

    pub(super) fn global(&self) -> &Settings {
        &self.global
    }

    /// The pool that listens there (a port, or the path of a socket), or the only one there is.
    pub(super) fn pool(&self, port: Option<u16>, socket: Option<&Path>) -> Option<(&str, &Settings)> {
        let listens = |settings: &Settings| {
            let listen = settings.get("listen").unwrap_or_default();
            let of_listen = listen.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
            match (port, socket) {
                (Some(port), _) => of_listen == Some(port),
                (None, Some(socket)) => Path::new(listen) == socket,
                (None, None) => false,
            }
        };
        let found = self.pools.iter().find(|(_, settings)| listens(settings));
        let only = if self.pools.len() == 1 { self.pools.first() } else { None };
        found.or(only).map(|(name, settings)| (name.as_str(), settings))
    }

    /// Takes in a file, and returns what it includes.
    fn take(&mut self, text: &str) -> Vec<PathBuf> {
        let (mut included, mut section) = (vec![], "global".to_owned());
        for line in text.lines() {
            let line = without_comment(line).trim();
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.trim().clone_into(&mut section);
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim().trim_matches(['"', '\'']));
            match (name, section.as_str()) {
                ("include", _) => included.push(PathBuf::from(value)),
                (_, "global") => drop(self.global.0.insert(name.to_owned(), value.to_owned())),
                (_, pool) => drop(self.pool_mut(pool).0.insert(name.to_owned(), value.replace("$pool", pool))),
            }
        }
        included
    }

    fn pool_mut(&mut self, name: &str) -> &mut Settings {
        let at = self.pools.iter().position(|(pool, _)| pool == name).unwrap_or_else(|| {
            self.pools.push((name.to_owned(), Settings::default()));
            self.pools.len() - 1
        });
        &mut self.pools[at].1
    }
}

/// Up to a semicolon that is not in quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, character)| {
        quoted ^= *character == '"';
        *character == ';' && !quoted
    });
    end.map_or(line, |(at, _)| &line[..at])
}

/// The files that an `include` means: one, or all that fit a name with `*` in it, in order.
fn matching(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((begin, end)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let Some(folder) = pattern.parent() else { return Ok(vec![]) };
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
    };
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut found: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_with_what_the_file_includes() {
        let folder = tempfile::tempdir().unwrap();
        let pools = folder.path().join("pool.d");
        fs::create_dir(&pools).unwrap();
        let main = "[global]\nprocess_control_timeout = 10 ; seconds\npid=\"/run/a;b\"\n";
        fs::write(folder.path().join("fpm.conf"), format!("{main}include={}/*.conf\n", pools.display())).unwrap();
        fs::write(pools.join("a.conf"), "[a]\nlisten = 9000\npm = ondemand\npm.max_children=5\n; pm = static\n")
            .unwrap();
        fs::write(pools.join("b.conf"), "[b]\nlisten = /run/$pool.sock\nrequest_terminate_timeout = 2m\n").unwrap();
        fs::write(pools.join("c.txt"), "[c]\nlisten = 9000\n").unwrap();
        let conf = PhpConf::read(&folder.path().join("fpm.conf")).unwrap();
        assert_eq!(conf.global().duration("process_control_timeout"), Some(Duration::from_secs(10)));
        assert_eq!(conf.global().get("pid"), Some("/run/a;b"));
        let (name, pool) = conf.pool(Some(9000), None).unwrap();
        assert_eq!((name, pool.get("pm"), pool.number("pm.max_children")), ("a", Some("ondemand"), Some(5)));
        let (name, pool) = conf.pool(None, Some(Path::new("/run/b.sock"))).unwrap();
        assert_eq!((name, pool.duration("request_terminate_timeout")), ("b", Some(Duration::from_secs(120))));
        assert_eq!(conf.pool(Some(9001), None), None);
    }

    #[test]
    fn the_only_pool_is_meant_wherever_it_listens() {
        let mut conf = PhpConf::default();
        conf.take("[www]\nlisten = 127.0.0.1:9000\n");
        assert_eq!(conf.pool(Some(1), None).map(|(name, _)| name), Some("www"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let (path, _) = PhpConf::read(Path::new("/none/there")).unwrap_err();
        assert_eq!(path, Path::new("/none/there"));
    }
}
