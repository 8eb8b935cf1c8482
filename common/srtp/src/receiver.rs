//! Opening what arrives.

use crate::{Error, KeyMaterial, Profile};

/// SSRCs that one transport's packets may have, each with a replay window of 152 bytes. A participant spends a handful for
/// each track published; raising it lets a peer hold more memory, lowering it makes long calls with many republished
/// tracks lose the last ones.
pub const MAX_STREAMS: usize = 1024;

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
}

impl Receiver {
    /// Derives the session keys of the inbound direction.
    pub fn new(material: &KeyMaterial) -> Result<Receiver, Error> {
        Ok(Receiver { profile: material.profile })
    }

    /// The profile in use.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Opens an SRTP packet in place. On error the payload's bytes are undefined and the state is what it was.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<Opened, DropReason> {
        let _ = packet;
        Err(DropReason::Malformed)
    }

    /// Opens an SRTCP packet in place and returns the length of the plain compound packet. On error the bytes are
    /// undefined and the state is what it was.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let _ = packet;
        Err(DropReason::Malformed)
    }
}
