//! When each endpoint is due: a heap with at most a few entries for each, of which only the newest counts.

use std::{cmp::Reverse, collections::BinaryHeap};

use sluice_wire::Micros;

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Micros, usize)>>,
    /// The entry that counts, by endpoint.
    set: Vec<Micros>,
}

impl Timers {
    /// The endpoint is due at `at`.
    pub(super) fn set(&mut self, index: usize, at: Micros) {
        if index >= self.set.len() {
            self.set.resize(index + 1, Micros::NEVER);
        }
        // A later time than the one in the heap is looked up again when that one is due.
        if at < self.set[index] {
            self.heap.push(Reverse((at, index)));
            self.set[index] = at;
        }
    }

    /// The endpoint is gone.
    pub(super) fn clear(&mut self, index: usize) {
        if let Some(set) = self.set.get_mut(index) {
            *set = Micros::NEVER;
        }
    }

    /// When something may be due.
    pub(super) fn next(&self) -> Micros {
        self.heap.peek().map_or(Micros::NEVER, |Reverse((at, _))| *at)
    }

    /// An endpoint that may be due; its next time has to be set anew.
    pub(super) fn due(&mut self, now: Micros) -> Option<usize> {
        while let Some(&Reverse((at, index))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.set.get(index) == Some(&at) {
                self.set[index] = Micros::NEVER;
                return Some(index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_counts_and_only_once() {
        let mut timers = Timers::default();
        timers.set(3, Micros(50));
        timers.set(3, Micros(20));
        timers.set(3, Micros(70));
        timers.set(1, Micros(30));
        assert_eq!(timers.due(Micros(10)), None);
        assert_eq!(timers.due(Micros(100)), Some(3));
        timers.set(3, Micros(200));
        assert_eq!(timers.due(Micros(100)), Some(1));
        assert_eq!((timers.due(Micros(100)), timers.next()), (None, Micros(200)));
        timers.clear(3);
        assert_eq!(timers.due(Micros(300)), None);
    }
}
