//! Which worker a transport lives on. Pure: the router tells what rows come and go.
//!
//! A call begins whole on its *home*, the least loaded worker. When it has so many subscriptions there that it takes a good
//! part of that core, those who only receive and come later go to other workers. Who is placed stays: an association with
//! its keys and packet counts is not moved. Publishers are always at home, so that one worker decrypts and hears a call.

use std::collections::{BTreeMap, HashMap};

use sluice_messages::{CallId, Subscription, TrackId, Transport, TransportId};

/// Where everybody is, and how much that is.
pub(crate) struct Spread {
    /// Subscriptions of one call on one worker from which on others come into play.
    share: usize,
    /// Of each worker, over all calls.
    loads: Vec<usize>,
    calls: HashMap<CallId, Call>,
    seats: HashMap<TransportId, Seat>,
    /// Whether each subscription is enabled.
    subscriptions: HashMap<(TransportId, TrackId), bool>,
    /// Subscriptions that the changes in hand will bring to each receiver.
    announced: HashMap<TransportId, usize>,
}

struct Call {
    home: usize,
    /// Workers on which it lives.
    parts: BTreeMap<usize, Part>,
    tracks: usize,
}

#[derive(Default)]
struct Part {
    transports: usize,
    load: usize,
}

struct Seat {
    call: CallId,
    worker: usize,
    /// Subscriptions, and those that are enabled.
    rows: usize,
    enabled: usize,
    /// Enabled subscriptions it will have, as far as that can be guessed, until it has some.
    expected: usize,
}

impl Seat {
    /// A transport alone is work too.
    fn load(&self) -> usize {
        if self.rows == 0 { self.expected } else { self.enabled }.max(1)
    }
}

impl Spread {
    pub(crate) fn new(workers: usize, share: usize) -> Spread {
        Spread {
            share,
            loads: vec![0; workers],
            calls: HashMap::new(),
            seats: HashMap::new(),
            subscriptions: HashMap::new(),
            announced: HashMap::new(),
        }
    }

    /// Rows that are about to come: whoever is placed meanwhile is placed with them in mind.
    pub(crate) fn announce<'a>(&mut self, subscriptions: impl Iterator<Item = &'a Subscription>) {
        self.announced.clear();
        for subscription in subscriptions.filter(|subscription| subscription.wish.enabled) {
            *self.announced.entry(subscription.receiver).or_default() += 1;
        }
    }

    /// The worker of a transport that was placed.
    pub(crate) fn worker(&self, transport: TransportId) -> Option<usize> {
        self.seats.get(&transport).map(|seat| seat.worker)
    }

    /// Bits of the workers on which a call lives.
    pub(crate) fn workers(&self, call: CallId) -> u64 {
        self.calls.get(&call).map_or(0, |call| call.parts.keys().fold(0, |bits, worker| bits | (1 << worker)))
    }

    /// The worker for a transport; one that was placed stays there.
    pub(crate) fn place(&mut self, transport: &Transport) -> usize {
        if let Some(worker) = self.worker(transport.id) {
            return worker;
        }
        // We open the data channels of those who only receive; other transports may publish.
        let receives = transport.data.is_some_and(|data| data.opened_by_us);
        let home = self.calls.get(&transport.call).map_or_else(|| self.least_loaded(transport.call), |call| call.home);
        let call = self.calls.entry(transport.call).or_insert_with(|| Call { home, parts: BTreeMap::new(), tracks: 0 });
        let worker = if receives { choose(call, &self.loads, self.share) } else { home };
        // Who joins a call receives what there is in it, unless something else is known.
        let usual = if receives { call.tracks } else { 0 };
        let expected = self.announced.get(&transport.id).copied().unwrap_or(usual);
        let seat = Seat { call: transport.call, worker, rows: 0, enabled: 0, expected };
        let part = call.parts.entry(worker).or_default();
        part.transports += 1;
        part.load += seat.load();
        self.loads[worker] += seat.load();
        self.seats.insert(transport.id, seat);
        worker
    }

    /// A transport went, after all that depended on it.
    pub(crate) fn remove(&mut self, transport: TransportId) {
        let Some(seat) = self.seats.remove(&transport) else { return };
        self.loads[seat.worker] -= seat.load();
        let Some(call) = self.calls.get_mut(&seat.call) else { return };
        if let Some(part) = call.parts.get_mut(&seat.worker) {
            part.load -= seat.load();
            part.transports -= 1;
            if part.transports == 0 {
                call.parts.remove(&seat.worker);
            }
        }
        if call.parts.is_empty() {
            self.calls.remove(&seat.call);
        }
    }

    /// A call has another track, or one less.
    pub(crate) fn count_track(&mut self, call: CallId, is_new: bool) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.tracks = if is_new { call.tracks + 1 } else { call.tracks.saturating_sub(1) };
        }
    }

    /// A subscription came or changed. True if it is new.
    pub(crate) fn subscribe(&mut self, subscription: &Subscription) -> bool {
        let (key, enabled) = ((subscription.receiver, subscription.track), subscription.wish.enabled);
        let before = self.subscriptions.insert(key, enabled);
        self.change(subscription.receiver, |seat| {
            seat.rows += usize::from(before.is_none());
            seat.enabled = seat.enabled + usize::from(enabled) - usize::from(before == Some(true));
        });
        before.is_none()
    }

    /// A subscription went. True if it was there.
    pub(crate) fn unsubscribe(&mut self, receiver: TransportId, track: TrackId) -> bool {
        let Some(enabled) = self.subscriptions.remove(&(receiver, track)) else { return false };
        self.change(receiver, |seat| {
            seat.rows -= 1;
            seat.enabled -= usize::from(enabled);
            // It had some and has none: nothing is expected any more.
            seat.expected = 0;
        });
        true
    }

    fn change(&mut self, transport: TransportId, change: impl FnOnce(&mut Seat)) {
        let Some(seat) = self.seats.get_mut(&transport) else { return };
        let before = seat.load();
        change(seat);
        let load = &mut self.loads[seat.worker];
        *load = *load + seat.load() - before;
        if let Some(part) = self.calls.get_mut(&seat.call).and_then(|call| call.parts.get_mut(&seat.worker)) {
            part.load = part.load + seat.load() - before;
        }
    }

    /// A home for a new call. Among equals the id decides, so that calls that come before their load is known spread as well.
    fn least_loaded(&self, call: CallId) -> usize {
        let (count, first) = (self.loads.len(), hash(call, self.loads.len()));
        (0..count).min_by_key(|worker| (self.loads[*worker], (worker + count - first) % count)).unwrap_or(0)
    }
}

/// Where one more receiver of a call goes: home while there is room, then where the call lives already, as each further
/// worker costs a copy of everything; then to a fresh worker, and in the end to the least loaded.
fn choose(call: &Call, loads: &[usize], share: usize) -> usize {
    let has_room = |worker: usize| call.parts.get(&worker).is_none_or(|part| part.load < share);
    if has_room(call.home) {
        return call.home;
    }
    let least = |workers: &mut dyn Iterator<Item = usize>| workers.min_by_key(|worker| loads[*worker]);
    least(&mut call.parts.keys().copied().filter(|worker| has_room(*worker)))
        .or_else(|| least(&mut (0..loads.len()).filter(|worker| !call.parts.contains_key(worker))))
        .or_else(|| least(&mut (0..loads.len())))
        .unwrap_or(call.home)
}

/// Control draws ids at random; mixing guards against one that counts.
fn hash(call: CallId, workers: usize) -> usize {
    let mixed = call.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * workers as u128) >> 64) as usize
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
