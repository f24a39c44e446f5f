//! How many requests one caller may make, and what it is told of that.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-11, read for a bucket that holds
//! `burst` requests and gets one back each `per / requests`:
//!
//! - `q` is the bucket, `w` the time in which it fills. Who sends no more than `q` in any `w` is
//!   never refused. (A window of `per` with `requests` would not be true: the bucket may hold less.)
//! - `r` is what the bucket holds as the answer leaves, `t` the time until it holds one more: until
//!   then, no more than `r` can be used. Who waits for `t` at `r=0` is not refused.
//!
//! Times are rounded up to whole seconds, so what is said is never more than what is granted.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};

use crate::config::Rate;
use crate::identity::Verified;
use crate::reply::{Code, Problem};

/// How many callers are remembered before those that are at rest are forgotten.
const MANY: usize = 10_000;

/// How many refusals of one holder are news at once.
const NEWS: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// Counts the requests of each caller by the generic cell rate algorithm. Only authenticated
/// callers are counted, so strangers can't make it grow.
#[derive(Debug)]
pub(super) struct Rates {
    limiter: RateLimiter<String, Buckets, Uptime, NoOpMiddleware<Duration>>,
    buckets: Buckets,
    quota: Quota,
    /// How many are remembered when it is next looked for those at rest.
    most: AtomicUsize,
}

/// What a caller is told of its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many requests it may ever send at once.
    pub(crate) quota: u32,
    /// In how many seconds that many are there again; at least 1.
    pub(crate) window: u64,
    /// How many it may send now.
    pub(crate) remaining: u32,
    /// In how many seconds it may send one more; at least 1.
    pub(crate) until_more: u64,
}

impl Rates {
    pub(super) fn new(rate: Rate) -> Option<Self> {
        let period = rate.per.checked_div(rate.requests.get())?;
        Some(Self::of(Quota::with_period(period)?.allow_burst(rate.burst)))
    }

    /// For refusals of good tokens' holders: a minute's worth at once, and one a second. Whoever has
    /// stolen a token that was revoked since could fill the trail with it otherwise.
    pub(super) fn of_news() -> Self {
        Self::of(Quota::per_second(NonZeroU32::MIN).allow_burst(NEWS))
    }

    fn of(quota: Quota) -> Self {
        let buckets = Buckets::default();
        let limiter = RateLimiter::new(quota, buckets.clone(), Uptime(Instant::now()));
        Self { limiter, buckets, quota, most: AtomicUsize::new(MANY) }
    }

    /// Whether another refusal of this kind is news of this holder.
    pub(super) fn is_news(&self, holder: &Verified, reason: &str) -> bool {
        self.count(&format!("{reason} {}", holder.person())).is_ok()
    }

    pub(super) fn admit(&self, caller: &Verified) -> Result<(), Problem> {
        self.count(&caller.caller()).map_err(|wait| {
            Problem::new(Code::OverRate, "you have sent more requests than your rate allows")
                .retry_after(wait)
        })
    }

    /// What this caller may do now.
    pub(super) fn standing(&self, caller: &Verified) -> Standing {
        let filled_at = self.buckets.filled_at(&caller.caller());
        let missing = filled_at.saturating_sub(self.limiter.clock().now());
        self.standing_with(missing)
    }

    /// With a bucket that needs so much time to be full.
    fn standing_with(&self, missing: Duration) -> Standing {
        let period = self.quota.replenish_interval().as_nanos().max(1);
        let (missing, quota) = (missing.as_nanos(), self.quota.burst_size().get());
        let used = missing.div_ceil(period);
        let remaining = u128::from(quota).saturating_sub(used);
        // A full bucket has one more only after one was taken.
        let until_more = match missing % period {
            0 => period,
            left => left,
        };
        let seconds = |nanos: u128| {
            let second = Duration::from_secs(1).as_nanos();
            u64::try_from(nanos.div_ceil(second)).unwrap_or(u64::MAX)
        };
        Standing {
            quota,
            window: seconds(period * u128::from(quota)),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            until_more: seconds(until_more),
        }
    }

    fn count(&self, caller: &String) -> Result<(), Duration> {
        if self.buckets.0.len() > self.most.load(Ordering::Relaxed) {
            self.buckets.0.retain_recent(self.limiter.clock().now().into());
            // Where nearly all of them are busy, not every request looks through them all.
            self.most.store(MANY.max(2 * self.buckets.0.len()), Ordering::Relaxed);
        }
        let clock = self.limiter.clock();
        self.limiter.check_key(caller).map_err(|not_until| not_until.wait_time_from(clock.now()))
    }
}

/// The limiter's memory, shared with it so that it can be looked at without taking something.
#[derive(Debug, Clone, Default)]
struct Buckets(Arc<DashMapStateStore<String>>);

impl Buckets {
    /// When this caller's bucket is full again, by the limiter's clock.
    fn filled_at(&self, caller: &String) -> Duration {
        let looked = |filled_at: Option<Nanos>| Err::<((), Nanos), _>(filled_at);
        let filled_at = self.0.measure_and_replace(caller, looked).err().flatten();
        filled_at.map(Duration::from).unwrap_or_default()
    }
}

impl StateStore for Buckets {
    type Key = String;

    fn measure_and_replace<T, F, E>(&self, key: &String, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, measure)
    }
}

/// The time since the limiter was made, in which its memory is kept too.
#[derive(Debug, Clone, Copy)]
struct Uptime(Instant);

impl Clock for Uptime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(requests: u32, per: Duration, burst: u32) -> Rates {
        let number = |number| NonZeroU32::new(number).unwrap();
        Rates::new(Rate { requests: number(requests), per, burst: number(burst) }).unwrap()
    }

    /// quota, window, remaining, time until one more.
    fn told(rates: &Rates, missing: Duration) -> (u32, u64, u32, u64) {
        let Standing { quota, window, remaining, until_more } = rates.standing_with(missing);
        (quota, window, remaining, until_more)
    }

    #[test]
    fn what_is_told_is_never_more_than_what_is_granted() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let nanosecond = Duration::from_nanos(1);
        let hourly = rates(1, hour, 24);
        assert_eq!(told(&hourly, Duration::ZERO), (24, 24 * 3600, 24, 3600));
        assert_eq!(told(&hourly, nanosecond), (24, 24 * 3600, 23, 1));
        assert_eq!(told(&hourly, hour), (24, 24 * 3600, 23, 3600));
        assert_eq!(told(&hourly, hour + nanosecond), (24, 24 * 3600, 22, 1));
        assert_eq!(told(&hourly, 24 * hour), (24, 24 * 3600, 0, 3600));
        assert_eq!(told(&hourly, 23 * hour + nanosecond), (24, 24 * 3600, 0, 1));
        assert_eq!(told(&hourly, 99 * hour), (24, 24 * 3600, 0, 3600));
        // Rounded up where it is less than a second, or not a whole number of them.
        assert_eq!(told(&rates(50, second, 100), 2 * second), (100, 2, 0, 1));
        assert_eq!(told(&rates(50, second, 10), Duration::ZERO), (10, 1, 10, 1));
        assert_eq!(told(&rates(2, 3 * second, 3), 3 * second), (3, 5, 1, 2));
    }

    #[test]
    fn many_busy_callers_are_not_looked_through_by_each_request() {
        let rates = rates(1, Duration::from_secs(3600), 1);
        let most = || rates.most.load(Ordering::Relaxed);
        for number in 0..=MANY {
            assert!(rates.count(&number.to_string()).is_ok());
        }
        assert_eq!(most(), MANY);
        assert!(rates.count(&"another".to_owned()).is_ok());
        assert_eq!(most(), 2 * (MANY + 1));
    }

    #[test]
    fn looking_takes_nothing() {
        let rates = rates(1, Duration::from_secs(3600), 2);
        let caller = "https://idp.example.com/ app".to_owned();
        let remaining = || {
            let filled_at = rates.buckets.filled_at(&caller);
            rates.standing_with(filled_at.saturating_sub(rates.limiter.clock().now())).remaining
        };
        assert_eq!((remaining(), remaining()), (2, 2));
        assert!(rates.count(&caller).is_ok());
        assert_eq!((remaining(), remaining()), (1, 1));
        assert!(rates.count(&caller).is_ok());
        assert_eq!((remaining(), remaining()), (0, 0));
        assert!(rates.count(&caller).is_err());
    }
}
