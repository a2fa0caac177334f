//! The program: reads the command line, then hands over to the library.
#![forbid(unsafe_code)]

mod cli;

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

fn main() -> ExitCode {
    let (config, file) = match cli::parse() {
        cli::Action::Run(config, file) => (config, file),
        cli::Action::Exit(code) => return code,
    };
    fcgimux::log::init(&config.log);
    let ended = fcgimux::run(&config, file);
    let is_heard = fcgimux::log::settle();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if is_heard {
                // Whoever reads it may be gone.
                _ = writeln!(stderr(), "fcgimux: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
