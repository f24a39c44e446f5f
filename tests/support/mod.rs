//! What the tests share: the real binary between an identity provider and a CMS, over real sockets.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../src/bin/sandbox/cms.rs"]
pub mod cms;
#[path = "../../src/bin/sandbox/http.rs"]
pub mod http;
#[path = "../../src/bin/sandbox/identity_provider/mod.rs"]
pub mod identity_provider;
pub mod trail;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::cms::ReferenceCms;
use self::identity_provider::IdentityProvider;

pub const PATH: &str = cms::PATH;
pub const SAMPLE: &str = r#"{"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["exe_gs","madhur1"]}"#;
pub const SAMPLE_ANSWER: &str = r#"{"campaignLeadId":1,"assignedCampaignUserIds":[1],"unassignedCampaignUserIds":[3817,3802],"leadId":2,"campaignId":1,"assignedUserIds":["anav_agent"],"unassignedUserIds":["madhur1","exe_gs"]}"#;
pub const BINARY: &str = env!("CARGO_BIN_EXE_cms-gateway");
/// How long any test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An identity provider, a CMS, and a gateway between them.
pub struct World {
    runtime: Runtime,
    pub provider: IdentityProvider,
    pub cms: ReferenceCms,
    pub folder: TempDir,
    pub gateway: Gateway,
}

/// The binary, serving.
pub struct Gateway {
    pub child: Child,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// An answer, as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

impl World {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// A world whose configuration was changed before the start.
    pub fn with(change: impl FnOnce(&mut String)) -> Self {
        Self::with_command(change, |config| {
            let mut command = Command::new(BINARY);
            command.args(["serve", "--config"]).arg(config);
            command
        })
    }

    /// A world whose trail is on a tmpfs of this size, in a mount namespace of the gateway's own;
    /// and where that folder is as the test sees it.
    pub fn on_tmpfs(size: &str) -> (Self, PathBuf) {
        let world = Self::with_command(
            |config| {
                *config = config.replace("directory = \"audit\"", "directory = \"small/audit\"");
            },
            |config| {
                let small = config.with_file_name("small");
                fs::create_dir(&small).unwrap();
                let mut command = Command::new("unshare");
                let script =
                    "mount -t tmpfs -o size=$3 tmpfs \"$1\" && exec \"$0\" serve --config \"$2\"";
                command.args(["--map-root-user", "--mount", "sh", "-c", script, BINARY]);
                command.arg(small).arg(config).arg(size);
                command
            },
        );
        let inside = PathBuf::from(format!("/proc/{}/root", world.gateway.child.id()));
        let audit = world.folder.path().join("small/audit");
        let audit = inside.join(audit.strip_prefix("/").unwrap());
        (world, audit)
    }

    /// Does something to the tmpfs of [`World::on_tmpfs`], in its namespace.
    pub fn within(&self, how: &[&str]) {
        let id = self.gateway.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &id, "--mount", "--user"]).args(how);
        command.arg(self.folder.path().join("small"));
        assert!(command.status().unwrap().success(), "{how:?}");
    }

    /// A world whose CMS is another one.
    pub fn with_cms(address: SocketAddr) -> Self {
        Self::with(|config| {
            let (before, _) = config.split_once("url = \"").unwrap();
            *config = format!("{before}url = \"http://{address}\"\nresponse_timeout = \"5s\"\n");
        })
    }

    pub fn with_command(
        change: impl FnOnce(&mut String),
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (for_provider, for_cms) = (bind(), bind());
        let _inside = runtime.enter();
        let provider = IdentityProvider::start(for_provider).map_err(|it| it.to_string()).unwrap();
        let cms = ReferenceCms::start(for_cms).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("username"), cms::ACCOUNT.0);
        write_secret(&folder.path().join("password"), cms::ACCOUNT.1);
        let jwks = serde_json::to_vec(provider.jwks()).unwrap();
        fs::write(folder.path().join("jwks.json"), jwks).unwrap();
        let mut text = configuration(provider.issuer(), &cms.url());
        change(&mut text);
        let config = folder.path().join("gateway.toml");
        fs::write(&config, text).unwrap();
        let gateway = Gateway::start(command(&config));
        drop(_inside);
        Self { runtime, provider, cms, folder, gateway }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// A good token with these roles.
    pub fn token(&self, roles: &[&str]) -> String {
        self.mint(&self.provider.claims("test-app", roles))
    }

    pub fn mint(&self, claims: &Value) -> String {
        self.provider.mint(claims).map_err(|it| it.to_string()).unwrap()
    }

    pub fn supervisor(&self) -> String {
        self.token(&["campaign-supervisor"])
    }

    pub fn put(&self, token: &str, body: &str) -> Reply {
        put(self.gateway.api, token, body)
    }

    /// The records of the trail that are not events.
    pub fn records(&self) -> Vec<Value> {
        let records = records_in(&self.folder.path().join("audit"));
        records.into_iter().filter(|record| record["kind"] != "event").collect()
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

pub fn configuration(issuer: &str, cms: &str) -> String {
    format!(
        r#"[listen]
api = "127.0.0.1:0"
admin = "127.0.0.1:0"
[[issuers]]
issuer = "{issuer}"
audiences = ["cms-gateway"]
jwks = {{ file = "jwks.json" }}
algorithms = ["ES256", "RS256"]
roles_claim = "roles"
[roles.campaign-supervisor]
permissions = ["lead-users:assign", "lead-users:unassign"]
campaigns = "any"
[roles.north-dialer]
permissions = ["lead-users:assign"]
campaigns = [1, 2]
[roles.remover]
permissions = ["lead-users:unassign"]
campaigns = {{ claim = "campaigns" }}
[credential]
source = "file"
username = "username"
password = "password"
[audit]
directory = "audit"
instance = "test"
[upstream]
url = "{cms}"
"#
    )
}

impl Gateway {
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::null());
        Self::start_with_stdout(command)
    }

    /// With the standard output that the command has.
    pub fn start_with_stdout(mut command: Command) -> Self {
        let mut child = command
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut api, mut admin) = (None, None);
        while api.is_none() {
            let mut line = String::new();
            let read = lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the gateway did not start: {}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "listening" {
                let address = |name: &str| event[name].as_str().unwrap().parse().ok();
                (api, admin) = (address("api"), address("admin"));
            }
        }
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                copy.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Self { child, api: api.unwrap(), admin: admin.unwrap(), log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn admin(&self, path: &str) -> Reply {
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        exchange(self.admin, text.as_bytes())
    }

    pub fn wait_until_ready(&self) {
        wait_for("readiness", || self.admin("/readyz").status == 200);
    }

    pub fn metric(&self, line: &str) -> Option<f64> {
        let text = self.admin("/metrics").body;
        let found = text.lines().find_map(|own| own.strip_prefix(line)?.strip_prefix(' '));
        found.and_then(|value| value.parse().ok())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        wait_for("the end of the gateway", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits for a condition, and fails if it does not come.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn records_in(folder: &Path) -> Vec<Value> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    let lines = paths.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
    });
    lines.collect()
}

pub fn put(api: SocketAddr, token: &str, body: &str) -> Reply {
    exchange(api, request(token, body).as_bytes())
}

/// As [`put`], where the gateway may end meanwhile.
pub fn try_put(api: SocketAddr, token: &str, body: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(api).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request(token, body).as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.windows(4).any(|window| window == b"\r\n\r\n").then(|| parse(&answer))
}

/// A good request in HTTP/1.1, after which the connection is closed.
pub fn request(token: &str, body: &str) -> String {
    format!(
        "PUT {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends bytes and reads the answer to the end of the connection.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A refusal may come, and the connection close, before all of a large request is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

/// The status of the next answer on a connection that stays; its body is read as well.
pub fn next_status(answers: &mut impl BufRead) -> u16 {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        answers.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            None if line.trim().is_empty() => break,
            None => status = line.split(' ').nth(1).unwrap().parse().unwrap(),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).unwrap();
    status
}

pub fn parse(answer: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Reply { status, headers: headers.collect(), body: body.to_owned() }
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

/// A CMS of raw sockets: it notes what it gets and says what it is told.
pub struct RawCms {
    pub address: SocketAddr,
    pub received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawCms {
    /// Answers each request as the sample is answered, and hangs up.
    pub fn agreeing() -> Self {
        let length = SAMPLE_ANSWER.len();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
        let answer = format!("{head}content-length: {length}\r\n\r\n{SAMPLE_ANSWER}");
        Self::start(answer.into_bytes())
    }

    /// Answers each request with these bytes and hangs up.
    pub fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&received);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut bytes = Vec::new();
                let mut buffer = [0; 4096];
                while !is_whole(&bytes) {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                    }
                }
                noted.lock().unwrap().push(bytes);
                let _ = stream.write_all(&answer);
            }
        });
        Self { address, received }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap_or(0))
}

/// For the tests with certificates.
pub mod authority;

/// For the tests of the API's TLS.
pub mod tls_gateway;

/// For the tests of what becomes of a change when the CMS misbehaves.
pub mod faulty;

/// For the tests of telemetry.
pub mod collector;
/// For the tests with a Prometheus that scrapes.
pub mod prometheus;

/// For the tests of what callers notice.
pub mod load;

/// For the tests of those who read a trail.
pub mod reading;

/// For the tests of issuers and their keys.
pub mod keys;

/// For the tests with an identity provider that is not ours.
pub mod bound;
pub mod issuers;
pub mod provider;
pub mod sender;

/// For the tests of the stores in which a credential may be.
pub mod agent;
pub mod moto;
/// For the tests with a store of secrets.
pub mod vault;
