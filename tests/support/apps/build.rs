//! Builds the programs of `tests/apps`, once per content, and says what is missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::Mutex,
};

use sha2::{Digest, Sha256};

/// Kept between runs; below cargo's target directory.
const TARGET: &str = env!("CARGO_TARGET_TMPDIR");

/// One build at a time in this process; others may build the same, and the last rename wins.
static BUILDING: Mutex<()> = Mutex::new(());

/// Path of a file of `tests/apps`.
pub(super) fn source(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(name).display().to_string()
}

#[track_caller]
pub(super) fn go() -> String {
    need("go", "golang-go");
    build("go", &["go.go"], |output| {
        let mut go = Command::new("go");
        // Nothing from the network, and no module: only its standard library.
        go.args(["build", "-o"]).arg(output).arg(source("go.go"));
        go.env("GO111MODULE", "off").env("GOPROXY", "off").env("GOFLAGS", "").env("GOCACHE", folder().join("go"));
        go
    })
}

#[track_caller]
pub(super) fn c() -> String {
    need("cc", "build-essential");
    assert!(Path::new("/usr/include/fcgiapp.h").exists(), "{}", missing("fcgiapp.h", "libfcgi-dev"));
    build("libfcgi", &["libfcgi.c", "sha256.h"], |output| {
        let mut cc = Command::new("cc");
        cc.args(["-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(output);
        cc.args([&source("libfcgi.c"), "-lfcgi", "-lpthread"]);
        cc
    })
}

/// Debian's perl, whose FCGI it is.
#[track_caller]
pub(super) fn perl() -> String {
    let perl = "/usr/bin/perl".to_owned();
    let has_library = Command::new(&perl).args(["-MFCGI", "-e", "1"]).stderr(Stdio::null()).status();
    assert!(has_library.is_ok_and(|status| status.success()), "{}", missing("FCGI.pm", "libfcgi-perl"));
    perl
}

/// The folder that `tests/run` installed flup in.
#[track_caller]
pub(super) fn flup() -> String {
    need("python3", "python3");
    let path = Path::new(TARGET).with_file_name("flup");
    assert!(
        path.join("flup").exists(),
        "flup is missing: python3 -m pip install --no-deps --target {} -r {} (tests/run does that)",
        path.display(),
        source("requirements.txt"),
    );
    path.display().to_string()
}

/// The path of a program, which spawn-fcgi wants to be told.
#[track_caller]
pub(super) fn need(program: &str, package: &str) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{}", missing(program, package))).display().to_string()
}

fn missing(what: &str, package: &str) -> String {
    format!("{what} is missing: install Debian's {package} (tests/run does that)")
}

fn folder() -> PathBuf {
    let folder = Path::new(TARGET).join("apps");
    fs::create_dir_all(&folder).expect("a folder below target");
    folder
}

#[track_caller]
fn build(name: &str, sources: &[&str], command: impl FnOnce(&Path) -> Command) -> String {
    let _one = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut content = Sha256::new();
    for source_name in sources {
        content.update(fs::read(source(source_name)).expect("a source of tests/apps"));
    }
    let sum: String = content.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let program = folder().join(format!("{name}-{sum}"));
    if !program.exists() {
        let unfinished = folder().join(format!("{name}-{sum}.{}", id()));
        let output = command(&unfinished).stdin(Stdio::null()).output().expect("a compiler");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} is not built:\n{said}");
        fs::rename(unfinished, &program).expect("rename the program");
    }
    program.display().to_string()
}
