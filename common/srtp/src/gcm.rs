//! AES-GCM, RFC 7714.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{Error, Profile, derive::SessionKeys};

const TAG_BYTES: usize = 16;
const INDEX_BYTES: usize = 4;
/// The part of an RTCP packet that stays plain: header and sender SSRC.
const RTCP_HEADER_BYTES: usize = 8;

/// The keys of one direction of RTP or of RTCP.
#[derive(Debug)]
pub(crate) struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    pub(crate) fn new(profile: Profile, keys: &SessionKeys) -> Result<Gcm, Error> {
        let algorithm = if profile == Profile::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, &keys.encryption).map_err(|_| Error::KeyLength)?;
        let salt = *keys.salt.first_chunk().ok_or(Error::KeyLength)?;
        Ok(Gcm { key: LessSafeKey::new(key), salt })
    }

    /// Sections 8.1 and 9.1: two zero bytes, SSRC, 48-bit index, combined with the salt. RTCP's index has 31 bits, so that the
    /// upper 16 are the zeros which section 9.1 asks for.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
        nonce.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        Nonce::assume_unique_for_key(nonce)
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
        let (written, rest) = slot.split_at_mut_checked(written_len)?;
        let (header, beginning) = written.split_at_mut_checked(header_len)?;
        let nonce = self.nonce(ssrc, index);
        if beginning.is_empty() {
            let (encrypted, tag) = rest.split_at_mut_checked(payload.len())?;
            self.key.seal_out_of_place_scatter(nonce, Aad::from(&*header), payload, encrypted, &[], tag).ok()
        } else {
            self.key.seal_in_place_scatter(nonce, Aad::from(&*header), beginning, payload, rest).ok()
        }
    }

    pub(crate) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Option<usize> {
        let (header, body) = packet.split_at_mut_checked(header_len)?;
        let plain = self.key.open_in_place(self.nonce(ssrc, index), Aad::from(&*header), body).ok()?;
        Some(header_len + plain.len())
    }

    /// Header ‖ encrypted ‖ tag ‖ E and index (section 17.1's layout).
    pub(crate) fn seal_rtcp(&self, slot: &mut [u8], len: usize, ssrc: u32, index_word: u32) -> Option<usize> {
        let (packet, rest) = slot.split_at_mut_checked(len)?;
        let (header, body) = packet.split_first_chunk_mut::<RTCP_HEADER_BYTES>()?;
        let trailer = rest.first_chunk_mut::<{ TAG_BYTES + INDEX_BYTES }>()?;
        let nonce = self.nonce(ssrc, u64::from(index_word & !crate::ENCRYPTED_BIT));
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(rtcp_aad(header, index_word)), body).ok()?;
        trailer.first_chunk_mut::<TAG_BYTES>()?.copy_from_slice(tag.as_ref());
        trailer.last_chunk_mut::<INDEX_BYTES>()?.copy_from_slice(&index_word.to_be_bytes());
        Some(len + TAG_BYTES + INDEX_BYTES)
    }

    pub(crate) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, index_word: u32) -> Option<usize> {
        let len = packet.len().checked_sub(TAG_BYTES + INDEX_BYTES)?;
        let nonce = self.nonce(ssrc, u64::from(index_word & !crate::ENCRYPTED_BIT));
        if index_word & crate::ENCRYPTED_BIT == 0 {
            // Everything is associated data: packet ‖ index, which the tag separates on the wire.
            let mut tag = *packet.get(len..)?.first_chunk::<TAG_BYTES>()?;
            let aad_end = len + INDEX_BYTES;
            packet.get_mut(len..aad_end)?.copy_from_slice(&index_word.to_be_bytes());
            self.key.open_in_place(nonce, Aad::from(packet.get(..aad_end)?), &mut tag).ok()?;
            return Some(len);
        }
        let (header, rest) = packet.split_first_chunk_mut::<RTCP_HEADER_BYTES>()?;
        let body = rest.get_mut(..len.checked_sub(RTCP_HEADER_BYTES)? + TAG_BYTES)?;
        self.key.open_in_place(nonce, Aad::from(rtcp_aad(header, index_word)), body).ok()?;
        Some(len)
    }
}

/// Section 9.2: header, then the word with E and index.
fn rtcp_aad(header: &[u8; RTCP_HEADER_BYTES], index_word: u32) -> [u8; RTCP_HEADER_BYTES + INDEX_BYTES] {
    let mut aad = [0; RTCP_HEADER_BYTES + INDEX_BYTES];
    aad[..RTCP_HEADER_BYTES].copy_from_slice(header);
    aad[RTCP_HEADER_BYTES..].copy_from_slice(&index_word.to_be_bytes());
    aad
}
