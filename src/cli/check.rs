//! `fcgimux check`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use fcgimux::ConfigFile;

/// Check a configuration file: print everything that is wrong with it, or the configuration it amounts to
///
/// Every violation is printed as FILE:LINE: path: message, and the exit code is then 64. Of a file that is right, the
/// effective configuration is printed, with every default filled in and the values of params.set hidden.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The file to check (YAML)
    file: PathBuf,
}

impl Check {
    pub(super) fn run(&self, zone: Option<String>) -> ExitCode {
        match ConfigFile::open(&self.file, zone) {
            Ok((_, config)) => {
                // Whoever reads it may have seen enough and gone (`| head`), which changes nothing about the file.
                let _ = std::io::stdout().write_all(config.to_yaml().as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => super::refuse_file(&error),
        }
    }
}
