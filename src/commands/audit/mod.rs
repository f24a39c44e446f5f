//! `audit`: what is done with a trail's folder, by those who read it.

mod export;
mod filter;
mod prove;
mod query;
mod receipt;
mod replay;
mod rows;
mod summary;
mod table;
mod tail;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::output::Output;
use super::{NO, WRONG_USE, refuse, warn};
use crate::audit::folder;
use crate::audit::note::Keys;
use crate::audit::query::{Damage, segments};
use crate::audit::verify::NotWhole;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prove that a trail is whole, or name the first bad place
    #[command(after_help = "Exit status: 0 whole, 1 not whole, 2 wrong use or unreadable")]
    Verify(verify::Arguments),
    /// Which calls there were: who, what, what was decided and what came of it
    #[command(
        after_help = "Exit status: 0 done, 1 the trail is damaged, 2 wrong use or unreadable"
    )]
    Query(query::Arguments),
    /// Show the records as they are written
    #[command(after_help = "Exit status: 0 done, 2 wrong use or unreadable")]
    Tail(tail::Arguments),
    /// Who changed what how often, and who was denied why
    #[command(
        after_help = "Exit status: 0 done, 1 the trail is damaged, 2 wrong use or unreadable"
    )]
    Summary(summary::Arguments),
    /// Which recorded decisions another configuration would change
    #[command(
        after_help = "Exit status: 0 none would differ, 1 some would, or the trail is damaged, 2 wrong use, configuration, or unreadable"
    )]
    Replay(replay::Arguments),
    /// Write calls in a format that SIEMs ingest
    #[command(
        after_help = "Exit status: 0 done, 1 the trail is damaged, 2 wrong use or unreadable"
    )]
    Export(export::Arguments),
    /// Write evidence for one request that stands alone
    #[command(
        after_help = "Exit status: 0 done, 1 no evidence to be had, 2 wrong use or unreadable"
    )]
    Prove(prove::Arguments),
    /// Accept or refuse evidence, with nothing but it and the public key
    #[command(after_help = "Exit status: 0 accepted, 1 refused, 2 wrong use or unreadable")]
    CheckProof(prove::CheckProof),
    /// Find the record of an answer's Audit-Record
    #[command(
        after_help = "Exit status: 0 found, 1 missing or the trail is not whole, 2 wrong use or unreadable"
    )]
    CheckReceipt(receipt::Arguments),
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
        Command::CheckReceipt(arguments) => receipt::run(arguments),
    }
}

/// A trail, and whose signatures count in it.
#[derive(Debug, clap::Args)]
struct TrailArguments {
    /// The trail's folder
    directory: PathBuf,
    /// The public keys that must have signed, as in keys.pub or in PEM; without it the folder's own
    /// word is taken for that
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
    /// Of a trail that is there.
    fn read(trail: &TrailArguments) -> Result<Self, ExitCode> {
        segments(&trail.directory).map_err(|error| refuse(error, WRONG_USE))?;
        let Some(key) = &trail.key else {
            // A trail without a good one is not whole.
            let file = trail.directory.join(folder::KEYS);
            let keys = keys(&file, folder::read(&file)).map_err(|what| refuse(what, NO))?;
            return Ok(Self { keys, is_folder: true });
        };
        Self::of_file(key)
    }

    fn of_file(key: &Path) -> Result<Self, ExitCode> {
        // A pipe as well, as what the caller names is the caller's own.
        let keys = keys(key, fs::read(key)).map_err(|what| refuse(what, WRONG_USE))?;
        Ok(Self { keys, is_folder: false })
    }

    /// What is to be said of it, if anything.
    fn caveat(&self) -> Option<&'static str> {
        let caveat = "keys: the folder's own, which trusts whoever can write it; --key names yours";
        self.is_folder.then_some(caveat)
    }
}

fn keys(path: &Path, read: io::Result<Vec<u8>>) -> Result<Keys, String> {
    let name = path.display();
    let text = read.map_err(|error| format!("{name}: {error}"))?;
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

/// Ends with the answer's status, if the trail that it was read from shows no damage.
fn conclude(mut output: Output, damage: &Damage, status: u8) -> ExitCode {
    if damage.is_none() {
        return output.end(status);
    }
    // What was found is told before what was not.
    let _ = output.flush();
    warn(damage);
    output.end(NO)
}

/// A record's time as tables show it.
fn to_the_second(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// A number and what it counts.
fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
