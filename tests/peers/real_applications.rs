//! Real applications from Debian's packages: what they do before fcgimux is what they do before php-fpm alone. Two installations
//! of each, every step in both: all answers are compared, and so is what php-fpm executed.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

mod browser;
mod form;
mod markup;
mod mediawiki;
mod normal;
mod pair;
mod picture;
mod stage;
mod wordpress;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// For one application: its installation, its steps, and what it does behind its answers.
const LIMIT: Duration = Duration::from_secs(170);

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// php-fpm's workers are another user.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
}
