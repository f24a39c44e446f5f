//! How many requests were answered, and how long each took.

use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, IntCounter};

use crate::operation::ALL;
use crate::reply::Code;
use crate::telemetry::Metrics;

/// The series that nearly every request is counted in. To look them up by their labels takes a lock
/// and a hash each time.
#[derive(Debug)]
pub(super) struct Answered(Vec<Usual>);

/// Those of one operation.
#[derive(Debug)]
struct Usual {
    operation: &'static str,
    done: IntCounter,
    duration: Histogram,
}

/// What goes well.
const DONE: (&str, StatusCode) = ("allow", StatusCode::OK);

impl Answered {
    pub(super) fn new(metrics: &Metrics) -> Self {
        // What appears with its first failure has not increased by it, for an alert.
        for status in Code::ALL.iter().map(|code| code.status()).filter(StatusCode::is_server_error)
        {
            let _ = metrics.requests.with_label_values(&["none", "none", status.as_str()]);
            for (operation, decision) in
                ALL.iter().flat_map(|it| [(it.name, "allow"), (it.name, "none")])
            {
                let _ = metrics.requests.with_label_values(&[operation, decision, status.as_str()]);
            }
        }
        let usual = |operation: &'static str| {
            let (decision, status) = DONE;
            let labels = [operation, decision, status.as_str()];
            let done = metrics.requests.with_label_values(&labels);
            let duration = metrics.request_duration.with_label_values(&[operation]);
            Usual { operation, done, duration }
        };
        Self(ALL.iter().map(|operation| usual(operation.name)).collect())
    }

    pub(super) fn count(
        &self,
        metrics: &Metrics,
        (operation, decision, status): (&'static str, &'static str, StatusCode),
        elapsed: Duration,
    ) {
        let usual = self.0.iter().find(|usual| usual.operation == operation);
        match usual {
            Some(usual) if (decision, status) == DONE => usual.done.inc(),
            _ => {
                let labels = [operation, decision, status.as_str()];
                metrics.requests.with_label_values(&labels).inc();
            }
        }
        let seconds = elapsed.as_secs_f64();
        match usual {
            Some(usual) => usual.duration.observe(seconds),
            None => metrics.request_duration.with_label_values(&[operation]).observe(seconds),
        }
    }
}
