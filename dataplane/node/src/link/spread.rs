//! Which worker a transport lives on. Pure: the router tells what rows come and go.
//!
//! A call begins whole on its *home*, the least loaded worker. When it has so many subscriptions there that it takes a good
//! part of that core, those who only receive and come later go to other workers. Who is placed stays: an association with
//! its keys and packet counts is not moved. Publishers are always at home, so that one worker decrypts and hears a call.

use std::collections::{BTreeMap, HashMap};

use sluice_messages::{CallId, Relay, RelayTrack, Subscription, TrackId, Transport, TransportId};

/// Tracks of somebody who publishes: camera and microphone.
const TRACKS_EACH: usize = 2;

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
    /// Transports that only receive.
    receivers: usize,
    tracks: usize,
}

/// What of a call is on one worker.
#[derive(Default)]
struct Part {
    transports: usize,
    /// Receivers of whom nothing is known yet.
    fresh: usize,
    /// Load of all others.
    settled: usize,
}

struct Seat {
    call: CallId,
    worker: usize,
    receives: bool,
    /// Enabled subscriptions.
    count: usize,
    /// Those that count: what was announced until the first one comes, none as long as nothing is known.
    enabled: Option<usize>,
}

impl Call {
    /// Subscriptions that a receiver will have of whom nothing is known: to all there is, or, as people join before they
    /// publish, to what everybody else will publish. Too much spreads a call early, which costs little; too little fills a
    /// worker with people who cannot be moved.
    fn usual(&self) -> usize {
        self.tracks.max(TRACKS_EACH * self.receivers.saturating_sub(1)).max(1)
    }

    fn load(&self, worker: usize) -> usize {
        self.parts.get(&worker).map_or(0, |part| part.settled + part.fresh * self.usual())
    }

    /// Puts a seat into the sums of its worker.
    fn seat(&mut self, seat: &Seat) {
        let part = self.parts.entry(seat.worker).or_default();
        match seat.enabled {
            None if seat.receives => part.fresh += 1,
            // A transport alone is work too.
            enabled => part.settled += enabled.unwrap_or(0).max(1),
        }
    }

    /// Takes it out again.
    fn unseat(&mut self, seat: &Seat) {
        let Some(part) = self.parts.get_mut(&seat.worker) else { return };
        match seat.enabled {
            None if seat.receives => part.fresh -= 1,
            enabled => part.settled -= enabled.unwrap_or(0).max(1),
        }
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
        self.seat(transport.id, transport.call, receives)
    }

    /// The worker for a relay: home, as tracks come by it.
    pub(crate) fn place_relay(&mut self, relay: &Relay) -> usize {
        self.worker(relay.id).unwrap_or_else(|| self.seat(relay.id, relay.call, false))
    }

    fn seat(&mut self, transport: TransportId, id: CallId, receives: bool) -> usize {
        if !self.calls.contains_key(&id) {
            let home = self.least_loaded(id);
            self.calls.insert(id, Call { home, parts: BTreeMap::new(), receivers: 0, tracks: 0 });
        }
        let loads = &self.loads;
        let worker =
            self.calls.get(&id).map_or(0, |call| if receives { choose(call, loads, self.share) } else { call.home });
        let seat = Seat { call: id, worker, receives, count: 0, enabled: self.announced.get(&transport).copied() };
        self.change(id, |call| {
            call.receivers += usize::from(receives);
            call.seat(&seat);
            if let Some(part) = call.parts.get_mut(&worker) {
                part.transports += 1;
            }
        });
        self.seats.insert(transport, seat);
        worker
    }

    /// A transport went, after all that depended on it.
    pub(crate) fn remove(&mut self, transport: TransportId) {
        let Some(seat) = self.seats.remove(&transport) else { return };
        self.change(seat.call, |call| {
            call.receivers -= usize::from(seat.receives);
            call.unseat(&seat);
            if let Some(part) = call.parts.get_mut(&seat.worker) {
                part.transports -= 1;
            }
            call.parts.retain(|_, part| part.transports > 0);
        });
        if self.calls.get(&seat.call).is_some_and(|call| call.parts.is_empty()) {
            self.calls.remove(&seat.call);
        }
    }

    /// A call has another track, or one less.
    pub(crate) fn count_track(&mut self, call: CallId, is_new: bool) {
        self.change(call, |call| call.tracks = if is_new { call.tracks + 1 } else { call.tracks.saturating_sub(1) });
    }

    /// A subscription came or changed. True if it is new.
    pub(crate) fn subscribe(&mut self, subscription: &Subscription) -> bool {
        self.enrol(subscription.receiver, subscription.track, subscription.wish.enabled)
    }

    /// A track may cross to another node, which counts as one more receiver. True if that is new.
    pub(crate) fn cross(&mut self, crossing: &RelayTrack) -> bool {
        self.enrol(crossing.relay, crossing.track, true)
    }

    fn enrol(&mut self, receiver: TransportId, track: TrackId, enabled: bool) -> bool {
        let before = self.subscriptions.insert((receiver, track), enabled);
        self.count(receiver, usize::from(enabled), usize::from(before == Some(true)));
        before.is_none()
    }

    /// A subscription went. True if it was there.
    pub(crate) fn unsubscribe(&mut self, receiver: TransportId, track: TrackId) -> bool {
        let Some(enabled) = self.subscriptions.remove(&(receiver, track)) else { return false };
        self.count(receiver, 0, usize::from(enabled));
        true
    }

    /// A receiver has so many more and so many less enabled subscriptions.
    fn count(&mut self, receiver: TransportId, more: usize, less: usize) {
        let Some(mut seat) = self.seats.remove(&receiver) else { return };
        self.change(seat.call, |call| {
            call.unseat(&seat);
            seat.count = seat.count + more - less;
            seat.enabled = Some(seat.count);
            call.seat(&seat);
        });
        self.seats.insert(receiver, seat);
    }

    /// Changes a call, and the loads of the workers with it.
    fn change(&mut self, id: CallId, change: impl FnOnce(&mut Call)) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.parts.keys().for_each(|worker| self.loads[*worker] -= call.load(*worker));
        change(call);
        call.parts.keys().for_each(|worker| self.loads[*worker] += call.load(*worker));
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
    let has_room = |worker: usize| call.load(worker) < share;
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
