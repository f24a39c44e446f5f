//! Each try to send a change, for its record.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use super::balance::Chosen;
use super::connect::ConnectError;
use super::exchange::{ExchangeFault, Exchanged};
use super::{Answer, Exchange, Failure, answer};
use crate::credential::Credential;

/// How many are kept.
const MOST: usize = 8;

/// One try to send a change.
#[derive(Debug, Clone)]
pub struct Try {
    /// The base URL of the server.
    pub server: Arc<str>,
    /// The status of its answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, if there was none.
    pub error: Option<String>,
    /// How long it took.
    pub duration_us: u64,
    found_connection: bool,
}

/// The tries of one change so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    tries: Vec<Try>,
    /// How often it was sent, or some of it may have been.
    sent: u32,
    credential: Option<Arc<Credential>>,
    /// The last answer.
    answer: Option<(StatusCode, bytes::Bytes)>,
    /// How an exchange ended after which the change may have been made; or else, that the CMS had
    /// too much to do.
    before: Option<Failure>,
}

impl Tries {
    /// How many found a connection; each of these is kept.
    pub(super) fn exchanges(&self) -> usize {
        self.tries.iter().filter(|one| one.found_connection).count()
    }

    pub(super) fn not_connected(&mut self, to: &Chosen<'_>, begun: Instant, error: &ConnectError) {
        self.note(to, begun, None, Some(error.to_string()), false);
    }

    pub(super) fn exchanged(
        &mut self,
        with: &Chosen<'_>,
        begun: Instant,
        exchanged: &Result<Exchanged, ExchangeFault>,
        credential: &Arc<Credential>,
    ) {
        self.answer = None;
        let was_sent = !matches!(exchanged, Err(ExchangeFault::NotSent(_)));
        if was_sent {
            self.sent += 1;
            self.credential = Some(Arc::clone(credential));
        }
        match exchanged {
            Ok(exchanged) => {
                self.answer = Some((exchanged.status, exchanged.body.clone()));
                self.note(with, begun, Some(exchanged.status), None, true);
            }
            Err(fault) => self.note(with, begun, fault.status(), Some(fault.to_string()), true),
        }
    }

    /// Notes what an exchange came to.
    pub(super) fn came_to(&mut self, result: &Result<Answer, Failure>) {
        let Err(failure) = result else { return };
        if failure.leaves_open() || failure.is_busy() && self.before.is_none() {
            self.before = Some(failure.clone());
        }
    }

    /// Of very many, the first few that found no connection are kept, and all that found one.
    fn note(
        &mut self,
        with: &Chosen<'_>,
        begun: Instant,
        status: Option<StatusCode>,
        error: Option<String>,
        found_connection: bool,
    ) {
        let duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let server = Arc::clone(with.name());
        let status = status.map(|status| status.as_u16());
        if self.tries.len() == MOST {
            // There are fewer exchanges than that.
            let spare = self.tries.iter().rposition(|one| !one.found_connection);
            self.tries.remove(spare.unwrap_or(MOST - 1));
        }
        self.tries.push(Try { server, status, error, duration_us, found_connection });
    }

    pub(super) fn into_exchange(self, result: Result<Answer, Failure>) -> Exchange {
        // That it could not be sent again says nothing of what was sent before.
        let result = match (result, self.before) {
            (Err(failure), Some(before))
                if failure.is_unsent() || failure.is_busy() && before.leaves_open() =>
            {
                Err(before)
            }
            (result, _) => result,
        };
        let status = self.answer.as_ref().map(|(status, _)| *status);
        let is_alarming =
            matches!(result, Err(Failure::Unintelligible(_) | Failure::Contradicting(_)));
        let words = match (self.answer, &self.credential) {
            (Some((_, body)), Some(credential)) if is_alarming => {
                Some(answer::words(&body, credential))
            }
            _ => None,
        };
        Exchange {
            status: status.or_else(|| self.tries.last()?.status?.try_into().ok()),
            result,
            attempts: self.sent,
            tries: self.tries,
            credential: self.credential,
            words,
        }
    }
}
