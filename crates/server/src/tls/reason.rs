//! What went wrong in a TLS handshake, in words that an administrator can act on.
//!
//! Owns the texts. Does not own who is told.

use rustls::{AlertDescription, CertificateError, Error};

/// One clear clause for an error of rustls.
pub fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(e) => of_certificate(e),
        Error::NoCertificatesPresented => "the peer presented no certificate".to_owned(),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(e) => format!("the peer speaks no TLS that links accept (TLS 1.3 only): {e:?}"),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "the peer does not speak TLS here (plain TCP, or another protocol)".to_owned()
        }
        other => other.to_string(),
    }
}

/// One clear clause for an input/output error that may carry one of rustls.
pub fn of_io(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => of_tls(tls),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection during the handshake".to_owned()
        }
        None => error.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the peer's certificate has expired; issue a new one".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet; compare the clocks".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the peer's certificate is not from this deployment's authority".to_owned()
        }
        CertificateError::Other(inner) => inner.0.to_string(),
        other => format!("the peer's certificate is refused: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "the peer says that our certificate has expired".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the peer says that our certificate is not from its deployment's authority".to_owned()
        }
        AlertDescription::CertificateRequired => "the peer asks for a certificate and got none".to_owned(),
        other => format!("the peer refused us: {other:?}"),
    }
}
