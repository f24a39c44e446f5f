//! A JWS in compact form (RFC 7515, section 7.1), as access tokens and DPoP proofs are.
//!
//! `jsonwebtoken` checks the signature. It accepts more in a header than RFC 8725 lets a receiver
//! take (any `crit`, any `typ`, doubled members), so that is read here, strictly, and the crate gets
//! one key with one algorithm.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::algorithm;
use crate::strict_json;

/// A JWS that was read, and of which nothing is proved.
pub(super) struct Jws<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) payload: Vec<u8>,
    /// Header and payload as they were signed.
    message: &'a str,
    signature: &'a str,
}

/// Why a text is no such JWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JwsFault {
    /// Not three parts.
    NotCompact,
    /// A part with padding, of another alphabet, or with bits left over.
    NotBase64url,
    /// The header is no JSON object, or has a member twice.
    Header,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, JwsFault> {
        let (message, signature) = text.rsplit_once('.').ok_or(JwsFault::NotCompact)?;
        let (header, payload) = message.split_once('.').ok_or(JwsFault::NotCompact)?;
        if payload.contains('.') {
            return Err(JwsFault::NotCompact);
        }
        // Refuses padding, other alphabets and bits left over, so that a JWS has one spelling.
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsFault::NotBase64url);
        let (header, payload) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        match strict_json::parse(&header) {
            Ok(Value::Object(header)) => Ok(Self { header, payload, message, signature }),
            _ => Err(JwsFault::Header),
        }
    }

    /// Whether every parameter that changes its meaning is understood (RFC 7515, section 4.1.11;
    /// RFC 7797, section 6).
    pub(super) fn is_understood(&self) -> bool {
        !self.header.contains_key("crit") && !self.header.contains_key("b64")
    }

    /// Its algorithm, if that is one that may be accepted.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.header.get("alg").and_then(Value::as_str).and_then(algorithm::named)
    }

    /// Whether the owner of the key has signed header and payload.
    pub(super) fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        let message = self.message.as_bytes();
        let verified = jsonwebtoken::crypto::verify(self.signature, message, key, algorithm);
        matches!(verified, Ok(true))
    }
}
