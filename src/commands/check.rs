//! `check`: every fault of a configuration in one run.

use std::path::Path;
use std::process::ExitCode;

use super::{WRONG_USE, refuse, say};
use crate::config;

pub(super) fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(_) => {
            say(format_args!("{}: no faults", file.display()));
            ExitCode::SUCCESS
        }
        Err(faults) => refuse(faults, WRONG_USE),
    }
}
