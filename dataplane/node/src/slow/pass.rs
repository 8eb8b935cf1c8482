//! Data packets between slow threads, where a call lives on several workers: whoever takes a packet in stamps it and passes
//! it on once to each thread that has others of the call, which finds its receivers by itself.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use sluice_messages::{CallId, DataKind, DataTrackId};

use super::data::Stamped;
use crate::queue::Knock;

/// Packets that wait between two slow threads, up to 64 KiB each, which all threads share. Raising it rides out longer
/// pauses of a thread; beyond it the sender's clients wait, as their data waits in SCTP.
pub(super) const PASSED_MAX: usize = 64;

/// A packet for everybody at a sibling whom it concerns.
#[derive(Clone)]
pub(crate) enum Passed {
    /// Of the participant with this sid.
    Message { call: CallId, sid: Arc<str>, kind: DataKind, stamped: Arc<Stamped> },
    /// Of a data track, under its publisher's handle.
    Track { track: DataTrackId, packet: Arc<[u8]> },
}

/// All siblings of a slow thread.
pub(crate) struct Ways {
    /// By index; none for the thread itself.
    to: Vec<Option<(Producer<Passed>, Arc<Knock>)>>,
    from: Vec<Consumer<Passed>>,
    /// Bits of those who got something and were not woken yet.
    owed: u64,
}

impl Ways {
    /// Some sibling has no room.
    pub(super) fn is_full(&self) -> bool {
        self.to.iter().flatten().any(|(queue, _)| queue.is_full() && !queue.is_abandoned())
    }

    /// Passes a packet to the siblings of these bits. There is room, as [`Ways::is_full`] said.
    pub(super) fn push(&mut self, to: u64, passed: &Passed) {
        for (index, way) in self.to.iter_mut().enumerate() {
            if let Some((queue, _)) = way.as_mut().filter(|_| to & (1 << index) != 0)
                && queue.push(passed.clone()).is_ok()
            {
                self.owed |= 1 << index;
            }
        }
    }

    /// Wakes those who got something.
    pub(super) fn knock(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        let ways = self.to.iter().enumerate().filter(|(index, _)| owed & (1 << index) != 0);
        ways.filter_map(|(_, way)| way.as_ref()).for_each(|(_, knock)| knock.knock());
    }

    /// What came from siblings, at most what one queue holds.
    pub(super) fn take(&mut self) -> Option<Passed> {
        self.from.iter_mut().find_map(|queue| queue.pop().ok())
    }

    /// How much came.
    pub(super) fn waiting(&self) -> usize {
        self.from.iter().map(Consumer::slots).sum()
    }
}

/// Queues between all slow threads with these knocks.
pub(crate) fn connect(knocks: &[Arc<Knock>]) -> Vec<Ways> {
    let new = || Ways { to: Vec::new(), from: Vec::new(), owed: 0 };
    let mut ends: Vec<Ways> = knocks.iter().map(|_| new()).collect();
    for from in 0..knocks.len() {
        for (to, knock) in knocks.iter().enumerate() {
            if from == to {
                ends[from].to.push(None);
                continue;
            }
            let (queue_in, queue_out) = RingBuffer::new(PASSED_MAX);
            ends[from].to.push(Some((queue_in, knock.clone())));
            ends[to].from.push(queue_out);
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_way_says_so_and_recovers() {
        let knocks: Vec<Arc<Knock>> = (0..3).map(|_| Arc::default()).collect();
        let mut ends = connect(&knocks);
        let packet = |n: u8| Passed::Track { track: DataTrackId(1), packet: vec![n].into() };
        for n in 0..PASSED_MAX {
            assert!(!ends[0].is_full());
            ends[0].push(0b110, &packet(n as u8));
        }
        assert!(ends[0].is_full() && !ends[1].is_full());
        assert_eq!((ends[1].waiting(), ends[2].waiting()), (PASSED_MAX, PASSED_MAX));
        for n in 0..PASSED_MAX {
            let Some(Passed::Track { packet, .. }) = ends[1].take() else { panic!("nothing came") };
            assert_eq!(*packet, [n as u8], "in order");
        }
        assert!(ends[0].is_full(), "the other one has not read yet");
        assert!(ends[2].take().is_some());
        assert!(!ends[0].is_full());
    }
}
