//! The public key that a proof brings with it (RFC 7517), and its name (RFC 7638).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::ProofFault;
use crate::identity::algorithm;

/// The members that only a private or a symmetric key has (RFC 7518, section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The fewest bits of an RSA modulus (RFC 7518, section 3.3).
const SHORTEST_MODULUS: usize = 2048;

/// A public key that goes with a proof's algorithm.
#[derive(Debug)]
pub(super) struct ProofKey {
    /// RFC 7638 with SHA-256, in base64url.
    pub(super) thumbprint: String,
    pub(super) decoding: DecodingKey,
}

impl ProofKey {
    /// Numbers are taken in their one canonical form alone, so that a key has one thumbprint.
    pub(super) fn of(jwk: &Value, algorithm: Algorithm) -> Result<Self, ProofFault> {
        let members = jwk.as_object().ok_or(ProofFault::Key)?;
        if PRIVATE.iter().any(|name| members.contains_key(*name)) {
            return Err(ProofFault::PrivateKey);
        }
        if !fits(members, algorithm) {
            return Err(ProofFault::Key);
        }
        let jwk: Jwk = serde_json::from_value(jwk.clone()).map_err(|_| ProofFault::Key)?;
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| ProofFault::Key)?;
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| ProofFault::Key)?;
        Ok(Self { thumbprint, decoding })
    }
}

/// Whether the key is of the kind, the curve and the size that go with the algorithm, and not
/// meant for something else.
fn fits(jwk: &Map<String, Value>, expected: Algorithm) -> bool {
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let bytes = |name| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let has = |name, length| bytes(name).is_some_and(|bytes| bytes.len() == length);
    let is = |kind, curve| text("kty") == Some(kind) && text("crv") == Some(curve);

    let is_of_kind = match expected {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            text("kty") == Some("RSA")
                && bytes("n").is_some_and(|modulus| bits(&modulus) >= SHORTEST_MODULUS)
                && bytes("e").is_some_and(|exponent| bits(&exponent) > 1)
        }
        Algorithm::ES256 => is("EC", "P-256") && has("x", 32) && has("y", 32),
        Algorithm::ES384 => is("EC", "P-384") && has("x", 48) && has("y", 48),
        Algorithm::EdDSA => is("OKP", "Ed25519") && has("x", 32),
        // Symmetric ones, and what a later version of the crate may know.
        _ => false,
    };
    is_of_kind
        && jwk.get("use").is_none_or(|purpose| purpose == "sig")
        && jwk.get("key_ops").is_none_or(|allowed| {
            allowed.as_array().is_some_and(|allowed| allowed.iter().any(|one| one == "verify"))
        })
        && jwk
            .get("alg")
            .is_none_or(|own| own.as_str().and_then(algorithm::named) == Some(expected))
}

/// The length of a number; none of one that begins with zeros (RFC 7518, section 2).
fn bits(number: &[u8]) -> usize {
    match number.first() {
        None | Some(0) => 0,
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn thumbprint(jwk: &Value, algorithm: Algorithm) -> String {
        ProofKey::of(jwk, algorithm).unwrap().thumbprint
    }

    /// RFC 7638, section 3.1.
    #[test]
    fn an_rsa_key_has_the_thumbprint_of_rfc_7638() {
        let key = json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        });
        let expected = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(thumbprint(&key, Algorithm::RS256), expected);
    }

    /// RFC 9449, sections 4.1 and 6.1.
    #[test]
    fn an_elliptic_curve_key_has_the_thumbprint_of_rfc_9449_in_any_order() {
        let (x, y) = (
            "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        );
        let expected = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
        let one = json!({"kty": "EC", "x": x, "y": y, "crv": "P-256"});
        let other = json!({"y": y, "kid": "1", "crv": "P-256", "use": "sig", "x": x, "kty": "EC"});
        assert_eq!(thumbprint(&one, Algorithm::ES256), expected);
        assert_eq!(thumbprint(&other, Algorithm::ES256), expected);
    }

    /// RFC 8037, appendix A.3.
    #[test]
    fn an_edwards_key_has_the_thumbprint_of_rfc_8037() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        let expected = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        assert_eq!(thumbprint(&key, Algorithm::EdDSA), expected);
    }
}
