//! The signature algorithms that can be accepted: asymmetric ones alone (RFC 8725, section 3.1).

use jsonwebtoken::Algorithm;

/// What may be accepted, as the configuration and the messages list it.
pub const ACCEPTABLE: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// An algorithm by its name (RFC 7518, section 3.1; RFC 8037, section 3.1).
///
/// `Ed25519` is RFC 9864's newer name for what `EdDSA` means here, since no other curve of it is
/// accepted.
#[must_use]
pub fn named(name: &str) -> Option<Algorithm> {
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    ACCEPTABLE.iter().find(|(own, _)| *own == name).map(|(_, algorithm)| *algorithm)
}

/// The name of an algorithm that may be accepted.
#[must_use]
pub fn name(algorithm: Algorithm) -> &'static str {
    ACCEPTABLE.iter().find(|(_, own)| *own == algorithm).map_or("none", |(name, _)| name)
}
