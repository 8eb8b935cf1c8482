//! One SRTP profile in the ClientHello instead of the library's fixed three.
//!
//! A server picks its favourite of what is offered, so a load with a certain cipher has to offer that one alone. The library
//! has no setting for it, but all its cryptography comes from a provider. So the offer is replaced in three places that
//! must agree: in the datagram, in what is hashed as transcript, and in what the client signs as transcript. The
//! extension keeps its length: the one profile stands there three times, which RFC 5764 section 4.1.1 does not forbid.

use dimpl::{
    CryptoError,
    crypto::{
        Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm, SigningKey,
        aws_lc_rs,
    },
};
use sluice_srtp::Profile;

/// use_srtp (14) with three profiles and no master key identifier: extension type, its length, length of the list.
const HEAD: [u8; 6] = [0, 14, 0, 9, 0, 6];
const LIST_BYTES: usize = 6;

/// Type of a handshake record, and of the message in it.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Type, version, epoch, sequence number, length (RFC 6347 section 4.1).
const RECORD_HEADER_BYTES: usize = 13;

/// Sees to it that one profile is offered.
#[derive(Debug)]
pub(super) struct Only {
    profile: Profile,
}

static AES128_GCM: Only = Only { profile: Profile::AeadAes128Gcm };
static AES256_GCM: Only = Only { profile: Profile::AeadAes256Gcm };
static AES_CM: Only = Only { profile: Profile::Aes128CmSha1_80 };

impl Only {
    pub(super) fn of(profile: Profile) -> &'static Only {
        match profile {
            Profile::AeadAes128Gcm => &AES128_GCM,
            Profile::AeadAes256Gcm => &AES256_GCM,
            Profile::Aes128CmSha1_80 => &AES_CM,
        }
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    /// The library's provider with the offer replaced in what is hashed and signed.
    pub(super) fn provider(&'static self) -> CryptoProvider {
        CryptoProvider { key_provider: self, hash_provider: self, ..aws_lc_rs::default_provider() }
    }

    /// A datagram with a ClientHello, with the offer replaced; none for every other datagram.
    pub(super) fn rewritten(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        if datagram.first() != Some(&HANDSHAKE) || datagram.get(RECORD_HEADER_BYTES) != Some(&CLIENT_HELLO) {
            return None;
        }
        self.replaced(datagram, RECORD_HEADER_BYTES)
    }

    /// A transcript, which begins with the ClientHello, with the offer replaced.
    fn transcript(&self, data: &[u8]) -> Option<Vec<u8>> {
        if data.first() != Some(&CLIENT_HELLO) {
            return None;
        }
        self.replaced(data, 0)
    }

    fn replaced(&self, bytes: &[u8], hello_at: usize) -> Option<Vec<u8>> {
        let at = hello_at + bytes.get(hello_at..)?.windows(HEAD.len()).position(|window| window == HEAD)? + HEAD.len();
        let mut replaced = bytes.to_vec();
        for id in replaced.get_mut(at..at + LIST_BYTES)?.as_chunks_mut::<2>().0 {
            *id = self.profile.dtls_id().to_be_bytes();
        }
        Some(replaced)
    }
}

impl HashProvider for Only {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let inner = aws_lc_rs::default_provider().hash_provider.create_hash(algorithm);
        Box::new(Hash { inner, only: Only::of(self.profile) })
    }
}

#[derive(Debug)]
struct Hash {
    inner: Box<dyn HashContext>,
    only: &'static Only,
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        match self.only.transcript(data) {
            Some(replaced) => self.inner.update(&replaced),
            None => self.inner.update(data),
        }
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.inner.clone_and_finalize(out);
    }
}

impl KeyProvider for Only {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let inner = aws_lc_rs::default_provider().key_provider.load_private_key(key_der)?;
        Ok(Box::new(Key { inner, only: Only::of(self.profile) }))
    }
}

#[derive(Debug)]
struct Key {
    inner: Box<dyn SigningKey>,
    only: &'static Only,
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        match self.only.transcript(data) {
            Some(replaced) => self.inner.sign(&replaced, hash, out),
            None => self.inner.sign(data, hash, out),
        }
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.inner.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.inner.supported_hash_algorithms()
    }
}
