//! `/openapi.json` is a good description of the API, and a true one.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cms_gateway::operation::{self, Echo};
use cms_gateway::reply::Code;
use serde_json::{Value, json};
use support::identity_provider::CLIENT_SECRET;
use support::{World, exchange};

fn tool(name: &str) -> PathBuf {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools/bin").join(name);
    assert!(tool.exists(), "{name} is missing; tests/run installs it");
    tool
}

fn document(world: &World) -> Value {
    let reply = world.gateway.admin("/openapi.json");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.json()
}

/// Judged by the schema of OpenAPI 3.1 itself and the rules that no schema can hold.
#[track_caller]
fn assert_valid(document: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    fs::write(&file, document.to_string()).unwrap();
    let mut command = Command::new(tool("openapi-spec-validator"));
    let output = command.args(["--schema", "3.1"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said} {document:#}");
}

#[test]
fn the_description_is_good_openapi_3_1() {
    let plain = World::start();
    let rich = World::with(|config| {
        let listen = "public_url = \"https://gateway.example.com\"\nadmin = ";
        *config = config.replacen("admin = ", listen, 1);
        *config = config.replacen("[[issuers]]\n", "[[issuers]]\ndpop = {}\n", 1);
        let limits = "rate = { requests = 50, per = \"1s\", burst = 100 }\nusers = 7\n";
        *config = config.replacen("[audit]", &format!("[limits]\n{limits}[audit]"), 1);
    });
    let (plain, rich) = (document(&plain), document(&rich));
    assert_valid(&plain);
    assert_valid(&rich);
    // A description that is not good is not taken for one.
    assert!(std::panic::catch_unwind(|| assert_valid(&json!({"openapi": "3.1.0"}))).is_err());

    assert_eq!(plain["security"], json!([{"bearer": []}]));
    assert_eq!(rich["security"], json!([{"bearer": []}, {"dpop": []}]));
    assert_eq!(rich["servers"][0]["url"], "https://gateway.example.com");
    let headers = |document: &Value| document["components"]["headers"].clone();
    for of_the_rich in ["dpop-nonce", "ratelimit", "ratelimit-policy"] {
        assert!(headers(&rich)[of_the_rich].is_object() && headers(&plain)[of_the_rich].is_null());
    }
    let operation = &rich["paths"][support::PATH]["put"];
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["assignedUserIds"]["maxItems"], 7);
}

#[test]
fn every_operation_and_every_code_is_described() {
    let world = World::start();
    let document = document(&world);
    assert_eq!(document["servers"][0]["url"], format!("http://{}", world.gateway.api));
    let codes = document["components"]["schemas"]["ErrorCode"]["oneOf"].as_array().unwrap();
    let codes: BTreeSet<_> = codes.iter().map(|code| code["const"].as_str().unwrap()).collect();
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str()).collect());
    for operation in operation::ALL {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = &document["paths"][operation.path][method];
        for code in Code::ALL {
            let response = &described["responses"][code.status().as_str()];
            let examples = &response["content"]["application/json"]["examples"];
            assert_eq!(examples[code.as_str()]["value"]["errorCode"], code.as_str());
        }
        // The examples are what the gateway takes, and what the CMS answers to it.
        let content = "content/application~1json/example";
        let example = described.pointer(&format!("/requestBody/{content}")).unwrap().to_string();
        let answer = described.pointer(&format!("/responses/200/{content}")).unwrap().to_string();
        let change = (operation.decode)(example.as_bytes(), 1000).unwrap();
        assert_eq!(change.echo(answer.as_bytes()), Echo::Agrees);
    }
}

/// Callers read the same table.
#[test]
fn the_readme_has_every_code_with_its_status() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for code in Code::ALL {
        let row = format!("| {} | {} |", code.as_str(), code.status().as_u16());
        assert!(readme.contains(&row), "{row}");
    }
}

/// The sandbox, until it is dropped.
struct Sandbox {
    child: Child,
    provider: String,
    gateway: String,
    admin: String,
}

impl Sandbox {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut address_of = |party: &str| {
            let line = lines.find(|line| line.trim_start().starts_with(party)).unwrap();
            line.split("http://").nth(1).unwrap().trim_end_matches('/').to_owned()
        };
        let [provider, gateway, admin] =
            ["identity provider ", "gateway ", "its admin side "].map(&mut address_of);
        // It says how to end it once all is done that it does by itself.
        lines.find(|line| line.contains("Ctrl-C")).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, provider, gateway, admin }
    }

    fn document(&self) -> Value {
        let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let document = exchange(self.admin.parse().unwrap(), request.as_bytes()).json();
        assert_eq!(document["servers"][0]["url"], format!("http://{}", self.gateway));
        document
    }

    /// As an app gets one.
    fn token(&self) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id=supervisor-app&client_secret={CLIENT_SECRET}"
        );
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.provider,
            form.len()
        );
        let answer = exchange(self.provider.parse().unwrap(), request.as_bytes()).json();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// What schemathesis makes of the description: requests that it allows and such that it does not,
/// without a token and with a wrong one, with other methods; each answer is held against it.
///
/// Left out is the one check that asks whether everything that the schema allows succeeds: whether
/// there is such a lead, and such a user, only the CMS knows.
#[test]
fn the_gateway_does_as_the_description_says() {
    let sandbox = Sandbox::start();
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.xml");
    let mut command = Command::new(tool("schemathesis"));
    command.args(["run", "--no-color", "--exclude-checks=positive_data_acceptance"]);
    command.args(["--phases=examples,coverage,fuzzing", "--max-examples=200", "--seed=7"]);
    command.args(["--generation-database=none", "--request-timeout=10", "--workers=1"]);
    command.arg(format!("--header=Authorization: Bearer {}", sandbox.token()));
    command.arg(format!("--report-junit-path={}", report.display()));
    let file = folder.path().join("openapi.json");
    fs::write(&file, sandbox.document().to_string()).unwrap();
    command.arg(format!("--url=http://{}", sandbox.gateway)).arg(file);
    // By itself it does not know that what violates the schema may be too large to be read.
    let statuses = "negative_data_rejection.expected-statuses = [400, 401, 405, 413, 415]";
    fs::write(folder.path().join("schemathesis.toml"), format!("[checks]\n{statuses}\n")).unwrap();
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (begin, end) = (said.chars().take(4000), said.chars().rev().take(1000));
    let end: Vec<char> = end.collect();
    let said: String = begin.chain(" ... ".chars()).chain(end.into_iter().rev()).collect();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
