//! A token, rule by rule: for the developer whose token is refused, and for nobody on the network.
//!
//! Each finding comes from the function that decides for a request too, so that what is shown here
//! is what happens there. What a request alone can show, its sender, is left open.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::claims::{Claims, RULES};
use super::issuer::{Source, TrustedIssuer};
use super::keys::KeyStore;
use super::principal::Verified;
use super::token::UnverifiedToken;
use super::{Form, Identity, Refusal, algorithm, authorization};
use crate::config::TokenType;

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// Whether it is kept; nothing where it could not be applied.
    pub kept: Option<Result<(), Refusal>>,
    /// What the token says, and what would be right where it is wrong.
    pub detail: String,
}

/// The rules in the order in which they are applied.
struct Findings(Vec<Finding>);

impl Findings {
    fn note(
        &mut self,
        rule: &'static str,
        kept: Result<(), Refusal>,
        detail: impl Display,
    ) -> Result<(), Refusal> {
        self.0.push(Finding { rule, kept: Some(kept), detail: detail.to_string() });
        kept
    }

    fn leave_open(&mut self, rule: &'static str, detail: &str) {
        self.0.push(Finding { rule, kept: None, detail: detail.to_owned() });
    }
}

impl Identity {
    /// Applies every rule to a token, as far as the ones before let it.
    pub async fn inspect(&self, token: &str, now: SystemTime) -> Vec<Finding> {
        let mut findings = Findings(Vec::new());
        let size = format!("{} bytes, at most 8192 of a token's alphabet", token.len());
        if findings.note("form", authorization::check(token), size).is_err() {
            return findings.0;
        }
        match self.form(token) {
            Ok(Form::Jwt(jwt)) => {
                let _ = findings.note("jwt", Ok(()), "header and claims are read");
                self.inspect_jwt(token, &jwt, now, &mut findings).await;
            }
            Ok(Form::Opaque(issuer)) => {
                let detail = format!("not a JWT, so {} is asked about it", issuer.settings.issuer);
                let _ = findings.note("opaque", Ok(()), detail);
                self.inspect_answer(issuer, token, now, &mut findings).await;
            }
            Err(refusal) => {
                let wanted = "header.claims.signature in base64url, header and claims JSON objects \
                              without doubled members; or an issuer that is introspected";
                let _ = findings.note("jwt", Err(refusal), wanted);
            }
        }
        findings.0
    }

    async fn inspect_jwt(
        &self,
        token: &str,
        jwt: &UnverifiedToken<'_>,
        now: SystemTime,
        findings: &mut Findings,
    ) {
        let named = self.issuer(jwt.issuer()).map(|(_, issuer)| issuer);
        let known: Vec<_> = self.issuers().map(|(name, _)| name).collect();
        let detail =
            format!("iss {}; configured: {}", shown(jwt.claims().value("iss")), known.join(", "));
        let kept = named.as_ref().map(|_| ()).map_err(|refusal| *refusal);
        let _ = findings.note("issuer", kept, detail);
        let Ok(issuer) = named else { return };
        match &issuer.source {
            Source::Introspection(_) => {
                inspect_header(jwt, issuer, findings);
                self.inspect_answer(issuer, token, now, findings).await;
            }
            Source::Keys { keys, algorithms } => {
                inspect_header(jwt, issuer, findings);
                inspect_signature(jwt, keys, algorithms, findings).await;
                self.inspect_claims(jwt.claims(), issuer, now, findings);
            }
        }
    }

    async fn inspect_answer(
        &self,
        issuer: &TrustedIssuer,
        token: &str,
        now: SystemTime,
        findings: &mut Findings,
    ) {
        let claims = issuer.introspected(token, now).await;
        let kept = claims.as_ref().map(|_| ()).map_err(|refusal| *refusal);
        let trouble = issuer.trouble().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        let detail = format!("the issuer says whether it is active{trouble}");
        let _ = findings.note("introspection", kept, detail);
        if let Ok(claims) = claims {
            self.inspect_claims(&claims, issuer, now, findings);
        }
    }

    fn inspect_claims(
        &self,
        claims: &Claims,
        issuer: &TrustedIssuer,
        now: SystemTime,
        findings: &mut Findings,
    ) {
        for rule in RULES {
            let detail = (rule.describe)(claims, &issuer.settings);
            let _ = findings.note(rule.name, (rule.check)(claims, &issuer.settings), detail);
        }
        let Ok(verified) = Verified::new(claims.clone(), &issuer.settings, None) else { return };
        let leeway = issuer.settings.leeway;
        let times = verified.times();
        let at =
            |seconds| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
        let mut detail = format!("exp {}", at(times.expiry));
        for (name, time) in [("nbf", times.not_before), ("iat", times.issued_at)] {
            detail += &time.map(|time| format!(", {name} {}", at(time))).unwrap_or_default();
        }
        let (now_shown, leeway_shown) =
            (humantime::format_rfc3339_seconds(now), humantime::format_duration(leeway));
        detail += &format!("; now {now_shown}, with {leeway_shown} leeway");
        let _ = findings.note("validity", times.allow(now, leeway), detail);
        let detail = match self.revocations() {
            None => "no [revocation] is configured",
            Some(_) => "by the revocation list",
        };
        let _ = findings.note("revocation", self.is_in_force(&verified), detail);
        let detail =
            "accepted: none unless require_binding, certificates with mtls, keys with dpop";
        let taken = issuer.takes_binding(&verified);
        if taken.is_err() {
            let _ = findings.note("sender", taken, detail);
        } else if verified.is_bound() {
            findings.leave_open("sender", "bound; each request must prove that it is the sender's");
        } else {
            let _ = findings.note("sender", taken, "not bound: whoever has it may use it");
        }
    }
}

fn inspect_header(token: &UnverifiedToken<'_>, issuer: &TrustedIssuer, findings: &mut Findings) {
    let parameter = |name| shown(token.header().get(name));
    let detail =
        format!("crit {}, b64 {}; neither may be there", parameter("crit"), parameter("b64"));
    let _ = findings.note("header", token.is_understood(), detail);
    let types = &issuer.settings.types;
    let wanted: Vec<_> = types.iter().map(|name| name.name()).collect();
    let missing = if types.contains(&TokenType::Jwt) { ", or none" } else { "" };
    let typ = shown(token.header().get("typ"));
    let detail = format!("typ {typ}; accepted: {}{missing}; no cty", wanted.join(", "));
    let _ = findings.note("type", token.is_of_type(types), detail);
}

async fn inspect_signature(
    token: &UnverifiedToken<'_>,
    keys: &KeyStore,
    accepted: &[jsonwebtoken::Algorithm],
    findings: &mut Findings,
) {
    let named = token.algorithm(accepted);
    let names: Vec<_> = accepted.iter().map(|accepted| algorithm::name(*accepted)).collect();
    let detail =
        format!("alg {}; accepted: {}", shown(token.header().get("alg")), names.join(", "));
    let kept = named.map(|_| ());
    let _ = findings.note("algorithm", kept, detail);
    let key = match (named, token.key_id()) {
        (Ok(algorithm), Ok(id)) => keys.key(id, algorithm).await.map(|key| (key.key, algorithm)),
        (Err(_), Ok(_)) => {
            findings.leave_open("key", "which algorithm it would be for is not known");
            findings.leave_open("signature", "there is no key to check it with");
            return;
        }
        (_, Err(refusal)) => Err(refusal),
    };
    let status = keys.status();
    let ids: Vec<_> = status.keys.iter().map(|key| key.id().unwrap_or("(no kid)")).collect();
    let detail =
        format!("kid {}; the issuer's: {}", shown(token.header().get("kid")), ids.join(", "));
    let error = status.last_error.map(|(_, error)| format!("; the last fetch: {error}"));
    let detail = detail + &error.unwrap_or_default();
    let kept = key.as_ref().map(|_| ()).map_err(|refusal| *refusal);
    let _ = findings.note("key", kept, detail);
    match key {
        Ok((key, algorithm)) => {
            let detail = format!("{} by that key", algorithm::name(algorithm));
            let _ = findings.note("signature", token.is_signed_by(&key, algorithm), detail);
        }
        Err(_) => findings.leave_open("signature", "there is no key to check it with"),
    }
}

/// A value as JSON, of a bounded length.
pub(super) fn shown(value: Option<&Value>) -> String {
    const LONGEST: usize = 200;
    let text = value.map_or_else(|| "(missing)".to_owned(), Value::to_string);
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}
