//! `[credential.vault]`: a secret in HashiCorp Vault or OpenBao, and how the gateway is known there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use rustls::RootCertStore;

use super::secret_file;
use crate::config::section::{Located, Section};
use crate::config::sections::{MILLISECOND, SECOND, bare_base, trusted};
use crate::credential::Source;
use crate::credential::vault::{Store, encoded, unfit};
use crate::secret;

/// Where the kubelet puts the token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A secret in HashiCorp Vault or OpenBao.
#[derive(Debug, Clone)]
pub struct Vault {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and port.
    pub authority: Authority,
    /// Whom to trust for it; the system's roots without.
    pub ca: Option<Arc<RootCertStore>>,
    /// The value of `X-Vault-Namespace`.
    pub namespace: Option<HeaderValue>,
    /// Where the secret is, below `/v1/`; with `data/` where the engine has versions.
    pub secret: String,
    /// Whether the key/value engine has versions (KV version 2).
    pub is_versioned: bool,
    /// The user name's field in the secret.
    pub username_key: String,
    /// The password's field in the secret.
    pub password_key: String,
    /// How long a fetch may take, a login included.
    pub timeout: Duration,
    /// How the gateway is known there.
    pub login: Login,
}

/// How the gateway is known to the store. Files are read anew each time.
#[derive(Debug, Clone)]
pub enum Login {
    /// By a token that somebody else got.
    Token {
        /// Its file.
        file: PathBuf,
    },
    /// By the AppRole method.
    AppRole {
        /// Where the method is, below `/v1/`.
        mount: String,
        /// The role's id, which is no secret.
        role_id: String,
        /// The file of the secret id.
        secret_id: PathBuf,
    },
    /// By the Kubernetes method.
    Kubernetes {
        /// Where the method is, below `/v1/`.
        mount: String,
        /// The role's name.
        role: String,
        /// The file of the service account's token.
        token: PathBuf,
    },
}

pub(super) fn vault(
    section: &mut Section,
    environment: &BTreeMap<String, String>,
) -> Option<Arc<dyn Source>> {
    let mut table = section.section("vault");
    let settings = settings(&mut table, environment)?;
    match Store::new(settings) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            table.fault("ca", error);
            None
        }
    }
}

fn settings(section: &mut Section, environment: &BTreeMap<String, String>) -> Option<Vault> {
    let example = "\"https://vault.example.com:8200\"";
    let url = section.parsed::<Uri>("url", &format!("a URL, as {example}"));
    let url = section.require("url", url, example);
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let base = url.and_then(|url| bare_base(section, &url, allow_plaintext));
    let ca = trusted(section);
    let namespace = section.text("namespace");
    let header = namespace.as_ref().map(|name| HeaderValue::from_str(&name.value));
    if let (Some(name), Some(Err(_))) = (&namespace, &header) {
        section.fault_of(name, "holds a character that no header can");
    }
    let is_versioned = section.integer("kv_version", 2, 1..=2) == 2;
    let mount = mount(section, "secret");
    let path = section.text("path");
    let path = section.require("path", path, "\"cms/gateway\"");
    let path = path.and_then(|path| segments(section, &path));
    let username_key = section.text_or("username_key", "username");
    let password_key = section.text_or("password_key", "password");
    if username_key == password_key {
        section.fault("password_key", "names the same field as username_key");
    }
    let timeout = section.duration("timeout", 2 * SECOND, 10 * MILLISECOND..=60 * SECOND);
    let login = login(section.section("auth"), environment);
    let (scheme, authority) = base?;
    let (mount, path) = (mount?, path?);
    let data = if is_versioned { "/data" } else { "" };
    Some(Vault {
        scheme,
        authority,
        ca: ca?,
        namespace: header.and_then(Result::ok),
        secret: format!("{mount}{data}/{path}"),
        is_versioned,
        username_key,
        password_key,
        timeout,
        login: login?,
    })
}

fn login(mut section: Section, environment: &BTreeMap<String, String>) -> Option<Login> {
    let methods = ["token", "approle", "kubernetes"];
    if methods.iter().filter(|method| section.has(method)).count() != 1 {
        let wanted = "must have exactly one of token, approle and kubernetes, as { token = \
                      \"/run/secrets/vault/token\" }";
        section.fault("", wanted);
        methods.iter().for_each(|method| section.ignore(method));
        return None;
    }
    if section.has("token") {
        let file = secret_file(&mut section, "token", environment)?;
        return private(&section, file).map(|file| Login::Token { file });
    }
    if section.has("approle") {
        let mut table = section.section("approle");
        let mount = mount(&mut table, "approle");
        let role_id = table.text("role_id");
        let role_id = table.require("role_id", role_id, "\"0190...\"");
        let file = secret_file(&mut table, "secret_id", environment);
        let file = table.require("secret_id", file, "\"/run/secrets/vault/secret-id\"");
        let secret_id = file.and_then(|file| private(&table, file));
        return Some(Login::AppRole {
            mount: format!("auth/{}", mount?),
            role_id: role_id?.value,
            secret_id: secret_id?,
        });
    }
    let mut table = section.section("kubernetes");
    let mount = mount(&mut table, "kubernetes");
    let role = table.text("role");
    let role = table.require("role", role, "\"cms-gateway\"");
    let is_default = !table.has("token");
    let token = secret_file(&mut table, "token", environment);
    let token = token.map_or_else(|| PathBuf::from(SERVICE_ACCOUNT), |file| file.value);
    // The kubelet gives it a mode that lets others read it.
    if let Some(wrong) = fault(&token, secret::read_of_any_mode(&token)) {
        let hint = if is_default { "; name another file in token" } else { "" };
        table.fault("token", format_args!("{wrong}{hint}"));
    }
    Some(Login::Kubernetes { mount: format!("auth/{}", mount?), role: role?.value, token })
}

/// A file that holds a secret and lets nobody else at it.
fn private(section: &Section, file: Located<PathBuf>) -> Option<PathBuf> {
    if let Some(wrong) = fault(&file.value, secret::read(&file.value)) {
        section.fault_of(&file, wrong);
    }
    Some(file.value)
}

fn fault(file: &Path, read: Result<secret::Read, String>) -> Option<String> {
    match read {
        Err(error) => Some(error),
        Ok((text, _)) => unfit(&text).map(|wrong| format!("{} {wrong}", file.display())),
    }
}

/// Where an engine or a method is, encoded for a URL.
fn mount(section: &mut Section, default: &str) -> Option<String> {
    match section.text("mount") {
        None => Some(default.to_owned()),
        Some(text) => segments(section, &text),
    }
}

fn segments(section: &Section, text: &Located<String>) -> Option<String> {
    encoded(&text.value).map_err(|error| section.fault_of(text, error)).ok()
}
