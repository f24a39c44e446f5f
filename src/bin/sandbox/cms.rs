//! A reference CMS: the one call, its sample data, and the ways in which a CMS goes wrong.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, SERVER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::http as web;

/// The path of its one call.
pub(crate) const PATH: &str = "/cms/configuration/voice/campaignLeadUserMapping";
/// The account that may change mappings, and its password.
pub(crate) const ACCOUNT: (&str, &str) = ("cms-service", "cms-password");
/// An account that may only read.
pub(crate) const READER: (&str, &str) = ("cms-reader", "cms-reader-password");

/// Users and their campaign user ids, in the order in which answers list them.
const USERS: &[(&str, i64)] = &[
    ("anav_agent", 1),
    ("madhur1", 3817),
    ("exe_gs", 3802),
    ("agent_four", 4),
    ("agent_five", 5),
    ("agent_six", 6),
    ("agent_seven", 7),
];
/// Campaign, lead, and the id of their mapping.
const LEADS: &[(i64, i64, i64)] = &[(1, 2, 1), (1, 3, 2), (2, 5, 3), (7, 9, 4)];
/// How many requests are kept.
const KEPT: usize = 1000;

/// A running CMS.
#[derive(Clone)]
pub(crate) struct ReferenceCms(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    received: VecDeque<Received>,
    calls: u64,
    assigned: BTreeSet<(i64, &'static str)>,
    always: Misbehaviour,
    once: Option<Misbehaviour>,
    /// The account's password, where it is no longer the first.
    password: Option<String>,
    /// How often a password was wrong.
    refusals: u64,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

macro_rules! misbehaviours {
    ($first:ident $first_word:literal $first_what:literal, $($name:ident $word:literal $what:literal),* $(,)?) => {
        /// What the CMS does instead of what it should.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub(crate) enum Misbehaviour {
            #[default]
            #[doc = $first_what]
            $first,
            $(#[doc = $what] $name,)*
        }

        impl Misbehaviour {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[Self::$first, $(Self::$name),*];
        }

        impl Display for Misbehaviour {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    Self::$first => $first_word,
                    $(Self::$name => $word),*
                })
            }
        }
    };
}

misbehaviours! {
    None "none" "Nothing: it behaves.",
    Unauthorized "401" "Refuses the account.",
    Forbidden "403" "Says that the account may not.",
    Error "500" "Fails, in its own shape of an error.",
    HtmlError "500-html" "Fails with a page.",
    Unavailable "503" "Has too much to do.",
    Slow "slow" "Answers after half a minute.",
    CutOff "cut-off" "Breaks off in the middle of its answer.",
    Garbage "garbage" "Answers 200 with what is no JSON.",
    Html "html" "Answers 200 with a page.",
    Huge "huge" "Answers 200 with more than 1 MiB.",
    NoContent "no-content" "Answers 204.",
    WrongLead "wrong-lead" "Answers 200 for another lead.",
}

impl FromStr for Misbehaviour {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|one| one.to_string() == word).copied().ok_or_else(|| {
            let words: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("one of {}, or once: and one of them", words.join(", "))
        })
    }
}

impl ReferenceCms {
    /// Serves on a listener.
    pub(crate) fn start(listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let cms = Self(Arc::new(Inner { address, state: Mutex::default() }));
        let served = cms.clone();
        web::serve(listener, move |request| {
            let cms = served.clone();
            async move { cms.answer(request).await }
        });
        Ok(cms)
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// What it was asked lately, the oldest first.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state().received.iter().cloned().collect()
    }

    /// How many requests for a change it got.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Who is assigned to a lead.
    #[allow(dead_code, reason = "the tests ask")]
    pub(crate) fn assigned(&self, campaign: i64, lead: i64) -> Vec<&'static str> {
        let mapping = LEADS.iter().find(|it| (it.0, it.1) == (campaign, lead)).map(|it| it.2);
        let state = self.state();
        state.assigned.iter().filter(|it| Some(it.0) == mapping).map(|it| it.1).collect()
    }

    /// How often a password was wrong.
    #[allow(dead_code, reason = "the tests ask")]
    pub(crate) fn refusals(&self) -> u64 {
        self.state().refusals
    }

    /// Gives the account another password.
    #[allow(dead_code, reason = "the tests tell it")]
    pub(crate) fn change_password(&self, password: &str) {
        self.state().password = Some(password.to_owned());
    }

    /// Tells it how to behave from now on.
    #[allow(dead_code, reason = "the tests tell it")]
    pub(crate) fn misbehave(&self, how: Misbehaviour) {
        self.state().always = how;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<web::Body> {
        match request.uri().path() {
            "/sandbox/misbehaviour" => return self.told(&request),
            "/sandbox/password" => return self.given_password(&request),
            _ => {}
        }
        let how = self.note(&request);
        if how == Misbehaviour::Slow {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let mut response = self.behave(how, &request);
        // As a Java web application would; none of it may reach the gateway's callers.
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("Apache-Coyote/1.1"));
        let cookie = HeaderValue::from_static("JSESSIONID=8A7F; Path=/cms; HttpOnly");
        headers.insert(SET_COOKIE, cookie);
        let powered = HeaderName::from_static("x-powered-by");
        headers.insert(powered, HeaderValue::from_static("Servlet/4.0"));
        response
    }

    /// `PUT /sandbox/misbehaviour` with the name as body.
    fn told(&self, request: &Request<Bytes>) -> Response<web::Body> {
        if request.method() != Method::PUT {
            return web::text(StatusCode::METHOD_NOT_ALLOWED, "PUT the name of a misbehaviour");
        }
        let words = String::from_utf8_lossy(request.body()).trim().to_owned();
        let (is_once, word) = match words.strip_prefix("once:") {
            Some(word) => (true, word),
            None => (false, words.as_str()),
        };
        match word.parse::<Misbehaviour>() {
            Err(expected) => web::text(StatusCode::BAD_REQUEST, &expected),
            Ok(how) => {
                let mut state = self.state();
                if is_once {
                    state.once = Some(how);
                } else {
                    state.always = how;
                }
                web::text(StatusCode::OK, &format!("the CMS will do this: {words}"))
            }
        }
    }

    /// `PUT /sandbox/password` with the account's new password as body.
    fn given_password(&self, request: &Request<Bytes>) -> Response<web::Body> {
        if request.method() != Method::PUT {
            return web::text(StatusCode::METHOD_NOT_ALLOWED, "PUT the new password");
        }
        let password = String::from_utf8_lossy(request.body()).trim().to_owned();
        self.state().password = Some(password);
        web::text(StatusCode::OK, "the account has another password")
    }

    fn note(&self, request: &Request<Bytes>) -> Misbehaviour {
        let mut state = self.state();
        if state.received.len() == KEPT {
            state.received.pop_front();
        }
        state.calls += 1;
        let headers = request.headers().iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        state.received.push_back(Received {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            headers: headers.collect(),
            body: request.body().to_vec(),
        });
        state.once.take().unwrap_or(state.always)
    }

    fn behave(&self, how: Misbehaviour, request: &Request<Bytes>) -> Response<web::Body> {
        let page = "<html><body>Application error</body></html>";
        match how {
            Misbehaviour::None | Misbehaviour::Slow => self.map(request),
            Misbehaviour::Unauthorized => self.unauthorized(),
            Misbehaviour::Forbidden => {
                error(StatusCode::FORBIDDEN, "CONF-1004", "Not allowed for this account")
            }
            Misbehaviour::Error => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "CONF-5000", "Internal error")
            }
            Misbehaviour::HtmlError => {
                web::reply(StatusCode::INTERNAL_SERVER_ERROR, "text/html", page)
            }
            Misbehaviour::Unavailable => {
                web::reply(StatusCode::SERVICE_UNAVAILABLE, "text/html", page)
            }
            Misbehaviour::Html => web::reply(StatusCode::OK, "text/html", page),
            Misbehaviour::Garbage => web::reply(StatusCode::OK, "application/json", "{\"leadId\":"),
            Misbehaviour::NoContent => {
                let mut response = web::reply(StatusCode::NO_CONTENT, "application/json", "");
                response.headers_mut().clear();
                response
            }
            Misbehaviour::Huge => {
                let filler = "x".repeat(1 << 20);
                web::json(StatusCode::OK, &json!({"campaignLeadId": 1, "filler": filler}))
            }
            Misbehaviour::WrongLead => web::json(
                StatusCode::OK,
                &Answer {
                    campaign_lead_id: 2,
                    assigned_campaign_user_ids: vec![],
                    unassigned_campaign_user_ids: vec![],
                    lead_id: 3,
                    campaign_id: 1,
                    assigned_user_ids: vec![],
                    unassigned_user_ids: vec![],
                },
            ),
            Misbehaviour::CutOff => web::cut_off(),
        }
    }

    fn map(&self, request: &Request<Bytes>) -> Response<web::Body> {
        if request.uri().path() != PATH {
            return error(StatusCode::NOT_FOUND, "CONF-1000", "No such page");
        }
        if request.method() != Method::PUT {
            return error(StatusCode::METHOD_NOT_ALLOWED, "CONF-1000", "No such method");
        }
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let is = |(name, password)| header == Some(basic(name, password).as_bytes());
        if is(READER) {
            return error(StatusCode::FORBIDDEN, "CONF-1004", "Not allowed for this account");
        }
        let password = self.state().password.clone();
        if !is((ACCOUNT.0, password.as_deref().unwrap_or(ACCOUNT.1))) {
            return self.unauthorized();
        }
        let invalid = |what| error(StatusCode::BAD_REQUEST, "CONF-1002", what);
        let Ok(change) = serde_json::from_slice::<Change>(request.body()) else {
            return invalid("Invalid body");
        };
        if change.lead_id < 1 || change.campaign_id < 1 {
            return invalid("Invalid lead or campaign id");
        }
        let listed = |names: &[String]| -> Option<Vec<(&'static str, i64)>> {
            let known = |name: &String| USERS.iter().any(|(user, _)| user == name);
            names.iter().all(known).then(|| {
                let named = |user: &&(&str, i64)| names.iter().any(|name| name == user.0);
                USERS.iter().filter(named).copied().collect()
            })
        };
        let lists = (listed(&change.assigned_user_ids), listed(&change.unassigned_user_ids));
        let (Some(assigned), Some(unassigned)) = lists else { return invalid("Invalid user id") };
        let lead = (change.campaign_id, change.lead_id);
        let Some((_, _, mapping)) = LEADS.iter().find(|it| (it.0, it.1) == lead) else {
            return error(StatusCode::NOT_FOUND, "CONF-1001", "Object doesn't exist");
        };
        let mut state = self.state();
        for (user, _) in &assigned {
            state.assigned.insert((*mapping, user));
        }
        for (user, _) in &unassigned {
            state.assigned.remove(&(*mapping, *user));
        }
        web::json(
            StatusCode::OK,
            &Answer {
                campaign_lead_id: *mapping,
                assigned_campaign_user_ids: assigned.iter().map(|it| it.1).collect(),
                unassigned_campaign_user_ids: unassigned.iter().map(|it| it.1).collect(),
                lead_id: change.lead_id,
                campaign_id: change.campaign_id,
                assigned_user_ids: assigned.iter().map(|it| it.0).collect(),
                unassigned_user_ids: unassigned.iter().map(|it| it.0).collect(),
            },
        )
    }

    fn unauthorized(&self) -> Response<web::Body> {
        self.state().refusals += 1;
        let mut response = error(StatusCode::UNAUTHORIZED, "CONF-1003", "Wrong credentials");
        let challenge = HeaderValue::from_static("Basic realm=\"cms\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }
}

/// The header for an account.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    lead_id: i64,
    campaign_id: i64,
    assigned_user_ids: Vec<String>,
    unassigned_user_ids: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    campaign_lead_id: i64,
    assigned_campaign_user_ids: Vec<i64>,
    unassigned_campaign_user_ids: Vec<i64>,
    lead_id: i64,
    campaign_id: i64,
    assigned_user_ids: Vec<&'static str>,
    unassigned_user_ids: Vec<&'static str>,
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<web::Body> {
    let words = status.canonical_reason().unwrap_or_default();
    let body: Value = json!({
        "statusCode": status.as_u16(), "status": words, "errorCode": code, "errorMessage": message,
    });
    web::json(status, &body)
}
