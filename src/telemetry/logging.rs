//! The log: on standard error, text on a terminal and JSON otherwise.
//!
//! Whoever reads it too slowly loses lines of it, which are counted, and never holds up a request.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::outlet::{Inlet, Outlet};

/// The environment variable that sets the level, whatever the configuration says: error, warn, info,
/// debug or trace.
const LEVEL_VARIABLE: &str = "CMS_GATEWAY_LOG";

/// How many lines may wait to be read.
const MOST_WAITING: usize = 1024;

thread_local! {
    /// Whether this is the thread that writes the log.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// The log of this process, whose level can be set.
#[derive(Debug)]
pub struct Log {
    outlet: Outlet,
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
    /// When the variable names no level, or there can be no thread for it.
    pub fn start(level: Level) -> Result<Self, String> {
        let fixed = Self::level_of_environment()?;
        let (filter, targets) = reload::Layer::new(targets(fixed.unwrap_or(level)));
        let (outlet, lines) =
            Lines::start().map_err(|error| format!("the log can't be started: {error}"))?;
        let is_terminal = io::stderr().is_terminal();
        let layer = fmt::layer().with_writer(move || lines.clone());
        let layer = if is_terminal {
            let has_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            layer.with_ansi(has_colour).boxed()
        } else {
            layer.json().flatten_event(true).boxed()
        };
        // Fails only where a log runs already, which is then the one to keep.
        let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
        Ok(Self { outlet, targets, fixed })
    }

    /// The level that the environment sets, if it does.
    ///
    /// # Errors
    ///
    /// When the variable names no level.
    pub fn level_of_environment() -> Result<Option<Level>, String> {
        let name = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
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

    /// Waits until all of it is out, for a while. What is said after it is lost.
    pub fn end(self) {
        self.outlet.end();
    }
}

/// The way to standard error.
#[derive(Debug, Clone)]
struct Lines {
    inlet: Inlet,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn start() -> io::Result<(Outlet, Self)> {
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let outlet = Outlet::start("log", MOST_WAITING, move |line| {
            WRITES.set(true);
            // Nobody to hear it is no fault of ours.
            let _ = io::stderr().write_all(line);
            let lost = counted.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(lines = lost, "the log was not read in time and is not whole");
            }
        })?;
        let inlet = outlet.inlet();
        Ok((outlet, Self { inlet, lost }))
    }
}

impl Write for Lines {
    /// Takes a whole line, which is how they come.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if WRITES.get() {
            // How many are missing finds room, however many wait.
            io::stderr().write_all(line)?;
        } else if !self.inlet.give(line) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn targets(level: Level) -> Targets {
    Targets::new()
        .with_default(Level::WARN)
        .with_target("cms_gateway", level)
        .with_target("sandbox", level)
}
