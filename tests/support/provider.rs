//! The identity provider that is not ours: node's `oidc-provider`, which `tests/run` installs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use super::bound::{ClientAuthority, ClientCertificate, DpopKey, exchange_over_tls};
use super::{Reply, exchange};

/// The client of plain tokens; its name is the subject of its tokens too.
pub const PLAIN_APP: &str = "plain-app";
/// The client whose tokens are bound to a key (RFC 9449).
pub const DPOP_APP: &str = "dpop-app";
/// The client whose tokens are bound to its certificate (RFC 8705).
pub const MTLS_APP: &str = "mtls-app";
/// The client that may introspect, which is the gateway itself.
pub const GATEWAY: &str = "gateway";
pub const SECRET: &str = "test-secret";

/// The process, listening on loopback. It ends with this value.
pub struct Provider {
    folder: TempDir,
    issuer: String,
    control: SocketAddr,
    child: Option<Child>,
    /// With TLS, who vouches for clients.
    authority: Option<ClientAuthority>,
    /// With TLS, the certificate that one client has, and must show.
    certificate: Option<ClientCertificate>,
}

/// What becomes of the keys that signed until now.
#[derive(Debug, Clone, Copy)]
pub enum Rotation {
    /// A new set of keys signs, the old ones are still published.
    Overlap,
    /// A new set of keys signs, the old ones are gone.
    Swap,
    /// What is not the newest set is gone.
    Withdraw,
}

impl Provider {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), None, None)
    }

    /// Over TLS, with a certificate that [`Provider::ca`] vouches for.
    pub fn start_with_tls() -> Self {
        Self::start_with_certificate_for("127.0.0.1")
    }

    /// The same, where the certificate is for this host; the address is the same.
    pub fn start_with_certificate_for(host: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        fs::write(folder.path().join("tls.crt"), own.cert.pem()).unwrap();
        fs::write(folder.path().join("tls.key"), own.signing_key.serialize_pem()).unwrap();
        let authority = ClientAuthority::generate();
        let certificate = authority.certificate(MTLS_APP);
        fs::write(folder.path().join("client.crt"), &certificate.pem).unwrap();
        Self::start_in(folder, Some(authority), Some(certificate))
    }

    fn start_in(
        folder: TempDir,
        authority: Option<ClientAuthority>,
        certificate: Option<ClientCertificate>,
    ) -> Self {
        let (child, issuer, control) = spawn(folder.path(), 0);
        Self { folder, issuer, control, child: Some(child), authority, certificate }
    }

    /// Its name in its tokens, which is its address.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.issuer)
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.issuer)
    }

    pub fn introspection_url(&self) -> String {
        format!("{}/token/introspection", self.issuer)
    }

    /// The file that vouches for its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    /// The certificate of [`MTLS_APP`].
    pub fn client_certificate(&self) -> &ClientCertificate {
        self.certificate.as_ref().unwrap()
    }

    /// Who vouches for that certificate, and for others if asked.
    pub fn client_authority(&self) -> &ClientAuthority {
        self.authority.as_ref().unwrap()
    }

    /// A supervisor's token for the gateway, signed with this algorithm, or `opaque`.
    pub fn token(&self, format: &str) -> String {
        self.token_for(&format!("urn:cms-gateway:{format}"), "campaign-supervisor")
    }

    /// A token of [`PLAIN_APP`] for this resource with this scope, which is its roles too.
    pub fn token_for(&self, resource: &str, scope: &str) -> String {
        let head = authorization(PLAIN_APP);
        access_token(&self.post("/token", &head, &form(resource, scope), None))
    }

    /// A token of [`DPOP_APP`], bound to this key.
    pub fn dpop_token(&self, key: &DpopKey, format: &str) -> String {
        let proof = key.proof("POST", &self.token_url(), &serde_json::json!({}));
        let head = format!("{}DPoP: {proof}\r\n", authorization(DPOP_APP));
        let form = form(&format!("urn:cms-gateway:{format}"), "campaign-supervisor");
        let reply = self.post("/token", &head, &form, None);
        assert_eq!(reply.json()["token_type"], "DPoP", "{reply:?}");
        access_token(&reply)
    }

    /// A token of [`MTLS_APP`], bound to the certificate that it shows.
    pub fn mtls_token(&self, format: &str) -> String {
        let form = form(&format!("urn:cms-gateway:{format}"), "campaign-supervisor");
        let form = format!("{form}&client_id={MTLS_APP}");
        access_token(&self.post("/token", "", &form, self.certificate.as_ref()))
    }

    /// An ID token of [`PLAIN_APP`].
    pub fn id_token(&self) -> String {
        self.command("GET", "/id-token")["token"].as_str().unwrap().to_owned()
    }

    /// What the provider says of a token (RFC 7662) when the gateway asks.
    pub fn introspect(&self, token: &str) -> Value {
        let form = format!("token={token}");
        self.post("/token/introspection", &authorization(GATEWAY), &form, None).json()
    }

    /// Takes a token of [`PLAIN_APP`] back (RFC 7009).
    pub fn revoke(&self, token: &str) {
        let form = format!("token={token}");
        let reply = self.post("/token/revocation", &authorization(PLAIN_APP), &form, None);
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    pub fn rotate(&self, rotation: Rotation) {
        let name = match rotation {
            Rotation::Overlap => "overlap",
            Rotation::Swap => "swap",
            Rotation::Withdraw => "withdraw",
        };
        self.command("POST", &format!("/rotate/{name}"));
    }

    /// How often its keys were asked for, since it was started.
    pub fn jwks_requests(&self) -> u64 {
        self.command("GET", "/counts")["jwks"].as_u64().unwrap()
    }

    /// How often its discovery document was asked for, since it was started.
    pub fn discovery_requests(&self) -> u64 {
        self.command("GET", "/counts")["discovery"].as_u64().unwrap()
    }

    /// Ends the process at once, so that nobody listens on its port.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it again, with its address and its keys.
    pub fn start_again(&mut self) {
        let (child, issuer, control) = spawn(self.folder.path(), self.address().port());
        assert_eq!(issuer, self.issuer);
        (self.child, self.control) = (Some(child), control);
    }

    /// Starts it again, with its address, and with keys that nobody has seen.
    pub fn start_again_with_other_keys(&mut self) {
        fs::remove_file(self.folder.path().join("jwks.json")).unwrap();
        self.start_again();
    }

    fn address(&self) -> SocketAddr {
        self.issuer.split_once("://").unwrap().1.parse().unwrap()
    }

    fn command(&self, method: &str, path: &str) -> Value {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let reply = exchange(self.control, head.as_bytes());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    fn post(
        &self,
        path: &str,
        head: &str,
        form: &str,
        certificate: Option<&ClientCertificate>,
    ) -> Reply {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{head}Connection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.address(),
            form.len()
        );
        if !self.issuer.starts_with("https:") {
            return exchange(self.address(), request.as_bytes());
        }
        exchange_over_tls(self.address(), &self.ca(), certificate, request.as_bytes())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
    }
}

fn spawn(folder: &Path, port: u16) -> (Child, String, SocketAddr) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("target/test-tools/provider/node_modules/.package-lock.json");
    assert!(installed.exists(), "tests/run installs what the tests need");
    let log = folder.join("provider.log");
    let mut child = Command::new("node")
        .arg(root.join("tests/provider/provider.mjs"))
        .arg(port.to_string())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
        panic!("the provider did not start: {line}{}", fs::read_to_string(&log).unwrap())
    });
    let text = |name: &str| listening[name].as_str().unwrap().to_owned();
    (child, text("issuer"), text("control").parse().unwrap())
}

/// RFC 6749, section 2.3.1.
fn authorization(client: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{client}:{SECRET}")))
}

fn form(resource: &str, scope: &str) -> String {
    format!("grant_type=client_credentials&resource={resource}&scope={scope}")
}

fn access_token(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["access_token"].as_str().unwrap().to_owned()
}
