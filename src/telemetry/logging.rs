//! The log: on standard error, text on a terminal and JSON otherwise.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// The environment variable that sets the level, whatever the configuration says: error, warn, info,
/// debug or trace.
const LEVEL_VARIABLE: &str = "CMS_GATEWAY_LOG";

/// The log of this process, whose level can be set.
#[derive(Debug)]
pub struct Log {
    targets: Handle<Targets, Registry>,
    /// What the environment says, which is not set anew.
    fixed: Option<Level>,
}

impl Log {
    /// Starts the log of this process; a second start changes nothing.
    ///
    /// The level is of the gateway's own messages. Those of the libraries below it stay at warnings:
    /// at lower levels some of them print headers.
    ///
    /// # Errors
    ///
    /// When the variable names no level.
    pub fn start(level: Level) -> Result<Self, String> {
        let fixed = Self::level_of_environment()?;
        let (filter, targets) = reload::Layer::new(targets(fixed.unwrap_or(level)));
        let is_terminal = std::io::stderr().is_terminal();
        let layer = fmt::layer().with_writer(std::io::stderr);
        let layer = if is_terminal {
            let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            layer.with_ansi(has_colour).boxed()
        } else {
            layer.json().flatten_event(true).boxed()
        };
        // Fails only where a log runs already, which is then the one to keep.
        let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
        Ok(Self { targets, fixed })
    }

    /// The level that the environment sets, if it does.
    ///
    /// # Errors
    ///
    /// When the variable names no level.
    pub fn level_of_environment() -> Result<Option<Level>, String> {
        let Ok(name) = std::env::var(LEVEL_VARIABLE) else { return Ok(None) };
        let wrong = "is no level; write error, warn, info, debug or trace";
        name.parse().map(Some).map_err(|_| format!("{LEVEL_VARIABLE}: {name:?} {wrong}"))
    }

    /// From here on, messages of this level and above, if the environment does not say otherwise.
    pub fn set_level(&self, level: Level) {
        if self.fixed.is_none() {
            // Fails only where another log runs.
            let _ = self.targets.reload(targets(level));
        }
    }
}

fn targets(level: Level) -> Targets {
    Targets::new()
        .with_default(Level::WARN)
        .with_target("cms_gateway", level)
        .with_target("sandbox", level)
}
