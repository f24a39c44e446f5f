//! Signatures that nobody made, or that somebody made of something else.

use super::forge::{Forge, HEADER, changed, decode, encode, good, hostile, token};
use super::row::{Row, refused, served};

/// The order of P-256 (FIPS 186-5, SP 800-186 section 3.2.1.3).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// The order of Ed25519's group, least byte first (RFC 8032, section 5.1).
const ORDER_25519: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub fn rows(forge: &Forge) -> Vec<Row> {
    let mut rows = psychic();
    rows.extend(malleable(forge));
    rows.extend(of_other_lengths(forge));
    rows.extend(of_something_else(forge));
    rows
}

/// A verifier that does not look at the range of r and s takes these for any message
/// (CVE-2022-21449).
fn psychic() -> Vec<Row> {
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let mut rows = Vec::new();
    for (name, r, s) in [
        ("r and s zero", zero, zero),
        ("r zero", zero, one),
        ("s zero", one, zero),
        ("r and s one", one, one),
        ("r the order", ORDER, one),
        ("s the order", one, ORDER),
        ("r and s the order", ORDER, ORDER),
        ("r and s the largest numbers", [0xff; 32], [0xff; 32]),
    ] {
        let psychic = token(HEADER, hostile().to_string(), |_| [r, s].concat());
        rows.push(refused(name, psychic, "signature"));
    }
    for (algorithm, kid, length) in
        [("RS256", "rsa", 256), ("PS256", "rsa", 256), ("EdDSA", "eddsa", 64)]
    {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        let zeros = token(header, hostile().to_string(), |_| vec![0; length]);
        rows.push(refused(format!("{algorithm}, zeros"), zeros, "signature"));
    }
    rows
}

/// Of each ECDSA signature (r, s), (r, n - s) is one too, which anybody can reckon. It is taken, as
/// FIPS 186-5 says: it proves the same of the same header and claims. Nothing here takes a token
/// for another one by its bytes: revocation and replays go by claims, the cache holds what each
/// spelling proves, and a DPoP proof names the spelling that it is for.
fn malleable(forge: &Forge) -> Vec<Row> {
    let other = |message: &[u8]| {
        let signature = forge.es256(message);
        let (r, s) = signature.split_at(32);
        [r, &difference(&ORDER, s)].concat()
    };
    let above = |message: &[u8]| {
        let signature = forge.eddsa(message);
        let (r, s) = signature.split_at(32);
        [r, &sum_from_the_least(s, &ORDER_25519)].concat()
    };
    let negative = |message: &[u8]| {
        let signature = forge.es256(message);
        let (r, s) = signature.split_at(32);
        [&difference(&ORDER, r), s].concat()
    };
    let eddsa = r#"{"alg":"EdDSA","kid":"eddsa"}"#;
    vec![
        served("s replaced by n - s", token(HEADER, good().to_string(), other)),
        refused("r replaced by n - r", token(HEADER, hostile().to_string(), negative), "signature"),
        // RFC 8032, section 5.1.7: s must be below the order, so EdDSA has one spelling.
        refused("EdDSA, s plus the order", token(eddsa, hostile().to_string(), above), "signature"),
    ]
}

fn of_other_lengths(forge: &Forge) -> Vec<Row> {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let changes: [(&str, Change); 7] = [
        ("empty", |_| Vec::new()),
        ("one byte", |it| it[..1].to_vec()),
        ("cut by one byte", |it| it[..it.len() - 1].to_vec()),
        ("half", |it| it[..it.len() / 2].to_vec()),
        ("with a byte behind it", |it| [&it[..], &[0]].concat()),
        ("with a byte before it", |it| [&[0], &it[..]].concat()),
        ("twice", |it| [&it[..], &it[..]].concat()),
    ];
    let mut rows = Vec::new();
    for (name, change) in changes {
        let claims = hostile().to_string();
        let es256 = token(HEADER, &claims, |it| change(forge.es256(it)));
        rows.push(refused(format!("ES256, signature {name}"), es256, "signature"));
        let rs256 = r#"{"alg":"RS256","kid":"rsa"}"#;
        let rs256 = token(rs256, &claims, |it| change(forge.rs256(it)));
        rows.push(refused(format!("RS256, signature {name}"), rs256, "signature"));
        let eddsa = r#"{"alg":"EdDSA","kid":"eddsa"}"#;
        let eddsa = token(eddsa, &claims, |it| change(forge.eddsa(it)));
        rows.push(refused(format!("EdDSA, signature {name}"), eddsa, "signature"));
    }
    let der = token(HEADER, hostile().to_string(), |it| forge.es256_der(it));
    rows.push(refused("ES256, DER", der, "signature"));
    let long = token(HEADER, hostile().to_string(), |_| vec![1; 5000]);
    rows.push(refused("ES256, 5,000 bytes", long, "signature"));
    rows
}

fn of_something_else(forge: &Forge) -> Vec<Row> {
    let claims = hostile().to_string();
    let one = forge.with_claims(&claims);
    let two = forge.with_claims(changed(hostile(), "jti", "hostile-other").to_string());
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (one, two) = (parts(&one), parts(&two));
    let promoted = changed(hostile(), "roles", vec!["campaign-supervisor", "hostile-role"]);
    let (mut reversed, mut bit) = (decode(&one[2]), decode(&one[2]));
    reversed.reverse();
    bit[63] ^= 1;
    let joined =
        |header: &str, claims: &str, signature: &str| format!("{header}.{claims}.{signature}");
    vec![
        refused("the signature of another token", joined(&one[0], &one[1], &two[2]), "signature"),
        refused("the claims of another token", joined(&one[0], &two[1], &one[2]), "signature"),
        refused(
            "claims changed afterwards",
            joined(&one[0], &encode(promoted.to_string()), &one[2]),
            "signature",
        ),
        refused(
            "a space more in the claims",
            joined(&one[0], &encode(format!("{claims} ")), &one[2]),
            "signature",
        ),
        refused(
            "a space more in the header",
            joined(&encode(format!("{HEADER} ")), &one[1], &one[2]),
            "signature",
        ),
        refused("a bit of it", joined(&one[0], &one[1], &encode(bit)), "signature"),
        refused("backwards", joined(&one[0], &one[1], &encode(reversed)), "signature"),
        refused("by a stranger", token(HEADER, &claims, |it| forge.strangely(it)), "signature"),
        refused(
            "of the claims alone",
            token(HEADER, &claims, |_| forge.es256(claims.as_bytes())),
            "signature",
        ),
    ]
}

/// Of numbers of 32 bytes, the greatest first; the second is the smaller one.
fn difference(from: &[u8], subtracted: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = from
        .iter()
        .zip(subtracted)
        .rev()
        .map(|(a, b)| {
            let digit = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(digit < 0);
            digit.rem_euclid(256) as u8
        })
        .collect();
    digits.reverse();
    digits
}

/// Of numbers of 32 bytes, the least first.
fn sum_from_the_least(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            let digit = u16::from(*a) + u16::from(*b) + carry;
            carry = digit >> 8;
            (digit & 0xff) as u8
        })
        .collect()
}
