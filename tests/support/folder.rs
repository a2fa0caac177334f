//! A temporary directory that a worker of another user may read and write.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        // A short name: the path of a Unix socket ends at 107 bytes.
        let folder = tempfile::Builder::new().prefix("fmx").tempdir().expect("temp dir");
        open_to_all(folder.path());
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file that everybody may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text).expect("write a file of the test");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        path
    }

    /// A directory that everybody may write to.
    pub fn subfolder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).expect("make a folder of the test");
        open_to_all(&path);
        path
    }

    /// What a file holds; empty while it does not exist.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_default()
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
}
