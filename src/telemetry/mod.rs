//! What operators see: metrics and logs.

mod logging;
mod metrics;

pub use self::logging::init as init_logging;
pub use self::metrics::Metrics;
