//! Protecting what leaves.

use crate::{Error, KeyMaterial, Profile};

/// Protects the packets of one transport, whatever their SSRCs.
///
/// The caller numbers RTP packets: a (SSRC, rollover count, sequence number) must never be used twice with different
/// bytes, or the key stream is given away (RFC 3711 section 9.1). RTCP packets are numbered here.
#[derive(Debug)]
pub struct Sender {
    profile: Profile,
}

impl Sender {
    /// Derives the session keys of the outbound direction.
    pub fn new(material: &KeyMaterial) -> Result<Sender, Error> {
        Ok(Sender { profile: material.profile })
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
        let _ = (out, header_len, written_len, payload, roc);
        Err(Error::Cipher)
    }

    /// Protects the compound RTCP packet of `len` bytes at the beginning of `out`, in place, and returns the longer length.
    pub fn protect_rtcp(&mut self, out: &mut [u8], len: usize) -> Result<usize, Error> {
        let _ = (out, len);
        Err(Error::Cipher)
    }
}
