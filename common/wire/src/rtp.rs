//! RTP (RFC 3550), header extensions (RFC 8285), retransmission payloads (RFC 4588) and which protocol a datagram speaks
//! (RFC 7983).

mod extension;

use thiserror::Error;

pub use self::extension::{ExtensionSize, ExtensionWriter, Extensions};
use crate::bytes::{put, u16_at, u32_at};

/// Bytes of the header before CSRCs and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;
/// Bytes a retransmission carries before the payload: the original sequence number.
pub const RTX_PREFIX_BYTES: usize = 2;

const EXTENSION_BIT: u8 = 0x10;
const PADDING_BIT: u8 = 0x20;
const MARKER_BIT: u8 = 0x80;

/// What a datagram on the media port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketClass {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

/// Tells protocols apart by the first byte (RFC 7983) and RTP from RTCP by the second (RFC 5761 section 4: 192..=223).
/// `None` for TURN channels, ZRTP and everything too short to be any of them.
pub fn classify(datagram: &[u8]) -> Option<PacketClass> {
    match datagram {
        [0..=3, _, ..] => Some(PacketClass::Stun),
        [20..=63, _, ..] => Some(PacketClass::Dtls),
        [128..=191, 192..=223, ..] => Some(PacketClass::Rtcp),
        [128..=191, _, ..] => Some(PacketClass::Rtp),
        _ => None,
    }
}

/// Why a packet is not RTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RtpError {
    #[error("shorter than its header says")]
    Truncated,
    #[error("longer than 65,535 bytes")]
    TooLong,
    #[error("version is not 2")]
    Version,
    #[error("an extension element runs past the extension block")]
    Extension,
    #[error("more padding than payload")]
    Padding,
}

/// An RTP header's fields and offsets, read once. It borrows nothing, so it can be kept beside the packet's frame; the
/// methods that return bytes take the same packet again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// 0..=15.
    pub csrc_count: u8,
    /// The padding bit; under SRTP the count behind it is readable only after decryption.
    pub has_padding: bool,
    /// 0xBEDE: one-byte elements, 0x1000..=0x100F: two-byte elements, others are opaque; `None` without the X bit.
    pub extension_profile: Option<u16>,
    /// Where the extension elements begin, after their 4-byte head; equal to `payload_start` without the X bit.
    pub extension_start: u16,
    /// Where the payload begins: the header's length.
    pub payload_start: u16,
    /// Where the payload ends and padding begins.
    pub payload_end: u16,
}

impl Header {
    /// Reads a plain packet: header, extension elements and padding must all be within their bounds.
    pub fn parse(packet: &[u8]) -> Result<Header, RtpError> {
        Header::parse_protected(packet)?.unprotected(packet)
    }

    /// Reads the header of an SRTP packet, whose payload, padding count included, is still encrypted. `payload_end` is
    /// the packet's end.
    pub fn parse_protected(packet: &[u8]) -> Result<Header, RtpError> {
        let Some(&[first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]) = packet.first_chunk() else {
            return Err(RtpError::Truncated);
        };
        let payload_end = u16::try_from(packet.len()).map_err(|_| RtpError::TooLong)?;
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_count = first & 0x0F;
        let mut payload_start = FIXED_HEADER_BYTES + 4 * usize::from(csrc_count);
        let mut extension_start = payload_start;
        let mut extension_profile = None;
        if first & EXTENSION_BIT != 0 {
            extension_profile = Some(u16_at(packet, payload_start).ok_or(RtpError::Truncated)?);
            let words = u16_at(packet, payload_start + 2).ok_or(RtpError::Truncated)?;
            extension_start = payload_start + 4;
            payload_start = extension_start + 4 * usize::from(words);
        }
        if payload_start > packet.len() {
            return Err(RtpError::Truncated);
        }
        Ok(Header {
            marker: second & MARKER_BIT != 0,
            payload_type: second & !MARKER_BIT,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            csrc_count,
            has_padding: first & PADDING_BIT != 0,
            extension_profile,
            // Neither exceeds the packet's length, which fits.
            extension_start: extension_start as u16,
            payload_start: payload_start as u16,
            payload_end,
        })
    }

    /// Completes what [`Header::parse_protected`] read, once `packet` is the decrypted packet (without SRTP's tag).
    pub fn unprotected(mut self, packet: &[u8]) -> Result<Header, RtpError> {
        let len = u16::try_from(packet.len()).map_err(|_| RtpError::TooLong)?;
        let payload_len = len.checked_sub(self.payload_start).ok_or(RtpError::Truncated)?;
        let padding = match packet.last() {
            Some(&count) if self.has_padding => u16::from(count),
            _ => 0,
        };
        if padding > payload_len || (self.has_padding && padding == 0) {
            return Err(RtpError::Padding);
        }
        if !self.extensions(packet).are_well_formed() {
            return Err(RtpError::Extension);
        }
        self.payload_end = len - padding;
        Ok(self)
    }

    /// The extension elements as (id, value).
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let block = packet.get(usize::from(self.extension_start)..usize::from(self.payload_start));
        Extensions::new(self.extension_profile, block.unwrap_or_default())
    }

    /// The first extension element with this id.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet).find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    /// The payload without padding.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(usize::from(self.payload_start)..usize::from(self.payload_end)).unwrap_or_default()
    }

    /// The payload without padding, for editing in place.
    pub fn payload_mut<'a>(&self, packet: &'a mut [u8]) -> &'a mut [u8] {
        packet.get_mut(usize::from(self.payload_start)..usize::from(self.payload_end)).unwrap_or_default()
    }

    /// Bytes of payload without padding.
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_end.saturating_sub(self.payload_start))
    }
}

/// The fields of a header to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeaderFields {
    pub marker: bool,
    /// 0..=127; the top bit is ignored.
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// Writes a header without CSRCs, extensions or padding and returns its length, [`FIXED_HEADER_BYTES`]. Extensions follow
/// with [`ExtensionWriter`]. `None` where `out` is too short.
pub fn write_header(out: &mut [u8], fields: HeaderFields) -> Option<usize> {
    let header = out.first_chunk_mut::<FIXED_HEADER_BYTES>()?;
    header[0] = 0x80;
    header[1] = (u8::from(fields.marker) << 7) | (fields.payload_type & !MARKER_BIT);
    header[2..4].copy_from_slice(&fields.sequence.to_be_bytes());
    header[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
    Some(FIXED_HEADER_BYTES)
}

// The setters leave a packet that is too short for the field as it is: parsing has refused it before.

/// Overwrites the marker bit.
pub fn set_marker(packet: &mut [u8], marker: bool) {
    if let Some(byte) = packet.get_mut(1) {
        *byte = (*byte & !MARKER_BIT) | (u8::from(marker) << 7);
    }
}

/// Overwrites the payload type.
pub fn set_payload_type(packet: &mut [u8], payload_type: u8) {
    if let Some(byte) = packet.get_mut(1) {
        *byte = (*byte & MARKER_BIT) | (payload_type & !MARKER_BIT);
    }
}

/// Overwrites the sequence number.
pub fn set_sequence(packet: &mut [u8], sequence: u16) {
    put(packet, 2, &sequence.to_be_bytes());
}

/// Overwrites the timestamp.
pub fn set_timestamp(packet: &mut [u8], timestamp: u32) {
    put(packet, 4, &timestamp.to_be_bytes());
}

/// Overwrites the SSRC.
pub fn set_ssrc(packet: &mut [u8], ssrc: u32) {
    put(packet, 8, &ssrc.to_be_bytes());
}

/// The SSRC of a packet whose header nobody has parsed yet.
pub fn ssrc(packet: &[u8]) -> Option<u32> {
    u32_at(packet, 8)
}

/// Appends `count` bytes of padding to the packet of `len` bytes in `out`, sets the P bit, and returns the new length.
/// A `count` of zero changes nothing. `None` where `out` is too short.
pub fn pad(out: &mut [u8], len: usize, count: u8) -> Option<usize> {
    if count == 0 {
        return (len <= out.len()).then_some(len);
    }
    let end = len.checked_add(usize::from(count))?;
    let padding = out.get_mut(len..end)?;
    padding.fill(0);
    *padding.last_mut()? = count;
    *out.first_mut()? |= PADDING_BIT;
    Some(end)
}

/// The original sequence number that a retransmission's payload begins with. `None` for the empty payload of a packet
/// that is all padding, as senders use to probe for bandwidth.
pub fn original_sequence(rtx_payload: &[u8]) -> Option<u16> {
    u16_at(rtx_payload, 0)
}

/// Turns a decrypted retransmission back into the packet it repeats, in place: sequence number, SSRC and payload type
/// become the original's and the payload moves up over the original sequence number. Returns the new length, which
/// leaves out padding. `None`, with nothing changed, where the payload holds no original sequence number.
pub fn restore_rtx(packet: &mut [u8], header: &Header, ssrc: u32, payload_type: u8) -> Option<usize> {
    let sequence = original_sequence(header.payload(packet))?;
    let start = usize::from(header.payload_start);
    packet.copy_within(start + RTX_PREFIX_BYTES..usize::from(header.payload_end), start);
    *packet.first_mut()? &= !PADDING_BIT;
    set_sequence(packet, sequence);
    set_payload_type(packet, payload_type);
    set_ssrc(packet, ssrc);
    Some(usize::from(header.payload_end) - RTX_PREFIX_BYTES)
}

#[cfg(test)]
mod tests;
