//! The cipher of one direction of RTP or of RTCP, whatever the profile.

use crate::{
    Error, MasterKey, Profile,
    counter::Counter,
    derive::{Usage, derive},
    gcm::Gcm,
};

#[derive(Debug)]
pub(crate) enum Cipher {
    Gcm(Gcm),
    /// Boxed for its key schedule and hash states, which are several times a GCM context's handle.
    Counter(Box<Counter>),
}

impl Cipher {
    pub(crate) fn new(profile: Profile, master: &MasterKey, usage: Usage) -> Result<Cipher, Error> {
        if master.key.len() != profile.key_len() || master.salt.len() != profile.salt_len() {
            return Err(Error::KeyLength);
        }
        let keys = derive(master, usage)?;
        Ok(match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Cipher::Gcm(Gcm::new(profile, &keys)?),
            Profile::Aes128CmSha1_80 => Cipher::Counter(Box::new(Counter::new(&keys)?)),
        })
    }

    /// Encrypts `slot[header_len..written_len]` and `payload` to behind it, and appends the tag.
    /// `slot` is as long as the protected packet.
    pub(crate) fn seal_rtp(
        &self,
        slot: &mut [u8],
        header_len: usize,
        written_len: usize,
        payload: &[u8],
        ssrc: u32,
        index: u64,
    ) -> Option<()> {
        match self {
            Cipher::Gcm(gcm) => gcm.seal_rtp(slot, header_len, written_len, payload, ssrc, index),
            Cipher::Counter(counter) => counter.seal_rtp(slot, header_len, written_len, payload, ssrc, index),
        }
    }

    /// Verifies and decrypts in place; returns the plain packet's length.
    pub(crate) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Option<usize> {
        match self {
            Cipher::Gcm(gcm) => gcm.open_rtp(packet, header_len, ssrc, index),
            Cipher::Counter(counter) => counter.open_rtp(packet, header_len, ssrc, index),
        }
    }

    /// Protects the packet of `len` bytes at the slot's beginning; returns the protected packet's length.
    pub(crate) fn seal_rtcp(&self, slot: &mut [u8], len: usize, ssrc: u32, index_word: u32) -> Option<usize> {
        match self {
            Cipher::Gcm(gcm) => gcm.seal_rtcp(slot, len, ssrc, index_word),
            Cipher::Counter(counter) => counter.seal_rtcp(slot, len, ssrc, index_word),
        }
    }

    /// Verifies and decrypts in place; returns the plain packet's length.
    pub(crate) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index_word: u32) -> Option<usize> {
        match self {
            Cipher::Gcm(gcm) => gcm.open_rtcp(packet, ssrc, index_word),
            Cipher::Counter(counter) => counter.open_rtcp(packet, ssrc, index_word),
        }
    }

    /// The word with E and index: before the tag with AES-CM, behind it with AES-GCM.
    pub(crate) fn rtcp_index_word(&self, packet: &[u8]) -> Option<u32> {
        let from_end = match self {
            Cipher::Gcm(_) => 4,
            Cipher::Counter(_) => Profile::Aes128CmSha1_80.tag_len() + 4,
        };
        let at = packet.len().checked_sub(from_end)?;
        Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
    }
}
