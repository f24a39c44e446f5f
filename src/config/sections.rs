//! Each section of the configuration: its keys, their defaults and what they must hold.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tracing::Level;

use super::credential::credential;
use super::issuers::issuers;
use super::revocation::revocation;
use super::section::{Located, Section};
use super::telemetry::telemetry;
use super::upstream::upstream;
use super::{
    Audit, Config, Drain, Durability, Limits, Log, Policy, Rate, Retention, TokenCache, listen,
};
use crate::audit::note::Signer;
use crate::operation;
use crate::policy::{Campaigns, Permission, Role, Roles};
use crate::watch;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
/// The most bytes of a file of certificates.
const MOST_CERTIFICATES: usize = 4 << 20;

/// The whole of it, or nothing where a part that has no default is missing or at fault.
pub(super) fn config(mut root: Section, environment: &BTreeMap<String, String>) -> Option<Config> {
    let mut fingerprints = root.fingerprints();
    let listen = listen::listen(root.section("listen"));
    let roles = roles(&mut root);
    let issuers = issuers(&mut root, &roles, listen.as_ref());
    let token_cache = token_cache(root.section("token_cache"));
    let has_revocation = root.has("revocation");
    let revocation = has_revocation.then(|| revocation(root.section("revocation")));
    let upstream = upstream(root.section("upstream"));
    let credential = credential(root.section("credential"), environment);
    let audit = audit(root.section("audit"));
    let limits = limits(root.section("limits"));
    let drain = drain(root.section("drain"));
    let log = log(root.section("log"));
    let otlp = telemetry(root.section("telemetry"));
    root.add_files(&mut fingerprints);
    Some(Config {
        listen: listen?,
        issuers,
        roles,
        token_cache,
        revocation: revocation.flatten(),
        upstream: upstream?,
        credential: credential?,
        audit: audit?,
        limits,
        drain,
        log,
        otlp,
        fingerprints,
        sha256: String::new(),
    })
}

/// What decides, and nothing else.
pub(super) fn policy(mut root: Section) -> Option<Policy> {
    let roles = roles(&mut root);
    let users = limits(root.section("limits")).users;
    let issuers = root.sections("issuers").into_iter();
    let issuers = issuers.filter_map(|mut section| section.text("issuer").map(|name| name.value));
    Some(Policy { roles, issuers: issuers.collect(), users })
}

pub(super) fn certificates(
    section: &Section,
    file: &Located<PathBuf>,
) -> Option<Vec<CertificateDer<'static>>> {
    let expected = "certificates in PEM";
    let content = watch::read(&file.value, MOST_CERTIFICATES)
        .map_err(|error| unreadable(section, file, expected, &error))
        .ok()?;
    let read = CertificateDer::pem_slice_iter(&content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(section, file, expected, &error))
        .ok()?;
    section.has_read(file, &content);
    if read.is_empty() {
        let name = file.value.display();
        section.fault_of(file, format_args!("{name} holds no certificate in PEM"));
        return None;
    }
    Some(read)
}

pub(super) fn unreadable(
    section: &Section,
    file: &Located<PathBuf>,
    expected: &str,
    error: &dyn std::fmt::Display,
) {
    let name = file.value.display();
    section.fault_of(file, format_args!("{name} can't be read as {expected}: {error}"));
}

/// Whom to trust, when the configuration says so; `Some(None)` leaves it to the system's roots.
#[expect(clippy::option_option, reason = "the outer one says that a fault was noted")]
pub(super) fn trusted(section: &mut Section) -> Option<Option<Arc<RootCertStore>>> {
    let Some(file) = section.path("ca") else { return Some(None) };
    Some(Some(roots(section, &file)?))
}

/// The certificates of a file, as those of whom to trust.
pub(super) fn roots(section: &Section, file: &Located<PathBuf>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(section, file)? {
        if let Err(error) = roots.add(certificate) {
            section.fault_of(file, format_args!("holds a certificate of no use: {error}"));
            return None;
        }
    }
    Some(Arc::new(roots))
}

/// Scheme and authority of a URL that may be used.
pub(super) fn base(
    section: &Section,
    url: &Located<Uri>,
    allow_plaintext: bool,
) -> Option<(Scheme, http::uri::Authority)> {
    let (Some(scheme), Some(authority)) = (url.value.scheme(), url.value.authority()) else {
        section.fault_of(url, "is no whole URL; write it with https:// and a host");
        return None;
    };
    if authority.as_str().contains('@') {
        section.fault_of(url, "holds a user name; a password has no place in this file");
        return None;
    }
    if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
        section.fault_of(url, format_args!("{scheme} is not a scheme for it; write https"));
        return None;
    }
    if *scheme == Scheme::HTTP && !is_loopback(authority.host()) && !allow_plaintext {
        section.fault_of(
            url,
            format_args!(
                "{authority} is not loopback, and http would cross the network in plain text; \
                 write https, or allow_plaintext = true beside it"
            ),
        );
        return None;
    }
    Some((scheme.clone(), authority.clone()))
}

/// As [`base`], of a URL that may name no path; one that does is a fault, and has a base all the same.
pub(super) fn bare_base(
    section: &Section,
    url: &Located<Uri>,
    allow_plaintext: bool,
) -> Option<(Scheme, http::uri::Authority)> {
    if url.value.path_and_query().is_some_and(|path| path.as_str() != "/") {
        section.fault_of(url, "names a path; write scheme, host and port alone");
    }
    base(section, url, allow_plaintext)
}

pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn roles(root: &mut Section) -> Roles {
    let sections = root.named_sections("roles");
    if sections.is_empty() {
        let missing = "has no role, and without one every call is denied; write, for example, \
                       [roles.campaign-supervisor]";
        root.fault("roles", missing);
    }
    sections.into_iter().map(|(name, section)| (name, role(section))).collect()
}

fn role(mut section: Section) -> Role {
    let known: Vec<Permission> =
        operation::ALL.iter().flat_map(|operation| operation.permissions).copied().collect();
    let words: Vec<&str> = known.iter().map(|permission| permission.as_str()).collect();
    let listed = section.texts("permissions");
    let example = format!("[{:?}]", words.first().unwrap_or(&""));
    section.require("permissions", listed.first(), &example);
    let mut permissions = Vec::new();
    for name in listed {
        match known.iter().find(|permission| permission.as_str() == name.value) {
            Some(permission) => permissions.push(*permission),
            None => section.fault_of(
                &name,
                format_args!(
                    "{:?} is not a permission; the permissions are {}",
                    name.value,
                    words.join(", ")
                ),
            ),
        }
    }
    let campaigns = if section.holds_text("campaigns") {
        section.choice("campaigns", &[("any", ())]).map(|()| Campaigns::Any)
    } else if section.holds_table("campaigns") {
        let mut table = section.section("campaigns");
        let claim = table.text("claim");
        table.require("claim", claim, "\"campaigns\"").map(|claim| Campaigns::Claim(claim.value))
    } else {
        let listed = section.integers("campaigns");
        let listed = if listed.is_empty() { None } else { Some(listed) };
        section
            .require("campaigns", listed, "\"any\", or [1, 2], or { claim = \"campaigns\" }")
            .map(|listed| Campaigns::Listed(listed.into_iter().map(|item| item.value).collect()))
    };
    Role { permissions, campaigns: campaigns.unwrap_or(Campaigns::Listed(Vec::new())) }
}

fn token_cache(mut section: Section) -> TokenCache {
    TokenCache {
        size: section.size("size", 16 << 20, 64 << 10..=16 << 30),
        max_age: section.duration("max_age", 300 * SECOND, Duration::ZERO..=24 * HOUR),
    }
}

fn audit(mut section: Section) -> Option<Audit> {
    let directory = section.path("directory");
    let directory = section.require("directory", directory, "\"/var/lib/cms-gateway/audit\"");
    if let Some(directory) = &directory
        && directory.value.exists()
        && !directory.value.is_dir()
    {
        let name = directory.value.display();
        section.fault_of(directory, format_args!("{name} is there and is not a folder"));
    }
    let signing_key = section.path("signing_key").map(|key| key.value);
    // Not in the folder itself, which is what auditors are given.
    let signing_key =
        signing_key.or_else(|| directory.as_ref().map(|directory| beside(&directory.value)));
    if let Some(key) = &signing_key
        && key.exists()
        && let Err(error) = Signer::load(key, "")
    {
        section.fault("signing_key", error);
    }
    let segment_size = section.size("segment_size", 64 << 20, 4 << 10..=4 << 30);
    let durability =
        section.choice("durability", &[("fsync", Durability::Fsync), ("write", Durability::Write)]);
    let instance = section.text("instance");
    if let Some(name) = &instance
        && !is_origin(&name.value)
    {
        let wanted = "holds more than a log's name may; write letters, digits, . _ and - alone";
        section.fault_of(name, wanted);
    }
    let compress = section.boolean("compress", false);
    let retention = section.has("retention").then(|| retention(section.section("retention")));
    let also_stdout = section.choice("also", &[("stdout", ())]).is_some();
    let low_space = section.size("low_space", 1 << 30, 0..=1 << 50);
    Some(Audit {
        directory: directory?.value,
        signing_key: signing_key?,
        segment_size,
        compress,
        retention,
        also_stdout,
        low_space,
        durability: durability.unwrap_or(Durability::Fsync),
        instance: instance.map_or_else(host_name, |instance| instance.value),
    })
}

fn retention(mut section: Section) -> Retention {
    let has_age = section.has("age");
    let age = section.duration("age", 365 * DAY, DAY..=36_500 * DAY);
    let has_size = section.has("size");
    let size = section.size("size", 100 << 30, 1 << 20..=1 << 50);
    if !has_age && !has_size {
        section.require::<()>("age", None, "\"365d\", or size = \"100GiB\", or both");
    }
    Retention { age: has_age.then_some(age), size: has_size.then_some(size) }
}

/// Whether it can stand in a signed note's name (C2SP `signed-note`): no space, no plus.
fn is_origin(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn beside(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".signing-key.pem");
    directory.with_file_name(name)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_origin(&name) && !name.is_empty() { name } else { "gateway".to_owned() }
}

fn limits(mut section: Section) -> Limits {
    let timeouts = 10 * MILLISECOND..=HOUR;
    Limits {
        head: section.size("head", 16 << 10, 1 << 10..=1 << 20) as usize,
        headers: section.integer("headers", 64, 8..=1000) as usize,
        body: section.size("body", 64 << 10, 64..=16 << 20) as usize,
        users: section.integer("users", 1000, 1..=1_000_000) as usize,
        in_flight: section.integer("in_flight", 1024, 1..=100_000) as usize,
        connections: section.integer("connections", 10_000, 1..=1_000_000) as usize,
        head_timeout: section.duration("head_timeout", 10 * SECOND, timeouts.clone()),
        body_timeout: section.duration("body_timeout", 10 * SECOND, timeouts.clone()),
        idle_timeout: section.duration("idle_timeout", 75 * SECOND, timeouts),
        rate: section.has("rate").then(|| rate(section.section("rate"))).flatten(),
    }
}

fn rate(mut section: Section) -> Option<Rate> {
    let requests = section.has("requests").then(|| section.integer("requests", 1, 1..=1_000_000));
    let requests = section.require("requests", requests, "50");
    let per = section.duration("per", SECOND, MILLISECOND..=HOUR);
    let burst = section.integer("burst", requests.unwrap_or(1), 1..=1_000_000);
    Some(Rate { requests: NonZeroU32::new(requests?)?, per, burst: NonZeroU32::new(burst)? })
}

fn drain(mut section: Section) -> Drain {
    Drain {
        delay: section.duration("delay", Duration::ZERO, Duration::ZERO..=HOUR),
        timeout: section.duration("timeout", 20 * SECOND, MILLISECOND..=HOUR),
    }
}

fn log(mut section: Section) -> Log {
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    Log { level: section.choice("level", &levels).unwrap_or(Level::INFO) }
}
