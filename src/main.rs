//! The command line's entry: parse, dispatch, exit status.

use std::process::ExitCode;

use clap::Parser;
use cms_gateway::commands::{self, Arguments};

/// Requests are many small allocations, most of them freed a moment later.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run(Arguments::parse())
}
