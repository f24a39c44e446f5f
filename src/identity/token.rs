//! A JWS in compact form (RFC 7515, section 7.1).
//!
//! `jsonwebtoken` checks the signature. It accepts more in header and claims than RFC 8725 lets a
//! receiver take (any `crit`, any `typ`, an `iss` that is a list, doubled members), so these are
//! read here, strictly, and the crate gets one key with one algorithm. Parameters by which a token
//! would bring or name its own key (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::claims::Claims;
use super::keys::Key;
use super::{Refusal, algorithm};
use crate::config::TokenType;
use crate::strict_json;

/// A token that was read, and of which nothing is proved.
#[derive(Debug)]
pub(super) struct UnverifiedToken<'a> {
    header: Map<String, Value>,
    claims: Claims,
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::NotCompact)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::NotCompact)?;
        if claims.contains('.') {
            return Err(Refusal::NotCompact);
        }
        // Refuses padding, other alphabets and bits left over, so that a token has one spelling.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::NotBase64url);
        let (header, claims) = (decode(header)?, decode(claims)?);
        decode(signature)?;
        let Ok(Value::Object(header)) = strict_json::parse(&header) else {
            return Err(Refusal::Header);
        };
        Ok(Self { header, claims: Claims::parse(&claims)?, message, signature })
    }

    /// Whether every parameter that changes the token's meaning is understood (RFC 7515, section
    /// 4.1.11; RFC 7797, section 6).
    pub(super) fn is_understood(&self) -> Result<(), Refusal> {
        let is_critical = self.header.contains_key("crit") || self.header.contains_key("b64");
        if is_critical { Err(Refusal::Critical) } else { Ok(()) }
    }

    /// Whether it is an access token by its `typ` (RFC 8725, section 3.11; RFC 9068, section 4),
    /// and no token within a token (`cty`, RFC 7519, section 5.2).
    pub(super) fn is_of_type(&self, accepted: &[TokenType]) -> Result<(), Refusal> {
        let named = match self.header.get("typ") {
            // Many providers write none: what it means then is a JWT.
            None => Some(TokenType::Jwt),
            Some(name) => name.as_str().and_then(TokenType::named),
        };
        let is_accepted = named.is_some_and(|named| accepted.contains(&named));
        if is_accepted && !self.header.contains_key("cty") { Ok(()) } else { Err(Refusal::Type) }
    }

    /// The algorithm, which must be one of these.
    pub(super) fn algorithm(&self, accepted: &[Algorithm]) -> Result<Algorithm, Refusal> {
        let name = self.header.get("alg").and_then(Value::as_str);
        name.and_then(algorithm::named)
            .filter(|algorithm| accepted.contains(algorithm))
            .ok_or(Refusal::Algorithm)
    }

    pub(super) fn key_id(&self) -> Result<Option<&str>, Refusal> {
        match self.header.get("kid") {
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
        &self.header
    }

    /// Whether the owner of the key has signed header and claims.
    pub(super) fn is_signed_by(&self, key: &Key, algorithm: Algorithm) -> Result<(), Refusal> {
        let verified = jsonwebtoken::crypto::verify(
            self.signature,
            self.message.as_bytes(),
            key.decoding(),
            algorithm,
        );
        if matches!(verified, Ok(true)) { Ok(()) } else { Err(Refusal::Signature) }
    }

    /// The claims, which the owner of the key has signed.
    pub(super) fn verify(self, key: &Key, algorithm: Algorithm) -> Result<Claims, Refusal> {
        self.is_signed_by(key, algorithm)?;
        Ok(self.claims)
    }
}
