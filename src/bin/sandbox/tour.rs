//! The guided tour: the sample change, seen at each party, then three calls that are refused.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::Sandbox;
use super::cms::{ACCOUNT, PATH, basic};
use super::identity_provider::CLIENT_SECRET;

const SAMPLE: &str = r#"{"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["exe_gs","madhur1"]}"#;
const SAMPLE_ANSWER: &str = r#"{"campaignLeadId":1,"assignedCampaignUserIds":[1],"unassignedCampaignUserIds":[3817,3802],"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["madhur1","exe_gs"]}"#;
const ELSEWHERE: &str =
    r#"{"leadId":9,"campaignId":7,"assignedUserIds":["agent_four"],"unassignedUserIds":[]}"#;

/// Shows the journey; true if every step went as it should.
pub(super) async fn run(sandbox: &Sandbox, is_once: bool) -> Result<bool, String> {
    let mut show = Show::new();
    let api = sandbox.gateway.api();
    wait_until_ready(sandbox.gateway.admin()).await?;
    show.title("The parties, all on this machine");
    show.line(&format!("identity provider  {}", sandbox.provider.issuer()));
    show.line(&format!("gateway            http://{api}"));
    show.line(&format!("  its admin side   http://{}", sandbox.gateway.admin()));
    show.line(&format!("CMS                {}", sandbox.cms.url()));
    show.line(&format!("all files          {}", sandbox.folder.display()));

    let supervisor = sandbox.provider.claims("supervisor-app", &["campaign-supervisor"]);
    let dialer = sandbox.provider.claims("north-dialer-app", &["north-dialer"]);
    let mut expired = supervisor.clone();
    if let Some(time) = expired.get_mut("exp") {
        *time = Value::from(1_700_000_000);
    }
    let mint = |claims| sandbox.provider.mint(claims).map_err(|error| error.to_string());
    let (supervisor, dialer, expired) = (mint(&supervisor)?, mint(&dialer)?, mint(&expired)?);

    show.title("1. What the app sends to the gateway");
    show.line(&format!("PUT {PATH}"));
    let start: String = supervisor.chars().take(24).collect();
    show.line(&format!("Authorization: Bearer {start}... (role campaign-supervisor)"));
    show.json(SAMPLE);
    let (status, body) = put(api, &supervisor, SAMPLE).await?;

    show.title("2. What the CMS got from the gateway");
    let received = sandbox.cms.received();
    let at_the_cms = received.last();
    if let Some(received) = at_the_cms {
        show.line(&format!("{} {}", received.method, received.target));
        for (name, value) in &received.headers {
            let is_secret = name == "authorization";
            let shown = if is_secret { "Basic ******** (the CMS's password)" } else { value };
            show.line(&format!("{name}: {shown}"));
        }
        show.json(&String::from_utf8_lossy(&received.body));
    }
    let expected = basic(ACCOUNT.0, ACCOUNT.1);
    show.check(
        "the CMS got the change with its own credential, and no token",
        at_the_cms.is_some_and(|received| {
            received.body == SAMPLE.as_bytes()
                && received.headers.iter().any(|(_, value)| *value == expected)
                && !received.headers.iter().any(|(_, value)| value.contains(&supervisor))
        }),
    );

    show.title("3. What the app got back");
    show.line(&format!("{status}"));
    show.json(&body);
    show.check("the CMS's answer, byte for byte", (status, body.as_str()) == (200, SAMPLE_ANSWER));

    show.title("4. What the audit trail says");
    let records = records(sandbox)?;
    for record in records.iter().filter(|record| !is_of_kind(record, "event")) {
        show.record(record);
    }
    let of_kind = |kind: &str| records.iter().find(|record| is_of_kind(record, kind));
    show.check(
        "the intent was on disk before the CMS was asked, the outcome after",
        of_kind("intent").zip(of_kind("outcome")).is_some_and(|(intent, outcome)| {
            intent.get("request_id") == outcome.get("request_id")
                && outcome.pointer("/upstream/status") == Some(&Value::from(200))
        }),
    );

    show.title("5. Three calls that are refused");
    let calls = sandbox.cms.calls();
    for (what, token, body, expected) in [
        ("north-dialer takes agents off a lead", &dialer, SAMPLE, (403, "GW-3001")),
        ("north-dialer assigns in campaign 7", &dialer, ELSEWHERE, (403, "GW-3002")),
        ("an expired token", &expired, SAMPLE, (401, "GW-2003")),
    ] {
        let (status, body) = put(api, token, body).await?;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        show.line(what);
        show.json(&body);
        let code = answer.get("errorCode").and_then(Value::as_str).unwrap_or_default();
        show.check(&format!("{} {}", expected.0, expected.1), (status, code) == expected);
    }
    show.check("the CMS heard of none of them", sandbox.cms.calls() == calls);

    if !is_once {
        show.try_by_hand(sandbox);
    }
    Ok(show.went_well)
}

fn is_of_kind(record: &Value, kind: &str) -> bool {
    record.get("kind").and_then(Value::as_str) == Some(kind)
}

async fn put(api: SocketAddr, token: &str, body: &str) -> Result<(u16, String), String> {
    let request = http::Request::put(format!("http://{api}{PATH}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::from(body.to_owned())))
        .map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

async fn wait_until_ready(admin: SocketAddr) -> Result<(), String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let url: http::Uri =
        format!("http://{admin}/readyz").parse().map_err(|_| "no address".to_owned())?;
    for _ in 0..500 {
        if client.get(url.clone()).await.is_ok_and(|answer| answer.status() == 200) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the gateway is not ready after five seconds".to_owned())
}

fn records(sandbox: &Sandbox) -> Result<Vec<Value>, String> {
    let folder = sandbox.folder.join("audit");
    let read = || -> io::Result<Vec<Value>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                for line in fs::read_to_string(path)?.lines() {
                    records.push(serde_json::from_str(line)?);
                }
            }
        }
        Ok(records)
    };
    read().map_err(|error| error.to_string())
}

/// Writes for people: 80 columns, colours on a terminal that wants them.
struct Show {
    has_colour: bool,
    went_well: bool,
}

impl Show {
    fn new() -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { has_colour: is_wanted && io::stdout().is_terminal(), went_well: true }
    }

    fn print(&self, colour: &str, text: &str) {
        let mut out = io::stdout();
        let _ = if self.has_colour && !colour.is_empty() {
            writeln!(out, "\x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(out, "{text}")
        };
    }

    fn title(&self, text: &str) {
        self.print("1", &format!("\n{text}"));
    }

    fn line(&self, text: &str) {
        self.print("", &format!("  {text}"));
    }

    /// JSON, each member of an object on a line of its own where one line is too long.
    fn json(&self, text: &str) {
        if text.len() <= 74 {
            return self.print("36", &format!("    {text}"));
        }
        match serde_json::from_str::<serde_json::Map<String, Value>>(text) {
            Err(_) => self.wrapped(text),
            Ok(members) => {
                self.print("36", "    {");
                let last = members.len().saturating_sub(1);
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index == last { "" } else { "," };
                    self.wrapped(&format!("  \"{key}\": {value}{comma}"));
                }
                self.print("36", "    }");
            }
        }
    }

    fn wrapped(&self, text: &str) {
        let characters: Vec<char> = text.chars().collect();
        for (index, part) in characters.chunks(72).enumerate() {
            let indent = if index == 0 { "    " } else { "        " };
            self.print("36", &format!("{indent}{}", part.iter().collect::<String>()));
        }
    }

    /// The members of a record that hold something.
    fn record(&self, record: &Value) {
        let Some(members) = record.as_object() else { return };
        let is_something = |value: &Value| match value {
            Value::Null => false,
            Value::Object(members) => members.values().any(|value| !value.is_null()),
            _ => true,
        };
        for (key, value) in members.iter().filter(|(_, value)| is_something(value)) {
            match value {
                Value::Object(members) => {
                    self.print("36", &format!("    {key}"));
                    for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                        self.wrapped(&format!("  {key}: {value}"));
                    }
                }
                value => self.print("36", &format!("    {key}: {value}")),
            }
        }
        self.line("");
    }

    fn check(&mut self, what: &str, is_so: bool) {
        self.went_well &= is_so;
        if is_so {
            self.print("32", &format!("  ok      {what}"));
        } else {
            self.print("31", &format!("  WRONG   {what}"));
        }
    }

    fn try_by_hand(&self, sandbox: &Sandbox) {
        let token = |client: &str| {
            format!(
                "TOKEN=$(curl -s {} -d grant_type=client_credentials \\\n    -d client_id={client} \
                 -d client_secret={CLIENT_SECRET} \\\n    | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')",
                sandbox.provider.token_url()
            )
        };
        let (ids, users) = SAMPLE.split_at(SAMPLE.find("\"assigned").unwrap_or_default());
        let (assigned, unassigned) = users.split_at(users.find("\"unassigned").unwrap_or_default());
        let call = format!(
            "curl -i -X PUT \\\n    http://{}{PATH} \\\n    -H \"Authorization: Bearer $TOKEN\" \\\n    \
             -H 'Content-Type: application/json' \\\n    -d '{ids}\n    {assigned}\n    \
             {unassigned}'",
            sandbox.gateway.api()
        );
        self.title("Try it: allowed");
        self.print("", &format!("{}\n{call}", token("supervisor-app")));
        self.title("Try it: denied, since north-dialer may not take agents off");
        self.print("", &format!("{}\n{call}", token("north-dialer-app")));
        self.title("Try it: a CMS that misbehaves (401, 500, slow, cut-off, garbage, ...)");
        self.print(
            "",
            &format!("curl -X PUT {}/sandbox/misbehaviour -d once:garbage", sandbox.cms.url()),
        );
        self.title("Look at it");
        self.print("", &format!("curl http://{}/metrics", sandbox.gateway.admin()));
        self.print("", &format!("curl http://{}/audit/checkpoint", sandbox.gateway.admin()));
        let trail = format!("{}/audit", sandbox.folder.display());
        self.print("", &format!("tail -f {trail}/*.jsonl"));
        self.title("Ask the trail who did it, and prove that it is whole");
        for question in ["query", "summary", "verify"] {
            self.print("", &format!("cargo run -qr -- audit {question} {trail}"));
        }
        self.title("Ctrl-C ends it");
    }
}
