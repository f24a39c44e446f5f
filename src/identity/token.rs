//! An access token that is a JWT (RFC 7519), before its signature is known to be good.
//!
//! Parameters by which a token would bring or name its own key (`jwk`, `jku`, `x5c`, `x5u`) are not
//! looked at.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::Refusal;
use super::claims::Claims;
use super::jws::{Jws, JwsFault};
use super::keys::Key;
use crate::config::TokenType;

/// A token that was read, and of which nothing is proved.
pub(super) struct UnverifiedToken<'a> {
    jws: Jws<'a>,
    claims: Claims,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let jws = Jws::parse(token)?;
        let claims = Claims::parse(&jws.payload)?;
        Ok(Self { jws, claims })
    }

    /// Whether every parameter that changes the token's meaning is understood.
    pub(super) fn is_understood(&self) -> Result<(), Refusal> {
        if self.jws.is_understood() { Ok(()) } else { Err(Refusal::Critical) }
    }

    /// Whether it is an access token by its `typ` (RFC 8725, section 3.11; RFC 9068, section 4),
    /// and no token within a token (`cty`, RFC 7519, section 5.2).
    pub(super) fn is_of_type(&self, accepted: &[TokenType]) -> Result<(), Refusal> {
        let named = match self.header().get("typ") {
            // Many providers write none: what it means then is a JWT.
            None => Some(TokenType::Jwt),
            Some(name) => name.as_str().and_then(TokenType::named),
        };
        let is_accepted = named.is_some_and(|named| accepted.contains(&named));
        if is_accepted && !self.header().contains_key("cty") { Ok(()) } else { Err(Refusal::Type) }
    }

    /// The algorithm, which must be one of these.
    pub(super) fn algorithm(&self, accepted: &[Algorithm]) -> Result<Algorithm, Refusal> {
        let own = self.jws.algorithm().filter(|algorithm| accepted.contains(algorithm));
        own.ok_or(Refusal::Algorithm)
    }

    pub(super) fn key_id(&self) -> Result<Option<&str>, Refusal> {
        match self.header().get("kid") {
            None => Ok(None),
            Some(Value::String(key_id)) => Ok(Some(key_id)),
            Some(_) => Err(Refusal::KeyId),
        }
    }

    /// The issuer's name, of which nothing is proved.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.issuer()
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(super) fn header(&self) -> &Map<String, Value> {
        &self.jws.header
    }

    /// Whether the owner of the key has signed header and claims.
    pub(super) fn is_signed_by(&self, key: &Key, algorithm: Algorithm) -> Result<(), Refusal> {
        let is_signed = self.jws.is_signed_by(key.decoding(), algorithm);
        if is_signed { Ok(()) } else { Err(Refusal::Signature) }
    }

    /// The claims, which the owner of the key has signed.
    pub(super) fn verify(self, key: &Key, algorithm: Algorithm) -> Result<Claims, Refusal> {
        self.is_signed_by(key, algorithm)?;
        Ok(self.claims)
    }
}

impl From<JwsFault> for Refusal {
    fn from(fault: JwsFault) -> Self {
        match fault {
            JwsFault::NotCompact => Self::NotCompact,
            JwsFault::NotBase64url => Self::NotBase64url,
            JwsFault::Header => Self::Header,
        }
    }
}
