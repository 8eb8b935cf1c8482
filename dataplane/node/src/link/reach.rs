//! On which workers a track has receivers besides its home: they know it as long as it has.

use std::collections::{BTreeMap, BTreeSet};

use sluice_messages::TransportId;

/// A track of some kind.
pub(crate) struct Reach<T> {
    /// Worker of its publisher.
    pub(crate) home: usize,
    pub(crate) entry: T,
    /// Receivers on other workers.
    counts: BTreeMap<usize, usize>,
    /// Those that were added by name.
    names: BTreeSet<TransportId>,
}

impl<T> Reach<T> {
    pub(crate) fn new(home: usize, entry: T) -> Reach<T> {
        Reach { home, entry, counts: BTreeMap::new(), names: BTreeSet::new() }
    }

    /// The other workers.
    pub(crate) fn workers(&self) -> impl Iterator<Item = usize> + '_ {
        self.counts.keys().copied()
    }

    /// One more receiver on a worker. True if that worker must hear of the track.
    pub(crate) fn add(&mut self, worker: usize) -> bool {
        if worker == self.home {
            return false;
        }
        let count = self.counts.entry(worker).or_default();
        *count += 1;
        *count == 1
    }

    /// One less. True if that worker need not know the track any more.
    pub(crate) fn take(&mut self, worker: usize) -> bool {
        let Some(count) = self.counts.get_mut(&worker) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.counts.remove(&worker);
        }
        is_last
    }

    /// As [`Reach::add`] for a receiver that may have been added before.
    pub(crate) fn add_once(&mut self, receiver: TransportId, worker: usize) -> bool {
        self.names.insert(receiver) && self.add(worker)
    }

    /// As [`Reach::take`] for a receiver that may not be there.
    pub(crate) fn take_once(&mut self, receiver: TransportId, worker: usize) -> bool {
        self.names.remove(&receiver) && self.take(worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_knows_a_track_from_its_first_receiver_to_its_last() {
        let mut reach = Reach::new(0, ());
        assert!(!reach.add(0), "home knows it anyway");
        assert!(reach.add(2) && !reach.add(2) && reach.add(1));
        assert_eq!(reach.workers().collect::<Vec<_>>(), [1, 2]);
        assert!(!reach.take(2) && reach.take(2) && !reach.take(2));
        assert!(!reach.take(0));
        assert!(reach.add_once(TransportId(7), 2) && !reach.add_once(TransportId(7), 2));
        assert!(reach.take_once(TransportId(7), 2) && !reach.take_once(TransportId(7), 2));
        assert_eq!(reach.workers().collect::<Vec<_>>(), [1]);
    }
}
