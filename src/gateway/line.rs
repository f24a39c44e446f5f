//! Who may stand in line for a place among the requests in flight.
//!
//! A client that sends its next request at once, although it was told to come back later, costs
//! nearly as much to refuse as to serve: with many of them little would be served. So on a
//! connection on which one was refused, the next one waits for a place, for a while, and is refused
//! only then. That holds for who comes when it was told to as well: whoever stands in line is served
//! first, and that must not be only those who don't heed it. Not so on a connection of HTTP/2, on
//! which very many could.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Version;

/// How long a request waits in line.
const PATIENCE: Duration = Duration::from_millis(250);

/// A connection's place in it.
#[derive(Debug, Default)]
pub struct Line(AtomicBool);

impl Line {
    /// A request was refused on the connection, or had to wait, and is answered now.
    pub(super) fn join(&self, version: Version) {
        if version < Version::HTTP_2 {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// How long a request that has come now may wait.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.0.swap(false, Ordering::Relaxed).then_some(PATIENCE)
    }
}
