//! H.264 payloads, RFC 6184: what a receiver can begin with.

use thiserror::Error;

use crate::bytes::u16_at;

const IDR_SLICE: u8 = 5;
const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;

/// Why a payload is not H.264.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum H264Error {
    #[error("empty, or an aggregated unit runs past the end")]
    Truncated,
}

/// The network abstraction layer units that a packet holds or begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Units {
    /// A sequence parameter set.
    pub has_sequence_parameters: bool,
    /// A picture parameter set.
    pub has_picture_parameters: bool,
    /// An IDR slice, or the first fragment of one.
    pub has_idr: bool,
}

impl Units {
    /// Reads a payload: a single unit, an aggregate (STAP-A) or a fragment (FU-A). Other packet types hold nothing.
    pub fn parse(payload: &[u8]) -> Result<Units, H264Error> {
        let mut units = Units::default();
        let header = payload.first().ok_or(H264Error::Truncated)?;
        match header & 0x1F {
            STAP_A => {
                let mut rest = payload.get(1..).unwrap_or_default();
                while !rest.is_empty() {
                    let len = usize::from(u16_at(rest, 0).ok_or(H264Error::Truncated)?);
                    let unit = rest.get(2..2 + len).ok_or(H264Error::Truncated)?;
                    units.note(unit.first().ok_or(H264Error::Truncated)? & 0x1F);
                    rest = rest.get(2 + len..).unwrap_or_default();
                }
            }
            FU_A => {
                let fragment = payload.get(1).ok_or(H264Error::Truncated)?;
                if fragment & FU_START != 0 {
                    units.note(fragment & 0x1F);
                }
            }
            unit => units.note(unit),
        }
        Ok(units)
    }

    /// Whether a receiver that has nothing yet can begin here: encoders send parameter sets before each IDR picture, and
    /// where those went ahead the picture itself.
    pub fn is_keyframe(&self) -> bool {
        self.has_sequence_parameters || self.has_idr
    }

    fn note(&mut self, unit: u8) {
        match unit {
            IDR_SLICE => self.has_idr = true,
            SEQUENCE_PARAMETERS => self.has_sequence_parameters = true,
            PICTURE_PARAMETERS => self.has_picture_parameters = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8], sequence: bool, picture: bool, idr: bool) {
        let expected = Units { has_sequence_parameters: sequence, has_picture_parameters: picture, has_idr: idr };
        assert_eq!(Units::parse(payload), Ok(expected), "{payload:02x?}");
    }

    #[test]
    fn units_are_found_however_packed() {
        check(&[0x67, 0x42], true, false, false);
        check(&[0x68, 0xCE], false, true, false);
        check(&[0x65, 0x88], false, false, true);
        check(&[0x41, 0x9A], false, false, false);
        check(&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68, 0, 1, 0x65], true, true, true);
        check(&[0x7C, 0x85, 0x88], false, false, true);
        check(&[0x7C, 0x05, 0x88], false, false, false);
        check(&[0x7C, 0x45, 0x88], false, false, false);
    }

    #[test]
    fn lying_lengths_are_refused() {
        for payload in [&[][..], &[0x78, 0], &[0x78, 0, 3, 0x67, 0x42], &[0x78, 0, 0], &[0x7C]] {
            assert_eq!(Units::parse(payload), Err(H264Error::Truncated), "{payload:02x?}");
        }
    }
}
