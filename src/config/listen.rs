//! `[listen]`: the two addresses, TLS, and whether clients are asked for certificates.

use std::net::SocketAddr;

use http::Uri;

use super::origin::Origin;
use super::section::Section;
use super::sections::is_loopback;
use super::{Listen, ListenClients, ListenTls};
use crate::server::tls;

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
    let tls = has_tls.then(|| tls_files(section.section("tls")));
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
    let tls = match tls {
        None => None,
        Some(tls) => Some(tls?),
    };
    Some(Listen { api: api.value, admin: admin.value, tls, public_url })
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

/// The files that TLS is served with, and whether clients are asked for certificates.
fn tls_files(mut section: Section) -> Option<ListenTls> {
    let certificate = section.path("certificate");
    let certificate = section.require("certificate", certificate, "\"tls.crt\"");
    let key = section.path("key");
    let key = section.require("key", key, "\"tls.key\"");
    let clients = clients(&mut section);
    let tls = ListenTls { certificate: certificate?.value, key: key?.value, clients: clients? };
    let faults = tls::faults(&tls);
    let is_sound = faults.is_empty();
    for fault in faults {
        section.fault(fault.key, fault.message);
    }
    is_sound.then_some(tls)
}

/// Whose certificates are accepted; `Some(None)` when none are asked for.
#[expect(clippy::option_option, reason = "the outer one says that a fault was noted")]
fn clients(section: &mut Section) -> Option<Option<ListenClients>> {
    let mut lonely = vec!["client_certificate", "client_crl"];
    lonely.retain(|key| section.has(key));
    let is_required =
        section.choice("client_certificate", &[("requested", false), ("required", true)]);
    let crl = section.path("client_crl");
    let Some(ca) = section.path("client_ca") else {
        for key in &lonely {
            let wanted = "needs client_ca beside it: the CAs whose certificates are accepted";
            section.fault(key, wanted);
        }
        return lonely.is_empty().then_some(None);
    };
    Some(Some(ListenClients {
        ca: ca.value,
        crl: crl.map(|file| file.value),
        is_required: is_required == Some(true),
    }))
}
