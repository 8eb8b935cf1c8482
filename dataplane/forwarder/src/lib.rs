//! The forwarding core: packets in, packets out into lent slots, a table that says who gets what.
//!
//! One [`Forwarder`] belongs to one worker and knows no socket, clock, thread or lock: time, randomness and keys are
//! arguments. It has two verbs, [`Forwarder::input`] and [`Forwarder::poll`], and says when it wants to be polled next
//! ([`Forwarder::wake`]).
//!
//! The life of a packet: `receive.rs` decrypts it in place and finds its stream (`stream.rs`); `route.rs` offers it to each
//! subscription of its layer (`layers.rs` says which layer that is), where it gets its outgoing number (`rewrite.rs`) and
//! becomes a reference in the receiver's queue; `send.rs` writes header and encrypted payload into the transmit slot. The
//! frame stays in the layer's history (`history.rs`) until it is too old to be asked for again (`feedback/`).

#![forbid(unsafe_code)]

mod apply;
mod codec;
mod counters;
mod egress;
mod estimate;
mod events;
mod feedback;
mod gather;
mod history;
mod intake;
mod layers;
pub mod limits;
mod nodes;
mod peer;
mod queue;
mod receive;
mod relay;
mod rewrite;
mod route;
mod send;
mod shed;
mod speakers;
mod stream;
mod subscription;
mod table;
mod tick;
mod timers;
mod track;

use sluice_frames::{FrameId, Pool, Route, Tx};
use sluice_messages::{CallId, Entry, Event, Key, TransportId};
use sluice_srtp::KeyMaterial;
use sluice_wire::Micros;

pub use counters::Counters;
pub use estimate::Estimator;
pub use limits::Config;
pub use relay::{Relay, Relayed, Remote, SIBLINGS_MAX};

use egress::Pace;
use events::Events;
use peer::Peer;
use queue::Queues;
use receive::Meta;
use relay::Relays;
use route::Pending;
use send::Desk;
use shed::Shed;
use speakers::Speakers;
use subscription::Subscription;
use table::{Map, Random, Slab};
use tick::Tick;
use timers::Timers;
use track::Track;

/// What a worker tells its forwarder.
#[derive(Debug)]
pub enum Input<'a> {
    /// Inserts or replaces a row. Notes are ignored. A relay comes with its keys and waits for its route. A track whose transport is not there, and a subscription whose track
    /// or receiver is not there, are refused and counted: transports come first, subscriptions last.
    Put(&'a Entry),
    /// Inserts or replaces a track that is published at a sibling: its packets come by [`Input::Relayed`].
    PutRemote(Remote<'a>),
    /// Removes a row and what depends on it.
    Remove(&'a Key),
    /// DTLS is done. Other keys than before are a new association: the old ones are gone. The same again change nothing.
    Keys { transport: TransportId, keys: &'a KeyMaterial },
    /// ICE selected this 5-tuple: everything for the transport goes there.
    Route { transport: TransportId, route: Route },
    /// Consent is lost: nothing is sent until there is a route again.
    Unroute { transport: TransportId },
    /// How busy the worker was of late, in thousandths of the time. To be told about ten times a second; beyond what it can
    /// do, the forwarder leaves out the highest video layers first, video altogether at last, and audio never.
    Busy { permille: u16 },
    /// SRTP or SRTCP from a 5-tuple that ICE validated for the transport. The frame is taken over.
    Datagram { transport: TransportId, frame: FrameId },
    /// What the sibling `from` said, with the bytes that went with it. The frame is taken over.
    Relayed { from: u8, what: Relayed, frame: Option<FrameId> },
}

/// What a forwarder tells its worker, besides the packets it writes to transmit slots.
#[derive(Debug)]
pub enum Output {
    /// For the control plane.
    Event(Event),
    /// For siblings; before anything is written to a transmit slot, so that they begin meanwhile.
    Relay(Relay),
}

/// All media state of one worker.
pub struct Forwarder {
    config: Config,
    counters: Counters,
    random: Random,
    peers: Slab<Peer>,
    tracks: Slab<Track>,
    subscriptions: Slab<Subscription>,
    calls: Slab<Call>,
    peer_map: Map,
    track_map: Map,
    subscription_map: Map,
    call_map: Map,
    /// Incoming SSRCs by peer.
    streams: Map,
    /// Outgoing SSRCs by peer.
    outgoing: Map,
    /// What is known of each frame of the pool, by its index.
    meta: Vec<Meta>,
    /// What waits for all receivers.
    queues: Queues,
    pace: Pace,
    /// Always there but while it is in use.
    desk: Option<Box<Desk>>,
    /// Received and not offered to receivers yet.
    pending: Pending,
    shed: Shed,
    /// One row per peer.
    timers: Timers,
    tick: Tick,
    events: Events,
    relays: Relays,
    /// Video subscriptions that remember what they sent.
    histories: usize,
    /// Peers that are other nodes.
    relay_peers: usize,
}

/// One call: who is heard in it.
struct Call {
    id: CallId,
    peers: usize,
    relays: usize,
    /// Collected during a pass.
    heard: Speakers,
    reported: Speakers,
}

impl Forwarder {
    /// Makes all tables. `seed` is for first sequence numbers and the like and should be unpredictable.
    pub fn new(config: Config, seed: u64) -> Forwarder {
        let mut random = Random(seed);
        let mut map = |max: usize| Map::new(max, random.next());
        Forwarder {
            peer_map: map(config.peers_max),
            track_map: map(config.tracks_max),
            subscription_map: map(config.subscriptions_max),
            call_map: map(config.peers_max),
            streams: map(config.tracks_max * 2 * track::LAYERS_MAX),
            outgoing: map(config.subscriptions_max * 2),
            peers: Slab::new(config.peers_max),
            tracks: Slab::new(config.tracks_max),
            subscriptions: Slab::new(config.subscriptions_max),
            calls: Slab::new(config.peers_max),
            meta: Vec::new(),
            queues: Queues::new(config.egress_packets_max),
            pace: Pace::new(config.peers_max, config.hold),
            desk: Some(Box::default()),
            pending: Pending::new(),
            shed: Shed::default(),
            timers: Timers::new(config.peers_max),
            tick: Tick::default(),
            events: Events::new(config.events_max),
            relays: Relays::new(config.relays_max),
            histories: 0,
            relay_peers: 0,
            counters: Counters::default(),
            random,
            config,
        }
    }

    /// Takes something in. Never fails: a packet that cannot be handled is counted, a row that does not fit is counted and,
    /// for a transport, reported as failed.
    pub fn input(&mut self, now: Micros, input: Input<'_>, pool: &mut Pool) {
        if self.meta.len() < pool.capacity() {
            // Once: a worker has one pool for life.
            self.meta.resize(pool.capacity(), Meta::default());
        }
        if !matches!(input, Input::Datagram { .. } | Input::Relayed { .. } | Input::Busy { .. }) {
            // They were received before.
            self.distribute(now, pool);
        }
        match input {
            Input::Put(entry) => self.put(now, entry, pool),
            Input::PutRemote(remote) => self.put_remote(now, &remote, pool),
            Input::Remove(key) => self.remove(key, pool),
            Input::Keys { transport, keys } => {
                if let Some(index) = self.peer_map.get(transport.0) {
                    self.keys(now, index, keys, pool);
                }
            }
            Input::Route { transport, route } => {
                if let Some(index) = self.peer_map.get(transport.0) {
                    self.route(now, index, route);
                }
            }
            Input::Unroute { transport } => {
                if let Some(index) = self.peer_map.get(transport.0) {
                    self.unroute(index, pool);
                }
            }
            Input::Busy { permille } => self.busy(now, permille, pool),
            Input::Datagram { transport, frame } => {
                match self.peer_map.get(transport.0) {
                    Some(index) => self.datagram(now, index, frame, pool),
                    None => self.counters.drop_unknown_transport += 1,
                }
                pool.release(frame);
            }
            Input::Relayed { from, what, frame } => {
                self.relayed(now, from, &what, frame, pool);
                if let Some(frame) = frame {
                    pool.release(frame);
                }
            }
        }
    }

    /// Runs what is due and writes what is ready into transmit slots. Call it until it returns none: then nothing happens
    /// before the next input or [`Forwarder::wake`]. When `tx` has no slot left it returns too and continues next time.
    pub fn poll(&mut self, now: Micros, pool: &mut Pool, tx: &mut impl Tx) -> Option<Output> {
        // Before our own receivers get anything, so that siblings begin meanwhile.
        if let Some(relay) = self.relays.pop() {
            return Some(Output::Relay(relay));
        }
        self.distribute(now, pool);
        self.run_tick(now, pool);
        while let Some(peer) = self.timers.pop(now) {
            self.fire(peer);
        }
        self.flush(now, pool, tx);
        // Timers may have said something more.
        self.relays.pop().map(Output::Relay).or_else(|| self.events.pop().map(Output::Event))
    }

    /// When [`Forwarder::poll`] wants to be called at the latest; [`Micros::NEVER`] if there is nothing to wait for, and
    /// the past if something waits for a transmit slot.
    pub fn wake(&self) -> Micros {
        if !self.pending.is_empty() || !self.events.is_empty() || !self.relays.is_empty() {
            return Micros(0);
        }
        self.timers.next().min(self.tick.next()).min(self.pace.due())
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
