//! Calls in the formats that SIEMs ingest. README.md has the mapping, field by field.
//!
//! Sources: OCSF 1.8, class API Activity (6003); Elastic Common Schema 8.11.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::entry::Record;
use super::query::{Effect, Row};

const OCSF_VERSION: &str = "1.8.0";
const ECS_VERSION: &str = "8.11.0";
const PRODUCT: &str = "cms-gateway";

/// A call in the Open Cybersecurity Schema Framework's class API Activity.
#[must_use]
pub fn ocsf(row: &Row) -> Value {
    // Update: the call changes what there is.
    const ACTIVITY: u32 = 3;
    const CLASS: u32 = 6003;
    const CATEGORY: u32 = 6;
    let (record, facts) = (&row.record, Facts::of(row));
    let severity = match (facts.is_allowed, facts.effect) {
        (true, Effect::Made) => (1, "Informational"),
        (true, _) => (2, "Low"),
        (false, _) => (3, "Medium"),
    };
    let status = match facts.effect {
        Effect::Made => (1, "Success"),
        Effect::NotMade => (2, "Failure"),
        Effect::Unknown => (0, "Unknown"),
    };
    let actor = &record.actor;
    let who = actor.subject.as_ref().or(actor.client_id.as_ref());
    without_nulls(json!({
        "class_uid": CLASS,
        "class_name": "API Activity",
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "activity_id": ACTIVITY,
        "activity_name": "Update",
        "type_uid": CLASS * 100 + ACTIVITY,
        "time": milliseconds(&record.time),
        "severity_id": severity.0,
        "severity": severity.1,
        "status_id": status.0,
        "status": status.1,
        "status_code": facts.code,
        "status_detail": record.decision.reason,
        "count": record.event.count,
        "duration": record.upstream.duration_us.map(|duration| duration / 1000),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {
                "name": PRODUCT,
                "vendor_name": PRODUCT,
                "version": record.gateway.version,
            },
            "log_name": record.gateway.instance,
            "uid": record.sequence.to_string(),
            "correlation_uid": record.request_id,
        },
        "actor": {
            // Callers whom nobody knows have no name.
            "app_name": actor.client_id.as_deref().or(who.is_none().then_some("anonymous")),
            "user": who.map(|who| json!({
                "uid": who,
                "groups": actor.roles.iter().flatten().map(|it| json!({"name": it})).collect::<Vec<_>>(),
            })),
            "idp": actor.issuer.as_ref().map(|issuer| json!({ "name": issuer, "uid": issuer })),
            "session": actor.token_id.as_ref().map(|token| json!({ "uid": token })),
            "authorizations": [{
                "decision": if facts.is_allowed { "allowed" } else { "denied" },
                "policy": record.decision.grant.as_ref().map(|grant| json!({ "name": grant })),
            }],
        },
        "api": {
            "operation": record.operation.as_deref().unwrap_or("none"),
            "request": record.request_id.as_ref().map(|id| json!({ "uid": id })),
            "response": { "code": record.upstream.status, "error": facts.code },
            "service": { "name": PRODUCT },
        },
        "src_endpoint": match &record.source.address {
            Some(address) => json!({ "ip": address, "port": record.source.port }),
            None => json!({ "name": "many" }),
        },
        "resources": resources(record),
        "unmapped": {
            "trace_id": record.trace_id,
            "claimed_request_id": record.source.claimed_request_id,
            "attempts": record.upstream.attempts,
            "credential": record.credential,
            "event_detail": record.event.detail,
        },
    }))
}

fn resources(record: &Record) -> Vec<Value> {
    let target = [("campaign", record.target.campaign), ("lead", record.target.lead)];
    let target = target
        .into_iter()
        .filter_map(|(kind, id)| Some(json!({ "type": kind, "uid": id?.to_string() })));
    let user = |kind: &'static str| move |user: &String| json!({ "type": kind, "name": user });
    let assigned = record.assigned().iter().map(user("assigned user"));
    let unassigned = record.unassigned().iter().map(user("unassigned user"));
    target.chain(assigned).chain(unassigned).collect()
}

/// A call in the Elastic Common Schema.
#[must_use]
pub fn ecs(row: &Row) -> Value {
    let (record, facts) = (&row.record, Facts::of(row));
    let actor = &record.actor;
    let mut related: Vec<&String> = [actor.subject.as_ref(), actor.client_id.as_ref()]
        .into_iter()
        .flatten()
        .chain(record.assigned())
        .chain(record.unassigned())
        .collect();
    related.sort();
    related.dedup();
    without_nulls(json!({
        "@timestamp": record.time,
        "ecs": { "version": ECS_VERSION },
        "event": {
            "kind": "event",
            "category": ["api", "configuration"],
            "type": if facts.is_allowed { ["change", "allowed"] } else { ["access", "denied"] },
            "action": record.operation,
            "outcome": match facts.effect {
                Effect::Made => "success",
                Effect::NotMade => "failure",
                Effect::Unknown => "unknown",
            },
            "id": record.request_id,
            "code": facts.code,
            "reason": record.decision.reason,
            "sequence": record.sequence,
            "duration": record.upstream.duration_us.map(|duration| duration * 1000),
            "dataset": "cms_gateway.audit",
            "module": "cms_gateway",
        },
        "user": { "id": actor.subject, "roles": actor.roles },
        "source": { "ip": record.source.address, "port": record.source.port },
        "trace": { "id": record.trace_id },
        "http": {
            "request": { "id": record.request_id },
            "response": { "status_code": record.upstream.status },
        },
        "related": { "user": related, "ip": record.source.address },
        "observer": {
            "product": PRODUCT,
            "type": "proxy",
            "name": record.gateway.instance,
            "version": record.gateway.version,
        },
        "cms_gateway": {
            "issuer": actor.issuer,
            "client_id": actor.client_id,
            "token_id": actor.token_id,
            "campaign": record.target.campaign,
            "lead": record.target.lead,
            "assigned": record.assigned(),
            "unassigned": record.unassigned(),
            "grant": record.decision.grant,
            "attempts": record.upstream.attempts,
            "credential": record.credential,
            "event_detail": record.event.detail,
            "claimed_request_id": record.source.claimed_request_id,
            "count": record.event.count,
        },
    }))
}

/// What intent and outcome say together.
struct Facts<'a> {
    is_allowed: bool,
    effect: Effect,
    code: Option<&'a String>,
}

impl<'a> Facts<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            is_allowed: row.record.decision.allow == Some(true),
            effect: row.effect(),
            code: row.code(),
        }
    }
}

/// Since 1970, as OCSF has times.
fn milliseconds(time: &str) -> u64 {
    let time = humantime::parse_rfc3339(time).unwrap_or(UNIX_EPOCH);
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Both schemas leave out what there is not.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(name, value)| (name, without_nulls(value)));
            let is_something = |value: &Value| match value {
                Value::Null => false,
                Value::Object(members) => !members.is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            };
            Value::Object(kept.filter(|(_, value)| is_something(value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
