//! A token of the store, and for how long it is good.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::credential::json::Json;
use crate::secret;

/// The shortest time between two tries to renew a token.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest lease that is believed.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A token. It can't be printed, and is zeroed when it is dropped.
pub(super) struct Token(Zeroizing<String>);

/// A token and for how long it is good.
pub(super) struct Session {
    token: Token,
    lease: Option<Lease>,
}

/// A time that ends; a token without one is good for ever, or nobody knows.
struct Lease {
    /// When it was asked for, which is before it began.
    since: Instant,
    length: Duration,
    /// How long it was at first: shorter ones come when it nears the longest time that it may have.
    first: Duration,
    is_renewable: bool,
    /// When it was last tried to have it renewed.
    tried: Option<Instant>,
}

/// Why a text can't be sent as a token or an id, if it can't.
pub(crate) fn unfit(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > secret::LARGEST {
        Some("holds more than 4 KiB")
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("holds a space, a line break or another character that no token and no id has")
    } else {
        None
    }
}

impl Token {
    /// Of a text that [`unfit`] has no word against.
    pub(super) fn of(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// As the value of a header.
    pub(super) fn header(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let own = Zeroizing::new(self.0.as_bytes().to_vec());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(own))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Session {
    /// What the answer to a login gives.
    pub(super) fn logged_in(json: &Json, asked: Instant) -> Result<Self, &'static str> {
        let auth = json.member("auth").ok_or("the answer has no \"auth\"")?;
        let token = auth.member("client_token").and_then(Json::text);
        let token = token.ok_or("the answer has no \"auth.client_token\"")?;
        if unfit(token).is_some() {
            return Err("the answer's \"auth.client_token\" is no token");
        }
        let lease = Lease::of(auth, "lease_duration", asked);
        Ok(Self { token: Token(token.clone()), lease })
    }

    /// What a look at a token of somebody else gives.
    pub(super) fn looked_up(token: Token, json: &Json, asked: Instant) -> Self {
        let lease = json.member("data").and_then(|data| Lease::of(data, "ttl", asked));
        Self { token, lease }
    }

    /// A token of somebody else of which nothing is known.
    pub(super) fn unknown(token: Token) -> Self {
        Self { token, lease: None }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    pub(super) fn has(&self, token: &Token) -> bool {
        *self.token.0 == *token.0
    }

    pub(super) fn has_expired(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.since.elapsed() >= lease.length)
    }

    /// Whether two thirds of its lease are over.
    pub(super) fn is_late(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.late() <= Instant::now())
    }

    /// When it is to be renewed; never where it can't be, or no longer.
    pub(super) fn renewal(&self) -> Option<Instant> {
        let is_open = |lease: &&Lease| lease.is_renewable && !self.has_expired();
        let lease = self.lease.as_ref().filter(is_open)?;
        let again = lease.tried.map(|tried| tried + PAUSE.max(lease.length / 10));
        Some(again.map_or(lease.late(), |again| again.max(lease.late())))
    }

    pub(super) fn is_due(&self) -> bool {
        self.renewal().is_some_and(|at| at <= Instant::now())
    }

    /// It is tried to have it renewed.
    pub(super) fn tried(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.tried = Some(Instant::now());
        }
    }

    /// Takes the longer lease that the answer to a renewal gives.
    pub(super) fn renewed(&mut self, json: &Json, asked: Instant) {
        let Some(old) = &mut self.lease else { return };
        match json.member("auth").and_then(|auth| Lease::of(auth, "lease_duration", asked)) {
            None => old.is_renewable = false,
            Some(new) => {
                // The end of what it may have is near: it would be renewed ever more often.
                let is_renewable = new.is_renewable && new.length >= old.first / 2;
                *old = Lease { first: old.first, is_renewable, ..new };
            }
        }
    }

    /// It won't be renewed.
    pub(super) fn give_up_renewal(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.is_renewable = false;
        }
    }
}

impl Lease {
    /// None where the store says that it never ends, or doesn't say.
    fn of(json: &Json, name: &str, since: Instant) -> Option<Self> {
        let Some(Json::Integer(seconds @ 1..)) = json.member(name) else { return None };
        let length = Duration::from_secs(seconds.unsigned_abs()).min(LONGEST);
        let is_renewable = matches!(json.member("renewable"), Some(Json::Boolean(true)));
        Some(Self { since, length, first: length, is_renewable, tried: None })
    }

    fn late(&self) -> Instant {
        self.since + self.length * 2 / 3
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, lease } = self;
        let length = lease.as_ref().map(|lease| lease.length);
        formatter.debug_struct("Session").field("lease", &length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(text: &str, age: u64) -> Session {
        let asked = Instant::now() - Duration::from_secs(age);
        Session::logged_in(&Json::parse(text.as_bytes()).unwrap(), asked).unwrap()
    }

    fn auth(lease: u64, is_renewable: bool) -> String {
        format!(
            r#"{{"auth":{{"client_token":"hvs.t","lease_duration":{lease},"renewable":{is_renewable}}}}}"#
        )
    }

    #[test]
    fn a_lease_is_renewed_at_two_thirds_and_ends() {
        for (age, is_late, has_expired) in [(0, false, false), (70, true, false), (101, true, true)]
        {
            let session = session(&auth(100, true), age);
            assert_eq!((session.is_late(), session.has_expired()), (is_late, has_expired), "{age}");
            assert_eq!(session.is_due(), is_late && !has_expired, "{age}");
            assert_eq!(session.renewal().is_some(), !has_expired, "{age}");
        }
        let fixed = session(&auth(100, false), 70);
        assert!(fixed.is_late() && !fixed.is_due() && fixed.renewal().is_none());
        let endless = session(&auth(0, true), 1_000);
        assert!(!endless.is_late() && !endless.has_expired() && endless.renewal().is_none());
    }

    #[test]
    fn a_renewal_that_fails_is_not_tried_at_once_again() {
        let mut session = session(&auth(100, true), 70);
        session.tried();
        assert!(!session.is_due() && session.renewal().is_some());
        session.give_up_renewal();
        assert!(session.renewal().is_none() && !session.has_expired());
    }

    #[test]
    fn a_lease_that_gets_short_is_not_renewed_further() {
        let now = Instant::now();
        for (text, is_renewable) in [
            (auth(100, true), true),
            (auth(50, true), true),
            (auth(49, true), false),
            (auth(100, false), false),
            (r#"{"auth":null}"#.to_owned(), false),
        ] {
            let mut session = session(&auth(100, true), 70);
            session.renewed(&Json::parse(text.as_bytes()).unwrap(), now);
            assert_eq!(session.renewal().is_some(), is_renewable, "{text}");
        }
        let mut session = session(&auth(100, true), 70);
        session.renewed(&Json::parse(auth(90, true).as_bytes()).unwrap(), now);
        assert!(!session.is_late());
    }

    #[test]
    fn an_answer_without_a_token_is_no_login() {
        for text in [
            "{}",
            r#"{"auth":null}"#,
            r#"{"auth":{"client_token":1}}"#,
            r#"{"auth":{"client_token":""}}"#,
            r#"{"auth":{"client_token":"a\r\nb"}}"#,
        ] {
            let json = Json::parse(text.as_bytes()).unwrap();
            assert!(Session::logged_in(&json, Instant::now()).is_err(), "{text}");
        }
        let shown = format!("{:?}", session(&auth(100, true), 0));
        assert!(!shown.contains("hvs"), "{shown}");
    }
}
