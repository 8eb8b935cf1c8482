//! DTLS as client (RFC 6347, RFC 5764) with one certificate for all clients of a run.

mod only;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dimpl::{Dtls, DtlsCertificate, Output};
use sha2::{Digest, Sha256};
use sluice_messages::Fingerprint;
use sluice_srtp::{KeyMaterial, Profile};

use only::Only;

/// Longest record that the library may hand out in one piece.
const SCRATCH_BYTES: usize = 1 << 14;

/// What all clients of a run show and offer.
#[derive(Clone)]
pub struct Identity {
    der: Vec<u8>,
    key_der: Vec<u8>,
    fingerprint: Fingerprint,
    config: Arc<dimpl::Config>,
    only: &'static Only,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate could not be made
    #[error("the certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The DTLS library refuses its settings
    #[error("the DTLS library refuses its settings: {0}")]
    Config(String),
}

/// Why a handshake failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DtlsError {
    /// The library ended it
    #[error("DTLS: {0}")]
    Library(String),
    /// The certificate is not the one that the description announced
    #[error("DTLS: the server's certificate does not have the fingerprint of its description")]
    Fingerprint,
    /// Another profile than the only one offered
    #[error("DTLS: the server chose an SRTP profile that was not offered")]
    Profile,
}

impl Identity {
    /// Makes a self-signed ECDSA P-256 certificate; `profile` is the only one that handshakes with it offer.
    pub fn new(profile: Profile) -> Result<Identity, IdentityError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "sluice load");
        let certificate = params.self_signed(&key)?;
        let der = certificate.der().to_vec();
        let only = Only::of(profile);
        let config = dimpl::Config::builder()
            .with_crypto_provider(only.provider())
            // Thousands of handshakes share the cores of one machine: what is late is rarely lost.
            .flight_start_rto(Duration::from_millis(500))
            .flight_retries(8)
            .handshake_timeout(Duration::from_secs(40))
            .build()
            .map_err(|error| IdentityError::Config(error.to_string()))?;
        let fingerprint = fingerprint(&der);
        Ok(Identity { der, key_der: key.serialize_der(), fingerprint, config: Arc::new(config), only })
    }

    /// What goes into descriptions.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// SHA-256 of a certificate in DER (RFC 8122 section 5).
fn fingerprint(der: &[u8]) -> Fingerprint {
    Fingerprint { sha256: Sha256::digest(der).into() }
}

/// One association, as its client.
pub struct Client {
    dtls: Dtls,
    only: &'static Only,
    /// Of the server, by its description.
    expected: Fingerprint,
    is_genuine: bool,
    wake: Instant,
}

/// What comes out of an association.
pub enum Event<'a> {
    /// Send this.
    Packet(&'a [u8]),
    /// The handshake is through.
    Keys(Box<KeyMaterial>),
    /// Decrypted: SCTP.
    Data(&'a [u8]),
    /// The server has closed it.
    Closed,
}

impl Client {
    /// An association that is begun by the first call of [`Client::timeout`].
    pub fn new(identity: &Identity, expected: Fingerprint, now: Instant) -> Client {
        let certificate = DtlsCertificate { certificate: identity.der.clone(), private_key: identity.key_der.clone() };
        // Version 1.2 alone: all servers speak it, and the one offer that a later version could choose from is settled there.
        let mut dtls = Dtls::new_12(identity.config.clone(), certificate, now);
        dtls.set_active(true);
        Client { dtls, only: identity.only, expected, is_genuine: false, wake: now }
    }

    /// A datagram from the server.
    pub fn datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DtlsError> {
        self.dtls.handle_timeout(now).map_err(library)?;
        self.dtls.handle_packet(datagram).map_err(library)
    }

    /// The time has come that [`Client::wake`] said.
    pub fn timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.dtls.handle_timeout(now).map_err(library)
    }

    /// When [`Client::timeout`] is due.
    pub fn wake(&self) -> Instant {
        self.wake
    }

    /// Sends application data.
    pub fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        self.dtls.send_application_data(data).map(drop).map_err(library)
    }

    /// Hands over everything that has come out.
    pub fn drain(&mut self, mut sink: impl FnMut(Event<'_>)) -> Result<(), DtlsError> {
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            match self.dtls.poll_output(&mut scratch) {
                Output::Packet(packet) => match self.only.rewritten(packet) {
                    Some(packet) => sink(Event::Packet(&packet)),
                    None => sink(Event::Packet(packet)),
                },
                Output::Timeout(at) => {
                    self.wake = at;
                    return Ok(());
                }
                Output::PeerCert(der) => {
                    self.is_genuine = fingerprint(der) == self.expected;
                    if !self.is_genuine {
                        return Err(DtlsError::Fingerprint);
                    }
                }
                Output::KeyingMaterial(exported, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
                        _ => return Err(DtlsError::Profile),
                    };
                    if !self.is_genuine {
                        return Err(DtlsError::Fingerprint);
                    }
                    let keys = KeyMaterial::from_exporter(profile, &exported, false);
                    match keys {
                        Ok(keys) if profile == self.only.profile() => sink(Event::Keys(Box::new(keys))),
                        _ => return Err(DtlsError::Profile),
                    }
                }
                Output::ApplicationData(data) => sink(Event::Data(data)),
                Output::CloseNotify => sink(Event::Closed),
                _ => {}
            }
        }
    }
}

fn library(error: dimpl::Error) -> DtlsError {
    DtlsError::Library(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a handshake against the library's own server, which prefers AES-256-GCM, and tells what was agreed.
    fn agreed(profile: Profile) -> (Profile, dimpl::SrtpProfile) {
        let now = Instant::now();
        let (ours, theirs) = (Identity::new(profile).unwrap(), Identity::new(Profile::AeadAes256Gcm).unwrap());
        let certificate = DtlsCertificate { certificate: theirs.der.clone(), private_key: theirs.key_der.clone() };
        let config = Arc::new(dimpl::Config::builder().use_server_cookie(false).build().unwrap());
        let mut server = Dtls::new_12(config, certificate, now);
        server.set_active(false);
        server.handle_timeout(now).unwrap();
        let mut client = Client::new(&ours, theirs.fingerprint(), now);
        client.timeout(now).unwrap();
        let (mut keys, mut theirs) = (None, None);
        let mut scratch = vec![0; 1 << 15];
        for _ in 0..20 {
            let mut packets = Vec::new();
            client
                .drain(|event| match event {
                    Event::Packet(packet) => packets.push(packet.to_vec()),
                    Event::Keys(material) => keys = Some(material),
                    _ => {}
                })
                .unwrap();
            for packet in packets {
                server.handle_packet(&packet).unwrap();
            }
            loop {
                match server.poll_output(&mut scratch) {
                    Output::Packet(packet) => client.datagram(now, packet).unwrap(),
                    Output::KeyingMaterial(_, profile) => theirs = Some(profile),
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        }
        (keys.expect("the client has keys").profile, theirs.expect("the server has keys"))
    }

    #[test]
    fn the_server_takes_the_profile_that_is_offered() {
        for profile in Profile::PREFERENCE {
            let (ours, theirs) = agreed(profile);
            let name = crate::scenario::profile_name(profile);
            assert_eq!(ours, profile);
            assert!(theirs.to_string().ends_with(name.trim_start_matches("SRTP_")), "{theirs} for {name}");
        }
    }
}
