//! Numbers that wrap: comparison, and extension to 64 bits.

/// `later - earlier` on the circle of 16-bit numbers, in -32768..=32767.
pub fn distance_u16(later: u16, earlier: u16) -> i16 {
    later.wrapping_sub(earlier) as i16
}

/// `later - earlier` on the circle of 32-bit numbers.
pub fn distance_u32(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

/// `later - earlier` on the circle of 15-bit numbers (VP8 picture id), in -16384..=16383.
pub fn distance_u15(later: u16, earlier: u16) -> i16 {
    (later.wrapping_sub(earlier) << 1) as i16 >> 1
}

/// `later - earlier` on the circle of 8-bit numbers (VP8 TL0PICIDX), in -128..=127.
pub fn distance_u8(later: u8, earlier: u8) -> i8 {
    later.wrapping_sub(earlier) as i8
}

/// Whether `a` comes after `b` on the circle of 16-bit numbers.
pub fn is_newer_u16(a: u16, b: u16) -> bool {
    distance_u16(a, b) > 0
}

/// Whether `a` comes after `b` on the circle of 32-bit numbers.
pub fn is_newer_u32(a: u32, b: u32) -> bool {
    distance_u32(a, b) > 0
}

/// Extends 16-bit sequence numbers to 64 bits by counting rollovers, whatever the order within half the circle.
///
/// The first number lands in cycle 1, so that an earlier one that arrives late still has a number. The low 16 bits of an
/// extended number are always the sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extender {
    highest: Option<u64>,
}

impl Extender {
    /// The extended number nearest to the highest seen, which it may become.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let extended = self.peek(sequence);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// As [`Extender::extend`], without remembering it.
    pub fn peek(&self, sequence: u16) -> u64 {
        match self.highest {
            None => (1 << 16) + u64::from(sequence),
            Some(highest) => highest.saturating_add_signed(i64::from(distance_u16(sequence, highest as u16))),
        }
    }

    /// The highest extended number seen.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}
