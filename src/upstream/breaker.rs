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
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    /// When the next exchange may try.
    until: Instant,
}

impl Breaker {
    pub(super) fn new(settings: config::Breaker) -> Self {
        let state = State { counts: [(0, 0); BUCKETS], newest: Instant::now(), open: None };
        Self { settings, state: Mutex::new(state) }
    }

    /// The time until the server may be asked; nothing when it may.
    pub(super) fn open_for(&self) -> Option<Duration> {
        let left = self.state().open?.until.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether the server may be asked now, as it is about to be. Where that is a try, it is the only
    /// one: if nobody hears of it again, the next one comes after the same pause.
    pub(super) fn admit(&self) -> bool {
        let now = Instant::now();
        match &mut self.state().open {
            None => true,
            Some(open) if now < open.until => false,
            Some(open) => {
                open.until = now + self.settings.open;
                true
            }
        }
    }

    /// Whether it has opened and no success has closed it since.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Notes how an exchange that was begun then ended, and says whether that opens or closes it.
    pub(super) fn observe(&self, begun: Instant, failed: bool) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(open) = &mut state.open {
            // Of those that were under way as it opened, some do well; that is no news.
            if begun < open.since {
                return false;
            }
            if failed {
                open.until = now + self.settings.open;
            } else {
                state.open = None;
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
            state.open = Some(Open { since: now, until: now + self.settings.open });
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
        let observe = |failed| breaker.observe(Instant::now(), failed);
        assert!(!observe(false) && !observe(false) && !observe(false));
        assert!(!observe(true) && !observe(true), "2 of 5 is below the share");
        assert!(observe(true), "3 of 6");
        assert!(breaker.open_for().is_some_and(|left| left <= open));
        assert!(!observe(true), "it is open already");
        assert!(observe(false), "and closes");
        assert!(breaker.open_for().is_none() && !breaker.is_open());
        breaker.state().newest -= BUCKET * 30;
        assert!(!observe(true) && !breaker.is_open(), "what is old is forgotten");
    }

    #[test]
    fn what_was_under_way_as_it_opened_does_not_close_it() {
        let open = Duration::from_secs(3600);
        let breaker = Breaker::new(config::Breaker { failures: 1, share: 1, open });
        let before = Instant::now();
        assert!(breaker.observe(before, true));
        assert!(!breaker.observe(before, false) && breaker.is_open());
        assert!(breaker.observe(Instant::now(), false) && !breaker.is_open());
    }

    #[test]
    fn after_its_time_one_may_try() {
        let open = Duration::from_secs(3600);
        let breaker = Breaker::new(config::Breaker { failures: 1, share: 1, open });
        assert!(breaker.admit());
        let begun = Instant::now();
        assert!(breaker.observe(begun, true));
        assert!(!breaker.admit());
        breaker.state().open = Some(Open { since: begun, until: Instant::now() });
        assert!(breaker.open_for().is_none() && breaker.is_open());
        assert!(breaker.admit() && !breaker.admit(), "the others wait for the one");
        assert!(breaker.open_for().is_some());
    }
}
