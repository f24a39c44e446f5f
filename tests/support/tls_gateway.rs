//! A gateway with TLS, and its clients.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::authority::{Authority, Signed};
use super::{BINARY, PATIENCE, SAMPLE, World, request, write_secret};

/// A client's certificate with those of its issuers, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A gateway whose certificate is by `authority`.
pub struct TlsGateway {
    pub world: World,
    pub authority: Authority,
}

impl TlsGateway {
    /// With these keys of `listen.tls` besides, and what else is written to its folder.
    pub fn start(keys: &str, write: impl FnOnce(&Path)) -> Self {
        Self::start_with(keys, |_| {}, write)
    }

    /// With a configuration that is changed otherwise too.
    pub fn start_with(
        keys: &str,
        change: impl FnOnce(&mut String),
        write: impl FnOnce(&Path),
    ) -> Self {
        let authority = Authority::new();
        let world = World::with_command(
            |config| {
                *config = with_tls(config, keys);
                change(config);
            },
            |config| {
                let folder = config.parent().unwrap();
                write_pair(folder, &authority.sign("localhost", |_| {}));
                write(folder);
                let mut command = Command::new(BINARY);
                command.args(["serve", "--config"]).arg(config);
                command
            },
        );
        world.gateway.wait_until_ready();
        Self { world, authority }
    }

    pub fn folder(&self) -> &Path {
        self.world.folder.path()
    }

    /// What a client speaks, with this certificate of its own.
    pub fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
            }
        })
    }

    /// A connection after its handshake, as the client sees it.
    pub fn connect(&self, client: &Arc<ClientConfig>) -> io::Result<TlsStream> {
        let socket = TcpStream::connect(self.world.gateway.api)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// The status that a good request gets, the last on its connection; nothing without an answer.
    pub fn ask(&self, stream: &mut TlsStream) -> Option<u16> {
        // TLS 1.3 refuses a client's certificate when the client believes to be in.
        let _ = stream.write_all(request(&self.world.supervisor(), SAMPLE).as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let head = String::from_utf8_lossy(&answer).into_owned();
        head.split(' ').nth(1).map(|status| status.parse().unwrap())
    }

    /// The same, of a client with this certificate on a new connection.
    pub fn status(&self, identity: Option<&Identity>) -> Option<u16> {
        self.ask(&mut self.connect(&self.client(identity)).ok()?)
    }

    pub fn loads(&self, result: &str) -> f64 {
        let line = format!("cms_gateway_tls_load_total{{result=\"{result}\"}}");
        self.world.gateway.metric(&line).unwrap_or_default()
    }

    /// How many handshakes have failed for this reason.
    pub fn failures(&self, reason: &str) -> f64 {
        let line = format!("cms_gateway_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        self.world.gateway.metric(&line).unwrap()
    }

    /// The lines of `/readyz` about TLS.
    pub fn warnings(&self) -> String {
        let reply = self.world.gateway.admin("/readyz");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body.lines().filter(|line| line.starts_with("warning: tls: ")).collect()
    }
}

impl Signed {
    pub fn identity(&self) -> Identity {
        (vec![self.der.clone()], self.private_key())
    }
}

pub fn write_pair(folder: &Path, own: &Signed) {
    fs::write(folder.join("tls.crt"), &own.certificate).unwrap();
    write_secret(&folder.join("tls.key"), &own.key.serialize_pem());
}

/// A configuration with TLS.
pub fn with_tls(config: &str, keys: &str) -> String {
    let tls = format!("tls = {{ certificate = \"tls.crt\", key = \"tls.key\"{keys} }}\nadmin = ");
    config.replacen("admin = ", &tls, 1)
}

/// A certificate that a client may show.
pub fn of_client(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Signed {
    authority.sign("client.example.com", |parameters| {
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(parameters);
    })
}
