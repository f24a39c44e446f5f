//! The `DPoP` header (RFC 9449, sections 4.1 and 4.2), read strictly, before and after its
//! signature is known to be good.

use http::HeaderMap;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::ProofFault;
use super::key::ProofKey;
use crate::identity::claims::whole_seconds;
use crate::identity::jws::Jws;
use crate::strict_json;

/// The longest proof, in bytes.
const LONGEST: usize = 8 << 10;
/// The longest `jti`, in bytes.
const LONGEST_IDENTIFIER: usize = 256;

/// A proof that was read, and of which nothing is proved.
pub(super) struct UnverifiedProof<'a> {
    /// The key that it says it is signed with, one that goes with its algorithm.
    pub(super) key: ProofKey,
    algorithm: Algorithm,
    jws: Jws<'a>,
}

/// What the owner of the key has signed (RFC 9449, section 4.2).
#[derive(Debug)]
pub(super) struct ProofClaims {
    /// `htm`
    pub(super) method: String,
    /// `htu`
    pub(super) target: String,
    /// `ath`
    pub(super) token_hash: String,
    /// `iat`, in seconds since 1970.
    pub(super) issued_at: u64,
    /// `jti`
    pub(super) identifier: String,
    /// `nonce`
    pub(super) nonce: Option<String>,
}

impl<'a> UnverifiedProof<'a> {
    /// The proof of the one `DPoP` header.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, ProofFault> {
        let mut values = headers.get_all("dpop").iter();
        let value = values.next().ok_or(ProofFault::Missing)?;
        if values.next().is_some() {
            return Err(ProofFault::TwoHeaders);
        }
        if value.len() > LONGEST {
            return Err(ProofFault::TooLarge);
        }
        Self::parse(value.to_str().map_err(|_| ProofFault::Malformed)?)
    }

    fn parse(proof: &'a str) -> Result<Self, ProofFault> {
        let jws = Jws::parse(proof).map_err(|_| ProofFault::Malformed)?;
        if jws.header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
            return Err(ProofFault::Type);
        }
        let algorithm = jws.algorithm().ok_or(ProofFault::Algorithm)?;
        if !jws.is_understood() {
            return Err(ProofFault::Critical);
        }
        let key = ProofKey::of(jws.header.get("jwk").ok_or(ProofFault::Key)?, algorithm)?;
        Ok(Self { key, algorithm, jws })
    }

    /// The claims, which the owner of the key has signed.
    pub(super) fn verify(self) -> Result<ProofClaims, ProofFault> {
        if self.jws.is_signed_by(&self.key.decoding, self.algorithm) {
            ProofClaims::parse(&self.jws.payload)
        } else {
            Err(ProofFault::Signature)
        }
    }
}

impl ProofClaims {
    fn parse(bytes: &[u8]) -> Result<Self, ProofFault> {
        let Ok(Value::Object(mut claims)) = strict_json::parse(bytes) else {
            return Err(ProofFault::Malformed);
        };
        let mut text = |name| match claims.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        Ok(Self {
            method: text("htm").ok_or(ProofFault::Method)?,
            target: text("htu").ok_or(ProofFault::Target)?,
            token_hash: text("ath").ok_or(ProofFault::TokenHash)?,
            identifier: text("jti")
                .filter(|identifier| (1..=LONGEST_IDENTIFIER).contains(&identifier.len()))
                .ok_or(ProofFault::Identifier)?,
            nonce: text("nonce"),
            issued_at: claims.get("iat").and_then(whole_seconds).ok_or(ProofFault::IssueTime)?,
        })
    }
}
