//! A real MariaDB with a folder and a socket of its own, and no port.

use std::{path::PathBuf, process::Command};

use super::{Folder, Process};

/// What every application signs in with.
pub const USER: &str = "application";
pub const PASSWORD: &str = "secret";

pub struct Mariadb {
    process: Process,
    folder: Folder,
}

impl Mariadb {
    /// Makes an empty server and runs it. It forgets what it has not written when the machine goes down, which is faster.
    #[track_caller]
    pub fn start() -> Self {
        let folder = Folder::new();
        let [data, temporary] = ["data", "temporary"].map(|name| folder.subfolder(name).display().to_string());
        let own = [
            "--no-defaults".to_owned(),
            // A server that becomes another user loses the wish to end with its parent.
            "--user=root".to_owned(),
            format!("--datadir={data}"),
            // Two servers with one of these get in each other's way while they are made.
            format!("--tmpdir={temporary}"),
        ];
        let mut install = Command::new("mariadb-install-db");
        install.args(&own).args(["--auth-root-authentication-method=normal", "--skip-test-db", LOG]);
        run(&mut install);
        let arguments = [
            format!("--socket={}", folder.join(SOCKET).display()),
            format!("--pid-file={}", folder.join("mariadb.pid").display()),
            "--skip-networking".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--max-allowed-packet=64M".to_owned(),
            LOG.to_owned(),
        ];
        let mut process = Process::start(&folder, "mariadb.log", "mariadbd", own.iter().chain(&arguments));
        process.wait_ready(&folder, || folder.read("mariadb.log").contains("ready for connections"));
        let mariadb = Self { process, folder };
        mariadb.query("mysql", &format!("CREATE USER {USER}@localhost IDENTIFIED BY '{PASSWORD}'"));
        mariadb
    }

    /// Path of its socket, which everybody may connect to.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// A new database that belongs to [`USER`].
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.query("mysql", &format!("CREATE DATABASE {database}; GRANT ALL ON {database}.* TO {USER}@localhost"));
    }

    /// What a query answers: a line a row, with tabs between the columns.
    #[track_caller]
    pub fn query(&self, database: &str, sql: &str) -> String {
        let socket = format!("--socket={}", self.socket().display());
        let arguments =
            ["--no-defaults", &socket, "--user=root", "--batch", "--skip-column-names", database, "-e", sql];
        run(Command::new("mariadb").args(arguments))
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}

const SOCKET: &str = "mariadb.sock";
/// A small log of changes: the default of 96 MiB is written when the server is made.
const LOG: &str = "--innodb-log-file-size=8M";

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("a program of mariadb-server");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}{complained}");
    said.into_owned()
}
