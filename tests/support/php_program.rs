//! Which php-fpm a test runs: the installed one, and an older one of the same Debian beside it.
//!
//! PHP 8.2.36 and 8.4.28 read what a script leaves unread of its body; older ones execute it (facts 10.4, 10.5). Which of the
//! two a php-fpm does is asked of itself, once, by a body with a request in it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use super::{PhpFpm, fcgi::Call, planted};

/// Names the program to test with, when it is not `/usr/sbin/php-fpm8.*`.
const INSTALLED: &str = "FCGIMUX_TEST_PHP_FPM";

/// Where PHP looks for the settings of extensions: nowhere. Those of the installed PHP do not fit another.
const NO_EXTENSIONS: &str = "PHP_INI_SCAN_DIR=/nonexistent";

/// What a php-fpm does on a kept connection with what a script leaves unread of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unread {
    /// It is read and thrown away: patched.
    Drained,
    /// It is parsed as further records, and a request among them runs.
    Executed,
}

/// One php-fpm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhpProgram {
    path: PathBuf,
    /// It runs without the extensions, which are those of another version.
    is_foreign: bool,
}

impl PhpProgram {
    #[track_caller]
    pub fn installed() -> Self {
        let path = env::var_os(INSTALLED).map_or_else(newest_of_system, PathBuf::from);
        Self { path, is_foreign: false }
    }

    /// Debian's own, older than the patch, as `tests/run` has unpacked it; none where the archive has none any more.
    #[track_caller]
    pub fn unpatched() -> Option<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("php-unpatched");
        let path = folder.join("usr/sbin/php-fpm8.2");
        let is_left_out = folder.join("left-out").exists();
        assert!(is_left_out || path.exists(), "{} is missing: tests/run fetches it", path.display());
        (!is_left_out).then_some(Self { path, is_foreign: true })
    }

    /// Both, as far as there are two.
    #[track_caller]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::installed()];
        match Self::unpatched() {
            Some(program) => all.push(program),
            None => println!("left out: a PHP that is not patched"),
        }
        all
    }

    /// Those that do this with an unread body.
    #[track_caller]
    pub fn that(unread: Unread) -> Vec<Self> {
        let found: Vec<_> = Self::all().into_iter().filter(|program| program.unread() == unread).collect();
        if found.is_empty() {
            println!("left out: no PHP here has its unread bodies {unread:?}");
        }
        found
    }

    /// As it was seen in an experiment, which is made once in a run of the tests.
    #[track_caller]
    pub fn unread(&self) -> Unread {
        static SEEN: Mutex<BTreeMap<PhpProgram, Unread>> = Mutex::new(BTreeMap::new());
        let mut seen = SEEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *seen.entry(self.clone()).or_insert_with(|| self.experiment())
    }

    #[track_caller]
    fn experiment(&self) -> Unread {
        let php = PhpFpm::pool(1).run_by(self).start();
        let call = Call::new("PUT", &php.script("partial.php")).query("read=100");
        let body = planted::Body { content_type: planted::OCTETS, start: b"", size: 20_000 };
        if body.is_executed(&php, &call) { Unread::Executed } else { Unread::Drained }
    }

    /// `8.2.36`, as three numbers.
    #[track_caller]
    pub fn version(&self) -> (u32, u32, u32) {
        let line = self.command();
        let output = Command::new(&line[0]).args(&line[1..]).arg("-v").output().expect("php-fpm -v");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.strip_prefix("PHP ").and_then(|rest| rest.split([' ', '-', '+', '~']).next());
        let numbers: Vec<u32> = version.unwrap_or_default().split('.').filter_map(|part| part.parse().ok()).collect();
        let [major, minor, patch] = numbers[..] else { panic!("no version in {text:?}") };
        (major, minor, patch)
    }

    /// What to start, without its arguments.
    pub(super) fn command(&self) -> Vec<String> {
        let path = self.path.display().to_string();
        if self.is_foreign { vec!["env".into(), NO_EXTENSIONS.into(), path] } else { vec![path] }
    }
}

#[track_caller]
fn newest_of_system() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/sbin")
        .expect("/usr/sbin")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm8.")))
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no php-fpm; install php8.2-fpm or name one in {INSTALLED}"))
}
