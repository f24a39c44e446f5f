//! What the CMS has said of a credential, and so who may use it now.
//!
//! A thousand requests that come at once with a wrong password would be a thousand guesses before
//! the first 401 is there. So no more may be on their way without a verdict than the CMS lately
//! took at once, twice that, and after a rest of [`FRESH`] one alone. The others wait for the next
//! verdict, and go if it is good: a burst costs one exchange more than it would, and a steady load
//! nothing. While the CMS says nothing, one more of them goes each [`PATIENCE`], so that one slow
//! answer doesn't hold up all.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an acceptance counts.
const FRESH: Duration = Duration::from_millis(100);
/// How long the CMS may say nothing until one more request is sent.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause after which a refused credential is tried for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two such tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the CMS has said of a credential.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When it was last accepted.
    accepted: Option<Instant>,
    /// When a refusal came last.
    doubted: Option<Instant>,
    /// How many were on their way at once when it was accepted, the most of late.
    proven: usize,
    /// Since when those who are on their way have no verdict, and no further one was sent.
    silent: Option<Instant>,
    /// One more than are on their way.
    on_their_way: Arc<()>,
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    /// Since when it is.
    at: Instant,
    /// When it was used last.
    tried: Instant,
    pause: Duration,
}

/// The right to use a credential once, on its way until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    since: Instant,
    /// How many were on their way then, this one included.
    among: usize,
    pub(super) is_probe: bool,
    _on_its_way: Arc<()>,
}

/// Whether it may be taken now.
#[derive(Debug)]
pub(super) enum Turn {
    Take(Pass),
    /// Until this time, or for the next verdict alone.
    Wait(Option<Instant>),
}

impl Standing {
    /// For a request that came then.
    pub(super) fn turn(&mut self, came: Instant) -> Turn {
        let now = Instant::now();
        if let Some(refused) = &mut self.refused {
            // Who asks now has seen that the pause is over.
            refused.tried = now;
            refused.pause = (refused.pause * 2).min(LONGEST_PAUSE);
            return self.take(now, true);
        }
        let accepted = self.accepted.filter(|_| !self.is_doubted());
        if accepted.is_none_or(|at| now.duration_since(at) >= FRESH) {
            self.proven = 0;
        }
        let on_their_way = self.on_their_way();
        if on_their_way == 0 {
            self.silent = Some(now);
            return self.take(now, false);
        }
        if self.is_doubted() {
            return Turn::Wait(None);
        }
        if accepted.is_some_and(|at| at >= came) || on_their_way < self.limit() {
            return self.take(now, false);
        }
        let impatient = self.silent.unwrap_or(now) + PATIENCE;
        if now < impatient {
            return Turn::Wait(Some(impatient));
        }
        self.silent = Some(now);
        self.take(now, false)
    }

    fn take(&self, since: Instant, is_probe: bool) -> Turn {
        let among = self.on_their_way() + 1;
        Turn::Take(Pass { since, among, is_probe, _on_its_way: Arc::clone(&self.on_their_way) })
    }

    /// How many may be on their way without a verdict.
    pub(super) fn limit(&self) -> usize {
        self.proven * 2
    }

    fn on_their_way(&self) -> usize {
        Arc::strong_count(&self.on_their_way) - 1
    }

    /// How long a refused credential must rest still; nothing when it is not refused.
    pub(super) fn pause_left(&self) -> Option<Duration> {
        self.refused.map(|refused| refused.pause.saturating_sub(refused.tried.elapsed()))
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// What counts of a refusal wherever the credential is used.
    pub(super) fn as_refused(&self) -> Self {
        Self { doubted: self.doubted, refused: self.refused, ..Self::default() }
    }

    /// Whether the CMS ever accepted it.
    pub(super) fn was_accepted(&self) -> bool {
        self.accepted.is_some()
    }

    /// Whether the CMS accepted it after it had refused another, which still is.
    pub(super) fn was_accepted_since_refusal_of(&self, other: &Self) -> bool {
        let refused = other.refused.map(|refused| refused.at);
        refused.is_some_and(|refused| self.accepted.is_some_and(|accepted| accepted > refused))
    }

    /// Whether the last word of the CMS on it was a refusal.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.is_some_and(|doubted| self.accepted.is_none_or(|accepted| accepted < doubted))
    }

    /// The CMS has accepted it from who has this pass; whether that ends a refusal.
    pub(super) fn accept(&mut self, pass: &Pass) -> bool {
        if self.doubted.is_some_and(|doubted| pass.since < doubted) {
            // The CMS has changed its mind since.
            return false;
        }
        let now = Instant::now();
        (self.accepted, self.silent) = (Some(now), Some(now));
        // It follows a load that gets less, step by step.
        let less = self.proven - self.proven.saturating_sub(pass.among).div_ceil(8);
        self.proven = less.max(pass.among);
        self.refused.take().is_some()
    }

    /// The CMS has refused it, and the source is asked: nobody uses it as long as the pass of who
    /// was refused is there.
    pub(super) fn doubt(&mut self) {
        self.doubted = Some(Instant::now());
    }

    /// The CMS has refused it, and the source has no other one; whether that is news.
    pub(super) fn refuse(&mut self) -> bool {
        let is_news = self.refused.is_none();
        let now = Instant::now();
        self.refused.get_or_insert(Refused { at: now, tried: now, pause: FIRST_PAUSE });
        is_news
    }

    /// As if the CMS had not been asked, or had not answered, for a while.
    #[cfg(test)]
    pub(super) fn rest(&mut self) {
        let earlier = |at: Instant| at.checked_sub(PATIENCE);
        self.accepted = self.accepted.and_then(earlier);
        self.silent = self.silent.and_then(earlier);
    }

    /// The CMS has refused another one, so that nothing counts of what it took at once.
    pub(super) fn begin_anew(&mut self) {
        self.proven = 0;
    }

    #[cfg(test)]
    pub(super) fn end_pause(&mut self) {
        if let Some(refused) = &mut self.refused {
            refused.tried -= refused.pause;
        }
    }
}
