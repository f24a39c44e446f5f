//! The command line. Exit status: 0 done, 1 the answer is no, 2 wrong use or configuration.

mod audit;
mod check;
mod explain;
mod output;
mod people;
mod serve;
mod text;
mod token;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use self::text::plain;
use crate::version::BOTH;

/// An authenticating reverse proxy: a Bearer call in, a Basic call out, on record.
#[derive(Debug, Parser)]
#[command(name = "cms-gateway", version = BOTH, max_term_width = 80, after_long_help = MORE)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    Serve {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Name every fault of a configuration, with file, line and key
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what would be decided, and which grant or lack made it so
    Explain(explain::Arguments),
    /// Look at a token
    #[command(subcommand)]
    Token(token::Command),
    /// Read the audit trail: prove it, search it, follow it
    #[command(subcommand)]
    Audit(audit::Command),
    /// Write the completions for a shell to standard output
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages, one for each command, into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
}

/// What `--help` says at the end.
const MORE: &str = "\
Exit status: 0 done, 1 the answer is no, 2 wrong use or configuration.

Each key of the configuration can be overridden by an environment variable: CMS_GATEWAY__ and the \
path with two underscores between its levels, as CMS_GATEWAY__UPSTREAM__RESPONSE_TIMEOUT=5s. \
CMS_GATEWAY_LOG sets the level of the log: error, warn, info, debug or trace.";

/// Does what the command line says.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config } => check::run(&config),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Completions { shell } => people::completions(shell),
        Command::Man { folder } => people::man(&folder),
    }
}

const DONE: u8 = 0;
const NO: u8 = 1;
const WRONG_USE: u8 = 2;

/// Says on standard error why there is no better end.
fn refuse(text: impl Display, status: u8) -> ExitCode {
    warn(text);
    ExitCode::from(status)
}

fn warn(text: impl Display) {
    for line in text.to_string().split('\n') {
        // Nobody to hear it is no fault of ours.
        let _ = writeln!(std::io::stderr(), "{}", plain(line));
    }
}
