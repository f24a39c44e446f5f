use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair,
};
use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_700_000_000;
const TOKEN: &str = "header.claims.signature";
const PATH: &str = "/cms/configuration/voice/campaignLeadUserMapping";
const URL: &str = "https://gateway.example.com/cms/configuration/voice/campaignLeadUserMapping";

/// Somebody who has a key.
struct Sender {
    algorithm: Algorithm,
    name: &'static str,
    key: EncodingKey,
    jwk: Value,
}

impl Sender {
    fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        Self {
            algorithm: Algorithm::ES256,
            name: "ES256",
            key: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}),
        }
    }

    fn es384() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
        Self {
            algorithm: Algorithm::ES384,
            name: "ES384",
            key: EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-384", "x": encode(x), "y": encode(y)}),
        }
    }

    fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            name: "EdDSA",
            key: EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref()),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())}),
        }
    }

    fn rsa(algorithm: Algorithm, name: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let number = pair.public_key();
        Self {
            algorithm,
            name,
            // The key within PKCS#8 begins at byte 26.
            key: EncodingKey::from_rsa_der(&private.as_ref()[26..]),
            jwk: json!({
                "kty": "RSA",
                "n": encode(number.modulus().big_endian_without_leading_zero()),
                "e": encode(number.exponent().big_endian_without_leading_zero()),
            }),
        }
    }

    fn thumbprint(&self) -> String {
        key::ProofKey::of(&self.jwk, self.algorithm).unwrap().thumbprint
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.name, "jwk": self.jwk})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signed.unwrap())
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims(identifier: &str) -> Value {
    let hash = encode(digest(&SHA256, TOKEN.as_bytes()));
    json!({"htm": "PUT", "htu": URL, "iat": NOW, "jti": identifier, "ath": hash})
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn settings() -> config::Dpop {
    config::Dpop {
        origin: config::Origin::of(&"https://Gateway.example.com:443".parse().unwrap()).unwrap(),
        lifetime: Duration::from_secs(60),
        nonce_key: None,
        replay_capacity: 1000,
    }
}

fn dpop() -> Dpop {
    Dpop::new(&settings()).unwrap()
}

fn headers(proofs: &[&str]) -> HeaderMap {
    let value = |proof: &&str| HeaderValue::from_bytes(proof.as_bytes()).unwrap();
    proofs.iter().map(|proof| (HeaderName::from_static("dpop"), value(proof))).collect()
}

fn check(dpop: &Dpop, proofs: &[&str], sender: &Sender, now: SystemTime) -> Result<(), ProofFault> {
    let (headers, thumbprint) = (headers(proofs), sender.thumbprint());
    let proof = Proof {
        caller: "caller",
        headers: &headers,
        method: &Method::PUT,
        path: PATH,
        token: TOKEN,
        thumbprint: &thumbprint,
    };
    dpop.check(proof, now)
}

#[test]
fn a_good_proof_of_each_algorithm_is_accepted_once() {
    let rsa = [
        (Algorithm::RS256, "RS256"),
        (Algorithm::RS384, "RS384"),
        (Algorithm::RS512, "RS512"),
        (Algorithm::PS256, "PS256"),
        (Algorithm::PS384, "PS384"),
        (Algorithm::PS512, "PS512"),
    ];
    let mut senders = vec![Sender::es256(), Sender::es384(), Sender::eddsa()];
    senders.extend(rsa.map(|(algorithm, name)| Sender::rsa(algorithm, name)));
    let dpop = dpop();
    for sender in senders {
        let proof = sender.sign(&sender.header(), &claims("the same of all"));
        assert_eq!(check(&dpop, &[&proof], &sender, at(NOW)), Ok(()), "{}", sender.name);
        let again = check(&dpop, &[&proof], &sender, at(NOW + 1));
        assert_eq!(again, Err(ProofFault::Replayed), "{}", sender.name);
        let mut other = claims("the same of all");
        other["iat"] = json!(NOW + 1);
        let signed_anew = sender.sign(&sender.header(), &other);
        let again = check(&dpop, &[&signed_anew], &sender, at(NOW + 1));
        assert_eq!(again, Err(ProofFault::Replayed), "{}", sender.name);
    }
}

/// RFC 9449, section 7.1.
#[test]
fn the_example_of_the_standard_is_accepted() {
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let mut settings = settings();
    settings.origin = config::Origin::of(&"https://resource.example.org".parse().unwrap()).unwrap();
    let headers = headers(&[proof]);
    let proof = Proof {
        caller: "caller",
        headers: &headers,
        method: &Method::GET,
        path: "/protectedresource",
        token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        thumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
    };
    assert_eq!(Dpop::new(&settings).unwrap().check(proof, at(1_562_262_620)), Ok(()));
}

type Change = fn(&mut Value, &mut Value);

/// Well signed, with one thing changed before.
const SIGNED: &[(&str, Change, ProofFault)] = &[
    ("no typ", |header, _| drop(remove(header, "typ")), ProofFault::Type),
    ("typ of a token", |header, _| header["typ"] = json!("at+jwt"), ProofFault::Type),
    ("typ in capitals", |header, _| header["typ"] = json!("DPoP+JWT"), ProofFault::Type),
    ("typ with a prefix", |it, _| it["typ"] = json!("application/dpop+jwt"), ProofFault::Type),
    ("typ no text", |header, _| header["typ"] = json!(["dpop+jwt"]), ProofFault::Type),
    ("no alg", |header, _| drop(remove(header, "alg")), ProofFault::Algorithm),
    ("none", |header, _| header["alg"] = json!("none"), ProofFault::Algorithm),
    ("None", |header, _| header["alg"] = json!("None"), ProofFault::Algorithm),
    ("HS256", |header, _| header["alg"] = json!("HS256"), ProofFault::Algorithm),
    ("HS384", |header, _| header["alg"] = json!("HS384"), ProofFault::Algorithm),
    ("HS512", |header, _| header["alg"] = json!("HS512"), ProofFault::Algorithm),
    ("es256", |header, _| header["alg"] = json!("es256"), ProofFault::Algorithm),
    ("ES512", |header, _| header["alg"] = json!("ES512"), ProofFault::Algorithm),
    ("alg no text", |header, _| header["alg"] = json!(256), ProofFault::Algorithm),
    ("empty crit", |header, _| header["crit"] = json!([]), ProofFault::Critical),
    ("crit", |header, _| header["crit"] = json!(["exp"]), ProofFault::Critical),
    ("b64", |header, _| header["b64"] = json!(false), ProofFault::Critical),
    ("b64 true", |header, _| header["b64"] = json!(true), ProofFault::Critical),
    ("no jwk", |header, _| drop(remove(header, "jwk")), ProofFault::Key),
    ("jwk no object", |header, _| header["jwk"] = json!("key"), ProofFault::Key),
    ("jwk a set", |it, _| it["jwk"] = json!({"keys": [it["jwk"]]}), ProofFault::Key),
    ("private", |header, _| header["jwk"]["d"] = json!("AA"), ProofFault::PrivateKey),
    ("private null", |header, _| header["jwk"]["d"] = json!(null), ProofFault::PrivateKey),
    ("prime p", |header, _| header["jwk"]["p"] = json!("AA"), ProofFault::PrivateKey),
    ("prime q", |header, _| header["jwk"]["q"] = json!("AA"), ProofFault::PrivateKey),
    ("exponent dp", |header, _| header["jwk"]["dp"] = json!("AA"), ProofFault::PrivateKey),
    ("exponent dq", |header, _| header["jwk"]["dq"] = json!("AA"), ProofFault::PrivateKey),
    ("coefficient", |header, _| header["jwk"]["qi"] = json!("AA"), ProofFault::PrivateKey),
    ("other primes", |header, _| header["jwk"]["oth"] = json!([]), ProofFault::PrivateKey),
    ("symmetric", |it, _| it["jwk"] = json!({"kty": "oct", "k": "AA"}), ProofFault::PrivateKey),
    ("no kty", |header, _| drop(remove(&mut header["jwk"], "kty")), ProofFault::Key),
    ("other kty", |header, _| header["jwk"]["kty"] = json!("OKP"), ProofFault::Key),
    ("other curve", |header, _| header["jwk"]["crv"] = json!("P-384"), ProofFault::Key),
    ("curve of Bitcoin", |header, _| header["jwk"]["crv"] = json!("secp256k1"), ProofFault::Key),
    ("alg of another curve", |header, _| header["alg"] = json!("ES384"), ProofFault::Key),
    ("alg of another kind", |header, _| header["alg"] = json!("RS256"), ProofFault::Key),
    ("alg of an OKP", |header, _| header["alg"] = json!("EdDSA"), ProofFault::Key),
    ("no y", |header, _| drop(remove(&mut header["jwk"], "y")), ProofFault::Key),
    ("short x", |header, _| header["jwk"]["x"] = json!("AAAA"), ProofFault::Key),
    ("x in padded base64", |it, _| append(&mut it["jwk"]["x"], "="), ProofFault::Key),
    ("x a byte longer", |it, _| append(&mut it["jwk"]["x"], "A"), ProofFault::Key),
    ("for encryption", |header, _| header["jwk"]["use"] = json!("enc"), ProofFault::Key),
    ("for signing", |header, _| header["jwk"]["key_ops"] = json!(["sign"]), ProofFault::Key),
    ("for another alg", |header, _| header["jwk"]["alg"] = json!("ES384"), ProofFault::Key),
    ("short RSA", |header, _| *header = rsa(&[0xff; 255], &[1, 0, 1]), ProofFault::Key),
    ("RSA of zeros", |header, _| *header = rsa(&[0; 256], &[1, 0, 1]), ProofFault::Key),
    ("RSA after a zero", |it, _| *it = rsa(&after_zero(&[0xff; 256]), &[1, 0, 1]), ProofFault::Key),
    ("RSA, exponent 1", |header, _| *header = rsa(&[0xff; 256], &[1]), ProofFault::Key),
    ("RSA, no exponent", |header, _| *header = rsa(&[0xff; 256], &[]), ProofFault::Key),
    ("other key", |it, _| it["jwk"] = Sender::es256().jwk, ProofFault::OtherKey),
    ("other RSA key", |it, _| *it = rsa(&[0xff; 256], &[1, 0, 1]), ProofFault::OtherKey),
    ("no htm", |_, claims| drop(remove(claims, "htm")), ProofFault::Method),
    ("other method", |_, claims| claims["htm"] = json!("GET"), ProofFault::Method),
    ("small letters", |_, claims| claims["htm"] = json!("put"), ProofFault::Method),
    ("htm no text", |_, claims| claims["htm"] = json!(["PUT"]), ProofFault::Method),
    ("no htu", |_, claims| drop(remove(claims, "htu")), ProofFault::Target),
    ("htu no text", |_, claims| claims["htu"] = json!([URL]), ProofFault::Target),
    ("htu a path", |_, claims| claims["htu"] = json!(PATH), ProofFault::Target),
    ("htu no URL", |_, claims| claims["htu"] = json!("https://"), ProofFault::Target),
    ("htu empty", |_, claims| claims["htu"] = json!(""), ProofFault::Target),
    ("http", |_, it| replace(it, "https:", "http:"), ProofFault::Target),
    ("other host", |_, it| replace(it, "gateway.", "evil."), ProofFault::Target),
    ("longer host", |_, it| replace(it, ".com", ".com.example.net"), ProofFault::Target),
    ("dot after the host", |_, it| replace(it, ".com", ".com."), ProofFault::Target),
    ("other port", |_, it| replace(it, ".com", ".com:8443"), ProofFault::Target),
    ("port too large", |_, it| replace(it, ".com", ".com:65979"), ProofFault::Target),
    ("user name", |_, it| replace(it, "gateway.", "user@gateway."), ProofFault::Target),
    ("empty user name", |_, it| replace(it, "gateway.", "@gateway."), ProofFault::Target),
    ("host as user", |_, it| replace(it, ".com", ".com@evil.example.net"), ProofFault::Target),
    ("other path", |_, it| replace(it, "/voice/", "/chat/"), ProofFault::Target),
    ("longer path", |_, it| append(&mut it["htu"], "/"), ProofFault::Target),
    ("no path", |_, it| it["htu"] = json!("https://gateway.example.com"), ProofFault::Target),
    ("escaped path", |_, it| replace(it, "/voice/", "/%76oice/"), ProofFault::Target),
    ("dotted path", |_, it| replace(it, "/voice/", "/x/../voice/"), ProofFault::Target),
    ("path in capitals", |_, it| replace(it, "/cms/", "/CMS/"), ProofFault::Target),
    ("double slash", |_, it| replace(it, ".com/", ".com//"), ProofFault::Target),
    ("space", |_, it| append(&mut it["htu"], " "), ProofFault::Target),
    ("no ath", |_, claims| drop(remove(claims, "ath")), ProofFault::TokenHash),
    ("ath no text", |_, claims| claims["ath"] = json!(1), ProofFault::TokenHash),
    ("ath empty", |_, claims| claims["ath"] = json!(""), ProofFault::TokenHash),
    ("ath padded", |_, it| append(&mut it["ath"], "="), ProofFault::TokenHash),
    ("ath longer", |_, it| append(&mut it["ath"], "A"), ProofFault::TokenHash),
    (
        "other token",
        |_, it| it["ath"] = json!(encode(digest(&SHA256, b"x"))),
        ProofFault::TokenHash,
    ),
    ("no jti", |_, claims| drop(remove(claims, "jti")), ProofFault::Identifier),
    ("jti empty", |_, claims| claims["jti"] = json!(""), ProofFault::Identifier),
    ("jti no text", |_, claims| claims["jti"] = json!(7), ProofFault::Identifier),
    ("jti too long", |_, it| it["jti"] = json!("x".repeat(257)), ProofFault::Identifier),
    ("no iat", |_, claims| drop(remove(claims, "iat")), ProofFault::IssueTime),
    ("iat a text", |_, claims| claims["iat"] = json!(NOW.to_string()), ProofFault::IssueTime),
    ("iat a float", |_, claims| claims["iat"] = json!(NOW as f64), ProofFault::IssueTime),
    ("iat negative", |_, claims| claims["iat"] = json!(-1), ProofFault::IssueTime),
    ("iat null", |_, claims| claims["iat"] = json!(null), ProofFault::IssueTime),
    ("iat absurd", |_, claims| claims["iat"] = json!(u64::MAX), ProofFault::IssueTime),
    ("iat in milliseconds", |_, it| it["iat"] = json!(NOW * 1000), ProofFault::IssueTime),
    ("iat zero", |_, claims| claims["iat"] = json!(0), ProofFault::Expired),
    ("too old", |_, claims| claims["iat"] = json!(NOW - 61), ProofFault::Expired),
    ("to come", |_, claims| claims["iat"] = json!(NOW + 6), ProofFault::NotYetValid),
];

#[test]
fn each_bad_proof_is_refused_for_its_own_reason() {
    let (dpop, sender) = (dpop(), Sender::es256());
    for (what, change, fault) in SIGNED {
        let (mut header, mut claims) = (sender.header(), claims(what));
        change(&mut header, &mut claims);
        let proof = sender.sign(&header, &claims);
        assert_eq!(check(&dpop, &[&proof], &sender, at(NOW)), Err(*fault), "{what}");
    }
}

#[test]
fn a_proof_has_one_spelling() {
    let (dpop, sender) = (dpop(), Sender::es256());
    let good = sender.sign(&sender.header(), &claims("1"));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let is_signature = |bytes: &[u8]| format!("{header}.{payload}.{}", encode(bytes));
    let last = if signature.ends_with('A') { "B" } else { "A" };
    let twice = |text: &str| text.replacen('{', r#"{"alg":"ES256","#, 1);
    let header_text = sender.header().to_string();
    let claims_text = claims("1").to_string();
    for (what, proofs, fault) in [
        ("none", vec![], ProofFault::Missing),
        ("two", vec![good.clone(), good.clone()], ProofFault::TwoHeaders),
        ("two in one", vec![format!("{good}, {good}")], ProofFault::Malformed),
        ("empty", vec![String::new()], ProofFault::Malformed),
        ("large", vec!["x".repeat(8193)], ProofFault::TooLarge),
        ("not so large", vec!["x".repeat(8192)], ProofFault::Malformed),
        ("not ASCII", vec![format!("{good}ä")], ProofFault::Malformed),
        ("two parts", vec![format!("{header}.{payload}")], ProofFault::Malformed),
        ("four parts", vec![format!("{good}.")], ProofFault::Malformed),
        ("five parts", vec![format!("{good}.a.b")], ProofFault::Malformed),
        ("a part before", vec![format!(".{good}")], ProofFault::Malformed),
        ("space before", vec![format!("x {good}")], ProofFault::Malformed),
        ("padding", vec![format!("{good}==")], ProofFault::Malformed),
        ("bits left over", vec![spare_bits(&good)], ProofFault::Malformed),
        ("other alphabet", vec![format!("{header}+.{payload}.{signature}")], ProofFault::Malformed),
        ("no JSON", vec![sender.sign_text("{", "{}")], ProofFault::Malformed),
        ("a list", vec![sender.sign_text("[]", "{}")], ProofFault::Malformed),
        (
            "a mark",
            vec![sender.sign_text(&format!("\u{feff}{header_text}"), "{}")],
            ProofFault::Malformed,
        ),
        (
            "header twice",
            vec![sender.sign_text(&twice(&header_text), &claims_text)],
            ProofFault::Malformed,
        ),
        ("claims no JSON", vec![sender.sign_text(&header_text, "x")], ProofFault::Malformed),
        ("claims a list", vec![sender.sign_text(&header_text, "[]")], ProofFault::Malformed),
        (
            "claims twice",
            vec![sender.sign_text(&header_text, &claims_text.replacen('{', r#"{"jti":"2","#, 1))],
            ProofFault::Malformed,
        ),
        (
            "jwk's members twice",
            vec![sender.sign_text(&header_text.replace(r#"{"kty""#, r#"{"x":"AA","kty""#), "{}")],
            ProofFault::Malformed,
        ),
        ("no signature", vec![format!("{header}.{payload}.")], ProofFault::Signature),
        ("zeros", vec![is_signature(&[0; 64])], ProofFault::Signature),
        ("short", vec![is_signature(&[1; 63])], ProofFault::Signature),
        ("DER", vec![is_signature(&[0x30, 6, 2, 1, 1, 2, 1, 1])], ProofFault::Signature),
        (
            "altered claims",
            vec![format!("{header}.{}.{signature}", encode(claims("2").to_string()))],
            ProofFault::Signature,
        ),
        (
            "altered signature",
            vec![format!("{header}.{payload}.{last}{}", &signature[1..])],
            ProofFault::Signature,
        ),
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        assert_eq!(check(&dpop, &proofs, &sender, at(NOW)), Err(fault), "{what}");
    }
    assert_eq!(check(&dpop, &[&good], &sender, at(NOW)), Ok(()), "nothing of it was remembered");
}

#[test]
fn a_symmetric_key_made_of_the_public_one_signs_nothing() {
    let (dpop, sender) = (dpop(), Sender::es256());
    let mut header = sender.header();
    header["alg"] = json!("HS256");
    let message = format!("{}.{}", encode(header.to_string()), encode(claims("1").to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, sender.jwk.to_string().as_bytes());
    let proof = format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes())));
    assert_eq!(check(&dpop, &[&proof], &sender, at(NOW)), Err(ProofFault::Algorithm));
}

#[test]
fn the_url_may_be_spelt_in_each_way_that_means_the_same() {
    let (dpop, sender) = (dpop(), Sender::es256());
    for url in [
        URL.to_owned(),
        format!("{URL}?query"),
        format!("{URL}#fragment"),
        format!("{URL}?query#fragment"),
        URL.replace(".com", ".com:443"),
        URL.replace(".com", ".com:"),
        URL.replace("https://gateway.example", "HTTPS://GATEWAY.Example"),
    ] {
        let mut claims = claims(&url);
        claims["htu"] = json!(url);
        let proof = sender.sign(&sender.header(), &claims);
        assert_eq!(check(&dpop, &[&proof], &sender, at(NOW)), Ok(()), "{url}");
    }
}

#[test]
fn a_proof_is_accepted_from_a_little_before_its_time_to_the_end_of_its_lifetime() {
    let sender = Sender::es256();
    let proof = sender.sign(&sender.header(), &claims("1"));
    for (now, expected) in [
        (at(NOW - 6), Err(ProofFault::NotYetValid)),
        (at(NOW - 5) - Duration::from_millis(1), Err(ProofFault::NotYetValid)),
        (at(NOW - 5), Ok(())),
        (at(NOW + 60), Ok(())),
        (at(NOW + 60) + Duration::from_millis(1), Err(ProofFault::Expired)),
    ] {
        assert_eq!(check(&dpop(), &[&proof], &sender, now), expected, "{now:?}");
    }
}

#[test]
fn a_nonce_is_asked_for_where_there_is_a_key() {
    let mut settings = settings();
    settings.nonce_key = Some(hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]));
    let (dpop, replica) = (Dpop::new(&settings).unwrap(), Dpop::new(&settings).unwrap());
    assert_eq!(self::dpop().nonce(at(NOW)), None);
    let sender = Sender::es256();
    let nonces = [
        (json!(replica.nonce(at(NOW))), Ok(())),
        (json!(replica.nonce(at(NOW - 60))), Ok(())),
        (json!(replica.nonce(at(NOW - 120))), Err(ProofFault::Nonce)),
        (json!(replica.nonce(at(NOW + 60))), Err(ProofFault::Nonce)),
        (json!(null), Err(ProofFault::Nonce)),
        (json!(""), Err(ProofFault::Nonce)),
        (json!([replica.nonce(at(NOW))]), Err(ProofFault::Nonce)),
    ];
    for (nonce, expected) in nonces {
        let mut claims = claims(&nonce.to_string());
        claims["nonce"] = nonce.clone();
        let proof = sender.sign(&sender.header(), &claims);
        assert_eq!(check(&dpop, &[&proof], &sender, at(NOW)), expected, "{nonce}");
    }
    let without = sender.sign(&sender.header(), &claims("without"));
    assert_eq!(check(&dpop, &[&without], &sender, at(NOW)), Err(ProofFault::Nonce));
}

#[test]
fn labels_are_one_for_each_fault() {
    let mut labels: Vec<_> = ProofFault::ALL.iter().map(|fault| fault.label()).collect();
    assert!(labels.iter().all(|label| label.starts_with("dpop_")));
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), ProofFault::ALL.len());
}

fn remove(object: &mut Value, name: &str) -> Option<Value> {
    object.as_object_mut().unwrap().remove(name)
}

fn append(text: &mut Value, more: &str) {
    *text = json!(format!("{}{more}", text.as_str().unwrap()));
}

fn replace(claims: &mut Value, from: &str, to: &str) {
    claims["htu"] = json!(claims["htu"].as_str().unwrap().replacen(from, to, 1));
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Value {
    let jwk = json!({"kty": "RSA", "n": encode(modulus), "e": encode(exponent)});
    json!({"typ": "dpop+jwt", "alg": "RS256", "jwk": jwk})
}

fn after_zero(number: &[u8]) -> Vec<u8> {
    [&[0], number].concat()
}

/// The same signature, if the bits that its last letter has too many were not looked at.
fn spare_bits(proof: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = proof.split_at(proof.len() - 1);
    let index = ALPHABET.find(last).unwrap();
    format!("{rest}{}", &ALPHABET[index + 1..index + 2])
}
