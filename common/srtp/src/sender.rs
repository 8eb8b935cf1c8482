//! Protecting what leaves.

use sluice_wire::rtp::FIXED_HEADER_BYTES;

use crate::{ENCRYPTED_BIT, Error, KeyMaterial, Profile, cipher::Cipher, derive::Usage};

/// Header and sender SSRC, which every RTCP packet has.
const RTCP_HEADER_BYTES: usize = 8;

/// Protects the packets of one transport, whatever their SSRCs.
///
/// The caller numbers RTP packets: a (SSRC, rollover count, sequence number) must never be used twice with different
/// bytes, or the key stream is given away (RFC 3711 section 9.1). RTCP packets are numbered here.
#[derive(Debug)]
pub struct Sender {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// One count for all SSRCs: each sees it grow, and none sees it twice.
    next_rtcp_index: u32,
}

impl Sender {
    /// Derives the session keys of the outbound direction.
    pub fn new(material: &KeyMaterial) -> Result<Sender, Error> {
        let (profile, master) = (material.profile, &material.outbound);
        Ok(Sender {
            profile,
            rtp: Cipher::new(profile, master, Usage::Rtp)?,
            rtcp: Cipher::new(profile, master, Usage::Rtcp)?,
            next_rtcp_index: 1,
        })
    }

    /// The profile in use: its tag's length is what the caller leaves room for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Writes header ‖ encrypted payload ‖ tag to `out` and returns their length. `header` is a whole RTP header with its
    /// extensions; `roc` is the rollover count of its sequence number (bits 16..48 of the packet index).
    pub fn seal_rtp(&self, header: &[u8], payload: &[u8], roc: u32, out: &mut [u8]) -> Result<usize, Error> {
        out.get_mut(..header.len()).ok_or(Error::SlotTooShort)?.copy_from_slice(header);
        self.seal_in_slot(out, header.len(), header.len(), payload, roc)
    }

    /// As [`Sender::seal_rtp`], for a caller that has built the packet's beginning in the slot: `out[..header_len]` is the
    /// RTP header, and `out[header_len..written_len]` the first bytes of the payload where they differ from the shared
    /// plaintext (an original sequence number, a patched codec descriptor). They are encrypted where they are, `payload`
    /// is encrypted from where it is, and the tag follows. Returns the protected packet's length.
    pub fn seal_in_slot(
        &self,
        out: &mut [u8],
        header_len: usize,
        written_len: usize,
        payload: &[u8],
        roc: u32,
    ) -> Result<usize, Error> {
        if header_len < FIXED_HEADER_BYTES || written_len < header_len {
            return Err(Error::Header);
        }
        let len = written_len
            .checked_add(payload.len())
            .and_then(|len| len.checked_add(self.profile.tag_len()))
            .ok_or(Error::SlotTooShort)?;
        let slot = out.get_mut(..len).ok_or(Error::SlotTooShort)?;
        let &[_, _, s0, s1, _, _, _, _, c0, c1, c2, c3] = slot.first_chunk().ok_or(Error::Header)?;
        let ssrc = u32::from_be_bytes([c0, c1, c2, c3]);
        let index = u64::from(roc) << 16 | u64::from(u16::from_be_bytes([s0, s1]));
        self.rtp.seal_rtp(slot, header_len, written_len, payload, ssrc, index).ok_or(Error::Cipher)?;
        Ok(len)
    }

    /// Protects the compound RTCP packet of `len` bytes at the beginning of `out`, in place, and returns the longer length.
    pub fn protect_rtcp(&mut self, out: &mut [u8], len: usize) -> Result<usize, Error> {
        if len < RTCP_HEADER_BYTES {
            return Err(Error::Header);
        }
        if out.len() < len.saturating_add(self.profile.rtcp_overhead()) {
            return Err(Error::SlotTooShort);
        }
        let &[_, _, _, _, c0, c1, c2, c3] = out.first_chunk().ok_or(Error::Header)?;
        let ssrc = u32::from_be_bytes([c0, c1, c2, c3]);
        if self.next_rtcp_index & ENCRYPTED_BIT != 0 {
            return Err(Error::Exhausted);
        }
        let index_word = self.next_rtcp_index | ENCRYPTED_BIT;
        // Counted before use: whatever fails now, the index is not used again.
        self.next_rtcp_index += 1;
        self.rtcp.seal_rtcp(out, len, ssrc, index_word).ok_or(Error::Cipher)
    }
}
