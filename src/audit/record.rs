//! One line of the trail. Every field is always there, null where there is nothing, so that a
//! reader never has to ask whether it is.

mod json;

use std::borrow::Cow;
use std::ops::Range;

use uuid::Uuid;

use crate::context::{Context, SpanContext, TraceContext};
use crate::credential::Credential;
use crate::identity::Verified;
use crate::operation::{Facts, Operation, UserId};
use crate::policy::Grant;
use crate::upstream::Try;

/// What a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A change that is permitted and about to be sent.
    Intent,
    /// What became of it.
    Outcome,
    /// A call that was refused.
    Denied,
    /// Something that concerns the gateway itself.
    Event,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Intent, Self::Outcome, Self::Denied, Self::Event];

    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"intent" => Some(Self::Intent),
            b"outcome" => Some(Self::Outcome),
            b"denied" => Some(Self::Denied),
            b"event" => Some(Self::Event),
            _ => None,
        }
    }

    /// Its name in records and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Denied => "denied",
            Self::Event => "event",
        }
    }
}

/// A record without what the journal puts before it: time and sequence.
#[derive(Debug)]
pub(super) struct Record<'a> {
    kind: Kind,
    span: Option<SpanContext>,
    call: Call<'a>,
    end: End<'a>,
}

/// Who asked for what, and what was decided: the same in an intent and in its outcome.
#[derive(Debug, Default)]
struct Call<'a> {
    request_id: Option<Uuid>,
    trace_id: Option<String>,
    operation: Option<&'static str>,
    actor: Actor<'a>,
    source: Source<'a>,
    target: Target,
    change: Change<'a>,
    decision: Decision<'a>,
}

/// What came of it, and which gateway says so.
#[derive(Debug)]
struct End<'a> {
    upstream: Upstream<'a>,
    credential: CredentialUsed<'a>,
    event: Event,
    gateway: &'a Gateway,
}

/// A record that is not written yet: all of its line but time and sequence.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) request_id: Option<Uuid>,
    /// The place in its trace of the request that it belongs to.
    pub(super) span: Option<SpanContext>,
    pub(super) line: Vec<u8>,
    /// Where in the line the call's members are.
    call: Range<usize>,
}

#[derive(Debug, Default)]
struct Actor<'a> {
    issuer: Option<&'a str>,
    subject: Option<&'a str>,
    client_id: Option<&'a str>,
    roles: Option<&'a [String]>,
    token_id: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Source<'a> {
    address: Option<std::net::IpAddr>,
    port: Option<u16>,
    /// The caller's own `X-Request-Id`: its claim.
    claimed_request_id: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Target {
    campaign: Option<i32>,
    lead: Option<i32>,
}

#[derive(Debug, Default)]
struct Change<'a> {
    assigned: Option<&'a [UserId]>,
    unassigned: Option<&'a [UserId]>,
}

#[derive(Debug, Default)]
pub(super) struct Decision<'a> {
    allow: Option<bool>,
    code: Option<&'static str>,
    reason: Option<&'a str>,
    grant: Option<&'a [Grant]>,
}

#[derive(Debug, Default)]
struct Upstream<'a> {
    status: Option<u16>,
    code: Option<&'a str>,
    attempts: Option<u32>,
    duration_us: Option<u64>,
    tries: Option<&'a [Try]>,
    answer: Option<&'a str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct CredentialUsed<'a> {
    source: Option<&'static str>,
    version: Option<Cow<'a, str>>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The CMS's status; nothing when there is no answer of it.
    pub status: Option<u16>,
    /// The error code that the caller is given, the CMS's or the gateway's.
    pub code: Option<&'a str>,
    /// How often it was sent.
    pub attempts: u32,
    /// How long that took.
    pub duration_us: u64,
    /// Each try to send it.
    pub tries: &'a [Try],
    /// What the CMS said that could not be relayed, cut short.
    pub answer: Option<&'a str>,
    /// With which credential, if one was to be had.
    pub credential: Option<&'a Credential>,
}

/// Something that concerns the gateway itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: Option<&'static str>,
    detail: Option<String>,
    count: Option<u64>,
    credential: CredentialUsed<'static>,
    request_id: Option<Uuid>,
}

/// Which gateway wrote a record.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    pub(super) instance: String,
    pub(super) version: &'static str,
}

impl<'a> Record<'a> {
    pub(super) fn of_change(
        gateway: &'a Gateway,
        kind: Kind,
        context: &'a Context,
        holder: &'a Verified,
        operation: &'static Operation,
    ) -> Self {
        let call = Call {
            request_id: Some(context.request_id),
            trace_id: context.trace.as_ref().map(TraceContext::id),
            operation: Some(operation.name),
            actor: Actor {
                issuer: Some(holder.issuer()),
                subject: holder.subject(),
                client_id: holder.client_id(),
                roles: Some(holder.roles()),
                token_id: holder.token_id(),
            },
            source: Source {
                address: Some(context.source.ip()),
                port: Some(context.source.port()),
                claimed_request_id: context.claimed_request_id.as_deref(),
            },
            ..Call::default()
        };
        Self { kind, span: context.span(), call, end: End::of_gateway(gateway) }
    }

    pub(super) fn of_event(gateway: &'a Gateway, mut event: Event) -> Self {
        let credential = std::mem::take(&mut event.credential);
        Self {
            kind: Kind::Event,
            span: None,
            call: Call { request_id: event.request_id, ..Call::default() },
            end: End { credential, event, ..End::of_gateway(gateway) },
        }
    }

    pub(super) fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) fn facts(mut self, facts: Facts<'a>) -> Self {
        let Facts { target, assigned, unassigned } = facts;
        self.call.target = Target { campaign: Some(target.campaign), lead: Some(target.lead) };
        self.call.change = Change { assigned: Some(assigned), unassigned: Some(unassigned) };
        self
    }

    pub(super) fn decision(mut self, decision: Decision<'a>) -> Self {
        self.call.decision = decision;
        self
    }

    /// What the journal takes.
    pub(super) fn draft(&self) -> Draft {
        let mut line = begin(self.kind, 1024);
        let start = line.len();
        self.call.encode(&mut line);
        let call = start..line.len();
        self.end.encode(&mut line);
        Draft { kind: self.kind, request_id: self.call.request_id, span: self.span, line, call }
    }
}

impl Draft {
    /// The record of what came of this intent, which says of the call what the intent says.
    pub(super) fn outcome(&self, gateway: &Gateway, outcome: Outcome<'_>) -> Self {
        let mut line = begin(Kind::Outcome, self.line.len() + 128);
        let start = line.len();
        line.extend_from_slice(self.line.get(self.call.clone()).unwrap_or_default());
        let call = start..line.len();
        let upstream = Upstream {
            status: outcome.status,
            code: outcome.code,
            attempts: Some(outcome.attempts),
            duration_us: Some(outcome.duration_us),
            tries: Some(outcome.tries),
            answer: outcome.answer,
        };
        let credential = outcome.credential.map(CredentialUsed::of).unwrap_or_default();
        End { upstream, credential, ..End::of_gateway(gateway) }.encode(&mut line);
        Self { kind: Kind::Outcome, request_id: self.request_id, span: self.span, line, call }
    }
}

/// The line's beginning. The journal puts time and sequence behind the brace that opens it.
fn begin(kind: Kind, capacity: usize) -> Vec<u8> {
    let mut line = Vec::with_capacity(capacity);
    line.extend_from_slice(b"{\"kind\":\"");
    line.extend_from_slice(kind.name().as_bytes());
    line.push(b'"');
    line
}

impl<'a> End<'a> {
    fn of_gateway(gateway: &'a Gateway) -> Self {
        Self {
            upstream: Upstream::default(),
            credential: CredentialUsed::default(),
            event: Event::default(),
            gateway,
        }
    }
}

impl<'a> Decision<'a> {
    pub(super) fn allow(grants: &'a [Grant]) -> Self {
        Self { allow: Some(true), grant: Some(grants), ..Self::default() }
    }

    pub(super) fn deny(code: &'static str, reason: &'a str) -> Self {
        Self { allow: Some(false), code: Some(code), reason: Some(reason), grant: None }
    }
}

impl<'a> CredentialUsed<'a> {
    fn of(credential: &'a Credential) -> Self {
        let version = credential.version().map(Cow::Borrowed);
        Self { source: Some(credential.source()), version }
    }

    fn into_owned(self) -> CredentialUsed<'static> {
        let version = self.version.map(|version| Cow::Owned(version.into_owned()));
        CredentialUsed { source: self.source, version }
    }
}

impl Event {
    /// An event of this name.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name: Some(name), ..Self::default() }
    }

    /// With words on what happened.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With how often it happened.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// With the request that it concerns.
    #[must_use]
    pub fn request(mut self, request_id: Uuid) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// With the credential that it concerns.
    #[must_use]
    pub fn credential(mut self, credential: &Credential) -> Self {
        self.credential = CredentialUsed::of(credential).into_owned();
        self
    }
}
