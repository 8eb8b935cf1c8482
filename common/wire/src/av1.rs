//! AV1 payloads (AV1 RTP payload specification 1.0): the aggregation header, and the dependency descriptor extension.

use thiserror::Error;

use crate::bytes::u16_at;

const SEQUENCE_HEADER: u8 = 1;

/// Why a payload is not AV1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Av1Error {
    #[error("empty, or an OBU element runs past the end")]
    Truncated,
    #[error("a new sequence cannot begin with a continued element")]
    Continued,
    #[error("a length of more than 32 bits")]
    Length,
}

/// What the aggregation header says (section 4.4), and whether a sequence header begins in the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Aggregation {
    /// Z: the first element continues the last packet's last.
    pub continues: bool,
    /// Y: the last element goes on in the next packet.
    pub is_continued: bool,
    /// N: the packet is the first of a coded video sequence.
    pub begins_sequence: bool,
    pub has_sequence_header: bool,
}

impl Aggregation {
    /// Reads an RTP payload.
    pub fn parse(payload: &[u8]) -> Result<Aggregation, Av1Error> {
        let (&head, mut rest) = payload.split_first().ok_or(Av1Error::Truncated)?;
        let mut aggregation = Aggregation {
            continues: head & 0x80 != 0,
            is_continued: head & 0x40 != 0,
            begins_sequence: head & 0x08 != 0,
            has_sequence_header: false,
        };
        if aggregation.continues && aggregation.begins_sequence {
            return Err(Av1Error::Continued);
        }
        // W elements of which the last has no length; zero: every one has.
        let count = head >> 4 & 0x03;
        let mut position = 0u16;
        while !rest.is_empty() {
            let is_last = count != 0 && position + 1 == u16::from(count);
            let element;
            if is_last {
                (element, rest) = (rest, &[][..]);
            } else {
                let (len, after) = leb128(rest)?;
                (element, rest) = after.split_at_checked(len).ok_or(Av1Error::Truncated)?;
            }
            let is_continuation = position == 0 && aggregation.continues;
            if let (false, Some(obu)) = (is_continuation, element.first()) {
                aggregation.has_sequence_header |= obu >> 3 & 0x0F == SEQUENCE_HEADER;
            }
            position += 1;
        }
        if position < u16::from(count) { Err(Av1Error::Truncated) } else { Ok(aggregation) }
    }

    /// Whether a receiver that has nothing yet can begin here.
    pub fn is_keyframe(&self) -> bool {
        self.begins_sequence || self.has_sequence_header
    }
}

/// A little-endian base-128 number of at most 32 bits, and what follows it.
fn leb128(bytes: &[u8]) -> Result<(usize, &[u8]), Av1Error> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Av1Error::Length)?;
            return Ok((value as usize, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(if bytes.len() < 8 { Av1Error::Truncated } else { Av1Error::Length })
}

/// The mandatory fields of the dependency descriptor extension (appendix A.8.1), and whether a template structure follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DependencyDescriptor {
    pub starts_frame: bool,
    pub ends_frame: bool,
    /// 0..=63.
    pub template_id: u8,
    pub frame_number: u16,
    /// The structure comes with the first packet of every key frame.
    pub has_structure: bool,
}

impl DependencyDescriptor {
    /// Reads the extension's value; `None` where it is shorter than the mandatory fields.
    pub fn parse(value: &[u8]) -> Option<DependencyDescriptor> {
        let head = *value.first()?;
        Some(DependencyDescriptor {
            starts_frame: head & 0x80 != 0,
            ends_frame: head & 0x40 != 0,
            template_id: head & 0x3F,
            frame_number: u16_at(value, 1)?,
            has_structure: value.get(3).is_some_and(|flags| flags & 0x80 != 0),
        })
    }

    /// Whether a receiver that has nothing yet can begin here.
    pub fn is_keyframe(&self) -> bool {
        self.starts_frame && self.has_structure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], expected: Result<bool, Av1Error>) {
        assert_eq!(Aggregation::parse(payload).map(|found| found.is_keyframe()), expected, "{payload:02x?}");
    }

    #[test]
    fn key_frames_are_found() {
        // N; a sequence header first, second behind a length, and last without one; a frame OBU alone.
        check(&[0x18, 0x32, 1, 2], Ok(true));
        check(&[0x10, 0x0A, 1], Ok(true));
        check(&[0x20, 1, 0x12, 0x0A, 1], Ok(true));
        check(&[0x00, 2, 0x12, 0, 1, 0x08], Ok(true));
        check(&[0x10, 0x32, 1, 2], Ok(false));
        // What continues an element has no OBU header.
        check(&[0x90, 0x0A, 1], Ok(false));
    }

    #[test]
    fn lying_lengths_are_refused() {
        check(&[], Err(Av1Error::Truncated));
        check(&[0x00, 3, 0x12, 0], Err(Av1Error::Truncated));
        check(&[0x30, 1, 0x12], Err(Av1Error::Truncated));
        check(&[0x00, 0x80], Err(Av1Error::Truncated));
        check(&[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], Err(Av1Error::Length));
        check(&[0x98, 0x0A], Err(Av1Error::Continued));
    }

    #[test]
    fn the_dependency_descriptor_tells_key_frames() {
        let parsed = DependencyDescriptor::parse(&[0xC5, 0x12, 0x34, 0x80]).unwrap();
        let expected = DependencyDescriptor {
            starts_frame: true,
            ends_frame: true,
            template_id: 5,
            frame_number: 0x1234,
            has_structure: true,
        };
        assert_eq!(parsed, expected);
        assert!(parsed.is_keyframe());
        assert!(!DependencyDescriptor::parse(&[0xC5, 0x12, 0x34]).unwrap().is_keyframe());
        assert_eq!(DependencyDescriptor::parse(&[0xC5, 0x12]), None);
    }
}
