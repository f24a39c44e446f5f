//! The `DPoP` header (RFC 9449, sections 4.1 and 4.2), read strictly, before and after its
//! signature is known to be good.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::ProofFault;
use super::key::ProofKey;
use crate::identity::algorithm;
use crate::strict_json;

/// The longest proof, in bytes.
const LONGEST: usize = 8 << 10;
/// The longest `jti`, in bytes.
const LONGEST_IDENTIFIER: usize = 256;
/// The end of the year 9999: what is later is no time but a mistake.
const LATEST: u64 = 253_402_300_799;

/// A proof that was read, and of which nothing is proved.
#[derive(Debug)]
pub(super) struct UnverifiedProof<'a> {
    /// The key that it says it is signed with, one that goes with its algorithm.
    pub(super) key: ProofKey,
    algorithm: Algorithm,
    claims: Vec<u8>,
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
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
        let (message, signature) = proof.rsplit_once('.').ok_or(ProofFault::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(ProofFault::Malformed)?;
        // A third dot is in no alphabet of base64, and fails here as well.
        let header = object(&decode(header)?)?;
        let claims = decode(claims)?;
        decode(signature)?;

        if header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
            return Err(ProofFault::Type);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(ProofFault::Algorithm)?;
        let algorithm = algorithm::named(name).ok_or(ProofFault::Algorithm)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(ProofFault::Critical);
        }
        let key = ProofKey::of(header.get("jwk").ok_or(ProofFault::Key)?, algorithm)?;
        Ok(Self { key, algorithm, claims, message, signature })
    }

    /// The claims, which the owner of the key has signed.
    pub(super) fn verify(self) -> Result<ProofClaims, ProofFault> {
        let verified = jsonwebtoken::crypto::verify(
            self.signature,
            self.message.as_bytes(),
            &self.key.decoding,
            self.algorithm,
        );
        match verified {
            Ok(true) => ProofClaims::parse(&self.claims),
            Ok(false) | Err(_) => Err(ProofFault::Signature),
        }
    }
}

impl ProofClaims {
    fn parse(bytes: &[u8]) -> Result<Self, ProofFault> {
        let mut claims = object(bytes)?;
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
            issued_at: claims
                .get("iat")
                .and_then(Value::as_u64)
                .filter(|seconds| *seconds <= LATEST)
                .ok_or(ProofFault::IssueTime)?,
        })
    }
}

/// Refuses padding, other alphabets and bits left over, so that a proof has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, ProofFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofFault::Malformed)
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ProofFault> {
    match strict_json::parse(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(ProofFault::Malformed),
    }
}
