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

#[cfg(test)]
mod tests {
    use super::*;

    /// A vector of RFC 7714: the session key and the protected forms of its packets.
    struct Vector {
        profile: Profile,
        key: &'static str,
        rtp: &'static str,
        rtcp: &'static str,
        /// Authenticated, not encrypted.
        plain_rtcp: &'static str,
    }

    const RTP: &str =
        "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";
    const RTCP: &str =
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
    const RTP_SSRC: u32 = 0x5501_a0b2;
    const RTCP_SSRC: u32 = 0x4d61_7273;
    const RTCP_INDEX: u32 = 0x5d4;

    /// Sections 16.1, 16.2, 17.1, 17.2, 17.3 and 17.4.
    const VECTORS: [Vector; 2] = [
        Vector {
            profile: Profile::AeadAes128Gcm,
            key: "000102030405060708090a0b0c0d0e0f",
            rtp: "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf88\
                33899d7f27beb16a9152cf765ee4390cce",
            rtcp: "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0b\
                b9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
            plain_rtcp: "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbe\
                efdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4",
        },
        Vector {
            profile: Profile::AeadAes256Gcm,
            key: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            rtp: "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b8\
                7b7aa3db36dfffd6b0f9bb7878d7a76c13",
            rtcp: "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f\
                1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
            plain_rtcp: "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbe\
                efdeadbeef91db4afbfeee5a978fab4393ed2615fe000005d4",
        },
    ];

    #[test]
    fn rfc_7714_vectors() {
        for vector in VECTORS {
            let keys = SessionKeys {
                encryption: hex::decode(vector.key).unwrap()[..].try_into().unwrap(),
                authentication: [0; 20],
                salt: *b"Quid pro quo\0\0",
            };
            let gcm = Gcm::new(vector.profile, &keys).unwrap();
            let (rtp, rtcp) = (hex::decode(RTP).unwrap(), hex::decode(RTCP).unwrap());

            // However much of the payload stands in the slot already.
            for written_len in 12..=rtp.len() {
                let mut slot = rtp[..written_len].to_vec();
                slot.resize(rtp.len() + TAG_BYTES, 0);
                gcm.seal_rtp(&mut slot, 12, written_len, &rtp[written_len..], RTP_SSRC, 0xf17b).unwrap();
                assert_eq!(hex::encode(&slot), vector.rtp);
                assert_eq!(gcm.open_rtp(&mut slot, 12, RTP_SSRC, 0xf17b), Some(rtp.len()));
                assert_eq!(slot[..rtp.len()], rtp);
            }

            let mut slot = rtcp.clone();
            slot.resize(rtcp.len() + TAG_BYTES + INDEX_BYTES, 0);
            let index_word = RTCP_INDEX | crate::ENCRYPTED_BIT;
            assert_eq!(gcm.seal_rtcp(&mut slot, rtcp.len(), RTCP_SSRC, index_word), Some(slot.len()));
            assert_eq!(hex::encode(&slot), vector.rtcp);
            assert_eq!(gcm.open_rtcp(&mut slot, RTCP_SSRC, index_word), Some(rtcp.len()));
            assert_eq!(slot[..rtcp.len()], rtcp);

            let mut plain = hex::decode(vector.plain_rtcp).unwrap();
            assert_eq!(gcm.open_rtcp(&mut plain, RTCP_SSRC, RTCP_INDEX), Some(rtcp.len()));
            assert_eq!(plain[..rtcp.len()], rtcp);
        }
    }
}
