//! `[upstream]`: the CMS, by one base URL or several, and what is asked of its connections.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use rustls::pki_types::ServerName;

use super::section::{Located, Section};
use super::sections::{HOUR, MILLISECOND, SECOND, bare_base};
use crate::upstream::tls;

/// The CMS.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it is; at least one.
    pub targets: Vec<Target>,
    /// How its servers are known, and the gateway to them.
    pub tls: Tls,
    /// For finding, connecting to and shaking hands with a server. When it is over nobody is tried
    /// again who was tried before.
    pub connect_timeout: Duration,
    /// From the whole request to the head of its answer.
    pub head_timeout: Duration,
    /// From the first connection to the last byte of the last answer.
    pub response_timeout: Duration,
    /// How old the addresses of a host's name may be.
    pub dns_refresh: Duration,
    /// How many changes are sent at the same time.
    pub concurrency: usize,
    /// How long a change may wait for a place among those.
    pub queue_timeout: Duration,
    /// When to stop asking a server that fails.
    pub breaker: Breaker,
    /// When to choose another server than one that fails.
    pub ejection: Ejection,
    /// How servers are looked at when nobody asks them.
    pub probe: Option<Probe>,
    /// When a change is sent once more.
    pub retry: Retry,
}

/// A base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
}

impl Target {
    /// Scheme and authority, as records and metrics call it.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { scheme, authority } = self;
        format!("{scheme}://{authority}")
    }
}

/// How the CMS is known, and the gateway to it. The files are read again when they change.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Whom to trust for it; the system's roots without.
    pub ca: Option<PathBuf>,
    /// What the gateway shows of itself.
    pub identity: Option<Identity>,
    /// The name that its certificate must have and that is sent as SNI, instead of the URL's host.
    pub server_name: Option<ServerName<'static>>,
    /// Whether TLS 1.2 is too old.
    pub only_1_3: bool,
}

/// A client certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM; mode 0600.
    pub key: PathBuf,
}

/// When the circuit breaker of a server opens and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Breaker {
    /// How many exchanges within ten seconds must have failed.
    pub failures: u32,
    /// And which share of all exchanges within them, in percent.
    pub share: u32,
    /// How long it stays open before one exchange is let through to try.
    pub open: Duration,
}

/// When a server is not chosen as long as there is another one.
#[derive(Debug, Clone, Copy)]
pub struct Ejection {
    /// How many exchanges in a row must have failed.
    pub failures: u32,
    /// For how long.
    pub time: Duration,
}

/// How a server is looked at when nobody asks it.
#[derive(Debug, Clone)]
pub struct Probe {
    /// What it is asked for, with GET and without a credential; any answer below 500 is good.
    pub path: PathAndQuery,
    /// The longest time between two looks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// When a change is sent once more.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Whether also after it may have had its effect: a PUT that is repeated changes nothing more.
    pub idempotent: bool,
    /// How many of a hundred changes may be, in the long run.
    pub budget: u32,
}

/// The most base URLs.
const MOST: usize = 64;

pub(super) fn upstream(mut section: Section) -> Option<Upstream> {
    let example = "\"https://cms.example.com:8443\"";
    let urls = section.texts_or_text("url");
    section.require("url", urls.first(), example);
    if urls.len() > MOST {
        section.fault("url", format_args!("names more than {MOST} URLs"));
    }
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let targets = urls.iter().map(|url| target(&section, url, allow_plaintext));
    let targets: Vec<Option<Target>> = targets.collect();
    let tls = tls(&mut section);
    let timeouts = 10 * MILLISECOND..=600 * SECOND;
    let connect_timeout =
        section.duration("connect_timeout", 2 * SECOND, 10 * MILLISECOND..=60 * SECOND);
    let response_timeout = section.duration("response_timeout", 10 * SECOND, timeouts.clone());
    let head_timeout = section.duration("head_timeout", response_timeout, timeouts);
    let dns_refresh = section.duration("dns_refresh", 30 * SECOND, SECOND..=HOUR);
    let concurrency = section.integer("concurrency", 256, 1..=100_000) as usize;
    let queue_timeout = section.duration("queue_timeout", SECOND, Duration::ZERO..=600 * SECOND);
    let breaker = breaker(section.section("breaker"));
    let ejection = ejection(section.section("ejection"));
    let probe = section.has("probe").then(|| probe(section.section("probe")));
    let retry = retry(section.section("retry"));
    let targets: Option<Vec<Target>> = targets.into_iter().collect();
    Some(Upstream {
        targets: targets.filter(|targets| !targets.is_empty())?,
        tls: tls?,
        connect_timeout,
        head_timeout,
        response_timeout,
        dns_refresh,
        concurrency,
        queue_timeout,
        breaker,
        ejection,
        probe: match probe {
            Some(probe) => Some(probe?),
            None => None,
        },
        retry,
    })
}

fn target(section: &Section, text: &Located<String>, allow_plaintext: bool) -> Option<Target> {
    let Ok(value) = text.value.parse::<Uri>() else {
        let wrong =
            format_args!("{:?} is not a URL, as \"https://cms.example.com:8443\"", text.value);
        section.fault_of(text, wrong);
        return None;
    };
    let url = Located { value, place: text.place.clone(), key: text.key.clone() };
    let (scheme, authority) = bare_base(section, &url, allow_plaintext)?;
    Some(Target { scheme, authority })
}

fn tls(section: &mut Section) -> Option<Tls> {
    let ca = section.path("ca");
    let [has_certificate, has_key] =
        ["client_certificate", "client_key"].map(|key| section.has(key));
    let certificate = section.path("client_certificate");
    let key = section.path("client_key");
    let only_1_3 = section.choice("min_tls", &[("1.2", false), ("1.3", true)]).unwrap_or(false);
    let server_name = section.text("server_name");
    let parsed = server_name.as_ref().map(|name| ServerName::try_from(name.value.clone()));
    if let (Some(name), Some(Err(_))) = (&server_name, &parsed) {
        section.fault_of(name, format_args!("{:?} is no host's name and no address", name.value));
        return None;
    }
    if has_certificate != has_key {
        let lacks = if has_key { "client_certificate" } else { "client_key" };
        section.fault(lacks, "is missing; client_certificate and client_key go together");
        return None;
    }
    let identity = certificate.as_ref().zip(key.as_ref());
    let tls = Tls {
        ca: ca.as_ref().map(|file| file.value.clone()),
        identity: identity.map(|(certificate, key)| Identity {
            certificate: certificate.value.clone(),
            key: key.value.clone(),
        }),
        server_name: parsed.and_then(Result::ok),
        only_1_3,
    };
    let mut is_sound = true;
    for fault in tls::faults(&tls) {
        is_sound = false;
        let key = fault.key;
        section.fault(key, fault.message);
    }
    is_sound.then_some(tls)
}

fn breaker(mut section: Section) -> Breaker {
    Breaker {
        failures: section.integer("failures", 20, 1..=1_000_000),
        share: section.integer("share", 50, 1..=100),
        open: section.duration("open", 5 * SECOND, 10 * MILLISECOND..=HOUR),
    }
}

fn ejection(mut section: Section) -> Ejection {
    Ejection {
        failures: section.integer("failures", 3, 1..=1_000_000),
        time: section.duration("time", 10 * SECOND, 10 * MILLISECOND..=HOUR),
    }
}

fn probe(mut section: Section) -> Option<Probe> {
    let path = section.parsed::<PathAndQuery>("path", "a path, as \"/cms/health\"");
    if let Some(path) = &path
        && !path.value.as_str().starts_with('/')
    {
        section.fault_of(path, "does not start with /");
    }
    let path = section.require("path", path, "\"/cms/health\"");
    let interval = section.duration("interval", 5 * SECOND, 10 * MILLISECOND..=HOUR);
    let timeout = section.duration("timeout", 2 * SECOND, 10 * MILLISECOND..=60 * SECOND);
    Some(Probe { path: path?.value, interval, timeout })
}

fn retry(mut section: Section) -> Retry {
    Retry {
        idempotent: section.boolean("idempotent", false),
        budget: section.integer("budget", 10, 0..=100),
    }
}
