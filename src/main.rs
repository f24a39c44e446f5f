//! The command line's entry: parse, dispatch, exit status.

use std::process::ExitCode;

use clap::Parser;
use cms_gateway::commands::{self, Arguments};

fn main() -> ExitCode {
    commands::run(Arguments::parse())
}
