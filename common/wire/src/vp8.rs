//! VP8's payload descriptor, RFC 7741 section 4.2, and its edit in place.

use thiserror::Error;

/// Why a payload is not VP8.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Vp8Error {
    #[error("shorter than its descriptor says")]
    Truncated,
}

/// What the descriptor and the first bytes of the frame say. It borrows nothing, so it can be kept beside the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Bytes of the descriptor; the VP8 data follows.
    pub len: u8,
    /// N: the frame may be discarded without harm to others.
    pub is_discardable: bool,
    /// S with partition 0: the packet begins a frame.
    pub starts_frame: bool,
    pub picture_id: Option<PictureId>,
    pub tl0_picture_index: Option<u8>,
    /// 0..=3.
    pub temporal_id: Option<u8>,
    /// Y: the frame depends on the base layer only. False without a temporal id.
    pub layer_sync: bool,
    /// 0..=31.
    pub key_index: Option<u8>,
    /// The packet begins a key frame.
    pub is_keyframe: bool,
    /// Width and height in pixels, at the beginning of a key frame.
    pub size: Option<(u16, u16)>,
}

/// A picture id and how wide it is on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PictureId {
    Narrow(u8),
    Wide(u16),
}

/// New values for the fields that the descriptor has; fields that it lacks are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    /// Cut to the width of the field: 7 or 15 bits.
    pub picture_id: Option<u16>,
    pub tl0_picture_index: Option<u8>,
    /// Cut to 5 bits.
    pub key_index: Option<u8>,
}

impl Descriptor {
    /// Reads the descriptor at the beginning of an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Descriptor, Vp8Error> {
        let _ = payload;
        Err(Vp8Error::Truncated)
    }

    /// Overwrites fields of the same descriptor in `payload`, which needs to hold no more than the descriptor's bytes: a
    /// copy of them in a transmit slot will do. `None`, with nothing written, where it is shorter.
    pub fn patch(&self, payload: &mut [u8], patch: Patch) -> Option<()> {
        let _ = (payload, patch);
        None
    }
}
