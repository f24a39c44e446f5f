//! Nonces that the gateway gives and forgets (RFC 9449, section 9).
//!
//! A nonce is a keyed hash of the minute in which it was given, so that gateways that share the key
//! know each other's and none remembers any.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How many seconds a nonce is the current one. It is accepted for as many after.
const SLOT: u64 = 60;
/// What is hashed before the slot's number, so that the key's hashes mean nothing elsewhere.
const PURPOSE: &[u8] = b"cms-gateway DPoP nonce 1\n";

/// Gives nonces and knows them again.
#[derive(Debug)]
pub(super) struct Nonces(hmac::Key);

impl Nonces {
    pub(super) fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    pub(super) fn current(&self, now: SystemTime) -> String {
        let tag = hmac::sign(&self.0, &message(slot(now)));
        URL_SAFE_NO_PAD.encode(tag)
    }

    /// Whether it is of this slot or the one before.
    pub(super) fn accept(&self, nonce: &str, now: SystemTime) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let slot = slot(now);
        [slot, slot.saturating_sub(1)]
            .iter()
            .any(|slot| hmac::verify(&self.0, &message(*slot), &tag).is_ok())
    }
}

fn slot(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / SLOT)
}

fn message(slot: u64) -> Vec<u8> {
    [PURPOSE, &slot.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nonces(key: &str) -> Nonces {
        Nonces::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_nonce_is_accepted_in_its_slot_and_the_next_by_all_who_have_the_key() {
        let (one, replica) = (nonces("shared"), nonces("shared"));
        let nonce = one.current(at(6000));
        assert_eq!(nonce, replica.current(at(6059)));
        for seconds in [6000, 6059, 6060, 6119] {
            assert!(replica.accept(&nonce, at(seconds)), "{seconds}");
        }
        for seconds in [5999, 6120, 6180, 0] {
            assert!(!replica.accept(&nonce, at(seconds)), "{seconds}");
        }
    }

    #[test]
    fn nobody_makes_one_without_the_key() {
        let nonces = nonces("one");
        let good = nonces.current(at(6000));
        let foreign = self::nonces("other").current(at(6000));
        for bad in ["", &foreign, &good[1..], &format!("{good}="), &format!("{good}A")] {
            assert!(!nonces.accept(bad, at(6000)), "{bad}");
        }
    }
}
