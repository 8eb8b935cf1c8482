//! From the table to the threads: which worker a row is for, and how it gets there.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use rtrb::{Producer, PushError};
use sluice_messages::{
    CallId, DataTrack, DataTrackId, Entry, Key, Op, Relay, SendData, Track, TrackId, Transport, TransportId,
};

use super::{reach::Reach, spread::Spread, table::Step};
use crate::{
    queue::{Bell, Knock},
    slow::Order,
    worker::{Command, RemoteTrack},
};

/// Pause before a full queue is tried again. Rows are never dropped: the link waits, and control with it.
const RETRY: Duration = Duration::from_millis(1);

/// Ways to one worker and its slow thread.
pub(crate) struct Port {
    pub(crate) commands: Producer<Command>,
    pub(crate) orders: Producer<Order>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) knock: Arc<Knock>,
}

/// Sends rows to the threads that need them.
pub(crate) struct Router {
    ports: Vec<Port>,
    spread: Spread,
    tracks: HashMap<TrackId, Reach<Track>>,
    data_tracks: HashMap<DataTrackId, Reach<DataTrack>>,
    /// Participant sid of each transport.
    sids: HashMap<TransportId, String>,
    /// Address and first SSRC of each relay.
    relays: HashMap<TransportId, (SocketAddr, u32)>,
    /// User names that were told to the siblings of each transport's worker.
    ufrags: HashMap<TransportId, Vec<String>>,
}

impl Router {
    /// `share` is the number of subscriptions that a call may have on one worker before it spreads.
    pub(crate) fn new(ports: Vec<Port>, share: usize) -> Router {
        Router {
            spread: Spread::new(ports.len(), share),
            ports,
            tracks: HashMap::new(),
            data_tracks: HashMap::new(),
            sids: HashMap::new(),
            relays: HashMap::new(),
            ufrags: HashMap::new(),
        }
    }

    /// Hands changes over, and wakes everybody.
    pub(crate) fn apply(&mut self, steps: Vec<Step>) {
        self.spread.announce(steps.iter().filter_map(|step| match &step.op {
            Op::Put(Entry::Subscription(subscription)) => Some(subscription),
            _ => None,
        }));
        for step in steps {
            match step.op {
                Op::Put(entry) => self.put(step.call, entry),
                Op::Remove(key) => self.remove(step.call, key),
            }
        }
        self.ring();
    }

    /// Hands data to the slow threads that have the receivers; each picks its own.
    pub(crate) fn send(&mut self, data: SendData) {
        let mut workers: Vec<usize> = data.to.iter().filter_map(|transport| self.spread.worker(*transport)).collect();
        workers.sort_unstable();
        workers.dedup();
        for worker in workers {
            self.order(worker, Order::Send(data.clone()));
        }
        self.ring();
    }

    fn put(&mut self, call: CallId, entry: Entry) {
        match entry {
            Entry::Transport(transport) => self.put_transport(call, transport),
            Entry::Track(track) => {
                let Some(home) = self.spread.worker(track.publisher) else { return };
                let known = self.tracks.entry(track.id).or_insert_with(|| {
                    self.spread.count_track(call, true);
                    Reach::new(home, track.clone())
                });
                known.entry = track.clone();
                let workers: Vec<usize> = known.workers().collect();
                self.command(home, Command::Put(Box::new(Entry::Track(track.clone()))));
                workers.into_iter().for_each(|worker| self.put_remote(worker, home, track.clone()));
            }
            Entry::Subscription(subscription) => {
                let Some(worker) = self.spread.worker(subscription.receiver) else { return };
                let is_new = self.spread.subscribe(&subscription);
                self.reach(subscription.track, worker, is_new);
                self.command(worker, Command::Put(Box::new(Entry::Subscription(subscription))));
            }
            Entry::Relay(relay) => self.put_relay(call, relay),
            Entry::RelayTrack(crossing) => {
                let Some(worker) = self.spread.worker(crossing.relay) else { return };
                let is_new = self.spread.cross(&crossing);
                self.reach(crossing.track, worker, is_new);
                self.command(worker, Command::Put(Box::new(Entry::RelayTrack(crossing))));
            }
            // Data tracks are the slow thread's alone.
            Entry::DataTrack(track) => {
                let Some(home) = self.spread.worker(track.publisher) else { return };
                let known = self.data_tracks.entry(track.id).or_insert_with(|| Reach::new(home, track.clone()));
                known.entry = track.clone();
                let workers: Vec<usize> = known.workers().chain([home]).collect();
                workers.into_iter().for_each(|worker| self.order(worker, Order::PutTrack(track.clone())));
            }
            Entry::DataSubscription(subscription) => {
                let Some(worker) = self.spread.worker(subscription.receiver) else { return };
                if let Some(reach) = self.data_tracks.get_mut(&subscription.track)
                    && reach.add_once(subscription.receiver, worker)
                {
                    let track = reach.entry.clone();
                    self.order(worker, Order::PutTrack(track));
                }
                self.order(worker, Order::Subscribe(subscription));
            }
            Entry::Note(_) => {}
        }
    }

    fn remove(&mut self, call: CallId, key: Key) {
        match key {
            Key::Transport(transport) => {
                let Some(worker) = self.spread.worker(transport) else { return };
                self.order(worker, Order::Remove(transport));
                self.announce(worker, transport, Vec::new());
                self.command(worker, Command::Remove(key));
                if let Some(place) = self.relays.remove(&transport) {
                    self.tell_relay(place, None);
                }
                let before = self.spread.workers(call);
                self.spread.remove(transport);
                self.sids.remove(&transport);
                self.tell_workers(call, before);
            }
            Key::Track(id) => {
                let Some(reach) = self.tracks.remove(&id) else { return };
                self.spread.count_track(call, false);
                let workers: Vec<usize> = reach.workers().chain([reach.home]).collect();
                workers.into_iter().for_each(|worker| self.command(worker, Command::Remove(key.clone())));
            }
            Key::Subscription { receiver, track } => {
                let Some(worker) = self.spread.worker(receiver) else { return };
                self.command(worker, Command::Remove(key));
                let was_there = self.spread.unsubscribe(receiver, track);
                if self.tracks.get_mut(&track).filter(|_| was_there).is_some_and(|reach| reach.take(worker)) {
                    self.command(worker, Command::Remove(Key::Track(track)));
                }
            }
            Key::DataTrack(id) => {
                let Some(reach) = self.data_tracks.remove(&id) else { return };
                let workers: Vec<usize> = reach.workers().chain([reach.home]).collect();
                workers.into_iter().for_each(|worker| self.order(worker, Order::RemoveTrack(id)));
            }
            Key::DataSubscription { receiver, track } => {
                let Some(worker) = self.spread.worker(receiver) else { return };
                self.order(worker, Order::Unsubscribe { receiver, track });
                if self.data_tracks.get_mut(&track).is_some_and(|reach| reach.take_once(receiver, worker)) {
                    self.order(worker, Order::RemoveTrack(track));
                }
            }
            Key::Note(_) => {}
        }
    }

    /// The slow thread gets it first: a client's DTLS reaches it through the worker, so that it never sees a datagram of a
    /// transport it does not know yet.
    fn put_transport(&mut self, call: CallId, transport: Transport) {
        let before = self.spread.workers(call);
        let worker = self.spread.place(&transport);
        self.sids.insert(transport.id, transport.participant.sid.clone());
        self.tell_workers(call, before);
        let ice = &transport.ice;
        let names = [Some(&ice.local), ice.previous_local.as_ref()];
        let names: Vec<String> = names.into_iter().flatten().map(|c| c.ufrag.clone()).collect();
        let id = transport.id;
        self.order(worker, Order::Put(Box::new(transport.clone())));
        self.command(worker, Command::Put(Box::new(Entry::Transport(transport))));
        // Siblings hear of it last: what they hand over finds the transport there.
        self.announce(worker, id, names);
    }

    /// All workers hear of it, as the kernel gives all relays between two ports to the same one of them. They hear before the
    /// owner has the keys: what comes sooner could not be opened anyway.
    fn put_relay(&mut self, call: CallId, relay: Relay) {
        let before = self.spread.workers(call);
        let worker = self.spread.place_relay(&relay);
        self.tell_workers(call, before);
        let place = (relay.address, relay.ssrc);
        if self.relays.insert(relay.id, place) != Some(place) {
            self.tell_relay(place, Some((relay.id, worker)));
        }
        self.command(worker, Command::Put(Box::new(Entry::Relay(relay))));
    }

    fn tell_relay(&mut self, place: (SocketAddr, u32), owner: Option<(TransportId, usize)>) {
        let (address, ssrc) = place;
        for worker in 0..self.ports.len() {
            self.command(worker, Command::Relay { address, ssrc, owner });
        }
    }

    /// A worker has one more receiver of a track, if that is new.
    fn reach(&mut self, track: TrackId, worker: usize, is_new: bool) {
        if let Some(reach) = self.tracks.get_mut(&track).filter(|_| is_new)
            && reach.add(worker)
        {
            let (home, track) = (reach.home, reach.entry.clone());
            self.put_remote(worker, home, track);
        }
    }

    /// A worker has receivers of a track that is published elsewhere.
    fn put_remote(&mut self, worker: usize, home: usize, track: Track) {
        let cname = self.sids.get(&track.publisher).cloned().unwrap_or_default();
        self.command(worker, Command::PutRemote(Box::new(RemoteTrack { track, home, cname })));
    }

    /// Tells slow threads where else a call has participants, if that changed.
    fn tell_workers(&mut self, call: CallId, before: u64) {
        let now = self.spread.workers(call);
        for worker in (0..self.ports.len()).filter(|worker| (before | now) & (1 << worker) != 0) {
            let others = |bits: u64| if bits & (1 << worker) != 0 { bits & !(1 << worker) } else { 0 };
            if others(before) != others(now) {
                self.order(worker, Order::Others { call, workers: others(now) });
            }
        }
    }

    /// Wakes everybody who may have got something.
    fn ring(&self) {
        for port in &self.ports {
            port.bell.ring();
            port.knock.knock();
        }
    }

    /// Tells the siblings of `worker` by which user names checks for the transport come.
    fn announce(&mut self, worker: usize, transport: TransportId, names: Vec<String>) {
        let old = match names.is_empty() {
            true => self.ufrags.remove(&transport),
            false => self.ufrags.insert(transport, names.clone()),
        }
        .unwrap_or_default();
        for sibling in (0..self.ports.len()).filter(|&w| w != worker) {
            for ufrag in old.iter().filter(|n| !names.contains(n)) {
                self.command(sibling, Command::Forget { ufrag: ufrag.clone(), owner: worker });
            }
            for ufrag in names.iter().filter(|n| !old.contains(n)) {
                self.command(sibling, Command::Foreign { ufrag: ufrag.clone(), owner: worker });
            }
        }
    }

    fn command(&mut self, worker: usize, command: Command) {
        let port = &mut self.ports[worker];
        push(&mut port.commands, command, || port.bell.ring());
    }

    fn order(&mut self, worker: usize, order: Order) {
        let port = &mut self.ports[worker];
        push(&mut port.orders, order, || port.knock.knock());
    }
}

/// Waits for room by blocking: the link's thread has nothing else to do that may overtake a row, and a link that breaks
/// meanwhile must not lose it. The consumers never wait for the link, so this ends.
fn push<T>(queue: &mut Producer<T>, mut item: T, wake: impl Fn()) {
    while let Err(PushError::Full(back)) = queue.push(item) {
        if queue.is_abandoned() {
            return;
        }
        wake();
        std::thread::sleep(RETRY);
        item = back;
    }
}
