//! The deployment's own certificate authority.
//!
//! Owns its creation, its files and the certificates that it issues. Does not own their use (`config`).

use super::files::{self, FileError};
use super::identity::PeerIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use std::net::IpAddr;
use std::path::Path;
use time::{Duration, OffsetDateTime};

/// File name of the authority's certificate.
pub const AUTHORITY_CERTIFICATE: &str = "authority.pem";
/// File name of the authority's private key (mode 0600).
pub const AUTHORITY_KEY: &str = "authority.key";

/// Life of the authority in days.
const AUTHORITY_DAYS: i64 = 20 * 365;
/// Life of a server's certificate in days.
pub const SERVER_DAYS: i64 = 397;

/// The authority, able to issue.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a server's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// Its identity on links.
    pub identity: PeerIdentity,
    /// SIP domains, both pools' names, the server's name (RFC 5922: clients check the name before SRV resolution).
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name, key or certificate is not usable.
    #[error("certificate authority: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file does not hold text.
    #[error("{0} is not a PEM file")]
    NotPem(&'static str),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] super::RandomFailed),
}

fn serial() -> Result<SerialNumber, super::RandomFailed> {
    let mut bytes = [0_u8; 16];
    super::fill_random(&mut bytes)?;
    // Positive and of one length (RFC 5280 §4.1.2.2).
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

impl Authority {
    /// Creates a new authority, in memory only.
    ///
    /// # Errors
    /// [`AuthorityError`] when no key can be made.
    pub fn create(deployment: &str) -> Result<(Authority, Issued), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Pairline");
        // The random part keeps two deployments of one name apart in a verifier's search for the issuer.
        name.push(DnType::CommonName, format!("Pairline {deployment} authority {:08x}", super::random_u64()? >> 32));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(1);
        params.not_after = now + Duration::days(AUTHORITY_DAYS);
        let certificate_pem = params.self_signed(&key)?.pem();
        let issued = Issued { certificate_pem: certificate_pem.clone(), key_pem: key.serialize_pem() };
        Ok((Authority { certificate_pem, issuer: Issuer::new(params, key) }, issued))
    }

    /// Loads the authority of a folder, or creates it there at the first start.
    ///
    /// # Errors
    /// [`AuthorityError`]; an existing authority is never overwritten.
    pub fn load_or_create(folder: &Path, deployment: &str) -> Result<Authority, AuthorityError> {
        let certificate = folder.join(AUTHORITY_CERTIFICATE);
        let key = folder.join(AUTHORITY_KEY);
        if certificate.exists() && key.exists() {
            return Authority::load(folder);
        }
        let (authority, issued) = Authority::create(deployment)?;
        files::write_private(&key, issued.key_pem.as_bytes())?;
        files::write_public(&certificate, issued.certificate_pem.as_bytes())?;
        Ok(authority)
    }

    /// Loads the authority of a folder.
    ///
    /// # Errors
    /// [`AuthorityError`] when a file is missing, readable by others, or not what it should be.
    pub fn load(folder: &Path) -> Result<Authority, AuthorityError> {
        let certificate = files::read(&folder.join(AUTHORITY_CERTIFICATE))?;
        let certificate_pem =
            String::from_utf8(certificate).map_err(|_| AuthorityError::NotPem(AUTHORITY_CERTIFICATE))?;
        let key = files::read_private(&folder.join(AUTHORITY_KEY))?;
        let key = String::from_utf8(key).map_err(|_| AuthorityError::NotPem(AUTHORITY_KEY))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, KeyPair::from_pem(&key)?)?;
        Ok(Authority { certificate_pem, issuer })
    }

    /// Its certificate, in PEM: what verifiers trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a server's certificate, valid from an hour ago for [`SERVER_DAYS`].
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] when a name cannot stand in a certificate.
    pub fn issue(&self, names: &CertificateNames) -> Result<Issued, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        self.issue_between(names, now - Duration::hours(1), now + Duration::days(SERVER_DAYS))
    }

    /// As [`Authority::issue`], with stated validity.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_between(
        &self,
        names: &CertificateNames,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = server_params(names, from, until)?.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Issues a server's certificate, in PEM, for the key of a signing request in PEM (RFC 2986), which must be signed with it. What else the
    /// request says does not count: the names are those given.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] when it is no such request, or a name cannot stand in a certificate.
    pub fn certify(&self, names: &CertificateNames, request_pem: &str) -> Result<String, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        let asked = CertificateSigningRequestParams::from_pem(request_pem)?;
        let params = server_params(names, now - Duration::hours(1), now + Duration::days(SERVER_DAYS))?;
        let asked = CertificateSigningRequestParams { params, public_key: asked.public_key };
        Ok(asked.signed_by(&self.issuer)?.pem())
    }
}

/// What a server's certificate says.
fn server_params(
    names: &CertificateNames,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(names.names.clone())?;
    params.subject_alt_names.extend(names.addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.subject_alt_names.push(SanType::URI(names.identity.to_string().try_into()?));
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Pairline");
    subject.push(DnType::CommonName, format!("pool {} server {}", names.identity.pool.0, names.identity.server.0));
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Both: on a link each server is client or server.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    params.not_before = from;
    params.not_after = until;
    Ok(params)
}

impl Issued {
    /// Writes both files; the key with mode 0600, first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), FileError> {
        files::write_private(key, self.key_pem.as_bytes())?;
        files::write_public(certificate, self.certificate_pem.as_bytes())
    }
}
