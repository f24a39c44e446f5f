//! `audit export`: calls in the formats that SIEMs ingest, a line of JSON each.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::query::FilterArguments;
use crate::audit::export::{ecs, ocsf};
use crate::audit::query::{Filter, query};
use crate::commands::{WRONG_USE, refuse};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// The trail's folder
    directory: PathBuf,
    /// OCSF 1.3 API Activity (6003), or Elastic Common Schema 8.11
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    filter: FilterArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Ocsf,
    Ecs,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let mut out = BufWriter::new(io::stdout());
    let filter = Filter::from(&arguments.filter);
    let written = query(&arguments.directory, &filter, false, &mut |row| {
        let event = match arguments.format {
            Format::Ocsf => ocsf(&row),
            Format::Ecs => ecs(&row),
        };
        serde_json::to_writer(&mut out, &event)?;
        out.write_all(b"\n")?;
        Ok(true)
    });
    match written.and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => refuse(format_args!("{}: {error}", arguments.directory.display()), WRONG_USE),
    }
}
