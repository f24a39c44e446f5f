//! `check`: every fault of a configuration in one run.

use std::path::Path;
use std::process::ExitCode;

use super::output::Output;
use super::{DONE, WRONG_USE, refuse};
use crate::config;
use crate::telemetry::Log;

pub(super) fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(_) => {
            if let Err(fault) = Log::level_of_environment() {
                return refuse(fault, WRONG_USE);
            }
            let mut output = Output::new();
            output.say(format_args!("{}: no faults", file.display()));
            output.end(DONE)
        }
        Err(faults) => refuse(faults, WRONG_USE),
    }
}
