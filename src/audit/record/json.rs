//! Records as JSON: README.md names the members, in this order.

use std::fmt::Write;

use super::{
    Actor, Call, Change, CredentialUsed, Decision, End, Event, Gateway, Source, Target, Upstream,
};
use crate::encode::{Encode, members, object};
use crate::policy::Grant;
use crate::upstream::Try;

impl Call<'_> {
    /// Adds its members to an object that is open.
    pub(super) fn encode(&self, line: &mut Vec<u8>) {
        members!(line, {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "operation": self.operation,
            "actor": self.actor,
            "source": self.source,
            "target": self.target,
            "change": self.change,
            "decision": self.decision,
        });
    }
}

impl End<'_> {
    /// Adds its members to an object that is open, and ends the line.
    pub(super) fn encode(&self, line: &mut Vec<u8>) {
        members!(line, {
            "upstream": self.upstream,
            "credential": self.credential,
            "event": self.event,
            "gateway": self.gateway,
        });
        line.extend_from_slice(b"}\n");
    }
}

impl Encode for Actor<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, {
            "issuer": self.issuer,
            "subject": self.subject,
            "client_id": self.client_id,
            "roles": self.roles,
            "token_id": self.token_id,
        });
    }
}

impl Encode for Source<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, {
            "address": self.address,
            "port": self.port,
            "claimed_request_id": self.claimed_request_id,
        });
    }
}

impl Encode for Target {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, { "campaign": self.campaign, "lead": self.lead });
    }
}

impl Encode for Change<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, { "assigned": self.assigned, "unassigned": self.unassigned });
    }
}

impl Encode for Decision<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, {
            "allow": self.allow,
            "code": self.code,
            "reason": self.reason,
            "grant": self.grant.map(shown),
        });
    }
}

fn shown(grants: &[Grant]) -> String {
    let mut shown = String::with_capacity(128);
    for grant in grants {
        if !shown.is_empty() {
            shown.push_str(", ");
        }
        // Writing to a text does not fail.
        let _ = write!(shown, "{grant}");
    }
    shown
}

impl Encode for Upstream<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, {
            "status": self.status,
            "code": self.code,
            "attempts": self.attempts,
            "duration_us": self.duration_us,
            "tries": self.tries,
            "answer": self.answer,
        });
    }
}

impl Encode for Try {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, {
            "server": self.server,
            "status": self.status,
            "error": self.error,
            "duration_us": self.duration_us,
        });
    }
}

impl Encode for CredentialUsed<'_> {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, { "source": self.source, "version": self.version.as_deref() });
    }
}

impl Encode for Event {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, { "name": self.name, "detail": self.detail, "count": self.count });
    }
}

impl Encode for Gateway {
    fn encode(&self, line: &mut Vec<u8>) {
        object!(line, { "instance": self.instance, "version": self.version });
    }
}
