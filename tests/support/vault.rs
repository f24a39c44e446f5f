//! Stores of secrets: RustyVault, which `tests/run` installs, and one that says what it is told.
//!
//! RustyVault's key/value engine has no versions; a value that is stored in the shape of version 2
//! gives its answers. It knows no `renew-self`, no policies, no namespaces and no standby.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::bound::exchange_over_tls;
use super::{Reply, exchange, wait_for, write_secret};

const RUSTY_VAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-tools/rvault");

/// A RustyVault on loopback, unsealed, with AppRole. It ends with this value.
pub struct RustyVault {
    pub folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    key: String,
    root: String,
    has_tls: bool,
}

impl RustyVault {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Over TLS, with a certificate that [`Self::ca`] vouches for.
    pub fn start_with_tls() -> Self {
        Self::start_with(true)
    }

    fn start_with(has_tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.path().join("tls.crt"), own.cert.pem()).unwrap();
        write_secret(&folder.path().join("tls.key"), &own.signing_key.serialize_pem());
        let (key, root) = (String::new(), String::new());
        let mut vault = Self { folder, address: free_address(), child: None, key, root, has_tls };
        vault.launch();
        let init = json!({"secret_shares": 1, "secret_threshold": 1});
        let init = vault.ask("PUT", "sys/init", Some(&init)).json();
        vault.key = init["keys"][0].as_str().unwrap().to_owned();
        vault.root = init["root_token"].as_str().unwrap().to_owned();
        vault.unseal();
        vault.told("POST", "sys/auth/approle", Some(&json!({"type": "approle"})));
        vault
    }

    fn launch(&mut self) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let tls = if self.has_tls {
            let (certificate, key) = (at("tls.crt"), at("tls.key"));
            format!(
                "tls_disable = \"false\"\ntls_cert_file = {certificate:?}\ntls_key_file = {key:?}"
            )
        } else {
            "tls_disable = \"true\"".to_owned()
        };
        let config = format!(
            "storage \"file\" {{\npath = {:?}\n}}\n\
             listener \"tcp\" {{\naddress = \"{}\"\n{tls}\n}}\n\
             pid_file = {:?}\nwork_dir = {:?}\nlog_level = \"warn\"\n",
            at("data"),
            self.address,
            at("pid"),
            at("work")
        );
        fs::write(at("config.hcl"), config).unwrap();
        let child = Command::new(RUSTY_VAULT)
            .args(["server", "--config", &at("config.hcl")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{RUSTY_VAULT} (tests/run installs it): {error}"));
        self.child = Some(child);
        wait_for("RustyVault", || TcpStream::connect(self.address).is_ok());
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.has_tls { "https" } else { "http" }, self.address)
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// With what it has stored.
    pub fn start_again(&mut self) {
        self.launch();
        self.unseal();
    }

    pub fn seal(&self) {
        self.told("PUT", "sys/seal", None);
    }

    pub fn unseal(&self) {
        self.told("PUT", "sys/unseal", Some(&json!({"key": self.key})));
    }

    /// Stores a credential as version 2 of the engine would show it.
    pub fn store(&self, path: &str, username: &str, password: &str, version: u64) {
        let data = json!({"username": username, "password": password});
        let metadata = json!({"version": version, "deletion_time": "", "destroyed": false});
        let value = json!({"data": data, "metadata": metadata});
        self.told("POST", &format!("secret/data/{path}"), Some(&value));
    }

    /// Leaves nothing at this path.
    pub fn delete(&self, path: &str) {
        self.told("DELETE", &format!("secret/data/{path}"), None);
    }

    /// It accepts connections, and says nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Makes a role whose tokens are good for so long; its id, and a secret id of it.
    pub fn role(&self, name: &str, ttl: &str) -> (String, String) {
        let path = format!("auth/approle/role/{name}");
        let settings = json!({"token_ttl": ttl, "token_max_ttl": "1h", "bind_secret_id": true});
        self.told("POST", &path, Some(&settings));
        let text =
            |reply: Reply, name: &str| reply.json()["data"][name].as_str().unwrap().to_owned();
        let role_id = text(self.told("GET", &format!("{path}/role-id"), None), "role_id");
        let secret_id =
            text(self.told("POST", &format!("{path}/secret-id"), Some(&json!({}))), "secret_id");
        (role_id, secret_id)
    }

    fn told(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let reply = self.ask(method, path, body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        reply
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: vault\r\nX-Vault-Token: {}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.root,
            body.len()
        );
        if self.has_tls {
            exchange_over_tls(self.address, &self.ca(), None, request.as_bytes())
        } else {
            exchange(self.address, request.as_bytes())
        }
    }
}

impl Drop for RustyVault {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where nobody listens, for now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A store that gives the documented answers to the documented requests, and notes these.
pub struct Scripted {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Script = Box<dyn FnMut(&Asked) -> Said + Send>;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What is answered.
pub enum Said {
    Json(u16, Value),
    /// Status, headers and body as they are.
    Raw(String),
    /// Nothing, until the other side hangs up.
    Nothing,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn token(&self) -> &str {
        self.header("x-vault-token").unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Scripted {
    pub fn start(script: impl FnMut(&Asked) -> Said + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, notes) = (Arc::clone(&script), Arc::clone(&asked));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (answers, notes) = (Arc::clone(&answers), Arc::clone(&notes));
                std::thread::spawn(move || serve(stream, &answers, &notes));
            }
        });
        Self { address, script, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub fn answer(&self, script: impl FnMut(&Asked) -> Said + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often it was asked for what ends so.
    pub fn count(&self, end: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.ends_with(end)).count()
    }
}

/// Answers one request and hangs up.
fn serve(stream: TcpStream, script: &Mutex<Script>, notes: &Mutex<Vec<Asked>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let Some(asked) = request(&mut lines) else { return };
    notes.lock().unwrap().push(asked.clone());
    let said = script.lock().unwrap()(&asked);
    let text = match said {
        Said::Json(status, body) => {
            let body = body.to_string();
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        Said::Raw(text) => text,
        Said::Nothing => {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let _ = lines.read(&mut [0]);
            return;
        }
    };
    let _ = (&stream).write_all(text.as_bytes());
}

fn request(lines: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.parse().ok()?;
        }
        headers.push((name, value.to_owned()));
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    Some(Asked { method, path, headers, body: String::from_utf8(body).ok()? })
}

/// The answer of KV version 2.
pub fn versioned(username: &str, password: &str, version: u64) -> Said {
    let metadata = json!({"created_time": "2026-01-01T00:00:00Z", "custom_metadata": null,
        "deletion_time": "", "destroyed": false, "version": version});
    let data = json!({"username": username, "password": password});
    Said::Json(
        200,
        json!({"request_id": "1", "lease_id": "", "renewable": false,
        "lease_duration": 0, "data": {"data": data, "metadata": metadata},
        "wrap_info": null, "warnings": null, "auth": null}),
    )
}

/// The answer to a login or a renewal.
pub fn lease(token: &str, seconds: u64, is_renewable: bool) -> Said {
    Said::Json(
        200,
        json!({"request_id": "1", "lease_id": "", "renewable": false,
        "lease_duration": 0, "data": null, "wrap_info": null, "warnings": null,
        "auth": {"client_token": token, "accessor": "a", "policies": ["default"],
            "token_policies": ["default"], "metadata": {"role_name": "gateway"},
            "lease_duration": seconds, "renewable": is_renewable, "entity_id": "e",
            "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 0}}),
    )
}

/// An error as the store says it.
pub fn error(status: u16, words: &str) -> Said {
    Said::Json(status, json!({"errors": [words]}))
}

/// Writes a configuration whose credential is in this store, read twenty times a second.
pub fn in_store(config: &mut String, url: &str, more: &str) {
    let (before, rest) = config.split_once("source = \"file\"\n").unwrap();
    let (_, after) = rest.split_once("[audit]").unwrap();
    // A machine that is busy with other tests is slow.
    let timeout = if more.contains("timeout") { "" } else { "timeout = \"15s\"\n" };
    *config = format!(
        "{before}source = \"vault\"\nrefresh = \"50ms\"\n\
         [credential.vault]\nurl = \"{url}\"\npath = \"cms\"\n{timeout}{more}\n[audit]{after}"
    );
}

/// A CMS at this address instead.
pub fn with_cms(config: &mut String, address: SocketAddr) {
    let (before, _) = config.split_once("[upstream]").unwrap();
    *config = format!("{before}[upstream]\nurl = \"http://{address}\"\n");
}

/// The configuration of an AppRole whose secret id is in a file beside it.
pub fn approle(role_id: &str) -> String {
    format!("auth = {{ approle = {{ role_id = \"{role_id}\", secret_id = \"secret-id\" }} }}")
}

/// Writes a secret beside the configuration.
pub fn beside(config: &Path, name: &str, text: &str) {
    write_secret(&config.with_file_name(name), text);
}
