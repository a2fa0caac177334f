//! Endpoints listed in a file, such as a key of a ConfigMap.
//!
//! What counts is what it holds, not when it was written: it is read twice a second, and taken once two readings in a row
//! are the same, so that a file that is just being written is not taken for a short one. A file that is replaced, or
//! that a symbolic link leads to another one, is a file that holds something else. A file that is not there, cannot be
//! read or holds a violation leaves the endpoints as they are; one that lists none has none.

use super::{Found, Sink, Source};
use crate::config::{self, ConfigError, EndpointSource, Origin};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two readings.
const LOOK: Duration = Duration::from_millis(500);
/// Between the first two, for which requests may be waiting.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// Largest weight of an endpoint.
const WEIGHT_AT_MOST: u32 = 100;
/// Violations that are shown of one file.
const SHOWN: usize = 3;

/// A file that lists endpoints.
#[derive(Debug)]
pub(in crate::net) struct FileSource {
    path: PathBuf,
    /// Times that of an item.
    weight: u32,
    /// Of the items that name none.
    zone: Option<String>,
}

/// What was read last, and what became of it.
#[derive(Debug, Default)]
struct Course {
    seen: Option<Reading>,
    /// On what was seen; none: not seen twice yet.
    verdict: Option<Result<(), String>>,
    /// Told last.
    known: Option<Vec<Found>>,
}

/// What the file holds, or in words why that is not known.
type Reading = Result<Vec<u8>, String>;

#[derive(Debug, PartialEq, Eq)]
enum Tell {
    Found(Vec<Found>),
    Confirmed,
    Failed(String),
}

impl FileSource {
    pub(in crate::net) fn new(path: PathBuf, weight: u32, zone: Option<String>) -> Self {
        Self { path, weight, zone }
    }

    async fn look(&self, course: &mut Course) -> Option<Tell> {
        let reading = self.off_the_thread(read).await;
        if course.seen.as_ref() != Some(&reading) {
            (course.seen, course.verdict) = (Some(reading), None);
            return None;
        }
        if let Some(verdict) = &course.verdict {
            return Some(match verdict {
                Ok(()) => Tell::Confirmed,
                Err(words) => Tell::Failed(words.clone()),
            });
        }
        let listed = match &reading {
            Err(words) => Err(words.clone()),
            Ok(_) => {
                let listed = self.off_the_thread(|path| list(&path)).await;
                if self.off_the_thread(read).await != reading {
                    // It has changed meanwhile: what was checked is not what was seen twice.
                    course.seen = None;
                    return None;
                }
                listed
            }
        };
        course.verdict = Some(listed.as_ref().map(|_| ()).map_err(Clone::clone));
        Some(match listed {
            Err(words) => Tell::Failed(words),
            Ok(listed) => {
                let found: Vec<_> = listed.into_iter().filter_map(|item| self.endpoint(item)).collect();
                let news = course.known.as_ref() != Some(&found);
                course.known = Some(found.clone());
                if news { Tell::Found(found) } else { Tell::Confirmed }
            }
        })
    }

    /// A file may lie where reading takes long.
    async fn off_the_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(|| work(path)).await;
        done.unwrap_or_else(|error| Err(format!("cannot read {}: {error}", self.path.display())))
    }

    fn endpoint(&self, item: EndpointSource) -> Option<Found> {
        // Nothing else is let through by the configuration.
        let Origin::Address(address) = item.origin else { return None };
        let weight = item.weight.saturating_mul(self.weight).min(WEIGHT_AT_MOST);
        let zones = item.zone.or_else(|| self.zone.clone()).into_iter().collect();
        Some(Found { address, weight, zones, leaving: false })
    }
}

impl Source for FileSource {
    async fn watch(self, sink: Sink) {
        let mut course = Course::default();
        let mut pause = FIRST_LOOK;
        loop {
            match self.look(&mut course).await {
                None => {}
                Some(Tell::Found(found)) => sink.found(found),
                Some(Tell::Confirmed) => sink.confirmed(),
                Some(Tell::Failed(words)) => sink.failed(words),
            }
            tokio::time::sleep(pause).await;
            pause = LOOK;
        }
    }
}

fn read(path: PathBuf) -> Reading {
    config::read_again(&path).map_err(|source| ConfigError::Unreadable { path, source }.to_string())
}

fn list(path: &Path) -> Result<Vec<EndpointSource>, String> {
    config::endpoints_from_file(path).map_err(|error| {
        let text = error.to_string();
        let lines: Vec<_> = text.lines().collect();
        let mut words = lines[..lines.len().min(SHOWN)].join("; ");
        if lines.len() > SHOWN {
            words += &format!("; and {} more", lines.len() - SHOWN);
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointAddress;
    use std::{fs, os::unix::fs::symlink};

    struct Watched {
        folder: tempfile::TempDir,
        source: FileSource,
        course: Course,
    }

    impl Watched {
        fn new(weight: u32, zone: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let source = FileSource::new(folder.path().join("endpoints.yaml"), weight, zone.map(str::to_owned));
            Self { folder, source, course: Course::default() }
        }

        fn path(&self) -> &Path {
            &self.source.path
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).unwrap();
        }

        async fn look(&mut self) -> Option<Tell> {
            self.source.look(&mut self.course).await
        }

        /// What is told once the file has rested.
        async fn told(&mut self) -> Tell {
            assert_eq!(self.look().await, None);
            self.look().await.unwrap()
        }
    }

    fn found(host: u8, weight: u32, zone: Option<&str>) -> Found {
        let address = EndpointAddress::Tcp(([10, 0, 0, host], 9000).into());
        Found { address, weight, zones: zone.iter().map(|zone| (*zone).to_owned()).collect(), leaving: false }
    }

    const ONE: &str = "- address: 10.0.0.1:9000\n";
    const TWO: &str = "- address: 10.0.0.1:9000\n- address: 10.0.0.2:9000\n";

    #[tokio::test]
    async fn what_is_read_twice_the_same_is_taken() {
        let mut watched = Watched::new(1, None);
        watched.write(ONE);
        assert_eq!(watched.look().await, None);
        watched.write(TWO);
        assert_eq!(watched.look().await, None, "it is being written");
        assert_eq!(watched.look().await, Some(Tell::Found(vec![found(1, 1, None), found(2, 1, None)])));
        assert_eq!(watched.look().await, Some(Tell::Confirmed));
        watched.write("[]");
        assert_eq!(watched.told().await, Tell::Found(vec![]));
        assert_eq!(watched.look().await, Some(Tell::Confirmed));
    }

    #[tokio::test]
    async fn the_same_endpoints_written_otherwise_are_no_news() {
        let mut watched = Watched::new(1, None);
        watched.write(ONE);
        watched.told().await;
        watched.write("endpoints: [{address: \"10.0.0.1:9000\", weight: 1}]\n");
        assert_eq!(watched.told().await, Tell::Confirmed);
    }

    #[tokio::test]
    async fn a_bad_file_is_told_with_its_line_and_changes_nothing() {
        let mut watched = Watched::new(1, None);
        watched.write(ONE);
        watched.told().await;
        watched.write("- address: 10.0.0.1:9000\n- address: php:9000\n- port: 1\n- {}\n- 5\n");
        let path = watched.path().display().to_string();
        let Tell::Failed(words) = watched.told().await else { panic!("taken") };
        assert!(words.starts_with(&format!("{path}:2: [1].address: `php:9000` is not an IP address")), "{words}");
        assert!(words.ends_with(" more") && !words.contains('\n'), "{words}");
        assert_eq!(watched.look().await, Some(Tell::Failed(words)));
        fs::remove_file(watched.path()).unwrap();
        let Tell::Failed(words) = watched.told().await else { panic!("taken") };
        assert!(words.starts_with(&format!("cannot read {path}: ")), "{words}");
        fs::create_dir(watched.path()).unwrap();
        assert_eq!(watched.told().await, Tell::Failed(format!("cannot read {path}: no regular file")));
        fs::remove_dir(watched.path()).unwrap();
        watched.write("");
        assert!(matches!(watched.told().await, Tell::Failed(_)));
        assert_eq!(watched.course.known, Some(vec![found(1, 1, None)]));
        watched.write(ONE);
        assert_eq!(watched.told().await, Tell::Confirmed);
    }

    #[tokio::test]
    async fn a_config_map_that_is_swapped_by_its_link_is_seen() {
        let mut watched = Watched::new(1, None);
        let at = |name: &str| watched.folder.path().join(name);
        let (data, next) = (at("..data"), at("..data_tmp"));
        for (name, text) in [("..1", ONE), ("..2", TWO)] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("endpoints.yaml"), text).unwrap();
        }
        symlink("..1", &data).unwrap();
        symlink("..data/endpoints.yaml", watched.path()).unwrap();
        assert_eq!(watched.told().await, Tell::Found(vec![found(1, 1, None)]));
        symlink("..2", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert_eq!(watched.told().await, Tell::Found(vec![found(1, 1, None), found(2, 1, None)]));
    }

    #[tokio::test]
    async fn items_have_the_weight_and_the_zone_of_the_source_unless_they_name_a_zone() {
        let mut watched = Watched::new(3, Some("a"));
        watched.write(
            "- {address: \"10.0.0.1:9000\", weight: 2}\n- {address: \"10.0.0.2:9000\", zone: b}\n\
             - {address: \"10.0.0.3:9000\", weight: 100}\n",
        );
        let all = vec![found(1, 6, Some("a")), found(2, 3, Some("b")), found(3, 100, Some("a"))];
        assert_eq!(watched.told().await, Tell::Found(all));
    }
}
