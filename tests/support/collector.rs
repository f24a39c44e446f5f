//! A small collector of OpenTelemetry's: it takes OTLP over HTTP, decodes the protobuf, and misbehaves
//! as it is told.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::wait_for;

/// What it does with an export that it has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Takes,
    /// Takes all but so many log records.
    Rejects(i64),
    /// This status and these lines of a head.
    Says(u16, &'static str),
    /// Nothing, with the connection open.
    Nothing,
}

/// A request that it got.
#[derive(Debug, Clone)]
pub struct Export {
    pub head: String,
    pub body: Vec<u8>,
    pub answer: Answer,
    pub at: Instant,
}

/// A running collector.
pub struct Collector {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    always: Answer,
    exports: Vec<Export>,
    connections: usize,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Collector {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    pub fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                shared.lock().unwrap().connections += 1;
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || {
                    let mut wire: Box<dyn Wire> = match tls {
                        None => Box::new(stream),
                        Some(tls) => {
                            Box::new(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream))
                        }
                    };
                    let _ = serve(&mut *wire, &state);
                });
            }
        });
        Self { address, state }
    }

    /// The section of the gateway's configuration.
    pub fn section(&self, more: &str) -> String {
        let address = self.address;
        format!(
            "[telemetry.otlp]\nendpoint = \"http://{address}\"\nschedule_delay = \"10ms\"\n{more}\n"
        )
    }

    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().script.extend(answers);
    }

    /// What it does after its script.
    pub fn always(&self, answer: Answer) {
        self.state.lock().unwrap().always = answer;
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    pub fn exports(&self, path: &str) -> Vec<Export> {
        let all = self.state.lock().unwrap().exports.clone();
        let own = format!("POST {path} HTTP/1.1\r\n");
        all.into_iter().filter(|export| export.head.starts_with(&own)).collect()
    }

    fn taken(&self, path: &str) -> Vec<Export> {
        let took = |export: &Export| matches!(export.answer, Answer::Takes | Answer::Rejects(_));
        self.exports(path).into_iter().filter(took).collect()
    }

    /// The spans that it took.
    pub fn spans(&self) -> Vec<Span> {
        self.traces().into_iter().flat_map(|(_, _, spans)| spans).collect()
    }

    pub fn traces(&self) -> Vec<(Resource, InstrumentationScope, Vec<Span>)> {
        let mut traces = Vec::new();
        for export in self.taken("/v1/traces") {
            let request = ExportTraceServiceRequest::decode(export.body.as_slice()).unwrap();
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap();
                for of_scope in of_resource.scope_spans {
                    traces.push((resource.clone(), of_scope.scope.unwrap(), of_scope.spans));
                }
            }
        }
        traces
    }

    /// The log records that it took.
    pub fn logs(&self) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for export in self.taken("/v1/logs") {
            let request = ExportLogsServiceRequest::decode(export.body.as_slice()).unwrap();
            for of_resource in request.resource_logs {
                assert!(of_resource.resource.is_some());
                for of_scope in of_resource.scope_logs {
                    assert!(of_scope.scope.is_some());
                    records.extend(of_scope.log_records);
                }
            }
        }
        records
    }

    /// The spans of the trace with this id, once its request's own span is there.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let mut found = Vec::new();
        wait_for("a trace", || {
            found = self.spans();
            found.retain(|span| hex(&span.trace_id) == id);
            found.iter().any(|span| span.kind == 2)
        });
        found
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text; nothing where it is not there.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut own = attributes.iter().filter(|attribute| attribute.key == key);
    let value = own.next()?.value.clone().unwrap().value.unwrap();
    assert!(own.next().is_none(), "{key} twice");
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

fn serve(wire: &mut dyn Wire, state: &Mutex<State>) -> io::Result<()> {
    loop {
        let (head, body) = read(wire)?;
        let answer = {
            let mut state = state.lock().unwrap();
            let scripted = state.script.pop_front();
            let answer = scripted.unwrap_or_else(|| state.always.clone());
            let at = Instant::now();
            state.exports.push(Export { head, body, answer: answer.clone(), at });
            answer
        };
        let (status, lines, body) = match answer {
            Answer::Takes => (200, "", Vec::new()),
            Answer::Rejects(rejected_log_records) => {
                let error_message = "too old".to_owned();
                let partial = ExportLogsPartialSuccess { rejected_log_records, error_message };
                let answer = ExportLogsServiceResponse { partial_success: Some(partial) };
                (200, "", answer.encode_to_vec())
            }
            Answer::Says(status, lines) => (status, lines, Vec::new()),
            Answer::Nothing => return io::copy(wire, &mut io::sink()).map(|_| ()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} As Told\r\ncontent-type: application/x-protobuf\r\n{lines}\
             content-length: {length}\r\n\r\n"
        );
        wire.write_all(&[head.as_bytes(), &body].concat())?;
        wire.flush()?;
    }
}

fn read(wire: &mut dyn Wire) -> io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    wire.read_exact(&mut body)?;
    Ok((head, body))
}
