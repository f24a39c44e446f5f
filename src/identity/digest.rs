//! A token's name in memory: a keyed hash of it, never the token.
//!
//! The key is made when the process starts and is known to nobody, so that what a cache holds
//! tells nothing of the tokens, and nobody can make two tokens that share a place in it.

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

/// Makes digests, under a key of its own.
#[derive(Debug)]
pub(super) struct TokenDigests(hmac::Key);

/// HMAC-SHA-256 of a token (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

impl TokenDigests {
    /// # Errors
    ///
    /// When the system has no randomness to give.
    pub(super) fn new() -> Result<Self, Unspecified> {
        Ok(Self(hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?))
    }

    pub(super) fn of(&self, token: &str) -> TokenDigest {
        let tag = hmac::sign(&self.0, token.as_bytes());
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(tag.as_ref());
        TokenDigest(digest)
    }
}
