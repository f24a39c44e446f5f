//! `audit`: what is done with a trail's folder, by those who read it.

mod export;
mod prove;
mod query;
mod replay;
mod summary;
mod table;
mod tail;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{NO, WRONG_USE, refuse};
use crate::audit::folder;
use crate::audit::note::Keys;
use crate::audit::verify::NotWhole;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prove that a trail is whole, or name the first bad place
    Verify(verify::Arguments),
    /// Which calls there were: who, what, what was decided and what came of it
    Query(query::Arguments),
    /// Show the records as they are written
    Tail(tail::Arguments),
    /// Who changed what how often, and who was denied why
    Summary(summary::Arguments),
    /// Which recorded decisions another configuration would change
    Replay(replay::Arguments),
    /// Write calls in a format that SIEMs ingest
    Export(export::Arguments),
    /// Write evidence for one request that stands alone
    Prove(prove::Arguments),
    /// Accept or refuse evidence, with nothing but it and the public key
    CheckProof(prove::CheckProof),
    /// Find the record of an answer's Audit-Record
    CheckReceipt(prove::CheckReceipt),
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Verify(arguments) => verify::run(arguments),
        Command::Query(arguments) => query::run(arguments),
        Command::Tail(arguments) => tail::run(arguments),
        Command::Summary(arguments) => summary::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Prove(arguments) => prove::run(arguments),
        Command::CheckProof(arguments) => prove::check_proof(arguments),
        Command::CheckReceipt(arguments) => prove::check_receipt(arguments),
    }
}

/// A trail, and whose signatures count in it.
#[derive(Debug, clap::Args)]
struct TrailArguments {
    /// The trail's folder
    directory: PathBuf,
    /// The public key that must have signed; without it the folder's own word is taken for that
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Whose signatures count, and where that was read.
struct Trust {
    keys: Keys,
    /// The folder's own word was taken for it.
    is_folder: bool,
}

impl Trust {
    fn read(trail: &TrailArguments) -> Result<Self, ExitCode> {
        let Some(key) = &trail.key else {
            let path = trail.directory.join(folder::KEYS);
            // A folder without a good one is not whole.
            let status = if trail.directory.is_dir() { NO } else { WRONG_USE };
            let keys = keys(&path).map_err(|what| refuse(what, status))?;
            return Ok(Self { keys, is_folder: true });
        };
        Self::of_file(key)
    }

    fn of_file(key: &Path) -> Result<Self, ExitCode> {
        let keys = keys(key).map_err(|what| refuse(what, WRONG_USE))?;
        Ok(Self { keys, is_folder: false })
    }
}

fn keys(path: &Path) -> Result<Keys, String> {
    let name = path.display();
    let text = folder::read(path).map_err(|error| format!("{name}: {error}"))?;
    Keys::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| {
        format!("{name} holds no public key: a verifier key (name+id+key) a line, or PEM")
    })
}

/// Says that a trail is not whole, or that there is none.
fn not_whole(error: &NotWhole) -> ExitCode {
    match error {
        NotWhole::Fault(fault) => refuse(format_args!("not whole: {fault}"), NO),
        NotWhole::Io { .. } => refuse(error, WRONG_USE),
    }
}
