//! The metrics, after Prometheus's rules of naming. No label holds what a client chooses.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use prometheus::{GaugeVec, core::Collector};

use crate::reply::Code;
use crate::version::{COMMIT, VERSION};

/// From half a millisecond to ten seconds.
const BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Every metric of one gateway. README.md says what each of them counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "the help text of each stands where it is made")]
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub errors: IntCounterVec,
    pub request_duration: HistogramVec,
    pub upstream_duration: Histogram,
    pub token_cache_hits: IntCounter,
    pub token_cache_misses: IntCounter,
    pub jwks_refresh: IntCounterVec,
    pub jwks_age: GaugeVec,
    pub credential_refresh: IntCounterVec,
    /// Not there until the source was read.
    pub credential_age: GaugeVec,
    pub credential_refused: IntGauge,
    pub credential_refusals: IntCounter,
    pub credential_probes: IntCounterVec,
    pub credential_forbidden: IntCounter,
    pub audit_records: IntCounterVec,
    pub audit_flush_duration: Histogram,
    pub audit_queue_depth: IntGauge,
    pub audit_failures: IntCounter,
    pub audit_stdout_lost: IntCounter,
    /// Looked up whenever the metrics are.
    pub audit_writable: IntGauge,
    pub audit_free: IntGauge,
    pub config_reload: IntCounterVec,
    pub config_last_reload_success: Gauge,
    /// Looked up whenever the metrics are.
    pub config_refused: IntGauge,
    pub tls_load: IntCounterVec,
    pub tls_handshake_failures: IntCounterVec,
    /// Not there without TLS.
    pub tls_certificate_expiry: IntGaugeVec,
    /// Not there without a list.
    pub tls_crl_expiry: IntGaugeVec,
    pub circuit_open: IntGauge,
    pub upstream_connections: IntGauge,
    pub upstream_tls_load: IntCounterVec,
    pub upstream_circuit_open: IntGaugeVec,
    pub upstream_ejections: IntCounterVec,
    pub upstream_retries: IntCounterVec,
    pub upstream_contradictions: IntCounter,
    pub shed: IntCounterVec,
    pub in_flight: IntGauge,
    pub connections: IntGauge,
    pub token_refusals: IntCounterVec,
    pub introspection: IntCounterVec,
    pub introspection_cache_hits: IntCounterVec,
    pub revocation_entries: IntGauge,
    pub revocation_load: IntCounterVec,
    pub otlp_sent: IntCounterVec,
    pub otlp_dropped: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them all.
    ///
    /// # Errors
    ///
    /// When two of them have one name, which no run can survive.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("cms_gateway_{name}"), help);
        let histogram = |name: &str, help: &str| HistogramOpts {
            common_opts: opts(name, help),
            buckets: BUCKETS.to_vec(),
        };
        let counters = |name, help, labels: &[&str]| {
            register(&registry, IntCounterVec::new(opts(name, help), labels)?)
        };
        let gauge = |name, help| register(&registry, IntGauge::with_opts(opts(name, help))?);
        let metrics = Self {
            requests: counters(
                "requests_total",
                "Requests answered, by operation, decision (allow, deny, none) and status.",
                &["operation", "decision", "status"],
            )?,
            errors: counters(
                "errors_total",
                "Requests answered with an error of the gateway's own, by code.",
                &["code"],
            )?,
            request_duration: register(
                &registry,
                HistogramVec::new(
                    histogram("request_duration_seconds", "From a request's head to its answer."),
                    &["operation"],
                )?,
            )?,
            upstream_duration: register(
                &registry,
                Histogram::with_opts(histogram(
                    "upstream_duration_seconds",
                    "From a request to the CMS to the last byte of its answer.",
                ))?,
            )?,
            token_cache_hits: register(
                &registry,
                IntCounter::with_opts(opts(
                    "token_cache_hits_total",
                    "Tokens whose signature had been checked before.",
                ))?,
            )?,
            token_cache_misses: register(
                &registry,
                IntCounter::with_opts(opts(
                    "token_cache_misses_total",
                    "JWTs that had to be verified, good ones and others.",
                ))?,
            )?,
            jwks_refresh: counters(
                "jwks_refresh_total",
                "Refreshes of an issuer's keys, by result.",
                &["issuer", "result"],
            )?,
            jwks_age: register(
                &registry,
                GaugeVec::new(
                    opts("jwks_age_seconds", "Time since an issuer's keys were last fetched."),
                    &["issuer"],
                )?,
            )?,
            credential_refresh: counters(
                "credential_refresh_total",
                "Readings of the credential's source, by result.",
                &["result"],
            )?,
            credential_age: register(
                &registry,
                GaugeVec::new(
                    opts(
                        "credential_age_seconds",
                        "Time since the credential's source was last read; not there until it was.",
                    ),
                    &[],
                )?,
            )?,
            credential_refused: gauge(
                "credential_refused",
                "1 while the CMS refuses the current credential.",
            )?,
            credential_refusals: register(
                &registry,
                IntCounter::with_opts(opts(
                    "credential_refusals_total",
                    "Answers of the CMS that refuse the gateway's credential (401).",
                ))?,
            )?,
            credential_probes: counters(
                "credential_probes_total",
                "Single tries of a credential that the CMS had refused, by result.",
                &["result"],
            )?,
            credential_forbidden: register(
                &registry,
                IntCounter::with_opts(opts(
                    "credential_forbidden_total",
                    "Answers of the CMS that forbid the gateway's account the change (403).",
                ))?,
            )?,
            audit_records: counters(
                "audit_records_total",
                "Audit records that are durable, by kind.",
                &["kind"],
            )?,
            audit_flush_duration: register(
                &registry,
                Histogram::with_opts(histogram(
                    "audit_flush_duration_seconds",
                    "Writing and syncing one batch of audit records.",
                ))?,
            )?,
            audit_queue_depth: gauge(
                "audit_queue_depth",
                "Audit records that wait to be written.",
            )?,
            audit_failures: register(
                &registry,
                IntCounter::with_opts(opts(
                    "audit_failures_total",
                    "Writings of the audit trail that failed.",
                ))?,
            )?,
            audit_stdout_lost: register(
                &registry,
                IntCounter::with_opts(opts(
                    "audit_stdout_lost_total",
                    "Audit records that standard output did not take; the files have them.",
                ))?,
            )?,
            audit_writable: gauge("audit_writable", "1 while audit records can be written.")?,
            audit_free: gauge(
                "audit_free_bytes",
                "Room on the file system that the audit trail is on.",
            )?,
            tls_load: counters(
                "tls_load_total",
                "Readings of the API's certificate, key, client CA and CRL, by result.",
                &["result"],
            )?,
            tls_handshake_failures: counters(
                "tls_handshake_failures_total",
                "Connections to the API without a TLS handshake, by reason (certificate: the \
                 client's; protocol, connection, too_slow).",
                &["reason"],
            )?,
            tls_certificate_expiry: register(
                &registry,
                IntGaugeVec::new(
                    opts(
                        "tls_certificate_expiry_timestamp_seconds",
                        "When the API's certificate ends, in seconds since 1970.",
                    ),
                    &[],
                )?,
            )?,
            tls_crl_expiry: register(
                &registry,
                IntGaugeVec::new(
                    opts(
                        "tls_crl_expiry_timestamp_seconds",
                        "When the first of the clients' CRLs ends, in seconds since 1970.",
                    ),
                    &[],
                )?,
            )?,
            upstream_connections: gauge(
                "upstream_connections",
                "Connections that are open to the CMS, idle ones included.",
            )?,
            upstream_tls_load: counters(
                "upstream_tls_load_total",
                "Readings of the CMS's CA and the gateway's certificate and key, by result.",
                &["result"],
            )?,
            config_reload: counters(
                "config_reload_total",
                "Configurations that were to take the place of the one in force, by result.",
                &["result"],
            )?,
            config_last_reload_success: register(
                &registry,
                Gauge::with_opts(opts(
                    "config_last_reload_success_timestamp_seconds",
                    "When the configuration in force was loaded, in Unix time.",
                ))?,
            )?,
            config_refused: gauge(
                "config_refused",
                "1 while the newest configuration is not in force, as it was refused.",
            )?,
            circuit_open: gauge("circuit_open", "1 while none of the CMS's servers is asked.")?,
            upstream_circuit_open: register(
                &registry,
                IntGaugeVec::new(
                    opts("upstream_circuit_open", "1 while this server of the CMS is not asked."),
                    &["server"],
                )?,
            )?,
            upstream_ejections: counters(
                "upstream_ejections_total",
                "How often a server of the CMS was left out for failing.",
                &["server"],
            )?,
            upstream_retries: counters(
                "upstream_retries_total",
                "Changes that were sent once more, by reason (not_sent, stale, answer, reset).",
                &["reason"],
            )?,
            upstream_contradictions: register(
                &registry,
                IntCounter::with_opts(opts(
                    "upstream_contradictions_total",
                    "Answers of the CMS that tell of another lead or campaign than was asked for.",
                ))?,
            )?,
            shed: counters(
                "shed_total",
                "Requests refused for want of room, by where (in_flight, queue).",
                &["at"],
            )?,
            in_flight: gauge("in_flight", "Requests that are worked on.")?,
            connections: gauge("connections", "Connections that are open to the API.")?,
            token_refusals: counters(
                "token_refusals_total",
                "Requests without a principal, by reason.",
                &["reason"],
            )?,
            introspection: counters(
                "introspection_total",
                "Questions to an issuer about a token, by result (active, inactive, failure).",
                &["issuer", "result"],
            )?,
            introspection_cache_hits: counters(
                "introspection_cache_hits_total",
                "Tokens about which an issuer's last answer still counted.",
                &["issuer"],
            )?,
            revocation_entries: gauge(
                "revocation_entries",
                "Entries of the revocation list in force.",
            )?,
            revocation_load: counters(
                "revocation_load_total",
                "Readings of a changed revocation list, by result.",
                &["result"],
            )?,
            otlp_sent: counters(
                "otlp_sent_total",
                "Spans and audit records that the collector took, by signal (traces, logs).",
                &["signal"],
            )?,
            otlp_dropped: counters(
                "otlp_dropped_total",
                "Those it was not given, by signal and reason (queue_full, failed, refused).",
                &["signal", "reason"],
            )?,
            registry: registry.clone(),
        };
        // What appears with its first failure has not increased by it, for an alert.
        let results: &[&str] = &["success", "failure"];
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        for (counter, labels) in [
            (&metrics.errors, codes.as_slice()),
            (&metrics.credential_refresh, results),
            (&metrics.credential_probes, results),
            (&metrics.tls_load, results),
            (&metrics.upstream_tls_load, results),
            (&metrics.revocation_load, results),
            (&metrics.config_reload, results),
            (&metrics.upstream_retries, &["not_sent", "stale", "reset", "answer"]),
            (&metrics.shed, &["in_flight", "queue"]),
            (
                &metrics.tls_handshake_failures,
                &["certificate", "protocol", "connection", "too_slow"],
            ),
        ] {
            for label in labels {
                let _ = counter.with_label_values(&[*label]);
            }
        }
        let build = register(
            &registry,
            GaugeVec::new(opts("build_info", "1, with what runs."), &["version", "commit"])?,
        )?;
        build.with_label_values(&[VERSION, COMMIT]).set(1.0);
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// All of them in Prometheus's text format.
    #[must_use]
    pub fn exposition(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics can't be shown");
        }
        text
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
