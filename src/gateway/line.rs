//! Who may stand in line for a place among the requests in flight.
//!
//! A client that sends its next request at once, although it was told to come back later, costs
//! nearly as much to refuse as to serve: with many of them little would be served. So on a
//! connection on which one was refused, those that come soon after wait for a place, for a while,
//! and are refused only then. Not so on one of HTTP/2, on which very many could.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Version;

/// How long a request waits in line, and how soon after another's answer it must come; shorter than any
/// `Retry-After`.
const PATIENCE: Duration = Duration::from_millis(250);

/// A connection's place in it.
#[derive(Debug, Default)]
pub struct Line(Mutex<Option<Instant>>);

impl Line {
    /// A request was refused on the connection, or had to wait, and is answered now.
    pub(super) fn join(&self, version: Version) {
        if version < Version::HTTP_2 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }

    /// How long a request that has come now may wait.
    pub(super) fn patience(&self) -> Option<Duration> {
        let joined = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (joined.elapsed() < PATIENCE).then_some(PATIENCE)
    }
}
