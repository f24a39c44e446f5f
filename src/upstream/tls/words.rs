//! What is wrong between the CMS's TLS and the gateway's, in words for who must mend it.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

/// The longest that is repeated of what the CMS's certificate says, in characters.
const LONGEST: usize = 200;

/// Why a handshake failed.
pub(in crate::upstream) fn of_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the CMS closed the connection in the handshake".to_owned()
        }
        None => error.to_string(),
    }
}

/// Why the CMS refused the gateway's certificate after the handshake was over for the gateway.
pub(in crate::upstream) fn of_refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<TlsError>());
        if let Some(TlsError::AlertReceived(alert)) = tls
            && is_about_certificates(*alert)
        {
            return tls.map(of_tls);
        }
        cause = error.source();
    }
    None
}

fn of_tls(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(why) => of_certificate(why),
        TlsError::NoCertificatesPresented => "the CMS shows no certificate".to_owned(),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the CMS does not speak TLS at this port".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the CMS asks for a client certificate; set client_certificate and client_key"
                .to_owned()
        }
        TlsError::AlertReceived(alert) if is_about_certificates(*alert) => {
            format!("the CMS refuses the gateway's client certificate ({alert:?})")
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the CMS has no version of TLS that min_tls allows".to_owned()
        }
        TlsError::AlertReceived(alert) => format!("the CMS ended the handshake ({alert:?})"),
        TlsError::PeerIncompatible(why) => {
            format!("the CMS's TLS and the gateway's have nothing in common ({why:?}); see min_tls")
        }
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the CMS's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the CMS's certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => {
            "the CMS's certificate is for another name; see server_name".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: String = presented.join(", ").escape_debug().take(LONGEST).collect();
            let expected = expected.to_str();
            format!(
                "the CMS's certificate is for {presented} and not for {expected}; see server_name"
            )
        }
        // The second where the CA has the name of one that is trusted, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the CMS's certificate is from a CA that is not trusted; see ca".to_owned()
        }
        CertificateError::Revoked => "the CMS's certificate was revoked".to_owned(),
        other => {
            let words: String = other.to_string().escape_debug().take(LONGEST).collect();
            format!("the CMS's certificate can't be used: {words}")
        }
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // Its signature is not by who it says.
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}
