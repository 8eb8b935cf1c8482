//! The certificate a node shows in DTLS.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use sluice_messages::Fingerprint;

use crate::peer::MTU_BYTES;

/// A self-signed ECDSA P-256 certificate with its private key. One serves all transports of a node; it is kept across
/// restarts, so that descriptions already sent stay true.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    key_der: Vec<u8>,
    fingerprint: Fingerprint,
    /// Settings of all DTLS associations that show this certificate.
    dtls: Arc<dimpl::Config>,
}

/// Why there is no certificate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate could not be made: {0}
    #[error("the certificate could not be made: {0}")]
    Generate(String),
    /// The private key is not a PKCS#8 ECDSA P-256 key
    #[error("the private key is not a PKCS#8 ECDSA P-256 key")]
    Key,
    /// The certificate is not a DER sequence
    #[error("the certificate is not a DER sequence")]
    Der,
    /// The DTLS library refuses its settings: {0}
    #[error("the DTLS library refuses its settings: {0}")]
    Dtls(String),
}

impl Certificate {
    /// Makes a certificate with a key from the system's randomness. The serial number follows from the key, as Firefox
    /// refuses two certificates of one issuer with one serial number.
    pub fn generate() -> Result<Certificate, CertificateError> {
        let error = |e: rcgen::Error| CertificateError::Generate(e.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(error)?;
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(error)?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "sluice");
        params.is_ca = rcgen::IsCa::NoCa;
        // Trust comes from the fingerprint in the description; dates only have to contain the clocks of all clients.
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
        let certificate = params.self_signed(&key).map_err(error)?;
        Certificate::from_der(certificate.der().to_vec(), key.serialize_der())
    }

    /// Takes a certificate kept elsewhere: X.509 DER and its PKCS#8 DER private key.
    pub fn from_der(der: Vec<u8>, key_der: Vec<u8>) -> Result<Certificate, CertificateError> {
        if der.first() != Some(&0x30) || der.len() < 64 {
            return Err(CertificateError::Der);
        }
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key_der.as_slice());
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| CertificateError::Key)?;
        let fingerprint = fingerprint(&der);
        let dtls = dimpl::Config::builder()
            .mtu(MTU_BYTES)
            // ICE has already proved that the client receives at its address.
            .use_server_cookie(false)
            // Browsers start at 50 ms; a second would be felt at every lost datagram while joining.
            .flight_start_rto(Duration::from_millis(250))
            // The whole handshake's deadline ends it, not a count that a retransmitting client uses up.
            .flight_retries(12)
            .handshake_timeout(Duration::from_secs(30))
            .build()
            .map_err(|e| CertificateError::Dtls(e.to_string()))?;
        Ok(Certificate { der, key_der, fingerprint, dtls: Arc::new(dtls) })
    }

    /// X.509 DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PKCS#8 DER of the private key. Keep it readable by the server alone.
    pub fn key_der(&self) -> &[u8] {
        &self.key_der
    }

    /// What goes into descriptions.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn dtls(&self) -> Arc<dimpl::Config> {
        self.dtls.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// SHA-256 of a certificate in DER (RFC 8122 section 5).
pub(crate) fn fingerprint(der: &[u8]) -> Fingerprint {
    let mut sha256 = [0; digest::SHA256_OUTPUT_LEN];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    Fingerprint { sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_survives_being_stored() {
        let made = Certificate::generate().unwrap();
        let read = Certificate::from_der(made.der().to_vec(), made.key_der().to_vec()).unwrap();
        assert_eq!(made.fingerprint(), read.fingerprint());
        assert_ne!(made.fingerprint(), Certificate::generate().unwrap().fingerprint());
    }

    #[test]
    fn a_damaged_store_is_refused() {
        let made = Certificate::generate().unwrap();
        assert_eq!(Certificate::from_der(made.der().to_vec(), vec![0; 40]).unwrap_err(), CertificateError::Key);
        assert_eq!(Certificate::from_der(vec![], made.key_der().to_vec()).unwrap_err(), CertificateError::Der);
    }
}
