//! VP8's payload descriptor, RFC 7741 section 4.2, and its edit in place.

use thiserror::Error;

use crate::bytes::put;

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

const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const START_OF_PARTITION: u8 = 0x10;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0: u8 = 0x40;
const HAS_TEMPORAL_ID: u8 = 0x20;
const HAS_KEY_INDEX: u8 = 0x10;
const WIDE: u8 = 0x80;
/// Where the picture id stands, if there is one: behind the two bytes of flags.
const PICTURE_ID_AT: usize = 2;

impl Descriptor {
    /// Reads the descriptor at the beginning of an RTP payload, and the VP8 payload header (RFC 7741 section 4.3) behind it
    /// where a frame begins.
    pub fn parse(payload: &[u8]) -> Result<Descriptor, Vp8Error> {
        let mut reader = payload.iter().copied();
        let mut next = || reader.next().ok_or(Vp8Error::Truncated);
        let first = next()?;
        let flags = if first & EXTENDED != 0 { next()? } else { 0 };
        let mut len = if first & EXTENDED != 0 { 2 } else { 1 };
        let mut descriptor = Descriptor {
            is_discardable: first & NON_REFERENCE != 0,
            starts_frame: first & START_OF_PARTITION != 0 && first & 0x07 == 0,
            ..Descriptor::default()
        };
        if flags & HAS_PICTURE_ID != 0 {
            let high = next()?;
            let id = match high & WIDE {
                0 => PictureId::Narrow(high),
                _ => PictureId::Wide(u16::from_be_bytes([high & !WIDE, next()?])),
            };
            len += id.wire_len();
            descriptor.picture_id = Some(id);
        }
        if flags & HAS_TL0 != 0 {
            descriptor.tl0_picture_index = Some(next()?);
            len += 1;
        }
        if flags & (HAS_TEMPORAL_ID | HAS_KEY_INDEX) != 0 {
            let byte = next()?;
            len += 1;
            if flags & HAS_TEMPORAL_ID != 0 {
                descriptor.temporal_id = Some(byte >> 6);
                descriptor.layer_sync = byte & 0x20 != 0;
            }
            if flags & HAS_KEY_INDEX != 0 {
                descriptor.key_index = Some(byte & 0x1F);
            }
        }
        descriptor.len = len as u8;
        let frame = payload.get(len..).unwrap_or_default();
        // P, the lowest bit of the frame tag, is zero for key frames (RFC 6386 section 9.1).
        descriptor.is_keyframe = descriptor.starts_frame && frame.first().is_some_and(|tag| tag & 1 == 0);
        if let (true, Some(&[_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1])) =
            (descriptor.is_keyframe, frame.first_chunk())
        {
            // The top two bits of each say how to scale up.
            let size = (u16::from_le_bytes([w0, w1]) & 0x3FFF, u16::from_le_bytes([h0, h1]) & 0x3FFF);
            descriptor.size = Some(size);
        }
        Ok(descriptor)
    }

    /// Overwrites fields of the same descriptor in `payload`, which needs to hold no more than the descriptor's bytes: a
    /// copy of them in a transmit slot will do. `None`, with nothing written, where it is shorter.
    pub fn patch(&self, payload: &mut [u8], patch: Patch) -> Option<()> {
        let fields = payload.get_mut(..usize::from(self.len))?;
        let mut at = PICTURE_ID_AT;
        if let Some(width) = self.picture_id {
            if let Some(id) = patch.picture_id {
                let [high, low] = id.to_be_bytes();
                match width {
                    PictureId::Narrow(_) => put(fields, at, &[low & !WIDE])?,
                    PictureId::Wide(_) => put(fields, at, &[high | WIDE, low])?,
                }
            }
            at += width.wire_len();
        }
        if self.tl0_picture_index.is_some() {
            if let Some(index) = patch.tl0_picture_index {
                put(fields, at, &[index])?;
            }
            at += 1;
        }
        if let (true, Some(index)) = (self.key_index.is_some(), patch.key_index) {
            let byte = fields.get_mut(at)?;
            *byte = (*byte & 0xE0) | (index & 0x1F);
        }
        Some(())
    }
}

impl PictureId {
    /// The id itself.
    pub fn value(self) -> u16 {
        match self {
            PictureId::Narrow(id) => u16::from(id),
            PictureId::Wide(id) => id,
        }
    }

    fn wire_len(self) -> usize {
        match self {
            PictureId::Narrow(_) => 1,
            PictureId::Wide(_) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expected: Descriptor) {
        assert_eq!(Descriptor::parse(payload), Ok(expected), "{payload:02x?}");
        for short in 0..usize::from(expected.len) {
            assert_eq!(Descriptor::parse(&payload[..short]), Err(Vp8Error::Truncated));
        }
    }

    #[test]
    fn descriptors_of_every_shape() {
        check(&[0x00, 0xFF], Descriptor { len: 1, ..Descriptor::default() });
        check(&[0x10, 0x00], Descriptor { len: 1, starts_frame: true, is_keyframe: true, ..Descriptor::default() });
        check(&[0x11, 0x00], Descriptor { len: 1, ..Descriptor::default() });
        check(
            &[0xB0, 0x80, 0x7F, 0x01],
            Descriptor {
                len: 3,
                is_discardable: true,
                starts_frame: true,
                picture_id: Some(PictureId::Narrow(127)),
                ..Descriptor::default()
            },
        );
        check(
            &[0x80, 0x20, 0x60],
            Descriptor { len: 3, temporal_id: Some(1), layer_sync: true, ..Descriptor::default() },
        );
    }

    #[test]
    fn a_key_frame_tells_its_size() {
        let payload = [0x90, 0xF0, 0x92, 0x34, 0x56, 0xBF, 0x10, 0, 0, 0x9D, 1, 0x2A, 0x80, 0x02, 0xE0, 0x41];
        check(
            &payload,
            Descriptor {
                len: 6,
                is_discardable: false,
                starts_frame: true,
                picture_id: Some(PictureId::Wide(0x1234)),
                tl0_picture_index: Some(0x56),
                temporal_id: Some(2),
                layer_sync: true,
                key_index: Some(31),
                is_keyframe: true,
                size: Some((640, 480)),
            },
        );
    }

    #[test]
    fn patches_stay_in_their_fields() {
        let patch = Patch { picture_id: Some(0x7FFE), tl0_picture_index: Some(9), key_index: Some(0xFF) };
        for (original, patched) in [
            (&[0x90, 0xF0, 0x92, 0x34, 0x56, 0xA0, 0x10][..], &[0x90, 0xF0, 0xFF, 0xFE, 0x09, 0xBF, 0x10][..]),
            (&[0x90, 0x80, 0x12, 0x10], &[0x90, 0x80, 0x7E, 0x10]),
            (&[0x90, 0x60, 0x12, 0xA5, 0x10], &[0x90, 0x60, 0x09, 0xA5, 0x10]),
            (&[0x90, 0x10, 0xC0, 0x10], &[0x90, 0x10, 0xDF, 0x10]),
            (&[0x10, 0x10], &[0x10, 0x10]),
        ] {
            let mut payload = original.to_vec();
            let descriptor = Descriptor::parse(original).unwrap();
            descriptor.patch(&mut payload, patch).unwrap();
            assert_eq!(payload, patched);
            assert_eq!(descriptor.patch(&mut payload[..usize::from(descriptor.len) - 1], patch), None);
        }
    }
}
