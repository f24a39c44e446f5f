//! What operators see: metrics, logs, and what is sent to a collector of telemetry.

mod logging;
mod metrics;
mod otlp;
mod outlet;
mod spans;

pub use self::logging::Log;
pub use self::metrics::Metrics;
pub use self::otlp::{Durable, Logs, Otlp};
pub(crate) use self::outlet::{Inlet, Outlet};
pub(crate) use self::spans::Ended;
pub use self::spans::{Spans, Tracer};
