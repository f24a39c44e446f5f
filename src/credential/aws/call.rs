//! The requests of one fetch, the files that it reads and the programs that it runs, which share one
//! time limit.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use zeroize::Zeroizing;

use super::super::exec;
use super::super::source::SourceError;
use crate::client::{Client, Exchanged};
use crate::disk::Disk;

/// The largest answer, in bytes: a secret has 64 KiB at most, and JSON in JSON about twice that.
const LARGEST: usize = 128 * 1024;

/// One fetch.
pub(super) struct Call<'a> {
    client: &'a Client<Full<Bytes>>,
    disk: &'a Disk,
    until: Instant,
}

impl<'a> Call<'a> {
    pub(super) fn new(client: &'a Client<Full<Bytes>>, disk: &'a Disk, timeout: Duration) -> Self {
        Self { client, disk, until: Instant::now() + timeout }
    }

    /// The same with half of the time that is left, so that the rest is left for what follows.
    pub(super) fn half(&self) -> Self {
        Self::new(self.client, self.disk, self.left() / 2)
    }

    /// The same with no more time than this.
    pub(super) fn at_most(&self, timeout: Duration) -> Self {
        Self::new(self.client, self.disk, self.left().min(timeout))
    }

    /// Sends a request to `whom` and reads the answer.
    pub(super) async fn exchange(
        &self,
        whom: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Exchanged, SourceError> {
        let at = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        self.client
            .exchange(request, self.left(), LARGEST)
            .await
            .map_err(|error| SourceError::Unavailable(format!("{whom} at {at}: {error}")))
    }

    /// Reads from a disk; nothing where that takes too long.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.disk.ask(self.left(), read).await
    }

    /// What a program prints.
    pub(super) async fn run(
        &self,
        program: &Path,
        arguments: &[Zeroizing<String>],
    ) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        let arguments: Vec<&str> = arguments.iter().map(|word| word.as_str()).collect();
        exec::run(program, &arguments, self.disk, self.left()).await
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}
