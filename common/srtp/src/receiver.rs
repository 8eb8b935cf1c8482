//! Opening what arrives.

use sluice_wire::rtp;

use crate::{ENCRYPTED_BIT, Error, KeyMaterial, Profile, cipher::Cipher, derive::Usage, replay::Streams};

/// SSRCs that one transport's packets may have, each with a replay window of 152 bytes. A participant spends a handful for
/// each track published; raising it lets a peer hold more memory, lowering it makes long calls with many republished
/// tracks lose the last ones.
pub const MAX_STREAMS: usize = 512;

/// Header and sender SSRC, which every RTCP packet has.
const RTCP_HEADER_BYTES: usize = 8;

/// Why a packet was dropped. No drop changes any state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum DropReason {
    #[error("not a header of RTP or RTCP, or shorter than header and tag")]
    Malformed,
    #[error("the tag does not fit the bytes")]
    Forged,
    #[error("seen before")]
    Replayed,
    #[error("too old to tell whether it was seen before")]
    TooOld,
    #[error("more SSRCs than a transport may have")]
    TooManyStreams,
}

/// An RTP packet that was opened in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    pub ssrc: u32,
    /// Bytes of header and plain payload, from the packet's beginning.
    pub len: usize,
    /// Bytes of the header.
    pub header_len: usize,
    /// Rollover count and sequence number, 48 bits.
    pub index: u64,
}

/// Opens the packets of one transport, whatever their SSRCs.
#[derive(Debug)]
pub struct Receiver {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams,
    rtcp_streams: Streams,
}

impl Receiver {
    /// Derives the session keys of the inbound direction.
    pub fn new(material: &KeyMaterial) -> Result<Receiver, Error> {
        let (profile, master) = (material.profile, &material.inbound);
        Ok(Receiver {
            profile,
            rtp: Cipher::new(profile, master, Usage::Rtp)?,
            rtcp: Cipher::new(profile, master, Usage::Rtcp)?,
            rtp_streams: Streams::new(),
            rtcp_streams: Streams::new(),
        })
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Opens an SRTP packet in place. On error the payload's bytes are undefined and the state is what it was.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<Opened, DropReason> {
        let header = rtp::Header::parse_protected(packet).map_err(|_| DropReason::Malformed)?;
        let header_len = usize::from(header.payload_start);
        if packet.len() < header_len + self.profile.tag_len() {
            return Err(DropReason::Malformed);
        }
        let place = self.rtp_streams.place_rtp(header.ssrc, header.sequence)?;
        let len = self.rtp.open_rtp(packet, header_len, header.ssrc, place.index).ok_or(DropReason::Forged)?;
        self.rtp_streams.take(place);
        Ok(Opened { ssrc: header.ssrc, len, header_len, index: place.index })
    }

    /// Opens an SRTCP packet in place and returns the length of the plain compound packet. On error the bytes are
    /// undefined and the state is what it was.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let Some(&[first, _, _, _, c0, c1, c2, c3]) = packet.first_chunk() else {
            return Err(DropReason::Malformed);
        };
        if first >> 6 != 2 || packet.len() < RTCP_HEADER_BYTES + self.profile.rtcp_overhead() {
            return Err(DropReason::Malformed);
        }
        let ssrc = u32::from_be_bytes([c0, c1, c2, c3]);
        let index_word = self.rtcp.rtcp_index_word(packet).ok_or(DropReason::Malformed)?;
        let place = self.rtcp_streams.place_rtcp(ssrc, index_word & !ENCRYPTED_BIT)?;
        let len = self.rtcp.open_rtcp(packet, ssrc, index_word).ok_or(DropReason::Forged)?;
        self.rtcp_streams.take(place);
        Ok(len)
    }
}
