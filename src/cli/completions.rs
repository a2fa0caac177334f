//! `fcgimux completions`.

use std::{io::Write, process::ExitCode};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::CommandLine;

const WHERE: &str = "\
Where they go:
  bash  fcgimux completions bash > /usr/share/bash-completion/completions/fcgimux
  zsh   fcgimux completions zsh > /usr/share/zsh/vendor-completions/_fcgimux
  fish  fcgimux completions fish > /usr/share/fish/vendor_completions.d/fcgimux.fish
or, for the shell that runs, and until it ends:
  source <(fcgimux completions bash)";

/// Print what makes a shell complete this command line
#[derive(Args, Debug)]
#[command(after_help = WHERE)]
pub(super) struct Completions {
    /// The shell that it is for
    #[arg(value_parser = shells())]
    shell: Shell,
}

/// Those that a server has.
fn shells() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::TypedValueParser;
    // Only names that the shell's own parser takes.
    clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>())
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut CommandLine::command(), "fcgimux", &mut script);
        match std::io::stdout().write_all(&script) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tell!("fcgimux: cannot write to standard output: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
