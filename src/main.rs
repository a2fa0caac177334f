//! The program: reads the command line, then hands over to the library.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (config, file) = match cli::parse() {
        cli::Action::Run(config, file) => (config, file),
        cli::Action::Exit(code) => return code,
    };
    fcgimux::log::init(&config.log);
    match fcgimux::run(&config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fcgimux: {error}");
            ExitCode::FAILURE
        }
    }
}
