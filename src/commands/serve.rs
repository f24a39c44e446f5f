//! `serve`: configuration, runtime, server, signals, reloads, end.

use std::io;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{NO, WRONG_USE, refuse};
use crate::config::{self, Config};
use crate::server::{Server, StartError};
use crate::systemd::{self, Listeners};
use crate::telemetry::Log;
use crate::watch::{self, Sight, Unreadable, Watched};

/// The most bytes of a configuration.
const LARGEST: usize = 4 << 20;

/// How long a changed file must stay as it is before it is taken: two looks at it.
const SETTLES: Duration = Duration::from_millis(500);

/// How long a stop may take beyond its drain: for what runs in the background, and for the trail.
const LAST: Duration = Duration::from_secs(10);

pub(super) fn run(file: &Path) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(faults) => return refuse(faults, WRONG_USE),
    };
    let listeners = match systemd::listeners() {
        Ok(listeners) => listeners,
        Err(fault) => return refuse(fault, WRONG_USE),
    };
    let log = match Log::start(config.log.level) {
        Ok(log) => log,
        Err(fault) => return refuse(fault, WRONG_USE),
    };
    let mut builder = match std::thread::available_parallelism() {
        // On one core there is nobody to share work with, and handing it over has its price.
        Ok(NonZero::<usize>::MIN) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(format_args!("the runtime can't be started: {error}"), NO),
    };
    let ended = runtime.block_on(serve(file, config, listeners, &log));
    // A disk that does not answer must not keep the process.
    runtime.shutdown_background();
    log.end();
    match ended {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(NO),
        Err(error) => refuse(error, NO),
    }
}

enum Ended {
    Drained,
    /// By a second signal.
    AtOnce,
}

async fn serve(
    file: &Path,
    config: Config,
    listeners: Listeners,
    log: &Log,
) -> Result<Ended, StartError> {
    // Before the first byte is served, so that no signal is missed.
    let mut signals = Signals::new().map_err(StartError::Signal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signal)?;
    let mut server = Server::start(&config, listeners).await?;
    systemd::ready();
    tokio::spawn(systemd::watchdog());
    let mut watched = Watched::new(file.to_owned(), LARGEST);
    let mut in_force = config.sha256;
    let mut tried = in_force.clone();
    loop {
        let (sight, is_asked_for) = tokio::select! {
            biased;
            () = signals.end() => break,
            _ = hangup.recv() => (read(file).await, true),
            sight = settled(&mut watched) => (sight, false),
        };
        let sha256 = sight.as_ref().map(|content| config::sha256(content)).unwrap_or_default();
        // A file that SIGHUP has brought is seen to have changed a little later.
        let is_news = tried != sha256;
        tried.clone_from(&sha256);
        if !is_asked_for && sha256 == in_force {
            server.is_as_in_force();
            continue;
        }
        if !is_asked_for && !is_news {
            continue;
        }
        systemd::reloading();
        tokio::select! {
            biased;
            // A reload that is not at its end has changed nothing.
            () = signals.end() => break,
            reloaded = reload(&mut server, file, sight, log) => {
                if reloaded.is_ok() {
                    in_force.clone_from(&sha256);
                }
                server.report(&sha256, reloaded);
                systemd::ready();
            }
        }
    }
    systemd::stopping(server.drains_for() + LAST);
    let drained = async {
        server.drain().await;
        server.stop().await;
    };
    tokio::select! {
        biased;
        () = drained => Ok(Ended::Drained),
        () = signals.end() => {
            tracing::warn!("a second signal: what is in flight is not waited for");
            Ok(Ended::AtOnce)
        }
    }
}

/// What the file says anew, once whoever writes it has come to an end: the first half of a
/// configuration may be one as well, with no list of revocations in it.
///
/// Dropped, it forgets what it has seen; who drops it reads the file itself.
async fn settled(watched: &mut Watched) -> Sight {
    let mut sight = watched.next().await;
    while let Ok(newer) = tokio::time::timeout(SETTLES, watched.next()).await {
        sight = newer;
    }
    sight
}

/// Off the async threads, as a disk may not answer.
async fn read(file: &Path) -> Sight {
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || watch::read(&file, LARGEST));
    read.await.unwrap_or_else(|error| Err(Unreadable::Io(error.to_string())))
}

/// Puts what the file says in force, or says why not.
async fn reload(server: &mut Server, file: &Path, sight: Sight, log: &Log) -> Result<(), String> {
    let content = sight.map_err(|error| format!("{} {error}", file.display()))?;
    let path = file.to_owned();
    let loading = tokio::task::spawn_blocking(move || config::load_bytes(&path, &content));
    let config = loading.await.map_err(|error| error.to_string())?;
    let config = config.map_err(|faults| faults.to_string())?;
    let level = config.log.level;
    server.reload(config).await.map_err(|error| error.to_string())?;
    log.set_level(level);
    Ok(())
}

/// Those that end a gateway.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
