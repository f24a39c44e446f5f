//! Finding the line that was altered, between two checkpoints.

use super::{Fault, fault};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::tree::{Edge, Hash};

/// The log since a checkpoint.
pub(super) struct Since {
    edge: Edge,
    pub(super) leaves: Vec<Hash>,
}

impl Since {
    pub(super) fn new(edge: &Edge) -> Self {
        Self { edge: edge.clone(), leaves: Vec::new() }
    }
}

/// Records that are not what was signed.
pub(super) struct Altered {
    pub(super) since: Since,
    /// The first one's line.
    pub(super) line: u64,
    pub(super) checkpoint: Checkpoint,
}

impl Altered {
    /// Names the altered line, where the leaves that were kept are those that were signed.
    pub(super) fn fault(&self, name: &str, kept: &[Hash]) -> Fault {
        let Self { since, line, checkpoint } = self;
        let (first, last) = (since.edge.size() + 1, checkpoint.size);
        let what = format!("is not what was signed in the checkpoint at record {last}");
        let start = usize::try_from(line - 1).unwrap_or(usize::MAX);
        let kept = kept.iter().skip(start).take(since.leaves.len());
        let mut edge = since.edge.clone();
        kept.clone().for_each(|leaf| edge.push(*leaf));
        let place = kept.zip(&since.leaves).position(|(kept, found)| kept != found);
        match place.filter(|_| edge.root() == checkpoint.root) {
            Some(place) => {
                let (line, record) = (line + place as u64, first + place as u64);
                fault(&format!("{name} line {line} (record {record})"), what)
            }
            None if first == last => fault(&format!("{name} line {line} (record {last})"), what),
            None => {
                let end = line + last - first;
                fault(&format!("{name} lines {line} to {end} (records {first} to {last})"), what)
            }
        }
    }
}
