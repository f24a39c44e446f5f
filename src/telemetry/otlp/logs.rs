//! Audit records as OTLP's log records. The body is the record's line, letter by letter: what the
//! trail's tree has a leaf of.

use std::time::SystemTime;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use uuid::Uuid;

use super::exporter::{Signal, nanoseconds, scope, string, text, whole_number};
use super::queue::Waiting;
use crate::audit::Kind;
use crate::audit::line::Time;
use crate::context::SpanContext;

/// What a record takes at the most beside its line.
const FRAME: usize = 512;

/// An audit record that is durable.
#[derive(Debug)]
pub struct Durable {
    /// When it was written.
    pub time: Time,
    /// Its number in the trail.
    pub sequence: u64,
    /// What it tells of.
    pub kind: Kind,
    /// The request that it belongs to.
    pub request_id: Option<Uuid>,
    /// The trace that the request belongs to.
    pub span: Option<SpanContext>,
    /// Its line, without the end.
    pub line: String,
}

impl Waiting for Durable {
    fn count(&self) -> usize {
        1
    }

    fn bytes(&self) -> usize {
        FRAME + self.line.len()
    }
}

impl Signal for Durable {
    const NAME: &'static str = "logs";

    fn encode(batch: Vec<Self>, resource: &Resource) -> Bytes {
        let log_records = batch.into_iter().map(Self::record).collect();
        let scope_logs = ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() };
        let resource_logs = ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![scope_logs],
            ..ResourceLogs::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![resource_logs] }.encode_to_vec().into()
    }

    fn rejected(answer: Bytes) -> Option<(i64, String)> {
        let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
        Some((partial.rejected_log_records, partial.error_message))
    }
}

impl Durable {
    fn record(self) -> LogRecord {
        let time = humantime::parse_rfc3339(self.time.as_str());
        let time = nanoseconds(time.unwrap_or(SystemTime::UNIX_EPOCH));
        let severity = match self.kind {
            Kind::Denied => SeverityNumber::Warn,
            Kind::Intent | Kind::Outcome | Kind::Event => SeverityNumber::Info,
        };
        let words = if severity == SeverityNumber::Warn { "WARN" } else { "INFO" };
        let mut attributes = vec![
            text("cms_gateway.audit.kind", self.kind.name()),
            whole_number("cms_gateway.audit.sequence", self.sequence),
        ];
        let id = self.request_id.map(|id| text("cms_gateway.request_id", id.to_string()));
        attributes.extend(id);
        let bytes = |id: std::num::NonZeroU64| id.get().to_be_bytes().to_vec();
        LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: time,
            severity_number: severity.into(),
            severity_text: words.to_owned(),
            body: Some(string(self.line)),
            attributes,
            flags: self.span.map_or(0, |span| span.flags.into()),
            trace_id: self.span.map_or_else(Vec::new, |it| it.trace_id.to_be_bytes().to_vec()),
            span_id: self.span.and_then(|span| span.span_id).map_or_else(Vec::new, bytes),
            event_name: format!("cms_gateway.audit.{}", self.kind.name()),
            ..LogRecord::default()
        }
    }
}
