//! Tokens that were verified, so that a signature is checked once.
//!
//! It saves the signature, the reading and the rules that never change, and nothing else: what
//! depends on the time, on revocation or on how the token is used is decided at each use, and the
//! keys must still be the ones that verified it. A token that was refused is not in it. Its key is
//! a keyed hash, so that no token is in memory because of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;

use super::digest::{TokenDigest, TokenDigests};
use super::principal::Verified;
use crate::config;

/// What a verified token takes in memory beside its claims, in bytes, roughly.
const OVERHEAD: usize = 1024;
/// And how many bytes its claims take for each of the token's own.
const EXPANSION: usize = 3;

#[derive(Debug)]
pub(super) struct TokenCache {
    digests: Arc<TokenDigests>,
    cache: Cache<TokenDigest, Entry>,
    max_age: Duration,
}

/// A token that was verified, and by what.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) verified: Arc<Verified>,
    /// The place of its issuer.
    pub(super) issuer: usize,
    /// Of the issuer's keys.
    pub(super) generation: u64,
    lifetime: Duration,
    weight: u32,
}

impl TokenCache {
    pub(super) fn new(settings: &config::TokenCache, digests: Arc<TokenDigests>) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.size)
            .weigher(|_, entry: &Entry| entry.weight)
            .expire_after(Lifetime)
            .build();
        Self { digests, cache, max_age: settings.max_age }
    }

    pub(super) fn name(&self, token: &str) -> TokenDigest {
        self.digests.of(token)
    }

    pub(super) fn get(&self, name: &TokenDigest) -> Option<Entry> {
        self.cache.get(name)
    }

    /// Keeps what was verified for as long as the token is valid, and for `max_age` at the most.
    pub(super) fn keep(
        &self,
        name: TokenDigest,
        (issuer, generation): (usize, u64),
        verified: &Arc<Verified>,
        token_length: usize,
        valid_for: Duration,
    ) {
        let lifetime = valid_for.min(self.max_age);
        if lifetime.is_zero() {
            return;
        }
        let weight = u32::try_from(OVERHEAD + EXPANSION * token_length).unwrap_or(u32::MAX);
        let verified = Arc::clone(verified);
        self.cache.insert(name, Entry { verified, issuer, generation, lifetime, weight });
    }

    pub(super) fn forget(&self, name: &TokenDigest) {
        self.cache.invalidate(name);
    }
}

struct Lifetime;

impl Expiry<TokenDigest, Entry> for Lifetime {
    fn expire_after_create(&self, _: &TokenDigest, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &TokenDigest,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.lifetime)
    }
}
