//! Keys that sign tokens, and their public halves as JSON Web Keys (RFC 7517).

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::Failed;

/// A key that signs tokens.
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    id: String,
    private: EncodingKey,
    public: Value,
}

impl SigningKey {
    /// A new key on P-256, for ES256.
    pub(crate) fn es256(id: &str) -> Result<Self, Failed> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(Failed::of)?;
        let private = pair.to_pkcs8v1().map_err(Failed::of)?;
        // An uncompressed point: 4, x, y.
        let point = pair.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
        Ok(Self {
            algorithm: Algorithm::ES256,
            id: id.to_owned(),
            private: EncodingKey::from_ec_der(private.as_ref()),
            public: json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                "x": encode(x), "y": encode(y)}),
        })
    }

    /// A new RSA key of 2,048 bits, for RS256.
    pub(crate) fn rs256(id: &str) -> Result<Self, Failed> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(Failed::of)?;
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(Failed::of)?;
        let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let exponent = pair.public_key().exponent().big_endian_without_leading_zero().to_vec();
        Ok(Self {
            algorithm: Algorithm::RS256,
            id: id.to_owned(),
            private: EncodingKey::from_rsa_der(&pkcs1(private.as_ref())),
            public: json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256",
                "n": encode(&modulus), "e": encode(&exponent)}),
        })
    }

    /// A new key on Ed25519, for EdDSA (RFC 8037).
    pub(crate) fn eddsa(id: &str) -> Result<Self, Failed> {
        let pair = Ed25519KeyPair::generate().map_err(Failed::of)?;
        let private = pair.to_pkcs8().map_err(Failed::of)?;
        Ok(Self {
            algorithm: Algorithm::EdDSA,
            id: id.to_owned(),
            private: EncodingKey::from_ed_der(private.as_ref()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "alg": "EdDSA",
                "x": encode(pair.public_key().as_ref())}),
        })
    }

    /// Its public half, as it stands in a key set.
    pub(crate) fn public(&self) -> &Value {
        &self.public
    }

    /// Signs these claims as they are.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Failed> {
        self.sign_under(&self.header(), claims)
    }

    /// The header of its tokens.
    pub(crate) fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        header
    }

    /// Signs these claims as they are, under a header that need not be its own.
    pub(crate) fn sign_under(&self, header: &Header, claims: &Value) -> Result<String, Failed> {
        jsonwebtoken::encode(header, claims, &self.private).map_err(Failed::of)
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The RSA key within a PKCS#8 document, which is what `jsonwebtoken` signs with: the last of its
/// parts, from the second `SEQUENCE` of some length on (RFC 5208, section 5).
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    // 30 82 .. .. | 02 01 00 | 30 0d <13 bytes> | 04 82 .. .. | the key
    pkcs8.get(4 + 3 + 15 + 4..).unwrap_or_default().to_vec()
}
