//! An AWS that is not AWS's: moto's server, which `tests/run` installs.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Reply, exchange};

/// The region in which the tests keep their secrets.
pub const REGION: &str = "eu-central-1";

/// The process, listening on loopback. It ends with this value.
pub struct Moto {
    child: Child,
    address: SocketAddr,
}

/// Keys of AWS.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Moto {
    pub fn start() -> Self {
        Self::start_at(0)
    }

    /// On this port.
    pub fn start_at(port: u16) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join("target/test-tools/bin/moto_server");
        assert!(program.exists(), "tests/run installs what the tests need");
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let begun = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "moto did not start: {said}");
            if let Some((_, address)) = said[begun..].split_once("Running on http://") {
                break address.trim().parse().unwrap();
            }
        };
        // What it says of each request must go somewhere, or else it would wait.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a secret, and says its version.
    pub fn create(&self, name: &str, value: &str) -> String {
        let body = json!({"Name": name, "SecretString": value});
        version(&self.secrets("CreateSecret", &body))
    }

    /// Gives a secret another value, and says its version.
    pub fn rotate(&self, name: &str, value: &str) -> String {
        let body = json!({"SecretId": name, "SecretString": value});
        version(&self.secrets("PutSecretValue", &body))
    }

    /// A call of Secrets Manager.
    pub fn secrets(&self, call: &str, body: &Value) -> Value {
        let head = format!(
            "X-Amz-Target: secretsmanager.{call}\r\nContent-Type: application/x-amz-json-1.1\r\n{}",
            scope("secretsmanager", REGION)
        );
        let reply = self.post("/", &head, &body.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// A user with these rights, and its keys.
    pub fn user(&self, name: &str, actions: &[&str]) -> Keys {
        self.iam(&[("Action", "CreateUser"), ("UserName", name)]);
        if !actions.is_empty() {
            let policy = policy(actions);
            self.iam(&[
                ("Action", "PutUserPolicy"),
                ("UserName", name),
                ("PolicyName", "own"),
                ("PolicyDocument", &policy),
            ]);
        }
        keys(&self.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]))
    }

    /// A role with these rights, which everybody may take, by its ARN.
    pub fn role(&self, name: &str, actions: &[&str]) -> String {
        self.role_on(name, actions, &json!({}))
    }

    /// The same on a condition.
    pub fn role_on(&self, name: &str, actions: &[&str], condition: &Value) -> String {
        let statement = json!({"Effect": "Allow", "Principal": {"AWS": "*"},
            "Action": "sts:AssumeRole", "Condition": condition});
        let trust = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        self.iam(&[
            ("Action", "CreateRole"),
            ("RoleName", name),
            ("AssumeRolePolicyDocument", &trust),
        ]);
        let policy = policy(actions);
        self.iam(&[
            ("Action", "PutRolePolicy"),
            ("RoleName", name),
            ("PolicyName", "own"),
            ("PolicyDocument", &policy),
        ]);
        format!("arn:aws:iam::123456789012:role/{name}")
    }

    /// Keys of a role for a while.
    pub fn assume(&self, role_arn: &str) -> Keys {
        keys(&self.form(
            "",
            &[
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", role_arn),
                ("RoleSessionName", "test"),
                ("WebIdentityToken", "token"),
            ],
        ))
    }

    /// From the request on that comes after so many, each one's signature and rights are checked.
    pub fn check_after(&self, requests: u32) {
        let head = "Content-Type: text/plain\r\n";
        let reply = self.post("/moto-api/reset-auth", head, &requests.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// No signature is checked, which is so at the start.
    pub fn check_none(&self) {
        self.check_after(u32::MAX);
    }

    fn iam(&self, form: &[(&str, &str)]) -> String {
        let form = [form, &[("Version", "2010-05-08")]].concat();
        self.form(&scope("iam", "us-east-1"), &form)
    }

    fn form(&self, head: &str, form: &[(&str, &str)]) -> String {
        let head = format!("{head}Content-Type: application/x-www-form-urlencoded\r\n");
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let reply = self.post("/", &head, &form);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    fn post(&self, path: &str, head: &str, body: &str) -> Reply {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{head}Connection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        exchange(self.address, request.as_bytes())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port at which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The header by which moto knows which service is meant; its signature is none.
fn scope(service: &str, region: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20260131/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=none\r\n"
    )
}

fn policy(actions: &[&str]) -> String {
    let statement = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn version(answer: &Value) -> String {
    answer["VersionId"].as_str().unwrap().to_owned()
}

fn keys(xml: &str) -> Keys {
    let element = |name: &str| {
        let (_, after) = xml.split_once(&format!("<{name}>"))?;
        Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    Keys {
        id: element("AccessKeyId").unwrap(),
        secret: element("SecretAccessKey").unwrap(),
        token: element("SessionToken"),
    }
}
