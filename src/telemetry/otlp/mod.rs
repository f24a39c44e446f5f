//! OpenTelemetry: spans and audit records are sent to a collector, as OTLP over HTTP in protobuf.
//!
//! Off unless it is configured. Nothing here is ever waited for: what is to be sent is put into a
//! queue that is bounded in bytes, one task a signal sends it in batches, and what can't be sent is
//! dropped and counted. Audit records come here once they are durable; the trail is the truth, and
//! this a copy.
//!
//! The messages are those of `opentelemetry-proto`. Its SDK is not used: it would bring its own
//! queues, threads and HTTP client, where this gateway has a bounded client.

mod exporter;
mod logs;
mod queue;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::exporter::{Counts, Exporter, Signal, text};
pub use self::logs::Durable;
pub(super) use self::queue::Queue;
use super::spans::Trace;
use super::{Metrics, Tracer};
use crate::client::{Client, ClientError};
use crate::config::{self, Config};

/// How long the last of it may take at a stop.
const LAST: Duration = Duration::from_secs(3);

/// What is sent to a collector; nothing at all where none is configured.
#[derive(Debug, Default)]
pub struct Otlp {
    tracer: Option<Arc<Tracer>>,
    logs: Option<Logs>,
    stop: watch::Sender<bool>,
    exporters: JoinSet<()>,
}

/// The way of audit records to the collector.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Queue<Durable>>);

impl Logs {
    /// Gives a record that is durable.
    pub fn give(&self, record: Durable) {
        self.0.push(record);
    }
}

impl Otlp {
    /// Starts what sends; to be called in the runtime.
    ///
    /// # Errors
    ///
    /// When the system's roots are needed and can't be read.
    pub fn start(config: &Config, metrics: &Metrics) -> Result<Self, ClientError> {
        let mut otlp = Self::default();
        let Some(settings) = &config.otlp else { return Ok(otlp) };
        let resource = Resource {
            attributes: vec![
                text("service.name", env!("CARGO_PKG_NAME")),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("service.instance.id", config.audit.instance.as_str()),
            ],
            ..Resource::default()
        };
        if settings.traces {
            let queue = otlp.export::<Trace>(settings, &settings.traces_url, &resource, metrics)?;
            let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
            let sample_ratio = settings.sample_ratio;
            otlp.tracer = Some(Arc::new(Tracer { queue, sample_ratio, scheme }));
        }
        if settings.logs {
            let queue = otlp.export::<Durable>(settings, &settings.logs_url, &resource, metrics)?;
            otlp.logs = Some(Logs(queue));
        }
        Ok(otlp)
    }

    fn export<S: Signal>(
        &mut self,
        settings: &Arc<config::Otlp>,
        url: &Uri,
        resource: &Resource,
        metrics: &Metrics,
    ) -> Result<Arc<Queue<S>>, ClientError> {
        let dropped = |reason| metrics.otlp_dropped.with_label_values(&[S::NAME, reason]);
        let queue = Arc::new(Queue::new(settings.queue, dropped("queue_full")));
        let roots = settings.ca.clone();
        let client: Client<Full<Bytes>> = Client::new(url.scheme(), roots, settings.timeout)?;
        let exporter = Exporter {
            queue: Arc::clone(&queue),
            client,
            url: url.clone(),
            settings: Arc::clone(settings),
            resource: resource.clone(),
            counts: Counts {
                sent: metrics.otlp_sent.with_label_values(&[S::NAME]),
                refused: dropped("refused"),
                failed: dropped("failed"),
            },
            stop: self.stop.subscribe(),
            disk: crate::disk::Disk::default(),
            is_failing: false,
        };
        self.exporters.spawn(exporter.run());
        Ok(queue)
    }

    /// What records the spans of requests, where that is wanted.
    #[must_use]
    pub fn tracer(&self) -> Option<Arc<Tracer>> {
        self.tracer.clone()
    }

    /// Where audit records are given, where that is wanted.
    #[must_use]
    pub fn logs(&self) -> Option<Logs> {
        self.logs.clone()
    }

    /// Sends what is left, within a few seconds.
    pub async fn close(mut self) {
        let _ = self.stop.send(true);
        let all = async { while self.exporters.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST, all).await.is_err() {
            let spans = self.tracer.map_or(0, |tracer| tracer.queue.waiting());
            let records = self.logs.map_or(0, |logs| logs.0.waiting());
            tracing::warn!(spans, records, "the last telemetry was not sent in time; these waited");
        }
    }
}
