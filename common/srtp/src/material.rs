//! Protection profiles and keying material.

use std::fmt;

use arrayvec::ArrayVec;

use crate::Error;

/// A protection profile, in the order of preference given by [`Profile::PREFERENCE`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Profile {
    AeadAes128Gcm,
    AeadAes256Gcm,
    Aes128CmSha1_80,
}

impl Profile {
    /// Best first.
    pub const PREFERENCE: [Profile; 3] = [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::Aes128CmSha1_80];

    /// Bytes of a master key, which are also those of a session encryption key.
    pub const fn key_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => 16,
            Profile::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 12,
            Profile::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes of the authentication tag on RTP and RTCP packets.
    pub const fn tag_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 16,
            Profile::Aes128CmSha1_80 => 10,
        }
    }

    /// Bytes that protection adds to an RTCP packet: tag and index.
    pub const fn rtcp_overhead(self) -> usize {
        self.tag_len() + 4
    }

    /// Bytes to export from DTLS (RFC 5764 section 4.2).
    pub const fn exporter_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }

    /// The number in DTLS's use_srtp extension.
    pub const fn dtls_id(self) -> u16 {
        match self {
            Profile::Aes128CmSha1_80 => 0x0001,
            Profile::AeadAes128Gcm => 0x0007,
            Profile::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile with this number in DTLS's use_srtp extension.
    pub fn from_dtls_id(id: u16) -> Option<Profile> {
        Profile::PREFERENCE.into_iter().find(|profile| profile.dtls_id() == id)
    }
}

/// A master key with its salt, for one direction.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    pub(crate) key: ArrayVec<u8, 32>,
    pub(crate) salt: ArrayVec<u8, 14>,
}

impl MasterKey {
    /// Errors with [`Error::KeyLength`] unless both have the profile's lengths.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<MasterKey, Error> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(Error::KeyLength);
        }
        Ok(MasterKey {
            key: key.try_into().map_err(|_| Error::KeyLength)?,
            salt: salt.try_into().map_err(|_| Error::KeyLength)?,
        })
    }
}

impl fmt::Debug for MasterKey {
    /// Keys do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// What both directions of one transport are keyed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyMaterial {
    pub profile: Profile,
    /// What we protect with.
    pub outbound: MasterKey,
    /// What the peer protects with.
    pub inbound: MasterKey,
}

impl KeyMaterial {
    /// Cuts what DTLS exported (label `EXTRACTOR-dtls_srtp`): client key, server key, client salt, server salt (RFC 5764
    /// section 4.2). `we_are_server` says which of the DTLS roles is ours. Errors with [`Error::KeyLength`] unless
    /// `exported` has [`Profile::exporter_len`] bytes.
    pub fn from_exporter(profile: Profile, exported: &[u8], we_are_server: bool) -> Result<KeyMaterial, Error> {
        if exported.len() != profile.exporter_len() {
            return Err(Error::KeyLength);
        }
        let (keys, salts) = exported.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let client = MasterKey::new(profile, client_key, client_salt)?;
        let server = MasterKey::new(profile, server_key, server_salt)?;
        let (outbound, inbound) = if we_are_server { (server, client) } else { (client, server) };
        Ok(KeyMaterial { profile, outbound, inbound })
    }
}
