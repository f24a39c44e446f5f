//! The service manager: what it is told, what it hands over, and its watchdog.
//!
//! The protocols are those of sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3), which other
//! managers speak too. Where none of their variables is set, nothing here does anything.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use std::{env, io};

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::MissedTickBehavior;

/// How long a manager that reads nothing may hold up the thread that tells it something.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says that the gateway serves: after the start, and at the end of each [`reloading`], failed or not.
pub fn ready() {
    notify("READY=1\nSTATUS=Serving\n");
}

/// Says that the configuration is being loaded anew.
pub fn reloading() {
    notify(&reload_begins());
}

/// Says that the end has begun, and that it may take this long whatever `TimeoutStopSec=` says.
pub fn stopping(longest: Duration) {
    let longest = longest.as_micros();
    notify(&format!("STOPPING=1\nSTATUS=Finishing\nEXTEND_TIMEOUT_USEC={longest}\n"));
}

/// Shows the watchdog that the runtime still runs tasks, twice in each of its periods; ends at once
/// where no watchdog waits for this process.
pub async fn watchdog() {
    let Some(period) = watchdog_period() else { return };
    let mut half = tokio::time::interval(period / 2);
    half.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        half.tick().await;
        notify("WATCHDOG=1\n");
    }
}

/// Sockets that listen already, as systemd opens them for a `.socket` unit.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The one named `api`.
    pub api: Option<TcpListener>,
    /// The one named `admin`.
    pub admin: Option<TcpListener>,
}

/// Why the sockets that were handed over can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// It can't be told what it is for.
    #[error(
        "a socket named {0:?} was handed over; write FileDescriptorName=api or =admin into its \
         .socket unit"
    )]
    Name(String),
    /// One would be served and the other not.
    #[error(
        "two sockets named {0} were handed over; write ListenStream= once into its .socket unit"
    )]
    Twice(String),
    /// It takes no connections.
    #[error("the socket named {name} can't be served: {error}")]
    Kind {
        /// Its name.
        name: String,
        /// What is wrong with it.
        error: io::Error,
    },
}

/// The sockets that were handed to this process, once. To be called before there is a second thread,
/// since the variables that tell of them are removed.
///
/// # Errors
///
/// When a socket is not one TCP listener for each of the names `api` and `admin`.
pub fn listeners() -> Result<Listeners, ListenersError> {
    let mut listeners = Listeners::default();
    if number("LISTEN_PID") != Some(u64::from(std::process::id())) {
        return Ok(listeners);
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    for index in 0..handed.len() {
        let name = names.next().unwrap_or_default();
        let place = match name {
            "api" => &mut listeners.api,
            "admin" => &mut listeners.admin,
            other => return Err(ListenersError::Name(other.to_owned())),
        };
        if place.is_some() {
            return Err(ListenersError::Twice(name.to_owned()));
        }
        let unfit = |error| ListenersError::Kind { name: name.to_owned(), error };
        *place = handed.take_tcp_listener(index).map_err(unfit)?;
    }
    Ok(listeners)
}

fn watchdog_period() -> Option<Duration> {
    let period = number("WATCHDOG_USEC").filter(|period| *period > 0)?;
    // Set for the process that systemd started, and inherited by those that this one starts.
    let is_meant = match env::var_os("WATCHDOG_PID") {
        None => true,
        Some(_) => number("WATCHDOG_PID") == Some(u64::from(std::process::id())),
    };
    is_meant.then(|| Duration::from_micros(period))
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

fn reload_begins() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Loading the configuration\n")
}

fn notify(message: &str) {
    let Some(manager) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&manager, message) {
        let message = message.trim_end();
        tracing::warn!(%error, ?manager, message, "the service manager can't be told");
    }
}

fn send(manager: &OsStr, message: &str) -> io::Result<()> {
    let address = match manager.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(manager)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `Type=notify-reload` asks for it: with the time, by the clock that systemd uses.
    #[test]
    fn a_reload_is_announced_with_its_time() {
        let of = |message: &str| {
            let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            time.split_once('\n').unwrap().0.parse::<i128>().unwrap()
        };
        let boot = std::fs::read_to_string("/proc/uptime").unwrap();
        let boot: f64 = boot.split(' ').next().unwrap().parse().unwrap();
        let (first, second) = (of(&reload_begins()), of(&reload_begins()));
        assert!(first <= second);
        // The uptime counts the time in which the machine slept as well.
        assert!(first as f64 <= (boot + 1.0) * 1e6, "{first} {boot}");
    }
}
