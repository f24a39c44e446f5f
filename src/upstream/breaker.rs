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

    /// The time until the server may be asked; nothing when it may.
    pub(super) fn open_for(&self) -> Option<Duration> {
        let left = self.state().open_until?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// The server is about to be asked. Where that is a try, it is the only one: if nobody hears of
    /// it again, the next one comes after the same pause.
    pub(super) fn admit(&self) {
        let mut state = self.state();
        if state.open_until.is_some() {
            state.open_until = Some(Instant::now() + self.settings.open);
        }
    }

    /// Whether it has opened and no success has closed it since.
    pub(super) fn is_open(&self) -> bool {
        self.state().open_until.is_some()
    }

    /// Notes how an exchange ended, and says whether that opens or closes it.
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
            return !failed;
        }
        state.move_on(now);
        if let Some((successes, failures)) = state.counts.last_mut() {
            let count = if failed { failures } else { successes };
            *count = count.saturating_add(1);
        }
        let (successes, failures) = state.counts.iter().fold((0u64, 0u64), |sum, count| {
            (sum.0 + u64::from(count.0), sum.1 + u64::from(count.1))
        });
        let share = failures * 100 / (successes + failures).max(1);
        let opens = failed
            && failures >= u64::from(self.settings.failures)
            && share >= u64::from(self.settings.share);
        if opens {
            tracing::error!("the CMS failed in {failures} exchanges and is not asked for a while");
            state.open_until = Some(now + self.settings.open);
        }
        opens
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Leaves behind what is older than the buckets are.
    fn move_on(&mut self, now: Instant) {
        let passed = now.duration_since(self.newest).as_secs() / BUCKET.as_secs();
        for _ in 0..passed.min(BUCKETS as u64) {
            self.counts.rotate_left(1);
            if let Some(newest) = self.counts.last_mut() {
                *newest = (0, 0);
            }
        }
        self.newest += BUCKET * u32::try_from(passed).unwrap_or(u32::MAX);
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
        assert!(breaker.open_for().is_some_and(|left| left <= open));
        assert!(!breaker.observe(true), "it is open already");
        assert!(breaker.observe(false), "and closes");
        assert!(breaker.open_for().is_none() && !breaker.is_open());
        breaker.state().newest -= BUCKET * 30;
        assert!(!breaker.observe(true) && !breaker.is_open(), "what is old is forgotten");
    }

    #[test]
    fn after_its_time_one_may_try() {
        let open = Duration::from_secs(3600);
        let breaker = Breaker::new(config::Breaker { failures: 1, share: 1, open });
        assert!(breaker.observe(true));
        breaker.state().open_until = Some(Instant::now());
        assert!(breaker.open_for().is_none() && breaker.is_open());
        breaker.admit();
        assert!(breaker.open_for().is_some(), "the others wait for the one");
    }
}
