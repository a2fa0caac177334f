//! A program that runs for as long as the test does.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Folder, bounded::eventually, proc};

/// How long a program may take to go when its test ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

pub struct Process {
    child: Child,
    /// Known once it was waited for.
    exit: Option<Exit>,
    /// Where its standard error goes.
    log: String,
}

impl Process {
    /// Starts `program`, which gets SIGTERM should the thread that called this end without dropping it. Its output goes to
    /// the file `log` in `folder`.
    pub fn start<S: AsRef<str>>(
        folder: &Folder,
        log: &str,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let output = File::create(folder.join(log)).expect("log file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", program]);
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("log file")).stderr(output);
        let child = command.spawn().expect("setpriv (util-linux) starts the program");
        Self { child, exit: None, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log<'f>(&self, folder: &'f Folder) -> String
    where
        Self: 'f,
    {
        folder.read(&self.log)
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal).expect("signal a running program");
    }

    pub fn is_running(&mut self) -> bool {
        self.wait_exit(Duration::ZERO).is_none()
    }

    /// How it ended; none: it still runs after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<Exit> {
        if self.exit.is_none() {
            let (child, exit) = (&mut self.child, &mut self.exit);
            eventually(limit, || {
                *exit = child.try_wait().expect("wait for a child").map(Exit::from);
                exit.is_some()
            });
        }
        self.exit
    }

    /// Waits until `ready` holds; fails with the program's output when it ends before or takes longer than 15 s.
    #[track_caller]
    pub fn wait_ready(&mut self, folder: &Folder, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !eventually(Duration::from_millis(20), &mut ready) {
            let exit = self.wait_exit(Duration::ZERO);
            let late = Instant::now() >= deadline;
            assert!(exit.is_none() && !late, "not started ({exit:?}); its output:\n{}", self.log(folder));
        }
    }
}

impl Drop for Process {
    /// SIGTERM, and SIGKILL for it and its children when that was not enough.
    fn drop(&mut self) {
        if self.wait_exit(Duration::ZERO).is_some() {
            return;
        }
        let _ = send(self.pid(), Signal::SIGTERM);
        if self.wait_exit(PATIENCE).is_none() {
            for child in proc::children(self.pid()) {
                let _ = send(child, Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

pub fn send(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal)
}
