//! What the CMS has said of a credential, and so who may use it now.
//!
//! A thousand requests that come at once with a wrong password would be a thousand guesses before
//! the first 401 is there. So a credential that the CMS has not accepted within the last
//! [`FRESH`] is tried by one request, and the others wait for its answer: under load acceptance
//! never gets older, and after a rest it costs one exchange. A CMS that answers slowly doesn't hold
//! up the others for longer than [`PATIENCE`], if it ever accepted the credential.

use std::time::{Duration, Instant};

/// How long an acceptance lets everybody through.
const FRESH: Duration = Duration::from_millis(100);
/// How long others wait for the one that tries what was accepted once.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause after which a refused credential is tried for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two such tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the CMS has said of a credential.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When it was last accepted; nothing when a refusal came since.
    accepted: Option<Instant>,
    /// Since when a request tries it, whose verdict the others wait for.
    on_trial: Option<Instant>,
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

/// What a request that has a credential is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One of many.
    Free,
    /// The one for whose verdict they wait.
    Trial,
    /// The one that tries what was refused.
    Probe,
}

/// Whether it may be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Take(Role),
    /// Until this time, or for the verdict alone.
    Wait(Option<Instant>),
}

impl Standing {
    pub(super) fn turn(&mut self) -> Turn {
        let now = Instant::now();
        if let Some(refused) = &mut self.refused {
            // Who asks now has seen that the pause is over.
            refused.tried = now;
            refused.pause = (refused.pause * 2).min(LONGEST_PAUSE);
            return Turn::Take(Role::Probe);
        }
        if self.accepted.is_some_and(|at| now.duration_since(at) < FRESH) {
            return Turn::Take(Role::Free);
        }
        match (self.on_trial, self.accepted) {
            (None, _) => {
                self.on_trial = Some(now);
                Turn::Take(Role::Trial)
            }
            (Some(since), Some(_)) if now.duration_since(since) >= PATIENCE => {
                Turn::Take(Role::Free)
            }
            (Some(since), Some(_)) => Turn::Wait(Some(since + PATIENCE)),
            (Some(_), None) => Turn::Wait(None),
        }
    }

    /// How long a refused credential must rest still; nothing when it is not refused.
    pub(super) fn pause_left(&self) -> Option<Duration> {
        self.refused.map(|refused| refused.pause.saturating_sub(refused.tried.elapsed()))
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The CMS has accepted it from one who was lent it then; whether that ends a refusal.
    pub(super) fn accept(&mut self, role: Role, lent: Instant) -> bool {
        if self.refused.is_some_and(|refused| lent < refused.at) {
            // The CMS has changed its mind since.
            return false;
        }
        self.accepted = Some(Instant::now());
        if role == Role::Trial {
            self.on_trial = None;
        }
        self.refused.take().is_some()
    }

    /// The CMS has refused it, and the source is asked: nobody uses it meanwhile.
    pub(super) fn doubt(&mut self) {
        self.accepted = None;
        self.on_trial = Some(Instant::now());
    }

    /// The CMS has refused it, and the source has no other one; whether that is news.
    pub(super) fn refuse(&mut self) -> bool {
        self.on_trial = None;
        let is_news = self.refused.is_none();
        let now = Instant::now();
        self.refused.get_or_insert(Refused { at: now, tried: now, pause: FIRST_PAUSE });
        is_news
    }

    #[cfg(test)]
    pub(super) fn end_pause(&mut self) {
        if let Some(refused) = &mut self.refused {
            refused.tried -= refused.pause;
        }
    }

    /// The one who tried it heard nothing.
    pub(super) fn give_up(&mut self) {
        self.on_trial = None;
    }
}
