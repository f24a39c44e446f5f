//! How the gateway becomes known to the store.

use std::fmt;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Store;
use super::session::{Session, Token, unfit};
use super::wire::Ask;
use crate::config::credential::Login;
use crate::credential::source::SourceError;
use crate::secret;

/// How long a secret id is not tried again after it was refused, and four times as long after each
/// further time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest such time. A store that refuses five logins of a role lets none in for a quarter of an
/// hour, not even with another secret id, and forgets them after as long without one.
const LONGEST_PAUSE: Duration = Duration::from_secs(16 * 60);

/// A secret id that the store has refused.
pub(super) struct RefusedId {
    id: Zeroizing<String>,
    at: Instant,
    pause: Duration,
}

impl Store {
    /// Logs in with what the files say now.
    pub(super) async fn log_in(&self, deadline: Instant) -> Result<Session, SourceError> {
        let mut tried = None;
        let (mount, body) = match &self.settings.login {
            Login::Token { file } => {
                let token = Token::of(self.secret_in(file, true, deadline).await?);
                return self.look_up(token, deadline).await;
            }
            Login::AppRole { mount, role_id, secret_id } => {
                let secret_id = self.secret_in(secret_id, true, deadline).await?;
                let body = body(&AppRole { role_id, secret_id: &secret_id })?;
                if let Some(left) = self.pause_left(&secret_id) {
                    let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
                    return Err(SourceError::Denied(self.wire.told(
                        &format!("the login at {mount}"),
                        &format!(
                            "it has refused this secret id, which is tried again in {left}, and \
                             another one in the file at once"
                        ),
                    )));
                }
                tried = Some(secret_id);
                (mount, body)
            }
            Login::Kubernetes { mount, role, token } => {
                let jwt = self.secret_in(token, false, deadline).await?;
                (mount, body(&Kubernetes { role, jwt: &jwt })?)
            }
        };
        let (step, path) = (format!("the login at {mount}"), format!("{mount}/login"));
        let asked = Instant::now();
        let ask = Ask { step: &step, path: &path, token: None, body: Some(body) };
        let answer = self.wire.post(&ask, deadline).await;
        match (tried, &answer) {
            (Some(id), Err(SourceError::Denied(_))) => self.refuse(id),
            (Some(_), Ok(_)) => *self.refused() = None,
            _ => {}
        }
        let json = answer?;
        Session::logged_in(&json, asked)
            .map_err(|wrong| SourceError::Malformed(self.wire.told(&step, wrong)))
    }

    /// How long this secret id is not to be tried yet.
    fn pause_left(&self, id: &str) -> Option<Duration> {
        let refused = self.refused();
        let refused = refused.as_ref().filter(|refused| *refused.id == id)?;
        refused.pause.checked_sub(refused.at.elapsed()).filter(|left| !left.is_zero())
    }

    fn refuse(&self, id: Zeroizing<String>) {
        let mut refused = self.refused();
        let before = refused.as_ref().filter(|refused| refused.id == id);
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 4).min(LONGEST_PAUSE));
        *refused = Some(RefusedId { id, at: Instant::now(), pause });
    }

    fn refused(&self) -> MutexGuard<'_, Option<RefusedId>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session by a token that somebody else got, and what the store says of its lease.
    pub(super) async fn look_up(
        &self,
        token: Token,
        deadline: Instant,
    ) -> Result<Session, SourceError> {
        let (step, path) = ("the look at the token", "auth/token/lookup-self");
        let asked = Instant::now();
        let ask = Ask { step, path, token: Some(&token), body: None };
        match self.wire.get(&ask, deadline).await {
            Ok(json) => Ok(Session::looked_up(token, &json, asked)),
            Err(error @ SourceError::Unavailable(_)) => Err(error),
            // Its policy may leave it no look at itself, and let it read the secret all the same.
            Err(_) => Ok(Session::unknown(token)),
        }
    }

    pub(super) async fn secret_in(
        &self,
        file: &Path,
        is_private: bool,
        deadline: Instant,
    ) -> Result<Zeroizing<String>, SourceError> {
        let path = file.to_owned();
        let read = if is_private { secret::read } else { secret::read_of_any_mode };
        let limit = deadline.saturating_duration_since(Instant::now());
        let Some(read) = self.disk.ask(limit, move || read(&path)).await else {
            let message = format!("{} can't be read: no answer in time", file.display());
            return Err(SourceError::Unavailable(message));
        };
        let (text, _) = read.map_err(SourceError::Unavailable)?;
        match unfit(&text) {
            None => Ok(text),
            Some(wrong) => Err(SourceError::Malformed(format!("{} {wrong}", file.display()))),
        }
    }
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct Kubernetes<'a> {
    role: &'a str,
    jwt: &'a str,
}

/// The body of a login, which is zeroed when it has been sent.
fn body(login: &impl Serialize) -> Result<Bytes, SourceError> {
    // Room for all of it from the start, so that no smaller buffer is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * secret::LARGEST));
    serde_json::to_writer(&mut *bytes, login)
        .map_err(|_| SourceError::Malformed("the login can't be written".to_owned()))?;
    Ok(Bytes::from_owner(bytes))
}

impl fmt::Debug for RefusedId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RefusedId").field("pause", &self.pause).finish_non_exhaustive()
    }
}
