//! How many requests one caller may make.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::config::Rate;
use crate::identity::{Principal, Verified};
use crate::reply::{Code, Problem};

/// How many callers are remembered before those that are at rest are forgotten.
const MANY: usize = 10_000;

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

    /// Counts a call of an authenticated caller.
    pub(super) fn admit(&self, principal: &Principal) -> Result<(), Problem> {
        self.count(principal.caller())
    }

    /// Counts a call with a good token that was refused. It is not the honest caller's own, so it
    /// takes nothing of that one's rate.
    pub(super) fn admit_refused(&self, holder: &Verified) -> Result<(), Problem> {
        self.count(format!("refused {}", holder.caller()))
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
