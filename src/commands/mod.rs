//! The command line. Exit status: 0 done, 1 the answer is no, 2 wrong use or configuration.

mod audit;
mod check;
mod explain;
mod output;
mod serve;
mod text;
mod token;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::text::plain;
use crate::version::BOTH;

/// An authenticating reverse proxy: a Bearer call in, a Basic call out, on record.
#[derive(Debug, Parser)]
#[command(name = "cms-gateway", version = BOTH, max_term_width = 80)]
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
}

/// Does what the command line says.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config } => check::run(&config),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Token(command) => token::run(&command),
        Command::Audit(command) => audit::run(&command),
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
