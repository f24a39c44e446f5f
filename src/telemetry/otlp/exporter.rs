//! Sends what waits to the collector, by OTLP's rules: what it answers with 429, 502, 503 or 504, and
//! what does not reach it, is sent again, a few times; the rest is dropped and counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus::IntCounter;
use tokio::sync::watch;

use super::queue::{Queue, Waiting};
use crate::client::Client;
use crate::config;
use crate::config::telemetry::Secret;
use crate::disk::Disk;
use crate::upstream::retry_after;
use crate::{random, secret};

/// How often a batch is sent at the most, and the pause before it is sent again; doubled each time.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// The most bytes of an answer.
const LARGEST: usize = 64 << 10;

/// One of OTLP's signals.
pub(super) trait Signal: Waiting + Send + Sized + 'static {
    /// Its name in metrics and in the log.
    const NAME: &'static str;
    /// A request that exports these.
    fn encode(batch: Vec<Self>, resource: &Resource) -> Bytes;
    /// How many of them a collector did not take, as its answer says, and why.
    fn rejected(answer: Bytes) -> Option<(i64, String)>;
}

/// Sends one signal.
pub(super) struct Exporter<S> {
    pub(super) queue: Arc<Queue<S>>,
    pub(super) client: Client<Full<Bytes>>,
    pub(super) url: Uri,
    pub(super) settings: Arc<config::Otlp>,
    pub(super) resource: Resource,
    pub(super) counts: Counts,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) disk: Disk,
    pub(super) is_failing: bool,
}

/// What became of spans or records.
pub(super) struct Counts {
    pub(super) sent: IntCounter,
    /// The collector did not want them.
    pub(super) refused: IntCounter,
    /// It could not be told of them.
    pub(super) failed: IntCounter,
}

/// Why a batch was not taken.
enum Fault {
    /// It never will be.
    Refused(String),
    /// It may be later; when, if the collector has said so.
    Passing(String, Option<Duration>),
}

impl<S: Signal> Exporter<S> {
    /// Sends until told to stop, and then what is left.
    pub(super) async fn run(mut self) {
        loop {
            let mut stop = self.stop.clone();
            let is_last = tokio::select! {
                () = tokio::time::sleep(self.settings.schedule_delay) => false,
                () = self.queue.enough.notified() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            loop {
                let batch = self.queue.take();
                if batch.is_empty() {
                    break;
                }
                self.export(batch).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn export(&mut self, batch: Vec<S>) {
        let count: usize = batch.iter().map(Waiting::count).sum();
        let count = count as u64;
        let body = S::encode(batch, &self.resource);
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.send(body.clone()).await {
                Ok(answer) => return self.was_sent(count, answer),
                Err(Fault::Refused(reason)) => {
                    self.counts.refused.inc_by(count);
                    return self.has_failed(&reason);
                }
                Err(Fault::Passing(reason, wait)) => {
                    self.has_failed(&reason);
                    if attempt == TRIES || *self.stop.borrow() {
                        self.counts.failed.inc_by(count);
                        return;
                    }
                    // At a stop it is tried once more, at once.
                    let wait = wait.unwrap_or_else(|| random::jittered(pause));
                    let stop = self.stop.wait_for(|stop| *stop);
                    let _ = tokio::time::timeout(wait, stop).await;
                    pause *= 2;
                }
            }
        }
    }

    async fn send(&self, body: Bytes) -> Result<Bytes, Fault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() =
            self.headers().await.map_err(|reason| Fault::Passing(reason, None))?;
        let sent = self.client.exchange(request, self.settings.timeout, LARGEST).await;
        let answer = sent.map_err(|error| Fault::Passing(error.to_string(), None))?;
        let status = answer.status;
        match status {
            status if status.is_success() => Ok(answer.body),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let headers = &answer.headers;
                let wait = headers.contains_key(RETRY_AFTER).then(|| retry_after(headers));
                Err(Fault::Passing(format!("it answered {status}"), wait))
            }
            _ => Err(Fault::Refused(format!("it answered {status}"))),
        }
    }

    /// Those of a request. Files are read anew each time, so that a rotation needs no restart.
    async fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = self.settings.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if self.settings.secret_headers.is_empty() {
            return Ok(headers);
        }
        let settings = Arc::clone(&self.settings);
        let read = move || -> Result<HeaderMap, String> {
            for Secret { header, file } in &settings.secret_headers {
                let (text, _) = secret::read(file)?;
                let value = HeaderValue::from_str(&text).map(|mut value| {
                    value.set_sensitive(true);
                    value
                });
                let wrong = |_| format!("{} can't be a header's value", file.display());
                headers.insert(header, value.map_err(wrong)?);
            }
            Ok(headers)
        };
        let read = self.disk.ask(self.settings.timeout, read).await;
        read.unwrap_or_else(|| Err("the files of its headers can't be read in time".to_owned()))
    }

    fn was_sent(&mut self, count: u64, answer: Bytes) {
        let (rejected, reason) = S::rejected(answer).unwrap_or_default();
        let rejected = u64::try_from(rejected).unwrap_or_default().min(count);
        self.counts.sent.inc_by(count - rejected);
        self.counts.refused.inc_by(rejected);
        if rejected > 0 {
            let reason: String = reason.chars().take(200).collect();
            return self.has_failed(&format!("it took a part and said: {reason}"));
        }
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(signal = S::NAME, "telemetry is sent again");
        }
    }

    /// Said once, until it is sent again.
    fn has_failed(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(signal = S::NAME, url = %self.url, reason, "telemetry can't be sent");
        }
    }
}

/// Who observed it all.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, string(value.into()))
}

pub(super) fn whole_number(key: &str, value: impl TryInto<i64>) -> KeyValue {
    let value = Value::IntValue(value.try_into().unwrap_or(i64::MAX));
    attribute(key, AnyValue { value: Some(value) })
}

pub(super) fn string(text: String) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text)) }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// Since 1970; nothing of what was before.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
