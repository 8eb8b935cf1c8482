//! AES in counter mode with HMAC-SHA1 cut to 80 bits, RFC 3711 sections 4.1.1 and 4.2.1.

use aws_lc_rs::{
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::{Error, derive::SessionKeys};

const TAG_BYTES: usize = 10;
const INDEX_BYTES: usize = 4;
/// The part of an RTCP packet that stays plain: header and sender SSRC.
const RTCP_HEADER_BYTES: usize = 8;

/// The keys of one direction of RTP or of RTCP.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Holds the key schedule, which costs more than a packet's worth of blocks to make.
    cipher: EncryptingKey,
    salt: [u8; 14],
    /// Has hashed its padded key; cloned for each packet.
    mac: Hmac<Sha1>,
}

impl Counter {
    pub(crate) fn new(keys: &SessionKeys) -> Result<Counter, Error> {
        Ok(Counter {
            cipher: UnboundCipherKey::new(&AES_128, &keys.encryption)
                .and_then(EncryptingKey::ctr)
                .map_err(|_| Error::KeyLength)?,
            salt: keys.salt,
            mac: <Hmac<Sha1> as Mac>::new_from_slice(&keys.authentication).map_err(|_| Error::KeyLength)?,
        })
    }

    /// Combines `bytes` with the key stream. Section 4.1.1: it begins at (salt · 2^16) ^ (SSRC · 2^64) ^ (index · 2^16); the low
    /// 16 bits count blocks.
    fn apply_key_stream(&self, ssrc: u32, index: u64, bytes: &mut [u8]) -> Option<()> {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        iv.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        self.cipher.less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
        Some(())
    }

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
        let (packet, tag) = slot.split_at_mut_checked(written_len + payload.len())?;
        // This cipher works in place only. Copy included, it was measured at a third of the time that the `ctr` crate takes
        // from source to destination in the development profile (450 against 1,500 ns for 1,180 bytes).
        packet.get_mut(written_len..)?.copy_from_slice(payload);
        self.apply_key_stream(ssrc, index, packet.get_mut(header_len..)?)?;
        *tag.first_chunk_mut()? = self.tag(packet, roc_of(index));
        Some(())
    }

    pub(crate) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Option<usize> {
        let len = packet.len().checked_sub(TAG_BYTES)?;
        let (packet, tag) = packet.split_at_mut_checked(len)?;
        self.verify(packet, roc_of(index), tag)?;
        self.apply_key_stream(ssrc, index, packet.get_mut(header_len..)?)?;
        Some(len)
    }

    /// Header ‖ encrypted ‖ E and index ‖ tag (section 3.4).
    pub(crate) fn seal_rtcp(&self, slot: &mut [u8], len: usize, ssrc: u32, index_word: u32) -> Option<usize> {
        let (packet, rest) = slot.split_at_mut_checked(len)?;
        let tag = rest.first_chunk_mut::<{ INDEX_BYTES + TAG_BYTES }>()?.last_chunk_mut::<TAG_BYTES>()?;
        let body = packet.get_mut(RTCP_HEADER_BYTES..)?;
        self.apply_key_stream(ssrc, u64::from(index_word & !crate::ENCRYPTED_BIT), body)?;
        *tag = self.tag(packet, index_word);
        *rest.first_chunk_mut::<INDEX_BYTES>()? = index_word.to_be_bytes();
        Some(len + INDEX_BYTES + TAG_BYTES)
    }

    pub(crate) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index_word: u32) -> Option<usize> {
        let len = packet.len().checked_sub(INDEX_BYTES + TAG_BYTES)?;
        let (packet, trailer) = packet.split_at_mut_checked(len)?;
        self.verify(packet, index_word, trailer.get(INDEX_BYTES..)?)?;
        if index_word & crate::ENCRYPTED_BIT != 0 {
            let body = packet.get_mut(RTCP_HEADER_BYTES..)?;
            self.apply_key_stream(ssrc, u64::from(index_word & !crate::ENCRYPTED_BIT), body)?;
        }
        Some(len)
    }

    /// `word` is hashed behind the packet: RTP's rollover count, RTCP's E and index.
    fn mac(&self, packet: &[u8], word: u32) -> Hmac<Sha1> {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(&word.to_be_bytes());
        mac
    }

    fn tag(&self, packet: &[u8], word: u32) -> [u8; TAG_BYTES] {
        let full: [u8; 20] = self.mac(packet, word).finalize().into_bytes().into();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&full[..TAG_BYTES]);
        tag
    }

    fn verify(&self, packet: &[u8], word: u32, tag: &[u8]) -> Option<()> {
        (tag.len() == TAG_BYTES).then_some(())?;
        self.mac(packet, word).verify_truncated_left(tag).ok()
    }
}

/// The rollover count in a packet index of 48 bits.
fn roc_of(index: u64) -> u32 {
    (index >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3711_b2_key_stream() {
        let keys = SessionKeys {
            encryption: hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap()[..].try_into().unwrap(),
            authentication: [0; 20],
            salt: hex::decode("f0f1f2f3f4f5f6f7f8f9fafbfcfd").unwrap().try_into().unwrap(),
        };
        let counter = Counter::new(&keys).unwrap();
        let mut key_stream = [0; 48];
        counter.apply_key_stream(0, 0, &mut key_stream).unwrap();
        assert_eq!(
            hex::encode(key_stream),
            "e03ead0935c95e80e166b16dd92b4eb4d23513162b02d0f72a43a2fe4a5f97ab41e95b3bb0a2e8dd477901e4fca894c0"
        );
    }
}
