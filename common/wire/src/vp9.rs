//! VP9's payload descriptor, RFC 9628 section 4.2.

use thiserror::Error;

const PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS_FRAME: u8 = 0x08;
const ENDS_FRAME: u8 = 0x04;
const STRUCTURE: u8 = 0x02;
const NOT_A_REFERENCE: u8 = 0x01;

/// Reference indices that a packet may carry in flexible mode.
const MAX_REFERENCES: usize = 3;
/// N_S has three bits.
const MAX_SPATIAL_LAYERS: usize = 8;

/// Why a payload is not VP9.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Vp9Error {
    #[error("shorter than its descriptor says")]
    Truncated,
    #[error("more than three reference indices")]
    References,
}

/// What the descriptor says. It borrows nothing, so it can be kept beside the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Descriptor {
    /// Bytes of the descriptor; the VP9 data follows.
    pub len: u16,
    /// 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// The picture id has 15 bits.
    pub is_wide: bool,
    /// P: the frame is predicted from earlier pictures.
    pub inter_picture: bool,
    /// F.
    pub is_flexible: bool,
    /// B: first packet of a frame (of one spatial layer).
    pub begins_frame: bool,
    /// E: last packet of a frame.
    pub ends_frame: bool,
    /// Z: no frame of a higher spatial layer refers to this one.
    pub is_discardable_above: bool,
    /// TID, U, SID and D, where the stream has layers.
    pub layer: Option<Layer>,
    /// Only in non-flexible mode.
    pub tl0_picture_index: Option<u8>,
    /// Sizes of the spatial layers, where the scalability structure is present.
    pub structure: Option<Structure>,
}

/// Where in the layers a frame belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layer {
    /// TID, 0..=7.
    pub temporal_id: u8,
    /// U: from here on a receiver can switch up to this temporal layer.
    pub switching_up: bool,
    /// SID, 0..=7.
    pub spatial_id: u8,
    /// D: predicted from the next lower spatial layer of the same picture.
    pub inter_layer: bool,
}

/// The scalability structure's sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Structure {
    /// 1..=8.
    pub spatial_layers: u8,
    sizes: [(u16, u16); MAX_SPATIAL_LAYERS],
    has_sizes: bool,
}

impl Structure {
    /// Width and height of each spatial layer, lowest first; empty where the structure tells none.
    pub fn sizes(&self) -> &[(u16, u16)] {
        let count = if self.has_sizes { usize::from(self.spatial_layers) } else { 0 };
        self.sizes.get(..count).unwrap_or_default()
    }
}

impl Descriptor {
    /// Reads the descriptor at the beginning of an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Descriptor, Vp9Error> {
        let mut reader = Reader { rest: payload };
        let first = reader.byte()?;
        let mut descriptor = Descriptor {
            inter_picture: first & INTER_PICTURE != 0,
            is_flexible: first & FLEXIBLE != 0,
            begins_frame: first & BEGINS_FRAME != 0,
            ends_frame: first & ENDS_FRAME != 0,
            is_discardable_above: first & NOT_A_REFERENCE != 0,
            ..Descriptor::default()
        };
        if first & PICTURE_ID != 0 {
            let high = reader.byte()?;
            descriptor.is_wide = high & 0x80 != 0;
            let id = if descriptor.is_wide { [high & 0x7F, reader.byte()?] } else { [0, high] };
            descriptor.picture_id = Some(u16::from_be_bytes(id));
        }
        if first & LAYERS != 0 {
            let byte = reader.byte()?;
            descriptor.layer = Some(Layer {
                temporal_id: byte >> 5,
                switching_up: byte & 0x10 != 0,
                spatial_id: byte >> 1 & 0x07,
                inter_layer: byte & 0x01 != 0,
            });
            if !descriptor.is_flexible {
                descriptor.tl0_picture_index = Some(reader.byte()?);
            }
        }
        if descriptor.is_flexible && descriptor.inter_picture {
            let mut references = 1;
            while reader.byte()? & 0x01 != 0 {
                references += 1;
                if references > MAX_REFERENCES {
                    return Err(Vp9Error::References);
                }
            }
        }
        if first & STRUCTURE != 0 {
            descriptor.structure = Some(reader.structure()?);
        }
        let len = payload.len() - reader.rest.len();
        descriptor.len = u16::try_from(len).map_err(|_| Vp9Error::Truncated)?;
        Ok(descriptor)
    }

    /// The packet begins a key picture, where a receiver that has nothing yet can begin.
    pub fn is_keyframe(&self) -> bool {
        self.begins_frame && !self.inter_picture && self.layer.is_none_or(|layer| layer.spatial_id == 0)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Vp9Error> {
        let (&byte, rest) = self.rest.split_first().ok_or(Vp9Error::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    fn word(&mut self) -> Result<u16, Vp9Error> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// Section 4.2.1: sizes, if Y, then the picture group, if G, which is passed over.
    fn structure(&mut self) -> Result<Structure, Vp9Error> {
        let head = self.byte()?;
        let mut structure =
            Structure { spatial_layers: (head >> 5) + 1, has_sizes: head & 0x10 != 0, ..Structure::default() };
        if structure.has_sizes {
            for size in structure.sizes.iter_mut().take(usize::from(structure.spatial_layers)) {
                *size = (self.word()?, self.word()?);
            }
        }
        if head & 0x08 != 0 {
            for _ in 0..self.byte()? {
                let references = self.byte()? >> 2 & 0x03;
                for _ in 0..references {
                    self.byte()?;
                }
            }
        }
        Ok(structure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expected: Descriptor, is_keyframe: bool) {
        let parsed = Descriptor::parse(payload).unwrap();
        assert_eq!(parsed, expected, "{payload:02x?}");
        assert_eq!(parsed.is_keyframe(), is_keyframe);
        for short in 0..usize::from(expected.len) {
            assert_eq!(Descriptor::parse(&payload[..short]), Err(Vp9Error::Truncated));
        }
    }

    #[test]
    fn non_flexible_with_layers() {
        let base = Descriptor {
            len: 5,
            picture_id: Some(0x1234),
            is_wide: true,
            begins_frame: true,
            layer: Some(Layer { temporal_id: 0, switching_up: true, spatial_id: 0, inter_layer: false }),
            tl0_picture_index: Some(7),
            ..Descriptor::default()
        };
        check(&[0xA8, 0x92, 0x34, 0x10, 7, 0xFF], base, true);
        let layer = Layer { temporal_id: 2, switching_up: false, spatial_id: 1, inter_layer: true };
        check(&[0xA8, 0x92, 0x34, 0x43, 7], Descriptor { layer: Some(layer), ..base }, false);
        check(&[0xE8, 0x92, 0x34, 0x10, 7], Descriptor { inter_picture: true, ..base }, false);
    }

    #[test]
    fn flexible_with_references() {
        let expected = Descriptor {
            len: 4,
            picture_id: Some(5),
            inter_picture: true,
            is_flexible: true,
            ends_frame: true,
            ..Descriptor::default()
        };
        check(&[0xD4, 5, 0x03, 0x04, 0xAA], expected, false);
        assert_eq!(Descriptor::parse(&[0xD4, 5, 3, 3, 3, 2]), Err(Vp9Error::References));
    }

    #[test]
    fn the_structure_tells_sizes() {
        let payload = [0x0A, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x18, 1, 2, 0x55];
        let parsed = Descriptor::parse(&payload).unwrap();
        assert_eq!(parsed.structure.unwrap().sizes(), [(320, 180), (640, 360)]);
        assert_eq!(usize::from(parsed.len), payload.len() - 1);
        for short in 0..payload.len() - 1 {
            assert_eq!(Descriptor::parse(&payload[..short]), Err(Vp9Error::Truncated));
        }
    }
}
