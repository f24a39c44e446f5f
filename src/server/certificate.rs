//! The name by which a token is bound to a client's certificate (RFC 8705, section 3.1).

use aws_lc_rs::digest::{SHA256, digest};
use rustls::ServerConnection;

/// SHA-256 of the client's own certificate in DER, which stands before those of its issuers;
/// nothing where it has shown none.
pub(super) fn digest_of(session: &ServerConnection) -> Option<[u8; 32]> {
    let own = session.peer_certificates()?.first()?;
    digest(&SHA256, own).as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;
    type Key = PrivateKeyDer<'static>;

    fn authority() -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
    }

    fn signed(name: &str, issuer: &Ca) -> (CertificateDer<'static>, Key) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// The server's end of a TLS connection, after the handshake, in memory.
    fn connected(
        root: &Ca,
        client: Option<(Vec<CertificateDer<'static>>, Key)>,
    ) -> ServerConnection {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&roots)).allow_unauthenticated();
        let (certificate, key) = signed("localhost", root);
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        };
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        while server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        server
    }

    #[test]
    fn it_is_the_clients_own_certificate_not_its_issuers() {
        let root = Ca::self_signed(authority(), KeyPair::generate().unwrap()).unwrap();
        let between = Ca::signed_by(authority(), KeyPair::generate().unwrap(), &root).unwrap();
        let (own, key) = signed("client.example.com", &between);
        let expected: [u8; 32] = digest(&SHA256, &own).as_ref().try_into().unwrap();
        let server = connected(&root, Some((vec![own, between.der().clone()], key)));
        assert_eq!(digest_of(&server), Some(expected));
        assert_eq!(digest_of(&connected(&root, None)), None);
    }
}
