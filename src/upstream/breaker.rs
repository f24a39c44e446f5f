//! Stops asking a CMS that fails, and tries again with one request after a pause.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config;

/// Exchanges are counted in buckets of one second, ten of them.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(1);

/// Counts the exchanges of the last ten seconds and opens when too many of them failed.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: config::Breaker,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Successes and failures; the last one is of `newest`.
    counts: [(u32, u32); BUCKETS],
    newest: Instant,
    /// While it is open: when the next exchange may try.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(settings: config::Breaker) -> Self {
        let state = State { counts: [(0, 0); BUCKETS], newest: Instant::now(), open_until: None };
        Self { settings, state: Mutex::new(state) }
    }

    /// Whether the CMS may be asked; else the time until it may.
    pub(super) fn admit(&self) -> Result<(), Duration> {
        let mut state = self.state();
        let Some(until) = state.open_until else { return Ok(()) };
        let now = Instant::now();
        if now < until {
            return Err(until - now);
        }
        // This one tries. If nobody hears of it again, the next one tries after the same pause.
        state.open_until = Some(now + self.settings.open);
        Ok(())
    }

    /// Notes how an exchange ended, and says whether the breaker is open now.
    pub(super) fn observe(&self, failed: bool) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        if state.open_until.is_some() {
            if failed {
                state.open_until = Some(now + self.settings.open);
            } else {
                state.open_until = None;
                state.counts = [(0, 0); BUCKETS];
            }
            return failed;
        }
        while now.duration_since(state.newest) >= BUCKET {
            state.counts.rotate_left(1);
            state.newest += BUCKET;
            if let Some(newest) = state.counts.last_mut() {
                *newest = (0, 0);
            }
            if now.duration_since(state.newest) >= BUCKET * 2 * BUCKETS as u32 {
                state.counts = [(0, 0); BUCKETS];
                state.newest = now;
            }
        }
        if let Some((successes, failures)) = state.counts.last_mut() {
            let count = if failed { failures } else { successes };
            *count = count.saturating_add(1);
        }
        let (successes, failures) = state.counts.iter().fold((0u64, 0u64), |sum, count| {
            (sum.0 + u64::from(count.0), sum.1 + u64::from(count.1))
        });
        let share = failures * 100 / (successes + failures).max(1);
        let is_open = failures >= u64::from(self.settings.failures)
            && share >= u64::from(self.settings.share);
        if failed && is_open {
            tracing::error!("the CMS failed in {failures} exchanges and is not asked for a while");
            state.open_until = Some(now + self.settings.open);
        }
        failed && is_open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_its_count_and_share_and_closes_with_a_success() {
        let open = Duration::from_secs(3600);
        let breaker = Breaker::new(config::Breaker { failures: 2, share: 50, open });
        assert!(!breaker.observe(false) && !breaker.observe(false) && !breaker.observe(false));
        assert!(!breaker.observe(true) && !breaker.observe(true), "2 of 5 is below the share");
        assert!(breaker.observe(true), "3 of 6");
        assert!(breaker.admit().is_err());
        assert!(!breaker.observe(false));
        assert!(breaker.admit().is_ok());
    }
}
