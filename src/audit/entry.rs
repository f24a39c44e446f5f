//! A record as its readers see it: the line decoded again.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A record. The fields are those that README.md names; what a later version adds is ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Record {
    pub time: String,
    pub sequence: u64,
    pub kind: String,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub operation: Option<String>,
    pub actor: Actor,
    pub source: Source,
    pub target: Target,
    pub change: Change,
    pub decision: Decision,
    pub upstream: Upstream,
    pub credential: Credential,
    pub event: Event,
    pub gateway: Gateway,
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Actor {
    pub issuer: Option<String>,
    pub subject: Option<String>,
    pub client_id: Option<String>,
    pub roles: Option<Vec<String>>,
    pub token_id: Option<String>,
}

/// Where from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Source {
    pub address: Option<String>,
    pub port: Option<u16>,
    pub claimed_request_id: Option<String>,
}

/// On what.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Target {
    pub campaign: Option<i32>,
    pub lead: Option<i32>,
}

/// What was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Change {
    pub assigned: Option<Vec<String>>,
    pub unassigned: Option<Vec<String>>,
}

/// What was decided.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Decision {
    pub allow: Option<bool>,
    pub code: Option<String>,
    pub reason: Option<String>,
    pub grant: Option<String>,
}

/// What the CMS said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Upstream {
    pub status: Option<u16>,
    pub code: Option<String>,
    pub attempts: Option<u32>,
    pub duration_us: Option<u64>,
    pub tries: Option<Vec<Try>>,
    pub answer: Option<String>,
}

/// One try to send it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Try {
    pub server: String,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub duration_us: u64,
}

/// With which credential.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Credential {
    pub source: Option<String>,
    pub version: Option<String>,
}

/// What happened to the gateway itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Event {
    pub name: Option<String>,
    pub detail: Option<String>,
    pub count: Option<u64>,
}

/// Which gateway wrote it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "README.md says what each field is")]
pub struct Gateway {
    pub instance: String,
    pub version: String,
}

impl Record {
    /// Decodes a line; nothing when it is no record.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Who asked: the client, and its user where the token is one's.
    #[must_use]
    pub fn who(&self) -> Cow<'_, str> {
        let Actor { subject, client_id, .. } = &self.actor;
        match (subject.as_deref(), client_id.as_deref()) {
            (Some(subject), Some(client)) if subject != client => {
                Cow::Owned(format!("{subject} ({client})"))
            }
            (Some(who), _) | (None, Some(who)) => Cow::Borrowed(who),
            (None, None) => Cow::Borrowed("-"),
        }
    }

    /// Whom it assigns.
    #[must_use]
    pub fn assigned(&self) -> &[String] {
        self.change.assigned.as_deref().unwrap_or_default()
    }

    /// Whom it takes off.
    #[must_use]
    pub fn unassigned(&self) -> &[String] {
        self.change.unassigned.as_deref().unwrap_or_default()
    }
}
