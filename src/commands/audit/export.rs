//! `audit export`: calls in the formats that SIEMs ingest, a line of JSON each.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::conclude;
use super::filter::FilterArguments;
use crate::audit::export::{ecs, ocsf};
use crate::audit::query::query;
use crate::commands::output::Output;
use crate::commands::text::escaped;
use crate::commands::{DONE, WRONG_USE, refuse, warn};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// How a SIEM has them
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    filter: FilterArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// OCSF 1.8, API Activity (6003)
    Ocsf,
    /// Elastic Common Schema 8.11
    Ecs,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let filter = match arguments.filter.filter() {
        Ok(filter) => filter,
        Err(status) => return status,
    };
    let mut output = Output::new();
    let mut is_empty = true;
    let read = query(&arguments.directory, &filter, false, &mut |row| {
        let event = match arguments.format {
            Format::Ocsf => ocsf(&row),
            Format::Ecs => ecs(&row),
        };
        is_empty = false;
        let _ = writeln!(output, "{}", escaped(&event.to_string()));
        output.is_open()
    });
    match read {
        Ok(damage) => {
            if is_empty {
                warn("no call matches");
            }
            conclude(output, &damage, DONE)
        }
        Err(error) => refuse(error, WRONG_USE),
    }
}
