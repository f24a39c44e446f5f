//! Spans as OTLP has them, in the words of OpenTelemetry's semantic conventions for HTTP.

use std::time::Instant;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Uri, Version};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use prost::Message;

use super::exporter::{Signal, nanoseconds, scope, text, whole_number};
use super::queue::Waiting;
use crate::telemetry::spans::{Call, Recorded, Trace};

/// What a span takes at the most, beside the texts of others in it.
const SPAN: usize = 256;

impl Waiting for Trace {
    fn count(&self) -> usize {
        1 + self.stages.len()
    }

    fn bytes(&self) -> usize {
        let state = self.context.state().map_or(0, |state| state.len());
        self.count() * (SPAN + state) + self.request.path.len()
    }
}

impl Signal for Trace {
    const NAME: &'static str = "traces";

    fn encode(batch: Vec<Self>, resource: &Resource) -> Bytes {
        let spans = batch.iter().flat_map(Self::spans).collect();
        let scope_spans = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
        let resource_spans = ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
    }

    fn rejected(answer: Bytes) -> Option<(i64, String)> {
        let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
        Some((partial.rejected_spans, partial.error_message))
    }
}

impl Trace {
    fn spans(&self) -> impl Iterator<Item = Span> {
        // As random as the request's own: to draw one for each would cost a fifth of all this.
        let ids = (1..).map(|number| self.id.get().wrapping_add(number));
        let parts = self.stages.iter().zip(ids).map(|(stage, id)| self.part(stage, id));
        std::iter::once(self.whole()).chain(parts)
    }

    /// The request as a whole.
    fn whole(&self) -> Span {
        let request = &self.request;
        let method = method(&request.method);
        let last = self.stages.iter().map(|stage| stage.ended).max();
        let mut attributes = vec![
            text("http.request.method", method),
            text("url.path", request.path.as_str()),
            text("url.scheme", request.scheme),
            text("network.protocol.version", version(request.version)),
            text("client.address", request.source.ip().to_string()),
            whole_number("client.port", request.source.port()),
            text("cms_gateway.request_id", request.request_id.to_string()),
        ];
        let mut name = if method == OTHER { "HTTP".to_owned() } else { method.to_owned() };
        let mut code = StatusCode::Unset;
        let ended = match &self.ended {
            Some((answered, at)) => {
                attributes
                    .push(whole_number("http.response.status_code", answered.status.as_u16()));
                attributes.push(text("cms_gateway.decision", answered.decision));
                if answered.operation != "none" {
                    // An operation has exactly one path.
                    name = format!("{name} {}", request.path);
                    attributes.push(text("http.route", request.path.as_str()));
                    attributes.push(text("cms_gateway.operation", answered.operation));
                }
                attributes.extend(answered.code.map(|code| text("cms_gateway.error_code", code)));
                if answered.status.is_server_error() {
                    code = StatusCode::Error;
                    let own = answered.code.unwrap_or(answered.status.as_str());
                    attributes.push(text("error.type", own));
                }
                *at
            }
            None => {
                code = StatusCode::Error;
                attributes.push(text("error.type", "cancelled"));
                last.unwrap_or(self.began.1)
            }
        };
        let parent = self.context.parent_id();
        Span {
            span_id: self.id.get().to_be_bytes().to_vec(),
            parent_span_id: parent.map_or_else(Vec::new, |id| id.get().to_be_bytes().to_vec()),
            // Where the parent is known to be elsewhere.
            flags: self.flags(parent.is_some()),
            status: status(code),
            ..self.span(name, SpanKind::Server, (self.began.1, ended), attributes)
        }
    }

    /// A stage of it, or a request to the CMS.
    fn part(&self, stage: &Recorded, id: u64) -> Span {
        let times = (stage.began, stage.ended);
        let span = match &stage.call {
            Some(call) => Span {
                span_id: call.id.get().to_be_bytes().to_vec(),
                ..self.span(name(call, self), SpanKind::Client, times, self.attributes(call))
            },
            None => Span {
                span_id: id.max(1).to_be_bytes().to_vec(),
                ..self.span(stage.name.to_owned(), SpanKind::Internal, times, Vec::new())
            },
        };
        let code = if stage.is_done { StatusCode::Unset } else { StatusCode::Error };
        Span {
            parent_span_id: self.id.get().to_be_bytes().to_vec(),
            flags: self.flags(false),
            status: status(code),
            ..span
        }
    }

    fn attributes(&self, call: &Call) -> Vec<KeyValue> {
        let server: Uri = call.server.parse().unwrap_or_default();
        let address = server.host().unwrap_or_default();
        let default = if server.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = server.port_u16().unwrap_or(default);
        let mut attributes = vec![
            text("http.request.method", method(&call.method)),
            text("server.address", address),
            whole_number("server.port", port),
            text("url.full", format!("{}{}", call.server, self.request.path)),
        ];
        if let Some(status) = call.status {
            attributes.push(whole_number("http.response.status_code", status));
        }
        let own = self.stages.iter().filter_map(|stage| stage.call.as_ref());
        let before = own.take_while(|other| other.id != call.id).count();
        if before > 0 {
            attributes.push(whole_number("http.request.resend_count", before as u16));
        }
        let failed = call.status.filter(|status| *status >= 400).map(|status| status.to_string());
        let fault = call.fault.map(str::to_owned).or(failed);
        attributes.extend(fault.map(|fault| text("error.type", fault)));
        attributes
    }

    fn span(
        &self,
        name: String,
        kind: SpanKind,
        (began, ended): (Instant, Instant),
        attributes: Vec<KeyValue>,
    ) -> Span {
        let state = self.context.state().and_then(|state| state.to_str().ok());
        Span {
            trace_id: self.context.at(None).trace_id.to_be_bytes().to_vec(),
            trace_state: state.unwrap_or_default().to_owned(),
            name,
            kind: kind.into(),
            start_time_unix_nano: self.time(began),
            end_time_unix_nano: self.time(ended),
            attributes,
            ..Span::default()
        }
    }

    fn time(&self, instant: Instant) -> u64 {
        let (told, counted) = self.began;
        nanoseconds(told + instant.saturating_duration_since(counted))
    }

    fn flags(&self, is_remote: bool) -> u32 {
        let remote = if is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
        let known = SpanFlags::ContextHasIsRemoteMask as u32;
        u32::from(self.context.at(None).flags) | known | remote
    }
}

/// What stands for a method that is not one of HTTP's own.
const OTHER: &str = "_OTHER";

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "CONNECT" => "CONNECT",
        "DELETE" => "DELETE",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "POST" => "POST",
        "PUT" => "PUT",
        "TRACE" => "TRACE",
        _ => OTHER,
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        _ => "2",
    }
}

fn name(call: &Call, trace: &Trace) -> String {
    format!("{} {}", method(&call.method), trace.request.path)
}

fn status(code: StatusCode) -> Option<Status> {
    (code != StatusCode::Unset).then(|| Status { message: String::new(), code: code.into() })
}
