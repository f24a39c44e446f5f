//! A fault of the configuration: where it is, which key, what is wrong and what would be right.

use std::fmt::{self, Display};
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the configuration file, counted from 1.
    Line(usize),
    /// An environment variable that overrides a key.
    Variable(String),
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// The key's dotted path; empty when the text as a whole is at fault.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// All faults of a configuration, in the order of its lines.
#[derive(Debug, thiserror::Error)]
pub struct Faults {
    /// The file that was read.
    pub file: PathBuf,
    /// Never empty.
    pub faults: Vec<Fault>,
}

impl Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            match &fault.place {
                Place::Line(line) => write!(formatter, "{file}:{line}: ")?,
                Place::Variable(variable) => write!(formatter, "environment {variable}: ")?,
            }
            if !fault.key.is_empty() {
                write!(formatter, "{}: ", fault.key)?;
            }
            formatter.write_str(&fault.message)?;
        }
        Ok(())
    }
}
