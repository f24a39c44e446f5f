//! `serve`: configuration, runtime, server, signal, end.

use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{NO, WRONG_USE, refuse};
use crate::config::{self, Config};
use crate::server::{Server, StartError};
use crate::telemetry;

pub(super) fn run(file: &Path) -> ExitCode {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(faults) => return refuse(faults, WRONG_USE),
    };
    if let Err(fault) = telemetry::init_logging() {
        return refuse(fault, WRONG_USE);
    }
    let mut builder = match std::thread::available_parallelism() {
        // On one core there is nobody to share work with, and handing it over has its price.
        Ok(NonZero::<usize>::MIN) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(format_args!("the runtime can't be started: {error}"), NO),
    };
    let ended = runtime.block_on(serve(&config));
    // A disk that does not answer must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(error, NO),
    }
}

async fn serve(config: &Config) -> Result<(), StartError> {
    // Before the first byte is served, so that no signal is missed.
    let terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let server = Server::start(config).await?;
    wait_for_one(terminate, interrupt).await;
    server.stop().await;
    Ok(())
}

async fn wait_for_one(
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
