//! Redundant audio, RFC 2198.

use thiserror::Error;

const FOLLOWED: u8 = 0x80;

/// Why a payload is not RED.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RedError {
    #[error("shorter than its block headers say")]
    Truncated,
}

/// One block of a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// 0..=127.
    pub payload_type: u8,
    /// How far before the packet's timestamp, 14 bits; zero for the primary block.
    pub timestamp_offset: u16,
    pub payload: &'a [u8],
}

/// The primary block: what the packet would be without redundancy.
pub fn primary(payload: &[u8]) -> Result<Block<'_>, RedError> {
    let mut headers = payload;
    let mut redundant_len = 0;
    loop {
        match *headers {
            [head, ref rest @ ..] if head & FOLLOWED == 0 => {
                let payload = rest.get(redundant_len..).ok_or(RedError::Truncated)?;
                return Ok(Block { payload_type: head, timestamp_offset: 0, payload });
            }
            [_, _, high, low, ref rest @ ..] => {
                redundant_len += usize::from(u16::from_be_bytes([high & 0x03, low]));
                headers = rest;
            }
            _ => return Err(RedError::Truncated),
        }
    }
}

/// The redundant blocks, oldest first as they are sent. A payload that [`primary`] refuses has none.
pub fn redundant(payload: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let count = match primary(payload) {
        Ok(_) => payload.chunks(4).take_while(|header| header.first().is_some_and(|head| head & FOLLOWED != 0)).count(),
        Err(_) => 0,
    };
    let (headers, blocks) = payload.split_at_checked(4 * count).unwrap_or_default();
    let mut rest = blocks.get(1..).unwrap_or_default();
    headers.as_chunks().0.iter().map_while(move |&[head, t, high, low]| {
        let offset = u16::from(t) << 6 | u16::from(high >> 2);
        let (payload, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high & 0x03, low])))?;
        rest = after;
        Some(Block { payload_type: head & !FOLLOWED, timestamp_offset: offset, payload })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut() {
        // Two redundant blocks of three and two bytes, 1,920 and 960 ticks back, and a primary of one.
        let payload = [0xEF, 0x1E, 0x00, 3, 0xEF, 0x0F, 0x00, 2, 111, 1, 2, 3, 4, 5, 6];
        let block = |timestamp_offset, payload| Block { payload_type: 111, timestamp_offset, payload };
        assert_eq!(primary(&payload), Ok(block(0, &[6][..])));
        assert!(redundant(&payload).eq([block(1_920, &[1, 2, 3][..]), block(960, &[4, 5])]));
        for short in 0..payload.len() - 1 {
            assert_eq!(primary(&payload[..short]), Err(RedError::Truncated));
            assert_eq!(redundant(&payload[..short]).count(), 0);
        }
    }

    #[test]
    fn a_primary_alone() {
        assert_eq!(primary(&[111, 9]), Ok(Block { payload_type: 111, timestamp_offset: 0, payload: &[9] }));
        assert_eq!(redundant(&[111, 9]).count(), 0);
    }
}
