//! `[[issuers]]`: whose tokens are accepted, by which keys and rules.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Parts, PathAndQuery, Scheme};
use jsonwebtoken::Algorithm;
use rustls::RootCertStore;

use super::introspection::{Introspection, introspection};
use super::section::{Located, Section};
use super::sections::{HOUR, SECOND, base, is_loopback, trusted, unreadable};
use super::{Dpop, Listen, sender};
use crate::identity::{KeySet, algorithm};
use crate::policy::Roles;
use crate::watch;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// As [`humantime`] has it.
const YEAR: Duration = Duration::from_secs(31_557_600);

/// An identity provider whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Compared with `iss` as an exact string (RFC 9068, section 4).
    pub issuer: String,
    /// A token must be meant for one of these (`aud`).
    pub audiences: Vec<String>,
    /// What proves its tokens.
    pub proof: Proof,
    /// The `typ` that its tokens may have.
    pub types: Vec<TokenType>,
    /// Whether they must keep all of RFC 9068.
    pub is_strict: bool,
    /// Where the roles stand in the claims: a claim, a dotted path or an RFC 6901 pointer.
    pub roles_claim: String,
    /// The roles that the claim's values stand for; without it, the values are the roles.
    pub roles: Option<BTreeMap<String, Vec<String>>>,
    /// How far this clock and the issuer's may differ, in whole seconds.
    pub leeway: Duration,
    /// The longest time from `iat` to `exp`; any without.
    pub max_lifetime: Option<Duration>,
    /// Whether tokens that are bound to a certificate are accepted (RFC 8705).
    pub mtls: bool,
    /// Whether tokens that are bound to a key are accepted (RFC 9449), and what proofs must hold.
    pub dpop: Option<Dpop>,
    /// Whether a token that is bound to nothing is refused.
    pub require_binding: bool,
}

/// What proves an issuer's tokens.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A signature by one of its keys.
    Keys(Keys),
    /// Its own word (RFC 7662): its tokens mean something to itself alone.
    Introspection(Introspection),
}

/// An issuer's keys.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Where they come from.
    pub source: KeySource,
    /// How fresh they are kept.
    pub freshness: Freshness,
    /// The signature algorithms that are accepted; never a symmetric one.
    pub algorithms: Vec<Algorithm>,
}

/// Whom to trust for a TLS connection; the system's roots without.
pub type Trust = Option<Arc<RootCertStore>>;

/// Where an issuer's JSON Web Key Set (RFC 7517) comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A file, which is watched.
    File(PathBuf),
    /// An HTTP or HTTPS URL.
    Url {
        /// The URL.
        url: Uri,
        /// Whom to trust for it.
        ca: Trust,
    },
    /// The `jwks_uri` of the issuer's metadata.
    Discovery {
        /// Where the metadata may be: OpenID Connect Discovery's address, then RFC 8414's.
        addresses: Vec<Uri>,
        /// Whom to trust for it and for the keys.
        ca: Trust,
        /// Whether the keys may be fetched in plain text from elsewhere than loopback.
        allow_plaintext: bool,
    },
}

/// How fresh an issuer's keys are kept.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    /// The longest time between two refreshes; an answer's headers may ask for a shorter one.
    pub refresh: Duration,
    /// The least time between two refreshes that unknown keys cause, and of what headers ask for.
    pub cool_down: Duration,
    /// How long keys are used after the last good fetch.
    pub max_stale: Duration,
}

/// What a token is by its `typ` (RFC 7515, section 4.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// `at+jwt` (RFC 9068, section 2.1).
    AccessToken,
    /// `JWT`, or nothing (RFC 7519, section 5.1).
    Jwt,
}

impl TokenType {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Jwt => "JWT",
        }
    }

    /// By its name, with or without `application/`, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let prefix = "application/";
        let name = match name.get(..prefix.len()) {
            Some(start) if start.eq_ignore_ascii_case(prefix) => name.get(prefix.len()..)?,
            _ => name,
        };
        if name.eq_ignore_ascii_case("at+jwt") {
            Some(Self::AccessToken)
        } else if name.eq_ignore_ascii_case("JWT") {
            Some(Self::Jwt)
        } else {
            None
        }
    }
}

/// Whether a key set may be fetched from there.
pub(crate) fn may_be_fetched(url: &Uri, allow_plaintext: bool) -> bool {
    let Some(authority) = url.authority() else { return false };
    let is_plain = url.scheme() == Some(&Scheme::HTTP);
    !authority.as_str().contains('@')
        && (url.scheme() == Some(&Scheme::HTTPS)
            || is_plain && (allow_plaintext || is_loopback(authority.host())))
}

pub(super) fn issuers(root: &mut Section, known: &Roles, listen: Option<&Listen>) -> Vec<Issuer> {
    let sections = root.sections("issuers");
    if sections.is_empty() {
        root.require::<()>("issuers", None, "[{ issuer = \"https://idp.example.com/\", ... }]");
    }
    let mut others = Others::default();
    sections.into_iter().filter_map(|section| issuer(section, &mut others, known, listen)).collect()
}

/// What the tables before have, sound or not.
#[derive(Default)]
struct Others {
    names: Vec<String>,
    is_one_introspected: bool,
}

fn issuer(
    mut section: Section,
    others: &mut Others,
    known: &Roles,
    listen: Option<&Listen>,
) -> Option<Issuer> {
    let name = section.text("issuer");
    let name = section.require("issuer", name, "\"https://idp.example.com/\"");
    if let Some(name) = &name {
        if others.names.contains(&name.value) {
            section.fault_of(name, "is an issuer that another entry has already");
        }
        others.names.push(name.value.clone());
    }
    let audiences = section.texts("audiences");
    section.require("audiences", audiences.first(), "[\"cms-gateway\"]");
    let roles_claim = section.text("roles_claim");
    if let Some(path) = &roles_claim
        && !is_path(&path.value)
    {
        section.fault_of(
            path,
            "is no JSON pointer: a ~ stands only in ~0, which is ~, and ~1, which is / (RFC 6901)",
        );
    }
    let leeway = section.duration("leeway", 30 * SECOND, Duration::ZERO..=300 * SECOND);
    let max_lifetime = section
        .has("max_lifetime")
        .then(|| section.duration("max_lifetime", HOUR, 10 * SECOND..=YEAR));
    let is_strict = section.choice("profile", &[("jwt", false), ("rfc9068", true)]);
    let is_strict = is_strict.unwrap_or(false);
    let types = types(&mut section, is_strict);
    let roles = section.has("roles").then(|| mapping(&mut section, known));
    let proof = proof(&mut section, name.as_ref(), others);
    let mtls = section.boolean("mtls", false);
    if mtls && listen.is_some_and(|listen| !listen.asks_for_certificates()) {
        section.fault(
            "mtls",
            "needs listen.tls.client_ca: without it no client is asked for a certificate",
        );
    }
    let has_dpop = section.has("dpop");
    let dpop = has_dpop.then(|| sender::dpop(section.section("dpop"), listen));
    let require_binding = section.boolean("require_binding", false);
    if require_binding && !mtls && !has_dpop {
        section.fault("require_binding", "needs mtls = true, or dpop, or both");
    }
    Some(Issuer {
        issuer: name?.value,
        audiences: audiences.into_iter().map(|audience| audience.value).collect(),
        proof: proof?,
        types,
        is_strict,
        roles_claim: roles_claim.map_or_else(|| "roles".to_owned(), |claim| claim.value),
        roles,
        // Tokens have whole seconds.
        leeway: Duration::from_secs(leeway.as_secs()),
        max_lifetime,
        mtls,
        dpop: dpop.flatten(),
        require_binding,
    })
}

/// Whether it is no pointer, or a good one.
fn is_path(path: &str) -> bool {
    let mut rest = path.split('~').skip(1);
    !path.starts_with('/') || rest.all(|part| part.starts_with(['0', '1']))
}

fn proof(
    section: &mut Section,
    issuer: Option<&Located<String>>,
    others: &mut Others,
) -> Option<Proof> {
    if !section.has("introspection") {
        let algorithms = algorithms(section);
        return keys(section.section("jwks"), issuer, algorithms).map(Proof::Keys);
    }
    for key in ["jwks", "algorithms"] {
        if section.has(key) {
            section.fault(key, "stands beside introspection; write one of the two");
            section.ignore(key);
        }
    }
    if std::mem::replace(&mut others.is_one_introspected, true) {
        section.fault(
            "introspection",
            "is there for another issuer already, and an opaque token does not say whose it is",
        );
    }
    introspection(section.section("introspection")).map(Proof::Introspection)
}

fn types(section: &mut Section, is_strict: bool) -> Vec<TokenType> {
    let mut types = Vec::new();
    for name in section.texts("types") {
        match TokenType::named(&name.value) {
            Some(named) => types.push(named),
            None => section.fault_of(
                &name,
                format_args!("{:?} is not known; write \"at+jwt\" or \"JWT\"", name.value),
            ),
        }
    }
    match (types.is_empty(), is_strict) {
        (false, _) => types,
        (true, true) => vec![TokenType::AccessToken],
        (true, false) => vec![TokenType::AccessToken, TokenType::Jwt],
    }
}

/// The roles that a claim's values stand for: a text or a list of texts for each value.
fn mapping(section: &mut Section, known: &Roles) -> BTreeMap<String, Vec<String>> {
    let mut mapping = BTreeMap::new();
    let mut table = section.section("roles");
    for value in table.names() {
        let listed = table.texts_or_text(&value);
        for role in &listed {
            if !known.has(&role.value) {
                table.fault_of(role, format_args!("{:?} is not a role of [roles]", role.value));
            }
        }
        mapping.insert(value, listed.into_iter().map(|role| role.value).collect());
    }
    mapping
}

fn algorithms(section: &mut Section) -> Vec<Algorithm> {
    let names = section.texts("algorithms");
    section.require("algorithms", names.first(), "[\"RS256\", \"ES256\"]");
    let mut algorithms = Vec::new();
    for name in names {
        match algorithm::named(&name.value) {
            Some(algorithm) => algorithms.push(algorithm),
            None if name.value.starts_with("HS") => section.fault_of(
                &name,
                format_args!(
                    "{} is symmetric: whoever can check such a token can make one; write an \
                     asymmetric one, as \"RS256\" or \"ES256\"",
                    name.value
                ),
            ),
            None => {
                let known: Vec<_> = algorithm::ACCEPTABLE.iter().map(|(name, _)| *name).collect();
                section.fault_of(
                    &name,
                    format_args!(
                        "{:?} is not an algorithm that is accepted; write some of {}",
                        name.value,
                        known.join(", ")
                    ),
                );
            }
        }
    }
    algorithms
}

fn keys(
    mut section: Section,
    issuer: Option<&Located<String>>,
    algorithms: Vec<Algorithm>,
) -> Option<Keys> {
    let refresh = section.duration("refresh", 300 * SECOND, SECOND..=24 * HOUR);
    let is_asked = section.has("cool_down");
    let cool_down = section.duration("cool_down", 30 * SECOND, SECOND..=HOUR);
    if is_asked && cool_down > refresh {
        section.fault("cool_down", "is longer than refresh, and could never be kept");
    }
    let max_stale = section.duration("max_stale", 24 * HOUR, SECOND..=30 * DAY);
    if max_stale < refresh {
        section.fault("max_stale", "is shorter than refresh: keys would be too old between two");
    }
    let freshness = Freshness { refresh, cool_down: cool_down.min(refresh), max_stale };
    let source = source(section, issuer, &algorithms)?;
    Some(Keys { source, freshness, algorithms })
}

fn source(
    mut section: Section,
    issuer: Option<&Located<String>>,
    algorithms: &[Algorithm],
) -> Option<KeySource> {
    let file = section.path("file");
    let url = section.parsed::<Uri>("url", "a URL, as \"https://idp.example.com/jwks\"");
    let discover = section.boolean("discover", false);
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let ca = trusted(&mut section);
    match (file, url, discover) {
        (Some(file), None, false) => {
            check_file(&section, &file, algorithms);
            Some(KeySource::File(file.value))
        }
        (None, Some(url), false) => {
            base(&section, &url, allow_plaintext)?;
            Some(KeySource::Url { url: url.value, ca: ca? })
        }
        (None, None, true) => {
            let addresses = addresses(&section, issuer?, allow_plaintext)?;
            Some(KeySource::Discovery { addresses, ca: ca?, allow_plaintext })
        }
        (None, None, false) => {
            section.require::<()>("url", None, "\"https://idp.example.com/jwks\"");
            None
        }
        _ => {
            section.fault("url", "only one of file, url and discover = true can be written");
            None
        }
    }
}

fn check_file(section: &Section, file: &Located<PathBuf>, algorithms: &[Algorithm]) {
    let keys = watch::read(&file.value, KeySet::LARGEST)
        .map_err(|error| error.to_string())
        .and_then(|bytes| KeySet::parse(&bytes).map_err(|error| error.to_string()));
    match keys {
        Err(error) => unreadable(section, file, "a JSON Web Key Set", &error),
        // Algorithms that are at fault are told already.
        Ok(keys) if !algorithms.is_empty() && !keys.fits_any(algorithms) => section.fault_of(
            file,
            format_args!(
                "{} holds no key for any of this issuer's algorithms",
                file.value.display()
            ),
        ),
        Ok(_) => {}
    }
}

/// Where an issuer's metadata may be: the path that OpenID Connect Discovery 1.0 (section 4.1)
/// appends to the issuer, then the one that RFC 8414 (section 3.1) puts before its path.
fn addresses(
    section: &Section,
    issuer: &Located<String>,
    allow_plaintext: bool,
) -> Option<Vec<Uri>> {
    let Ok(url) = issuer.value.parse::<Uri>() else {
        section.fault_of(issuer, "is no URL, so nothing can be discovered from it");
        return None;
    };
    if url.query().is_some() || issuer.value.contains('#') {
        section.fault_of(issuer, "has a query or a fragment, which an issuer's URL can't have");
        return None;
    }
    let located = Located { value: url, place: issuer.place.clone(), key: issuer.key.clone() };
    let (scheme, authority) = base(section, &located, true)?;
    if scheme == Scheme::HTTP && !is_loopback(authority.host()) && !allow_plaintext {
        section.fault_of(
            issuer,
            format_args!(
                "{authority} is not loopback, and its metadata would cross the network in plain \
                 text; write https, or allow_plaintext = true in jwks"
            ),
        );
        return None;
    }
    let path = located.value.path().trim_end_matches('/');
    let at = |path: String| {
        let mut parts = Parts::default();
        parts.scheme = located.value.scheme().cloned();
        parts.authority = located.value.authority().cloned();
        parts.path_and_query = PathAndQuery::try_from(path).ok();
        Uri::from_parts(parts).ok()
    };
    let openid = at(format!("{path}/.well-known/openid-configuration"))?;
    let oauth = at(format!("/.well-known/oauth-authorization-server{path}"))?;
    Some(vec![openid, oauth])
}
