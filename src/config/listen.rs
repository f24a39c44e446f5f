//! `[listen]`: the two addresses, TLS, and whether clients are asked for certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::Listen;
use super::origin::Origin;
use super::section::Section;
use super::sections::{certificates, is_loopback, roots, unreadable};

pub(super) fn listen(mut section: Section) -> Option<Listen> {
    let expected = "an address and a port, as \"127.0.0.1:8080\"";
    let api = section.parsed::<SocketAddr>("api", expected);
    let api = section.require("api", api, "\"127.0.0.1:8080\"");
    let admin = section.parsed::<SocketAddr>("admin", expected);
    let admin = section.require("admin", admin, "\"127.0.0.1:9464\"");
    let allow_plaintext = section.boolean("allow_plaintext", false);
    let has_public_url = section.has("public_url");
    let public_url = public_url(&mut section);
    let has_tls = section.has("tls");
    let tls = has_tls.then(|| tls(section.section("tls")));
    let api = api?;
    if !has_tls && !api.value.ip().is_loopback() && !allow_plaintext {
        section.fault_of(
            &api,
            format_args!(
                "{} is not loopback, and tokens would cross the network in plain text; set \
                 listen.tls, or allow_plaintext = true where something before it does TLS",
                api.value
            ),
        );
    }
    let admin = admin?;
    if api.value == admin.value && api.value.port() != 0 {
        section.fault_of(&admin, "is the address of listen.api; each needs its own");
    }
    if has_public_url && public_url.is_none() {
        return None;
    }
    let (tls, asks_for_certificates) = match tls {
        None => (None, false),
        Some(read) => read.map(|(tls, asks)| (Some(tls), asks))?,
    };
    Some(Listen { api: api.value, admin: admin.value, tls, public_url, asks_for_certificates })
}

/// Scheme and authority by which clients know this gateway.
fn public_url(section: &mut Section) -> Option<Origin> {
    let url = section.parsed::<Uri>("public_url", "a URL, as \"https://gateway.example.com\"")?;
    let Some(origin) = Origin::of(&url.value) else {
        let wanted = "is no scheme and authority; write, for example, https://gateway.example.com";
        section.fault_of(&url, wanted);
        return None;
    };
    if url.value.path_and_query().is_some_and(|path| path.as_str() != "/") {
        section.fault_of(&url, "names a path; write scheme, host and port alone");
        return None;
    }
    let host = url.value.host().unwrap_or_default();
    if origin.is_plaintext() && !is_loopback(host) {
        let wanted = "is http, and not loopback; write the https URL that clients use";
        section.fault_of(&url, wanted);
        return None;
    }
    Some(origin)
}

/// What TLS is served with, and whether clients are asked for certificates.
fn tls(mut section: Section) -> Option<(Arc<ServerConfig>, bool)> {
    let certificate = section.path("certificate");
    let certificate = section.require("certificate", certificate, "\"tls.crt\"");
    let key = section.path("key");
    let key = section.require("key", key, "\"tls.key\"");
    let clients = clients(&mut section);
    let (certificate, key) = (certificate?, key?);
    let chain = certificates(&section, &certificate);
    let private = PrivateKeyDer::from_pem_file(&key.value)
        .map_err(|error| unreadable(&section, &key, "a private key in PEM", &error))
        .ok();
    let clients = clients?;
    let asks_for_certificates = clients.is_some();
    let built = ServerConfig::builder()
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_single_cert(chain?, private?)
        .map_err(|error| section.fault_of(&certificate, format_args!("can't be used: {error}")));
    let mut tls = built.ok()?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks_for_certificates {
        // A resumed session takes the certificate from the one before, whatever has expired since.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
    }
    Some((Arc::new(tls), asks_for_certificates))
}

/// Who checks clients' certificates; `Some(None)` when none are asked for.
#[expect(clippy::option_option, reason = "the outer one says that a fault was noted")]
fn clients(section: &mut Section) -> Option<Option<Arc<dyn ClientCertVerifier>>> {
    let has_choice = section.has("client_certificate");
    let is_required =
        section.choice("client_certificate", &[("requested", false), ("required", true)]);
    let Some(file) = section.path("client_ca") else {
        if has_choice {
            let wanted = "needs client_ca beside it: the CAs whose certificates are accepted";
            section.fault("client_certificate", wanted);
            return None;
        }
        return Some(None);
    };
    let builder = WebPkiClientVerifier::builder(roots(section, &file)?);
    let builder = if is_required == Some(true) { builder } else { builder.allow_unauthenticated() };
    builder
        .build()
        .map_err(|error| section.fault_of(&file, format_args!("can't be used: {error}")))
        .ok()
        .map(Some)
}
