//! How many requests one caller may make.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

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
    limiter: DefaultKeyedRateLimiter<String>,
}

impl Rates {
    pub(super) fn new(rate: Rate) -> Option<Self> {
        let period = rate.per.checked_div(rate.requests.get())?;
        let quota = Quota::with_period(period)?.allow_burst(rate.burst);
        Some(Self { limiter: DefaultKeyedRateLimiter::keyed(quota) })
    }

    /// For refusals of good tokens' holders: a minute's worth at once, and one a second. Whoever has
    /// stolen a token that was revoked since could fill the trail with it otherwise.
    pub(super) fn of_news() -> Self {
        let quota = Quota::per_second(NonZeroU32::MIN).allow_burst(NEWS);
        Self { limiter: DefaultKeyedRateLimiter::keyed(quota) }
    }

    /// Whether another refusal of this kind is news of this holder.
    pub(super) fn is_news(&self, holder: &Verified, reason: &str) -> bool {
        self.count(format!("{reason} {}", holder.person())).is_ok()
    }

    pub(super) fn admit(&self, caller: &Verified) -> Result<(), Problem> {
        self.count(caller.caller())
    }

    fn count(&self, caller: String) -> Result<(), Problem> {
        if self.limiter.len() > MANY {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&caller).map_err(|not_until| {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            Problem::new(Code::OverRate, "you have sent more requests than your rate allows")
                .retry_after(wait)
        })
    }
}
