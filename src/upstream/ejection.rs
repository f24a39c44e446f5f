//! Leaves out a server that fails, for a while, as long as there is another one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config;

/// How a server has done lately.
#[derive(Debug)]
pub(super) struct Ejection {
    settings: config::Ejection,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures without a success between them.
    in_a_row: u32,
    until: Option<Instant>,
}

impl Ejection {
    pub(super) fn new(settings: config::Ejection) -> Self {
        Self { settings, state: Mutex::default() }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.state().until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes how an exchange or a connection ended, and says whether that ejects the server.
    pub(super) fn observe(&self, failed: bool) -> bool {
        let mut state = self.state();
        if !failed {
            *state = State::default();
            return false;
        }
        state.in_a_row = state.in_a_row.saturating_add(1);
        let now = Instant::now();
        if state.in_a_row < self.settings.failures || state.until.is_some_and(|until| now < until) {
            return false;
        }
        state.until = Some(now + self.settings.time);
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_ejects_after_so_many_failures_in_a_row() {
        let time = Duration::from_secs(3600);
        let ejection = Ejection::new(config::Ejection { failures: 2, time });
        assert!(!ejection.observe(true) && !ejection.observe(false) && !ejection.observe(true));
        assert!(!ejection.is_ejected(), "never two in a row");
        assert!(ejection.observe(true), "two in a row");
        assert!(ejection.is_ejected());
        assert!(!ejection.observe(true), "it is ejected once");
        assert!(!ejection.observe(false));
        assert!(!ejection.is_ejected(), "a success ends it");
    }
}
