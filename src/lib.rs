//! An authenticating reverse proxy: a Bearer call in, a Basic call out, on record.
//!
//! A contact centre's CMS has one call that takes only HTTP Basic: one shared password that may
//! change everything, with no trace of who asked. This gateway stands before it. [`gateway`] shows
//! the journey of a request on one screen; each stage is a module:
//!
//! - [`operation`]: what may be asked, and its strict type
//! - [`identity`]: from a Bearer token to a principal
//! - [`policy`]: roles and the decision
//! - [`audit`]: the durable trail
//! - [`credential`]: the CMS's user name and password
//! - [`upstream`]: the CMS
//! - [`reply`]: every way to fail, as the caller is told
//!
//! Around them: [`config`], [`server`], [`systemd`], [`telemetry`] and the [`commands`].

pub mod audit;
pub mod client;
pub mod commands;
pub mod config;
pub mod context;
pub mod credential;
mod disk;
mod encode;
pub mod gateway;
pub mod identity;
mod openapi;
pub mod operation;
mod part;
pub mod policy;
mod random;
pub mod reply;
mod secret;
pub mod server;
mod strict_json;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod version;
mod watch;
