//! What can be sent again: received frames by reference, bounded in number and time, and per receiver which of them went
//! out under which number.

use std::time::Duration;

use sluice_frames::{FrameId, Pool};
use sluice_wire::Micros;

use crate::rewrite::Outgoing;

/// A received frame that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    index: u64,
    arrival: Micros,
    frame: FrameId,
}

/// The newest frames of one incoming layer, by extended index. Each is held as one user of its frame.
#[derive(Debug)]
pub(crate) struct History {
    slots: Box<[Option<Kept>]>,
    /// Nothing older than this index is kept.
    oldest: u64,
    newest: u64,
    held: usize,
}

impl History {
    pub(crate) fn new(packets: usize) -> History {
        History { slots: vec![None; packets.next_power_of_two()].into(), oldest: 0, newest: 0, held: 0 }
    }

    /// Keeps a frame (as one more user of it) and lets go of what had its place.
    pub(crate) fn insert(&mut self, index: u64, frame: FrameId, arrival: Micros, pool: &mut Pool) {
        if self.held == 0 {
            (self.oldest, self.newest) = (index, index);
        }
        let span = self.slots.len() as u64;
        if index + span <= self.newest {
            return;
        }
        let place = self.place(index);
        if self.slots[place].is_some_and(|kept| kept.index == index) {
            return;
        }
        self.release(place, pool);
        pool.retain(frame);
        self.slots[place] = Some(Kept { index, arrival, frame });
        self.held += 1;
        self.newest = self.newest.max(index);
        self.oldest = self.oldest.min(index).max((self.newest + 1).saturating_sub(span));
    }

    pub(crate) fn frame(&self, index: u64) -> Option<FrameId> {
        self.slots[self.place(index)].filter(|kept| kept.index == index).map(|kept| kept.frame)
    }

    /// The frame whose index has these low bits.
    pub(crate) fn frame_by_low(&self, low: u32) -> Option<FrameId> {
        self.slots[self.place(u64::from(low))].filter(|kept| kept.index as u32 == low).map(|kept| kept.frame)
    }

    /// Lets go of what arrived longer than `age` ago; returns how many frames that were.
    pub(crate) fn expire(&mut self, now: Micros, age: Duration, pool: &mut Pool) -> u64 {
        let mut expired = 0;
        while self.held > 0 && self.oldest <= self.newest {
            let place = self.place(self.oldest);
            if let Some(kept) = self.slots[place].filter(|kept| kept.index <= self.oldest) {
                if now.since(kept.arrival) < age {
                    break;
                }
                self.release(place, pool);
                expired += 1;
            }
            self.oldest += 1;
        }
        expired
    }

    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        for place in 0..self.slots.len() {
            self.release(place, pool);
        }
    }

    fn release(&mut self, place: usize, pool: &mut Pool) {
        if let Some(kept) = self.slots[place].take() {
            pool.release(kept.frame);
            self.held -= 1;
        }
    }

    fn place(&self, index: u64) -> usize {
        index as usize & (self.slots.len() - 1)
    }
}

/// What went out under one number, complete enough to build the same bytes again. Small, as there are hundreds for each
/// subscription and one is written for each packet: indices are kept as far as they tell apart what can be meant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Low bits of the outgoing index.
    index: u32,
    /// Low bits of the index in the [`History`] of the layer it came from.
    source_index: u32,
    timestamp: u32,
    /// 24 bits of abs-send-time, then 8 of the length of the padding.
    stamp: u32,
    pub(crate) transport_sequence: u16,
    picture_id: u16,
    /// Milliseconds, wrapping.
    pub(crate) resent_ms: u16,
    generation: u16,
    tl0: u8,
    /// Two bits of the encoding, [`VALID`] and [`LEFT`].
    state: u8,
    pub(crate) resends: u8,
}

/// The place of the ring is in use.
const VALID: u8 = 1 << 7;
/// It has left already; its header is settled.
const LEFT: u8 = 1 << 6;
const ENCODING: u8 = 3;

impl Sent {
    pub(crate) fn new(out: Outgoing, source_index: u64, generation: u32, encoding: u8) -> Sent {
        Sent {
            index: out.index as u32,
            source_index: source_index as u32,
            timestamp: out.timestamp,
            picture_id: out.picture_id,
            tl0: out.tl0,
            generation: generation as u16,
            state: VALID | encoding & ENCODING,
            ..Sent::default()
        }
    }

    /// It leaves, for the first time.
    pub(crate) fn leave(&mut self, transport_sequence: u16, abs_send_time: u32, padding: u8) {
        self.state |= LEFT;
        self.transport_sequence = transport_sequence;
        self.stamp = abs_send_time << 8 | u32::from(padding);
    }

    pub(crate) fn has_left(&self) -> bool {
        self.state & LEFT != 0
    }

    pub(crate) fn abs_send_time(&self) -> u32 {
        self.stamp >> 8
    }

    pub(crate) fn padding(&self) -> u8 {
        self.stamp as u8
    }

    pub(crate) fn encoding(&self) -> u8 {
        self.state & ENCODING
    }

    /// Whether it came from this numbering of its layer.
    pub(crate) fn is_of(&self, generation: u32) -> bool {
        self.generation == generation as u16
    }

    /// Low bits of the index in the [`History`] of its layer.
    pub(crate) fn source_index(&self) -> u32 {
        self.source_index
    }

    /// What it became, under its whole index.
    pub(crate) fn out(&self, index: u64) -> Outgoing {
        Outgoing { index, timestamp: self.timestamp, picture_id: self.picture_id, tl0: self.tl0 }
    }
}

/// The newest outgoing numbers of one subscription. Without memory (`histories_max` reached) it remembers nothing.
#[derive(Debug, Default)]
pub(crate) struct SentRing {
    slots: Box<[Sent]>,
}

impl SentRing {
    /// `packets` is a power of two.
    pub(crate) fn new(packets: usize) -> SentRing {
        SentRing { slots: vec![Sent::default(); packets].into() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn insert(&mut self, sent: Sent) {
        let mask = self.slots.len().wrapping_sub(1);
        if let Some(slot) = self.slots.get_mut(sent.index as usize & mask) {
            *slot = sent;
        }
    }

    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut Sent> {
        let mask = self.slots.len().wrapping_sub(1);
        let slot = self.slots.get_mut(index as usize & mask)?;
        (slot.state & VALID != 0 && slot.index == index as u32).then_some(slot)
    }

    pub(crate) fn clear(&mut self) {
        self.slots.fill(Sent::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_when_they_are_old_or_too_many() {
        let mut pool = Pool::new(32).unwrap();
        let mut history = History::new(8);
        let mut random = crate::table::Random(3);
        for n in 0..1_000u64 {
            let index = 100 + n * 2 - random.next() % 6;
            let frame = pool.take().unwrap();
            history.insert(index, frame, Micros(n * 1_000), &mut pool);
            pool.release(frame);
            assert!(history.frame(index).is_some());
            assert!(pool.capacity() - pool.free() <= 8);
            history.expire(Micros(n * 1_000), Duration::from_millis(4), &mut pool);
        }
        history.expire(Micros(2_000_000), Duration::from_millis(4), &mut pool);
        assert_eq!(pool.free(), 32);
    }
}
