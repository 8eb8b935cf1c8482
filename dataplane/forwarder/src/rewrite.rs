//! Continuity for one receiver: sequence number, timestamp and VP8 picture id of what goes out, across layer switches,
//! dropped packets, pauses and replaced sources.
//!
//! Everything is computed on extended 64-bit indices (roll-over included), and an outgoing index is given out once: each
//! incoming index maps into it by an offset that is fixed for a *segment* of incoming indices, and segments never overlap
//! on either side. A packet that comes late finds the segment it belongs to, and with it the number that was left for it.

use arrayvec::ArrayVec;

/// What matters of an incoming packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Incoming {
    /// Extended sequence number within its source.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    /// VP8 picture id (7 or 15 bits) and TL0PICIDX, where it has them.
    pub(crate) picture_id: Option<u16>,
    pub tl0: Option<u8>,
}

/// What it becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outgoing {
    /// Extended sequence number of the outgoing stream; its low 16 bits are the header's, the rest SRTP's roll-over counter.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    /// Modulo 2^15; a 7-bit field takes its low bits.
    pub(crate) picture_id: u16,
    pub tl0: u8,
}

/// Incoming indices `start..end` of the current source.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u64,
    end: u64,
    /// Added to the incoming index.
    offset: u64,
    picture_offset: u16,
    /// Picture id of the dropped frame that ended it: late packets of that frame have no place.
    closed_by: Option<u16>,
}

/// Raising it finds the place of later packets among dropped frames (15 a second at two temporal layers), 40 bytes each
/// per subscription.
const SEGMENTS: usize = 16;

/// State of one outgoing stream.
#[derive(Debug)]
pub(crate) struct Rewriter {
    /// Oldest first; empty before the first switch. The last is open.
    segments: ArrayVec<Segment, SEGMENTS>,
    /// Highest incoming index seen of the current source, forwarded or dropped.
    highest: u64,
    /// Next unused outgoing index.
    next: u64,
    timestamp_offset: u32,
    /// How far timestamps were pushed ahead of true media time so as not to go back.
    skew: u32,
    tl0_offset: u8,
    /// Newest values sent.
    last: Outgoing,
    sent_any: bool,
    dropping: Option<u16>,
}

const PICTURE_MASK: u16 = 0x7fff;

impl Rewriter {
    /// A stream whose first packet gets the low 15 bits of `random` as its sequence number, so that a receiver that joins
    /// late by a few packets still guesses roll-over counter 0 (RFC 3711 section 3.3.1).
    pub(crate) fn new(random: u64) -> Rewriter {
        Rewriter {
            segments: ArrayVec::new(),
            highest: 0,
            next: random & 0x7fff,
            timestamp_offset: 0,
            skew: 0,
            tl0_offset: 0,
            last: Outgoing {
                index: 0,
                timestamp: (random >> 16) as u32,
                picture_id: (random >> 48) as u16 & PICTURE_MASK,
                tl0: (random >> 40) as u8,
            },
            sent_any: false,
            dropping: None,
        }
    }

    /// Continues an outgoing stream of which everything before `next` was sent by somebody else.
    pub(crate) fn start_at(&mut self, next: u64) {
        self.next = next;
    }

    /// Goes on under new keys, where the receiver's roll-over counter is 0 again (RFC 3711 section 3.3.1).
    pub(crate) fn rekey(&mut self) {
        self.next &= 0xffff;
        self.segments.clear();
    }

    /// Timestamp sent last, once anything was sent.
    pub(crate) fn last_timestamp(&self) -> Option<u32> {
        self.sent_any.then_some(self.last.timestamp)
    }

    /// Next outgoing index that was never given out.
    pub(crate) fn next_index(&self) -> u64 {
        self.next
    }

    /// What is added to the source's timestamps now.
    pub(crate) fn timestamp_offset(&self) -> u32 {
        self.timestamp_offset
    }

    /// How far outgoing timestamps are ahead of true media time.
    pub(crate) fn skew(&self) -> u32 {
        self.skew
    }

    /// Starts a new source (another layer, a replaced one, or the first): `packet` follows all that was sent. `wanted` is
    /// the outgoing timestamp it should have by media time; it gets that or the first one after the last sent.
    pub(crate) fn switch(&mut self, packet: Incoming, wanted: Option<u32>) {
        let ideal = wanted.unwrap_or(self.last.timestamp.wrapping_add(1));
        let mut timestamp = ideal;
        if self.sent_any && (timestamp.wrapping_sub(self.last.timestamp) as i32) <= 0 {
            timestamp = self.last.timestamp.wrapping_add(1);
        }
        self.skew = timestamp.wrapping_sub(ideal);
        self.timestamp_offset = timestamp.wrapping_sub(packet.timestamp);
        self.tl0_offset = self.last.tl0.wrapping_add(1).wrapping_sub(packet.tl0.unwrap_or(0));
        self.segments.clear();
        self.segments.push(self.following(packet));
        self.highest = packet.index;
        self.dropping = None;
    }

    /// Leaves a packet out on purpose: what follows closes up. `frame` is its picture id if its whole frame is left out.
    pub(crate) fn skip(&mut self, packet: Incoming, frame: Option<u16>) {
        if packet.index <= self.highest {
            return;
        }
        let Some(last) = self.segments.last_mut() else { return };
        let new_frame = frame.is_some() && frame != self.dropping;
        let start = packet.index + 1;
        if packet.index < last.start {
            return;
        }
        let picture_offset = last.picture_offset.wrapping_sub(u16::from(new_frame)) & PICTURE_MASK;
        let continues = frame.is_some() && !new_frame;
        if last.start > self.highest && (packet.index == last.start || continues) {
            // Nothing was sent in this segment yet: it moves on. Packets missing inside a dropped frame are dropped with it.
            last.offset = last.offset.wrapping_sub(start - last.start);
            last.start = start;
            last.picture_offset = picture_offset;
        } else {
            let offset = last.offset.wrapping_sub(1);
            last.end = packet.index;
            last.closed_by = frame;
            self.push(Segment { start, end: u64::MAX, offset, picture_offset, closed_by: None });
        }
        self.dropping = frame;
        self.highest = packet.index;
    }

    /// True for a further packet of the frame that is being left out.
    pub(crate) fn is_dropping(&self, picture_id: u16) -> bool {
        self.dropping == Some(picture_id)
    }

    /// What `packet` becomes; none if it has no place (from before a switch, of a dropped frame, or too late).
    pub(crate) fn map(&mut self, packet: Incoming) -> Option<Outgoing> {
        let segment = self.segments.iter().rev().find(|s| s.start <= packet.index)?;
        if packet.index >= segment.end || (segment.closed_by.is_some() && segment.closed_by == packet.picture_id) {
            return None;
        }
        let out = Outgoing {
            index: packet.index.wrapping_add(segment.offset),
            timestamp: packet.timestamp.wrapping_add(self.timestamp_offset),
            picture_id: packet.picture_id.unwrap_or(0).wrapping_add(segment.picture_offset) & PICTURE_MASK,
            tl0: packet.tl0.unwrap_or(0).wrapping_add(self.tl0_offset),
        };
        if packet.index >= self.highest {
            self.highest = packet.index;
            self.dropping = None;
        }
        if out.index >= self.next {
            self.next = out.index + 1;
            self.last.index = out.index;
            if packet.picture_id.is_some() {
                self.last.picture_id = out.picture_id;
            }
            if packet.tl0.is_some() {
                self.last.tl0 = out.tl0;
            }
        }
        if !self.sent_any || (out.timestamp.wrapping_sub(self.last.timestamp) as i32) > 0 {
            self.last.timestamp = out.timestamp;
        }
        self.sent_any = true;
        Some(out)
    }

    fn following(&self, packet: Incoming) -> Segment {
        let picture = self.last.picture_id.wrapping_add(1).wrapping_sub(packet.picture_id.unwrap_or(0));
        Segment {
            start: packet.index,
            end: u64::MAX,
            offset: self.next.wrapping_sub(packet.index),
            picture_offset: picture & PICTURE_MASK,
            closed_by: None,
        }
    }

    fn push(&mut self, segment: Segment) {
        if self.segments.is_full() {
            self.segments.remove(0);
        }
        self.segments.push(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(index: u64, picture_id: u16) -> Incoming {
        Incoming {
            index,
            timestamp: picture_id as u32 * 3000,
            picture_id: Some(picture_id),
            tl0: Some(picture_id as u8),
        }
    }

    #[test]
    fn a_late_packet_gets_the_number_left_for_it() {
        let mut r = Rewriter::new(100);
        r.switch(packet(5, 0), Some(77));
        assert_eq!(r.map(packet(5, 0)).unwrap().index, 100);
        assert_eq!(r.map(packet(8, 1)).unwrap().index, 103);
        r.skip(packet(9, 2), Some(2));
        r.skip(packet(10, 2), Some(2));
        assert_eq!(r.map(packet(11, 3)).unwrap().index, 104);
        assert_eq!(r.map(packet(7, 1)).unwrap().index, 102);
        assert_eq!(r.map(packet(9, 2)), None);
        assert_eq!(r.map(packet(4, 0)), None, "from before the switch");
    }

    #[test]
    fn picture_ids_close_up_over_dropped_frames() {
        let mut r = Rewriter::new(0);
        r.switch(packet(0, 0), Some(0));
        let first = r.map(packet(0, 0)).unwrap().picture_id;
        r.skip(packet(1, 1), Some(1));
        r.skip(packet(2, 1), Some(1));
        r.skip(packet(3, 2), Some(2));
        let next = r.map(packet(4, 3)).unwrap();
        assert_eq!(next.picture_id, (first + 1) & PICTURE_MASK);
        assert_eq!(next.index, 1);
    }

    #[test]
    fn packets_missing_inside_a_dropped_frame_leave_no_hole() {
        let mut r = Rewriter::new(0);
        r.switch(packet(0, 0), Some(0));
        r.map(packet(0, 0)).unwrap();
        r.skip(packet(1, 1), Some(1));
        r.skip(packet(3, 1), Some(1));
        assert_eq!(r.map(packet(4, 2)).unwrap().index, 1);
        assert_eq!(r.map(packet(2, 1)), None);
    }

    #[test]
    fn a_switch_continues_all_three_numbers_and_never_goes_back_in_time() {
        let mut r = Rewriter::new(0xfffe);
        r.switch(packet(0, 10), Some(90_000));
        let a = r.map(packet(0, 10)).unwrap();
        let other = Incoming { index: 1 << 40, timestamp: 5, picture_id: Some(3), tl0: Some(200) };
        r.switch(other, Some(80_000));
        let b = r.map(other).unwrap();
        assert_eq!(b.index, a.index + 1);
        assert_eq!(b.timestamp, 90_001);
        assert_eq!(r.skew(), 10_001);
        assert_eq!(b.picture_id, (a.picture_id + 1) & PICTURE_MASK);
        assert_eq!(b.tl0, a.tl0.wrapping_add(1));
    }
}
