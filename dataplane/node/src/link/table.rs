//! The node's table and the rules by which control may change it. Pure: what changed comes back as [`Step`]s in an order
//! that threads can apply one by one.
//!
//! Invariants: a track's publisher and a subscription's ends exist and are of the same call; epochs never go down; within
//! an epoch deltas are applied in their order without a gap. What came by a relay leaves by none, and the keys of a relay that
//! is gone never come back, as their packet counts are gone too.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use sluice_messages::{CallId, Entry, Key, Op, Refusal, Relay, SrtpKeys, TransportId};

/// Rows that a node keeps. Raising it lets a broken control take more memory (about 1 KiB a row); lowering it bounds the
/// calls a node can hold: a hundred people who all see each other are some 20,000 rows.
pub(crate) const ENTRIES_MAX: usize = 1 << 20;

/// Keys of former relays that are remembered, to be refused. Control draws them at random, so this only guards against one that
/// is broken; raising it guards for longer, at 28 bytes each.
const SPENT_MAX: usize = 4096;

/// A change for the worker that has the call, or for its slow thread.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Step {
    pub(crate) call: CallId,
    pub(crate) op: Op,
}

/// What a node was told so far.
#[derive(Default)]
pub(crate) struct Table {
    epoch: u64,
    sequence: u64,
    entries: BTreeMap<Key, Entry>,
    /// By row, the rows that go with it.
    dependents: BTreeMap<Key, BTreeSet<Key>>,
    /// What former relays sent with, oldest first.
    spent: VecDeque<SrtpKeys>,
    /// Rows not taken: their ends were missing or of different calls, they would make a loop, their keys were used before, or
    /// the table was full.
    dangling: u64,
}

impl Table {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn dangling(&self) -> u64 {
        self.dangling
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The call of a transport or relay.
    fn call(&self, transport: TransportId) -> Option<CallId> {
        match self.entries.get(&Key::Transport(transport)) {
            Some(Entry::Transport(t)) => Some(t.call),
            Some(Entry::Relay(r)) => Some(r.call),
            _ => None,
        }
    }

    fn is_relay(&self, transport: TransportId) -> bool {
        matches!(self.entries.get(&Key::Transport(transport)), Some(Entry::Relay(_)))
    }

    /// Whether a relay may have its keys: nobody used them before, and both are new if one is.
    fn is_fresh(&self, relay: &Relay) -> bool {
        let is_used = |keys| self.spent.contains(keys);
        match self.entries.get(&Key::Transport(relay.id)) {
            Some(Entry::Relay(old)) if old.send == relay.send => old.receive == relay.receive,
            Some(Entry::Relay(old)) => old.receive != relay.receive && !is_used(&relay.send),
            _ => !is_used(&relay.send),
        }
    }

    /// Remembers what a relay sent with until now.
    fn spend(&mut self, old: &Entry, new: Option<&Entry>) {
        let Entry::Relay(old) = old else { return };
        if matches!(new, Some(Entry::Relay(new)) if new.send == old.send) {
            return;
        }
        if self.spent.len() == SPENT_MAX {
            self.spent.pop_front();
        }
        self.spent.push_back(old.send.clone());
    }

    /// Replaces the table by `entries`. What did not change produces no step: media goes on.
    pub(crate) fn snapshot(&mut self, epoch: u64, sequence: u64, entries: Vec<Entry>) -> Result<Vec<Step>, Refusal> {
        self.check_epoch(epoch)?;
        let keep: BTreeSet<Key> = entries.iter().map(Entry::key).collect();
        let mut steps = Vec::new();
        let mut gone: Vec<Key> = self.entries.keys().filter(|k| !keep.contains(k)).cloned().collect();
        gone.sort_by_key(|key| std::cmp::Reverse(rank(key)));
        for key in gone {
            self.remove(&key, &mut steps);
        }
        let mut entries = entries;
        entries.sort_by_key(|entry| rank(&entry.key()));
        for entry in entries {
            self.put(entry, &mut steps);
        }
        self.epoch = epoch;
        self.sequence = sequence;
        Ok(steps)
    }

    /// Applies the next changes.
    pub(crate) fn delta(&mut self, epoch: u64, sequence: u64, ops: Vec<Op>) -> Result<Vec<Step>, Refusal> {
        self.check_current(epoch)?;
        let expected = self.sequence + 1;
        if sequence != expected {
            return Err(Refusal::Gap { expected });
        }
        let mut steps = Vec::new();
        for op in ops {
            match op {
                Op::Put(entry) => self.put(entry, &mut steps),
                Op::Remove(key) => self.remove(&key, &mut steps),
            }
        }
        self.sequence = sequence;
        Ok(steps)
    }

    /// Whether a command that changes nothing in the table may be obeyed.
    pub(crate) fn check_current(&self, epoch: u64) -> Result<(), Refusal> {
        self.check_epoch(epoch)?;
        // A newer control introduces itself by a snapshot: without it nothing is known of what it believes we have.
        if epoch != self.epoch || epoch == 0 { Err(Refusal::Gap { expected: 0 }) } else { Ok(()) }
    }

    fn check_epoch(&self, epoch: u64) -> Result<(), Refusal> {
        if epoch < self.epoch { Err(Refusal::StaleEpoch { current: self.epoch }) } else { Ok(()) }
    }

    fn put(&mut self, entry: Entry, steps: &mut Vec<Step>) {
        let key = entry.key();
        let old = self.entries.get(&key);
        if old == Some(&entry) {
            return;
        }
        // Another call or publisher is another thing under the same name: nothing of the old one may survive in a worker.
        if old.is_some_and(|old| home(old) != home(&entry)) {
            self.remove(&key, steps);
        }
        let is_usable = !matches!(&entry, Entry::Relay(relay) if !self.is_fresh(relay));
        let Some(call) = self.placement(&entry).filter(|_| is_usable) else {
            self.dangling += 1;
            return;
        };
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.dangling += 1;
            return;
        }
        for parent in parents(&entry).into_iter().flatten() {
            self.dependents.entry(parent).or_default().insert(key.clone());
        }
        if let Some(call) = call {
            steps.push(Step { call, op: Op::Put(entry.clone()) });
        }
        if let Some(old) = self.entries.get(&key).filter(|old| matches!(old, Entry::Relay(_))).cloned() {
            self.spend(&old, Some(&entry));
        }
        self.entries.insert(key, entry);
    }

    /// The call whose worker handles the entry, `Some(None)` for a note, none where the entry hangs in the air.
    fn placement(&self, entry: &Entry) -> Option<Option<CallId>> {
        match entry {
            Entry::Note(_) => Some(None),
            Entry::Transport(transport) => Some(Some(transport.call)),
            Entry::Relay(relay) => Some(Some(relay.call)),
            Entry::Track(track) => (self.call(track.publisher) == Some(track.call)).then_some(Some(track.call)),
            Entry::Subscription(subscription) => {
                let receiver = self.call(subscription.receiver)?;
                let Some(Entry::Track(track)) = self.entries.get(&Key::Track(subscription.track)) else { return None };
                (track.call == receiver && !self.is_relay(subscription.receiver)).then_some(Some(receiver))
            }
            Entry::RelayTrack(crossing) => {
                let call = self.call(crossing.relay).filter(|_| self.is_relay(crossing.relay))?;
                let Some(Entry::Track(track)) = self.entries.get(&Key::Track(crossing.track)) else { return None };
                (track.call == call && !self.is_relay(track.publisher)).then_some(Some(call))
            }
            Entry::DataTrack(track) => (self.call(track.publisher) == Some(track.call)).then_some(Some(track.call)),
            Entry::DataSubscription(subscription) => {
                let receiver = self.call(subscription.receiver)?;
                let Some(Entry::DataTrack(track)) = self.entries.get(&Key::DataTrack(subscription.track)) else {
                    return None;
                };
                (track.call == receiver).then_some(Some(receiver))
            }
        }
    }

    /// Removes a row and what depends on it, dependents first.
    fn remove(&mut self, key: &Key, steps: &mut Vec<Step>) {
        if !self.entries.contains_key(key) {
            return;
        }
        for dependent in self.dependents.remove(key).unwrap_or_default() {
            self.remove(&dependent, steps);
        }
        let Some(entry) = self.entries.remove(key) else { return };
        self.spend(&entry, None);
        let call = match &entry {
            Entry::Transport(transport) => Some(transport.call),
            Entry::Relay(relay) => Some(relay.call),
            Entry::RelayTrack(crossing) => self.call(crossing.relay),
            Entry::Track(track) => Some(track.call),
            Entry::Subscription(subscription) => self.call(subscription.receiver),
            Entry::DataTrack(track) => Some(track.call),
            Entry::DataSubscription(subscription) => self.call(subscription.receiver),
            Entry::Note(_) => None,
        };
        for parent in parents(&entry).into_iter().flatten() {
            if let Some(siblings) = self.dependents.get_mut(&parent) {
                siblings.remove(key);
                if siblings.is_empty() {
                    self.dependents.remove(&parent);
                }
            }
        }
        if let Some(call) = call {
            steps.push(Step { call, op: Op::Remove(key.clone()) });
        }
    }
}

/// The rows that an entry names, and without which it cannot be.
fn parents(entry: &Entry) -> [Option<Key>; 2] {
    match entry {
        Entry::Transport(_) | Entry::Relay(_) | Entry::Note(_) => [None, None],
        Entry::RelayTrack(crossing) => [Some(Key::Transport(crossing.relay)), Some(Key::Track(crossing.track))],
        Entry::Track(track) => [Some(Key::Transport(track.publisher)), None],
        Entry::DataTrack(track) => [Some(Key::Transport(track.publisher)), None],
        Entry::Subscription(subscription) => {
            [Some(Key::Transport(subscription.receiver)), Some(Key::Track(subscription.track))]
        }
        Entry::DataSubscription(subscription) => {
            [Some(Key::Transport(subscription.receiver)), Some(Key::DataTrack(subscription.track))]
        }
    }
}

/// Rows of a lower rank must exist before those of a higher one.
fn rank(key: &Key) -> u8 {
    match key {
        Key::Note(_) => 0,
        Key::Transport(_) => 1,
        Key::Track(_) | Key::DataTrack(_) => 2,
        Key::Subscription { .. } | Key::DataSubscription { .. } => 3,
    }
}

#[derive(PartialEq)]
enum Home {
    Transport(CallId),
    Relay(CallId, SocketAddr, u32),
    Publisher(CallId, TransportId),
    Crossing,
    Any,
}

/// What of an entry cannot be changed in place.
fn home(entry: &Entry) -> Home {
    match entry {
        Entry::Transport(transport) => Home::Transport(transport.call),
        Entry::Relay(relay) => Home::Relay(relay.call, relay.address, relay.ssrc),
        Entry::Track(track) => Home::Publisher(track.call, track.publisher),
        Entry::DataTrack(track) => Home::Publisher(track.call, track.publisher),
        Entry::RelayTrack(_) => Home::Crossing,
        Entry::Subscription(_) | Entry::DataSubscription(_) | Entry::Note(_) => Home::Any,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
