//! What runs here.

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built of, as far as the build knew (`build.rs`).
pub const COMMIT: &str = env!("CMS_GATEWAY_COMMIT");

/// Both, as `--version` tells them.
pub(crate) const BOTH: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("CMS_GATEWAY_COMMIT"), ")");
