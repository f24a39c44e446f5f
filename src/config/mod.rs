//! The configuration: one TOML file, each key of which an environment variable can override.
//!
//! A [`Config`] that exists has been checked as a whole: it is built from the file's text, the
//! environment and the files that it names, or else every fault of them is told in one run.
//! `check` and `serve` come through the same [`load`], so that they refuse the same faults in the
//! same words.

pub mod aws;
pub mod credential;
mod document;
mod fault;
mod fingerprint;
mod introspection;
mod issuers;
mod listen;
mod origin;
mod revocation;
mod section;
mod sections;
mod sender;
pub mod telemetry;
mod upstream;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

pub use self::credential::Credential;
pub use self::document::VARIABLE_PREFIX;
pub use self::fault::{Fault, Faults, Place};
pub use self::fingerprint::Fingerprints;
pub use self::introspection::Introspection;
pub(crate) use self::issuers::may_be_fetched;
pub use self::issuers::{Freshness, Issuer, KeySource, Keys, Proof, TokenType, Trust};
pub use self::origin::Origin;
pub use self::revocation::Revocation;
pub use self::sender::Dpop;
pub use self::telemetry::Otlp;
pub use self::upstream::{
    Breaker, Ejection, Identity as ClientIdentity, Probe, Retry, Target, Tls, Upstream,
};
use crate::policy::Roles;

/// Everything that the gateway is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[[issuers]]`, at least one, no issuer twice.
    pub issuers: Vec<Issuer>,
    /// `[roles.NAME]`
    pub roles: Roles,
    /// `[token_cache]`
    pub token_cache: TokenCache,
    /// `[revocation]`, where there is such a list.
    pub revocation: Option<Revocation>,
    /// `[upstream]`
    pub upstream: Upstream,
    /// `[credential]`
    pub credential: Credential,
    /// `[audit]`
    pub audit: Audit,
    /// `[limits]`
    pub limits: Limits,
    /// `[drain]`
    pub drain: Drain,
    /// `[log]`
    pub log: Log,
    /// `[telemetry.otlp]`, where there is a collector.
    pub otlp: Option<Arc<Otlp>>,
    /// What each part says, to be compared with another configuration's.
    pub fingerprints: Fingerprints,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

impl Config {
    /// The place that one of the issuers has in another configuration, if all of it is the same there.
    pub(crate) fn same_issuer(&self, place: usize, there: &Self) -> Option<usize> {
        let own = self.issuers.get(place)?;
        let other = there.issuers.iter().position(|issuer| issuer.issuer == own.issuer)?;
        let (key, other_key) = (format!("issuers[{place}]"), format!("issuers[{other}]"));
        let is_same = self.fingerprints.is_same(&key, &there.fingerprints, &other_key)
            && (own.dpop.is_none() || self.is_known_as(there));
        is_same.then_some(other)
    }

    /// Whether clients know the API by the same URL. Nothing else of `[listen]` counts for tokens.
    pub(crate) fn is_known_as(&self, there: &Self) -> bool {
        self.listen.public_url == there.listen.public_url
    }
}

/// Where the gateway listens.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address of the API.
    pub api: SocketAddr,
    /// The address of `/metrics`, `/readyz` and their like.
    pub admin: SocketAddr,
    /// What the API listener's TLS is made of; plain text without.
    pub tls: Option<ListenTls>,
    /// By which scheme and authority clients know the API; DPoP proofs name it.
    pub public_url: Option<Origin>,
}

impl Listen {
    /// Whether clients of the API are asked for a certificate in the TLS handshake.
    #[must_use]
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.clients.is_some())
    }
}

/// What the API listener's TLS is made of. The files are read again when they change.
#[derive(Debug, Clone)]
pub struct ListenTls {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM; mode 0600.
    pub key: PathBuf,
    /// Whose certificates are accepted; none are asked for without.
    pub clients: Option<ListenClients>,
}

/// Which certificates of clients are accepted.
#[derive(Debug, Clone)]
pub struct ListenClients {
    /// The CAs, in PEM.
    pub ca: PathBuf,
    /// What these CAs have revoked, in PEM; a list of each that is in use. None is revoked without.
    pub crl: Option<PathBuf>,
    /// Whether nobody is let in without one.
    pub is_required: bool,
}

/// What is remembered of tokens that were verified.
#[derive(Debug, Clone, Copy)]
pub struct TokenCache {
    /// Bytes of memory, roughly.
    pub size: u64,
    /// The longest time; nothing is remembered where it is zero.
    pub max_age: Duration,
}

/// The audit trail.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The folder of the trail's segments.
    pub directory: PathBuf,
    /// The key that signs checkpoints; made where there is none.
    pub signing_key: PathBuf,
    /// The length, in bytes, at which a segment is closed.
    pub segment_size: u64,
    /// Whether closed segments are compressed.
    pub compress: bool,
    /// When closed segments are deleted; never without.
    pub retention: Option<Retention>,
    /// Whether records go to standard output as well.
    pub also_stdout: bool,
    /// Free bytes of the trail's file system below which there is a warning.
    pub low_space: u64,
    /// What must have happened before a record counts as written.
    pub durability: Durability,
    /// The name of this gateway in its records; the host's name without.
    pub instance: String,
}

#[cfg(test)]
impl Audit {
    /// A trail in a folder of a test.
    pub(crate) fn within(folder: &Path) -> Self {
        Self {
            directory: folder.join("audit"),
            signing_key: folder.join("key.pem"),
            segment_size: 1 << 20,
            compress: false,
            retention: None,
            also_stdout: false,
            low_space: 0,
            durability: Durability::Write,
            instance: "test".to_owned(),
        }
    }
}

/// When closed segments are deleted.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// When their newest record is older.
    pub age: Option<Duration>,
    /// When all segments and checkpoints together have more bytes.
    pub size: Option<u64>,
}

/// What must have happened before a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fdatasync` has returned: it survives a power cut.
    Fsync,
    /// The operating system has it: it survives the end of the process.
    Write,
}

/// The bounds of what is taken from outside.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request's line and headers together.
    pub head: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// Users in one change, both lists together.
    pub users: usize,
    /// Requests that are worked on at the same time.
    pub in_flight: usize,
    /// Connections that are open at the same time.
    pub connections: usize,
    /// How long a request's head may take.
    pub head_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// How many requests one caller may make.
    pub rate: Option<Rate>,
}

/// How many requests one caller may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// So many requests,
    pub requests: NonZeroU32,
    /// in this time, in the long run,
    pub per: Duration,
    /// and so many at once.
    pub burst: NonZeroU32,
}

/// What is logged.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Of the gateway's own messages, those of this level and above.
    pub level: tracing::Level,
}

/// How the gateway stops.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How long it goes on serving, no longer ready, before it accepts nothing more.
    pub delay: Duration,
    /// How long requests in flight may take to end.
    pub timeout: Duration,
}

/// Reads a configuration, its overrides in this process's environment and the files it names.
///
/// # Errors
///
/// Every fault, each with its place and what would be right.
pub fn load(file: &Path) -> Result<Config, Faults> {
    load_with(file, &environment())
}

/// What of a configuration decides on a change.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `[roles.NAME]`
    pub roles: Roles,
    /// The names of the `[[issuers]]`; none where the file has none of them.
    pub issuers: Vec<String>,
    /// `limits.users`
    pub users: usize,
}

/// Reads what decides and nothing else: the rest of the file may be missing or be wrong here.
///
/// # Errors
///
/// Every fault of it, each with its place and what would be right.
pub fn load_policy(file: &Path) -> Result<Policy, Faults> {
    // What is not asked for here is no fault here.
    let decides = |fault: &Fault| {
        fault.key.is_empty() || ["roles", "limits"].iter().any(|name| fault.key.starts_with(name))
    };
    parse(file, &read(file)?, &environment(), sections::policy, decides)
}

/// As [`load`], of what was read from the file.
///
/// # Errors
///
/// Every fault, each with its place and what would be right.
pub(crate) fn load_bytes(file: &Path, content: &[u8]) -> Result<Config, Faults> {
    let text = std::str::from_utf8(content).map_err(|error| unreadable(file, &error))?;
    load_text_with(file, text, &environment())
}

fn load_text_with(
    file: &Path,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Config, Faults> {
    let mut config =
        parse(file, text, environment, |root| sections::config(root, environment), |_| true)?;
    config.sha256 = sha256(text.as_bytes());
    Ok(config)
}

/// By which a file is known in the log and on record.
pub(crate) fn sha256(content: &[u8]) -> String {
    digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As [`load`], with an environment of the caller's.
///
/// # Errors
///
/// Every fault, each with its place and what would be right.
pub fn load_with(file: &Path, environment: &BTreeMap<String, String>) -> Result<Config, Faults> {
    load_text_with(file, &read(file)?, environment)
}

/// The variables of this process that are text.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn read(file: &Path) -> Result<String, Faults> {
    std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

/// A file of which nothing is known.
fn unreadable(file: &Path, error: &dyn Display) -> Faults {
    let message = format!("can't be read: {error}");
    let fault = Fault { place: Place::Line(1), key: String::new(), message };
    Faults { file: file.to_owned(), faults: vec![fault] }
}

/// What `take` finds in a file's text, if none of the faults counts.
fn parse<T>(
    file: &Path,
    text: &str,
    environment: &BTreeMap<String, String>,
    take: impl FnOnce(section::Section) -> Option<T>,
    counts: impl Fn(&Fault) -> bool,
) -> Result<T, Faults> {
    let refused = |mut faults: Vec<Fault>| {
        faults.sort();
        Faults { file: file.to_owned(), faults }
    };
    let root = document::read(text, environment).map_err(refused)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let notes = Rc::new(RefCell::default());
    let taken = take(section::Section::root(root, folder, &notes));
    let mut faults = notes.take().faults;
    faults.retain(counts);
    match taken {
        Some(taken) if faults.is_empty() => Ok(taken),
        _ => Err(refused(faults)),
    }
}
