//! `audit`: what is done with a trail's folder, by those who read it.

mod verify;

use std::fs;
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
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::Verify(arguments) => verify::run(arguments),
    }
}

/// Whose signatures count, and where that was read.
struct Trust {
    keys: Keys,
    /// The folder's own word was taken for it.
    is_folder: bool,
}

impl Trust {
    fn read(directory: &Path, key: Option<&PathBuf>) -> Result<Self, ExitCode> {
        let path = key.cloned().unwrap_or_else(|| directory.join(folder::KEYS));
        let wrong = |what: String| {
            // A folder without a good one is not whole; a file that the user named is wrong use.
            let status = if key.is_none() && directory.is_dir() { NO } else { WRONG_USE };
            refuse(format_args!("{}: {what}", path.display()), status)
        };
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let keys = Keys::parse(&text).ok_or_else(|| {
            wrong("holds no public key: a verifier key (name+id+key) a line, or PEM".to_owned())
        })?;
        Ok(Self { keys, is_folder: key.is_none() })
    }
}

/// Says that a trail is not whole, or that there is none.
fn not_whole(error: &NotWhole) -> ExitCode {
    match error {
        NotWhole::Fault(fault) => refuse(format_args!("not whole: {fault}"), NO),
        NotWhole::Io { .. } => refuse(error, WRONG_USE),
    }
}
