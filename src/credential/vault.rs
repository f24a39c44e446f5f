//! A secret in the key/value engine of HashiCorp Vault or OpenBao.
//!
//! The gateway logs in, keeps the token that it got and renews it at two thirds of its lease, also
//! between two fetches: a login for each fetch would use up secret ids and fill the store with
//! leases. Where a token can't be renewed, has expired or is no longer accepted, it logs in again,
//! once for each fetch at the most, and seldom with a secret id that the store has refused.
//!
//! What a store answers is never repeated in a message, only what it means: nobody knows what an
//! answer quotes.

mod answer;
mod location;
mod login;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

pub(crate) use self::location::encoded;
use self::login::RefusedId;
pub(crate) use self::session::unfit;
use self::session::{Session, Token};
use self::wire::{Ask, Wire};
use super::source::{Pending, Secret, Source, SourceError};
use crate::client::ClientError;
use crate::config::credential::{Login, Vault};
use crate::disk::Disk;

/// How often it is looked whether there is something to be renewed.
const LOOK: Duration = Duration::from_secs(1);

/// A store of secrets, and how the gateway stands with it.
#[derive(Debug)]
pub(crate) struct Store {
    settings: Vault,
    wire: Wire,
    disk: Disk,
    /// Held while the store is asked something.
    session: Mutex<Option<Session>>,
    refused: std::sync::Mutex<Option<RefusedId>>,
}

impl Store {
    /// Knows where to ask and has asked nothing.
    ///
    /// # Errors
    ///
    /// When the client can't be built.
    pub(crate) fn new(settings: Vault) -> Result<Self, ClientError> {
        let wire = Wire::new(&settings)?;
        let (disk, session) = (Disk::default(), Mutex::default());
        Ok(Self { settings, wire, disk, session, refused: std::sync::Mutex::default() })
    }
}

impl Source for Store {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn fetch(&self) -> Pending<'_, Result<Secret, SourceError>> {
        Box::pin(async {
            let deadline = Instant::now() + self.settings.timeout;
            let mut session = timeout_at(deadline, self.session.lock()).await.map_err(|_| {
                SourceError::Unavailable(
                    "the store is still busy with what it was asked".to_owned(),
                )
            })?;
            self.fetch_with(&mut session, deadline).await
        })
    }

    /// Renews what must be renewed between two fetches; it tells of no change.
    fn changed(&self) -> Pending<'_, ()> {
        Box::pin(async {
            loop {
                // Another one's fetch may bring another session meanwhile.
                let look = Instant::now() + LOOK;
                let due = self.session.lock().await.as_ref().and_then(Session::renewal);
                sleep_until(due.map_or(look, |due| due.min(look))).await;
                let mut session = self.session.lock().await;
                if let Some(session) = session.as_mut().filter(|session| session.is_due()) {
                    self.renew(session, Instant::now() + self.settings.timeout).await;
                }
            }
        })
    }
}

impl Store {
    async fn fetch_with(
        &self,
        kept: &mut Option<Session>,
        deadline: Instant,
    ) -> Result<Secret, SourceError> {
        let is_new = self.ensure(kept, deadline).await?;
        let mut read = self.read(kept, deadline).await;
        if matches!(read, Err(SourceError::Denied(_))) && !is_new {
            // The token was revoked, or the store has forgotten it. Or its rights were, and come back
            // when no login may be possible any more: it is kept until there is another one.
            let denied = kept.replace(self.log_in(deadline).await?);
            read = self.read(kept, deadline).await;
            if let (Some(denied), Err(SourceError::Denied(_))) = (denied, &read) {
                self.revoke(denied.token(), deadline).await;
            }
        }
        read
    }

    /// Sees to a session that should be accepted, and says whether it is of just now.
    async fn ensure(
        &self,
        kept: &mut Option<Session>,
        deadline: Instant,
    ) -> Result<bool, SourceError> {
        if let Login::Token { file } = &self.settings.login {
            // Read each time: whoever got it may have put another one there.
            let token = Token::of(self.secret_in(file, true, deadline).await?);
            if kept.as_ref().is_none_or(|kept| !kept.has(&token) || kept.has_expired()) {
                *kept = Some(self.look_up(token, deadline).await?);
                return Ok(true);
            }
        }
        if let Some(session) = kept.as_mut().filter(|session| session.is_due()) {
            self.renew(session, deadline).await;
        }
        let is_token = matches!(self.settings.login, Login::Token { .. });
        let Some(session) = kept.as_ref().filter(|session| !session.has_expired()) else {
            *kept = Some(self.log_in(deadline).await?);
            return Ok(true);
        };
        if is_token || !session.is_late() {
            return Ok(false);
        }
        match self.log_in(deadline).await {
            Ok(session) => {
                *kept = Some(session);
                Ok(true)
            }
            Err(error) => {
                tracing::warn!(%error, "no login, and the token is good for a while");
                Ok(false)
            }
        }
    }

    async fn read(
        &self,
        session: &Option<Session>,
        deadline: Instant,
    ) -> Result<Secret, SourceError> {
        let step = format!("the secret at {}", self.settings.secret);
        let token = session.as_ref().map(Session::token);
        let ask = Ask { step: &step, path: &self.settings.secret, token, body: None };
        let json = self.wire.get(&ask, deadline).await?;
        answer::secret(&json, &self.settings)
            .map_err(|(kind, wrong)| kind(self.wire.told(&step, &wrong)))
    }

    /// Ends a token that gets nothing and would stay in the store for its whole lease, one more with
    /// each fetch. One that somebody else got is theirs to end.
    async fn revoke(&self, token: &Token, deadline: Instant) {
        if matches!(self.settings.login, Login::Token { .. }) {
            return;
        }
        let (step, path) = ("the end of the token", "auth/token/revoke-self");
        let body = Some(bytes::Bytes::from_static(b"{}"));
        let ask = Ask { step, path, token: Some(token), body };
        if let Err(error) = self.wire.post(&ask, deadline).await {
            tracing::debug!(%error, "the token that was denied is not ended");
        }
    }

    /// Asks for a longer lease; without success the session is as it was.
    async fn renew(&self, session: &mut Session, deadline: Instant) {
        session.tried();
        let step = "the renewal of the token";
        let (path, token) = ("auth/token/renew-self", Some(session.token()));
        let body = Some(bytes::Bytes::from_static(b"{}"));
        let asked = Instant::now();
        match self.wire.post(&Ask { step, path, token, body }, deadline).await {
            Ok(json) => session.renewed(&json, asked),
            Err(error) => {
                tracing::warn!(%error, "the token for the secret store is not renewed");
                if !matches!(error, SourceError::Unavailable(_)) {
                    session.give_up_renewal();
                }
            }
        }
    }
}
