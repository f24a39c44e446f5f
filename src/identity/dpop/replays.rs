//! The memory of accepted proofs, so that none is accepted twice (RFC 9449, section 11.1).
//!
//! A proof can be accepted for as long as its lifetime and the leeway together: that is a window.
//! Proofs are kept in two generations; when one is a window old it becomes the older, and the older
//! is forgotten, so that each proof is kept for a window at least. A clock that was set back could
//! make a forgotten proof acceptable again, so nothing is accepted that was made before the newest
//! of those that were forgotten.
//!
//! No caller can take more than a quarter of the memory, so that none shuts out the others.
//!
//! Kept is a keyed hash of the key's thumbprint and the proof's identifier. The hash's key is made
//! when the process starts and known to nobody, so that nobody can make two that collide.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

use super::ProofFault;

/// The proofs that were accepted and could be once more.
#[derive(Debug)]
pub(super) struct Replays {
    memory: Arc<Memory>,
    window: Duration,
    capacity: usize,
}

/// What two configurations of an issuer share.
#[derive(Debug)]
struct Memory {
    key: hmac::Key,
    generations: Mutex<Generations>,
}

/// Which part of the memory one caller may take: one in so many.
const SHARES: usize = 4;

/// The first half of an HMAC-SHA-256 (RFC 2104, section 5).
type Digest = [u8; 16];

#[derive(Debug)]
struct Generations {
    /// When the younger one was begun.
    since: SystemTime,
    younger: Generation,
    older: Generation,
    /// The newest `iat` of a proof that was forgotten.
    forgotten: Option<u64>,
}

#[derive(Debug, Default)]
struct Generation {
    digests: HashSet<Digest>,
    /// How many of them are of each caller, by a hash of its name.
    callers: HashMap<Digest, usize>,
    newest: Option<u64>,
}

impl Replays {
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub(super) fn new(window: Duration, capacity: usize) -> Result<Self, Unspecified> {
        let memory = Memory {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            generations: Mutex::new(Generations {
                since: SystemTime::UNIX_EPOCH,
                younger: Generation::default(),
                older: Generation::default(),
                forgotten: None,
            }),
        };
        Ok(Self { memory: Arc::new(memory), window, capacity })
    }

    /// With what another one has seen and sees.
    pub(super) fn after(self, before: &Self) -> Self {
        Self { memory: Arc::clone(&before.memory), ..self }
    }

    /// Remembers a proof that is acceptable now, made at `issued_at` (in seconds since 1970).
    ///
    /// # Errors
    ///
    /// When it was accepted before, or could have been and was forgotten; or when the memory is
    /// full.
    pub(super) fn note(
        &self,
        caller: &str,
        thumbprint: &str,
        identifier: &str,
        issued_at: u64,
        now: SystemTime,
    ) -> Result<(), ProofFault> {
        let (caller, digest) = (self.digest(caller, ""), self.digest(thumbprint, identifier));
        let mut generations =
            self.memory.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.age(self.window, now);
        if generations.forgotten.is_some_and(|forgotten| issued_at <= forgotten) {
            return Err(ProofFault::Expired);
        }
        if generations.hold(&digest) {
            return Err(ProofFault::Replayed);
        }
        let share = (self.capacity / SHARES).max(1);
        if generations.len() >= self.capacity || generations.len_of(&caller) >= share {
            return Err(ProofFault::ReplayMemoryFull);
        }
        generations.younger.add(caller, digest, issued_at);
        Ok(())
    }

    /// A thumbprint is always of the same length, so that no two pairs are the same text.
    fn digest(&self, thumbprint: &str, identifier: &str) -> Digest {
        let tag = hmac::sign(&self.memory.key, [thumbprint, identifier].concat().as_bytes());
        let mut digest = Digest::default();
        digest.iter_mut().zip(tag.as_ref()).for_each(|(own, byte)| *own = *byte);
        digest
    }
}

impl Generations {
    fn age(&mut self, window: Duration, now: SystemTime) {
        let Ok(age) = now.duration_since(self.since) else {
            // The clock was set back: all that is held is kept for another window.
            self.since = now;
            return;
        };
        if age < window {
            return;
        }
        self.since = now;
        self.replace_older();
        if age >= 2 * window {
            self.replace_older();
        }
    }

    fn replace_older(&mut self) {
        let older = std::mem::replace(&mut self.older, std::mem::take(&mut self.younger));
        self.forgotten = self.forgotten.max(older.newest);
    }

    fn hold(&self, digest: &Digest) -> bool {
        self.younger.digests.contains(digest) || self.older.digests.contains(digest)
    }

    fn len_of(&self, caller: &Digest) -> usize {
        let of = |generation: &Generation| generation.callers.get(caller).copied().unwrap_or(0);
        of(&self.younger) + of(&self.older)
    }

    fn len(&self) -> usize {
        self.younger.digests.len() + self.older.digests.len()
    }
}

impl Generation {
    fn add(&mut self, caller: Digest, digest: Digest, issued_at: u64) {
        *self.callers.entry(caller).or_default() += 1;
        self.digests.insert(digest);
        self.newest = self.newest.max(Some(issued_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(65);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn note(replays: &Replays, identifier: u64, now: u64) -> Result<(), ProofFault> {
        let caller = identifier.to_string();
        replays.note(&caller, "thumbprint", &identifier.to_string(), now, at(now))
    }

    #[test]
    fn none_is_accepted_twice_in_its_window_however_the_generations_fall() {
        for offset in 0..130 {
            let replays = Replays::new(WINDOW, 100_000).unwrap();
            assert_eq!(note(&replays, 1, 1000), Ok(()));
            let first = 1000 + offset;
            // Made as far ahead of this clock as it may be, so that it lives for the whole window.
            assert_eq!(replays.note("caller", "key", "jti", first + 5, at(first)), Ok(()));
            for now in first..=first + 65 {
                let again = replays.note("caller", "key", "jti", first + 5, at(now));
                assert_eq!(again, Err(ProofFault::Replayed), "{offset}: {now}");
                // Others that make the generations go on.
                assert_eq!(note(&replays, now * 1000 + offset, now), Ok(()));
            }
        }
    }

    #[test]
    fn two_with_one_memory_accept_a_proof_once_whatever_their_windows() {
        for (first, second) in [(65, 305), (305, 65)] {
            let new = |seconds| Replays::new(Duration::from_secs(seconds), 10).unwrap();
            let before = new(first);
            assert_eq!(note(&before, 1, 1000), Ok(()));
            let after = new(second).after(&before);
            for now in 1000..=1000 + second {
                let again = after.note("1", "thumbprint", "1", 1000, at(now));
                assert_eq!(again, Err(ProofFault::Replayed), "{first} {now}");
            }
            assert_eq!(note(&after, 2, 1000 + second), Ok(()));
            assert_eq!(note(&before, 2, 1000 + second), Err(ProofFault::Replayed));
        }
    }

    #[test]
    fn of_many_at_once_one_is_accepted() {
        let replays = Replays::new(WINDOW, 10).unwrap();
        let accepted = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| note(&replays, 1, 1000).is_ok())).collect();
            threads.into_iter().map(|one| one.join().unwrap()).filter(|it| *it).count()
        });
        assert_eq!(accepted, 1);
    }

    #[test]
    fn another_key_may_use_the_same_identifier() {
        let replays = Replays::new(WINDOW, 10).unwrap();
        assert_eq!(replays.note("one", "one", "jti", 1000, at(1000)), Ok(()));
        assert_eq!(replays.note("two", "two", "jti", 1000, at(1000)), Ok(()));
        assert_eq!(replays.note("one", "one", "jti", 1000, at(1000)), Err(ProofFault::Replayed));
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_none_until_there_is_room() {
        let replays = Replays::new(WINDOW, 3).unwrap();
        for identifier in 1..=3 {
            assert_eq!(note(&replays, identifier, 1000), Ok(()));
        }
        for now in [1000, 1064, 1065, 1129] {
            assert_eq!(note(&replays, 4, now), Err(ProofFault::ReplayMemoryFull), "{now}");
            for identifier in 1..=3 {
                assert_eq!(note(&replays, identifier, now), Err(ProofFault::Replayed), "{now}");
            }
        }
        assert_eq!(note(&replays, 4, 1130), Ok(()));
        assert_eq!(replays.memory.generations.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_caller_takes_no_more_than_its_share() {
        let replays = Replays::new(WINDOW, 8).unwrap();
        let note = |caller, identifier| replays.note(caller, "key", identifier, 1000, at(1000));
        assert_eq!((note("one", "1"), note("one", "2")), (Ok(()), Ok(())));
        assert_eq!(note("one", "3"), Err(ProofFault::ReplayMemoryFull));
        assert_eq!(note("another", "3"), Ok(()));
        assert_eq!(replays.note("one", "key", "4", 1130, at(1130)), Ok(()), "there is room again");
    }

    #[test]
    fn a_clock_that_is_set_back_brings_no_proof_back() {
        let replays = Replays::new(WINDOW, 10).unwrap();
        assert_eq!(note(&replays, 1, 1000), Ok(()));
        assert_eq!(note(&replays, 2, 9000), Ok(()));
        assert_eq!(note(&replays, 1, 1000), Err(ProofFault::Expired), "forgotten");
        assert_eq!(note(&replays, 3, 1001), Ok(()));
        assert_eq!(note(&replays, 3, 1001), Err(ProofFault::Replayed));
        assert_eq!(note(&replays, 3, 1100), Err(ProofFault::Replayed), "kept a little longer");
        assert_eq!(replays.note("2", "thumbprint", "2", 9000, at(8999)), Err(ProofFault::Expired));
        assert_eq!(note(&replays, 2, 9001), Ok(()));
    }
}
