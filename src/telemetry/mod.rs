//! What operators see: metrics and logs.

mod logging;
mod metrics;

pub use self::logging::Log;
pub use self::metrics::Metrics;
