//! A call on several workers: the forwarder that decrypts a track (its *home*) hands each packet once to every sibling that
//! has receivers for it, and the sibling does the rest as if the packet had arrived there: it keeps it for retransmission,
//! rewrites it for each receiver, chooses layers.
//!
//! Down go packets of the layers a sibling wants, the publisher's clock, and which layers live. Up go wishes: which layers are
//! wanted, and key frames. A way between siblings loses only when it is full. What is lost on it is not asked for again (a
//! receiver misses the packet, as on any network), and what is a state is said again each second: a sibling that stays
//! silent wants nothing any more.

use std::collections::VecDeque;

use arrayvec::ArrayString;
use sluice_frames::{FrameId, Pool};
use sluice_messages::{self as messages, TrackId};
use sluice_wire::Micros;

use crate::{
    Forwarder,
    counters::Counters,
    feedback::report::SenderClock,
    limits::RELAY_LEASE_S,
    receive::Meta,
    stream::Stream,
    subscription::Source,
    track::{Arrival, LAYERS_MAX, Track},
};

/// Forwarders of one node: the bits of a set of siblings.
pub const SIBLINGS_MAX: usize = u64::BITS as usize;

/// Index of the publisher of a remote track: there is no such row.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What one forwarder says to another about a track. Workers hand it over as it is.
#[derive(Clone, Copy, Debug)]
pub struct Relayed {
    track: TrackId,
    said: Said,
}

#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are packets, and a box would be an allocation for each")]
enum Said {
    /// Down: a packet that goes with this.
    Packet(Meta),
    /// Down: a packet that nobody gets; what follows closes up.
    LeftOut(Meta),
    /// Down: a sender report, and how far the publisher's clock is from ours.
    Clock { encoding: u8, generation: u32, clock: SenderClock, ntp_delta: Option<u64> },
    /// Down: bits of the layers that have packets, and their rates.
    Layers { live: u8, rates_bps: [u64; LAYERS_MAX] },
    /// Up: bits of the layers that receivers get or wait for.
    Wants { layers: u8 },
    /// Up: a receiver waits for a key frame.
    Keyframe { encoding: u8 },
}

/// Something for siblings.
#[derive(Debug)]
pub struct Relay {
    /// Bits of the siblings it is for.
    pub to: u64,
    pub what: Relayed,
    /// What goes with it. The taker copies its bytes for each sibling and releases it.
    pub frame: Option<FrameId>,
}

/// A track that is published at a sibling.
#[derive(Debug)]
pub struct Remote<'a> {
    pub track: &'a messages::Track,
    /// The sibling with its publisher, below [`SIBLINGS_MAX`].
    pub home: u8,
    /// Participant sid of its publisher.
    pub cname: &'a str,
}

/// What a remote track has besides what every track has.
pub(crate) struct Home {
    index: u8,
    cname: ArrayString<64>,
    ntp_delta: Option<u64>,
    /// The home's generation of each layer. Ours differ: they also count what was lost on the way.
    generations: [Option<u32>; LAYERS_MAX],
    /// Layers the home was told to send.
    wants: u8,
    /// The home answered, so it knows the track.
    is_heard: bool,
}

/// What waits for the worker to hand it over, oldest first.
pub(crate) struct Relays {
    queue: VecDeque<Relay>,
    max: usize,
    /// Seconds since wishes were last held against their lease.
    leased_s: u32,
}

impl Relays {
    pub(crate) fn new(max: usize) -> Relays {
        Relays { queue: VecDeque::with_capacity(max), max, leased_s: 0 }
    }

    pub(crate) fn pop(&mut self) -> Option<Relay> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Lets go of the packets of a track that is gone.
    pub(crate) fn purge(&mut self, track: TrackId, pool: &mut Pool) {
        self.queue.retain(|relay| {
            let frame = relay.frame.filter(|_| relay.what.track == track);
            if let Some(frame) = frame {
                pool.release(frame);
            }
            frame.is_none()
        });
    }

    /// Queues something; false, counted, if there is no room.
    fn push(&mut self, to: u64, track: TrackId, said: Said, counters: &mut Counters) -> bool {
        self.push_with(to, track, said, None, counters)
    }

    fn push_with(
        &mut self,
        to: u64,
        track: TrackId,
        said: Said,
        frame: Option<FrameId>,
        counters: &mut Counters,
    ) -> bool {
        if to == 0 {
            return false;
        }
        if self.queue.len() >= self.max {
            counters.drop_relay_full += 1;
            return false;
        }
        self.queue.push_back(Relay { to, what: Relayed { track, said }, frame });
        true
    }
}

impl Track {
    /// Bits of the siblings that want any of its layers.
    fn siblings(&self) -> u64 {
        self.layers.iter().fold(0, |bits, layer| bits | layer.siblings)
    }

    /// Bits of its layers that receivers here get or wait for.
    fn wants(&self) -> u8 {
        self.layers.iter().enumerate().fold(0, |bits, (n, layer)| bits | (u8::from(layer.wanted_by > 0) << n))
    }

    fn layers_said(&self) -> Said {
        let mut rates_bps = [0; LAYERS_MAX];
        rates_bps.iter_mut().zip(&self.layers).for_each(|(rate, layer)| *rate = layer.rate.rate_bps());
        Said::Layers { live: self.live(), rates_bps }
    }
}

/// At home.
impl Forwarder {
    /// Hands a packet to the siblings that want its layer.
    pub(crate) fn relay_packet(&mut self, stream: Stream, meta: &Meta, frame: FrameId, pool: &mut Pool) {
        let Some(track) = self.tracks.get(stream.track) else { return };
        let to = track.layers.get(usize::from(stream.encoding)).map_or(0, |layer| layer.siblings);
        if to == 0 {
            return;
        }
        if self.relays.push_with(to, track.id, Said::Packet(*meta), Some(frame), &mut self.counters) {
            pool.retain(frame);
            self.counters.relayed += u64::from(to.count_ones());
        }
    }

    /// The same for a packet that nobody gets.
    pub(crate) fn relay_left_out(&mut self, track_index: u32, meta: &Meta) {
        let Some(track) = self.tracks.get(track_index) else { return };
        let to = track.layers.get(usize::from(meta.encoding)).map_or(0, |layer| layer.siblings);
        self.relays.push(to, track.id, Said::LeftOut(*meta), &mut self.counters);
    }

    /// A layer came or went.
    pub(crate) fn relay_layers(&mut self, track_index: u32) {
        if let Some(track) = self.tracks.get(track_index) {
            self.relays.push(track.siblings(), track.id, track.layers_said(), &mut self.counters);
        }
    }

    /// A sender report came. It goes to all who want any layer: who changes layers needs both clocks.
    pub(crate) fn relay_clock(&mut self, stream: Stream) {
        let to = self.tracks.get(stream.track).map_or(0, Track::siblings);
        self.say_clock(to, stream.track, usize::from(stream.encoding));
    }

    fn say_clock(&mut self, to: u64, track_index: u32, encoding: usize) {
        let Some(track) = self.tracks.get(track_index) else { return };
        let Some(layer) = track.layers.get(encoding) else { return };
        let Some(clock) = layer.reception.clock else { return };
        let (encoding, generation) = (encoding as u8, layer.generation);
        let said = Said::Clock { encoding, generation, clock, ntp_delta: self.ntp_delta(track) };
        self.relays.push(to, track.id, said, &mut self.counters);
    }

    /// A sibling says which layers it wants.
    fn wanted(&mut self, from: u8, track_index: u32, layers: u8) {
        let bit = 1 << from;
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        let is_new = track.siblings() & bit == 0;
        for (n, layer) in track.layers.iter_mut().enumerate() {
            let wants = layers & (1 << n) != 0;
            for bits in [&mut layer.siblings, &mut layer.renewed] {
                *bits = if wants { *bits | bit } else { *bits & !bit };
            }
        }
        let count = track.layers.len();
        self.recount(track_index);
        if is_new && layers != 0 {
            if let Some(track) = self.tracks.get(track_index) {
                self.relays.push(bit, track.id, track.layers_said(), &mut self.counters);
            }
            (0..count).for_each(|encoding| self.say_clock(bit, track_index, encoding));
        }
    }
}

/// At a sibling.
impl Forwarder {
    /// Takes in a track that is published at a sibling, or what changed of it.
    pub(crate) fn put_remote(&mut self, now: Micros, remote: &Remote<'_>, pool: &mut Pool) {
        let Remote { track: entry, home, cname } = *remote;
        if usize::from(home) >= SIBLINGS_MAX {
            self.counters.refuse_unknown += 1;
            return;
        }
        let cname = ArrayString::from(cname.get(..cname.len().min(64)).unwrap_or_default()).unwrap_or_default();
        if let Some(index) = self.track_map.get(entry.id.0) {
            if let Some(track) = self.tracks.get_mut(index)
                && track.kind == entry.kind
                && let Some(known) = track.home.as_mut().filter(|known| known.index == home)
            {
                known.cname = cname;
                return self.change_track(now, index, entry, pool);
            }
            self.remove_track(entry.id, pool);
        }
        let mut track = Track::new(entry, NOBODY, NOBODY, &self.config);
        track.home = Some(Box::new(Home {
            index: home,
            cname,
            ntp_delta: None,
            generations: [None; LAYERS_MAX],
            wants: 0,
            is_heard: false,
        }));
        match self.tracks.insert(track) {
            Ok(index) => {
                self.track_map.insert(entry.id.0, index);
            }
            Err(_) => self.counters.refuse_full += 1,
        }
    }

    /// Hears a sibling; the caller releases the frame.
    pub(crate) fn relayed(&mut self, now: Micros, from: u8, what: &Relayed, frame: Option<FrameId>, pool: &mut Pool) {
        let index = self.track_map.get(what.track.0);
        let Some((index, track)) = index.and_then(|index| Some((index, self.tracks.get(index)?))) else {
            self.counters.drop_relay_stale += 1;
            return;
        };
        let is_from_home = track.home.as_ref().map(|home| home.index == from);
        match (&what.said, is_from_home) {
            (Said::Packet(meta), Some(true)) => {
                if let Some(frame) = frame {
                    self.counters.relayed_in += 1;
                    self.relayed_packet(now, index, meta, frame, pool);
                }
            }
            (Said::LeftOut(meta), Some(true)) => {
                if let Some((meta, _)) = self.arrive(index, meta, pool) {
                    self.leave_out(now, index, &meta, pool);
                }
            }
            (Said::Clock { encoding, generation, clock, ntp_delta }, Some(true)) => {
                self.clock_said(index, *encoding, *generation, *clock, *ntp_delta, pool);
            }
            (Said::Layers { live, rates_bps }, Some(true)) => {
                // What came before goes to those who get it now.
                self.distribute(now, pool);
                self.layers_heard(now, index, *live, rates_bps);
            }
            (Said::Wants { layers }, None) => self.wanted(from, index, *layers),
            (Said::Keyframe { encoding }, None) => self.want_keyframe(now, index, *encoding),
            // The track has moved since.
            _ => self.counters.drop_relay_stale += 1,
        }
    }

    fn relayed_packet(&mut self, now: Micros, track_index: u32, meta: &Meta, frame: FrameId, pool: &mut Pool) {
        let Some((meta, is_newest)) = self.arrive(track_index, meta, pool) else { return };
        let stream = Stream { track: track_index, encoding: meta.encoding, rtx: false };
        self.forward(now, stream, frame, meta, is_newest, pool);
    }

    /// Notes the arrival of a packet: what it is in our numbering, and whether it is the newest. None if it was seen before.
    fn arrive(&mut self, track_index: u32, meta: &Meta, pool: &mut Pool) -> Option<(Meta, bool)> {
        let track = self.tracks.get_mut(track_index)?;
        adopt(track, meta.encoding, meta.generation, pool);
        let layer = track.layers.get_mut(usize::from(meta.encoding))?;
        let mut arrival = layer.window.accept(meta.incoming.index);
        if arrival == Arrival::Jump {
            // Nobody wanted the layer meanwhile, or far too much was lost on the way: receivers begin anew.
            layer.restart(pool);
            arrival = layer.window.accept(meta.incoming.index);
        }
        if matches!(arrival, Arrival::Duplicate | Arrival::Jump) {
            self.counters.drop_duplicate += 1;
            return None;
        }
        let mut meta = *meta;
        meta.generation = layer.generation;
        Some((meta, arrival != Arrival::Late))
    }

    fn clock_said(
        &mut self,
        track_index: u32,
        encoding: u8,
        generation: u32,
        clock: SenderClock,
        ntp_delta: Option<u64>,
        pool: &mut Pool,
    ) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        adopt(track, encoding, generation, pool);
        if let Some(home) = &mut track.home {
            home.ntp_delta = ntp_delta;
        }
        let Some(layer) = track.layers.get_mut(usize::from(encoding)) else { return };
        layer.reception.clock = Some(clock);
        let source = Source { encoding, generation: layer.generation };
        self.anchor(track_index, source, clock);
    }

    fn layers_heard(&mut self, now: Micros, track_index: u32, live: u8, rates_bps: &[u64; LAYERS_MAX]) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        if let Some(home) = &mut track.home {
            home.is_heard = true;
        }
        let before = track.live();
        for (n, (layer, rate_bps)) in track.layers.iter_mut().zip(rates_bps).enumerate() {
            layer.live = live & (1 << n) != 0;
            layer.rate.set(*rate_bps);
        }
        if track.live() != before {
            self.retarget_track(now, track_index);
        }
    }

    /// Tells the home which layers are wanted here, if that is news.
    pub(crate) fn tell_wants(&mut self, track_index: u32) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        let wants = track.wants();
        let Some(home) = track.home.as_mut().filter(|home| home.wants != wants) else { return };
        home.wants = wants;
        self.relays.push(1 << home.index, track.id, Said::Wants { layers: wants }, &mut self.counters);
    }

    /// Asks the home for the key frames that are due.
    pub(crate) fn ask_home(&mut self, now: Micros, track_index: u32) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        let Some(home) = &track.home else { return };
        for (n, layer) in track.layers.iter_mut().enumerate().filter(|(_, layer)| layer.keyframe.due() <= now) {
            let said = Said::Keyframe { encoding: n as u8 };
            if self.relays.push(1 << home.index, track.id, said, &mut self.counters) {
                layer.keyframe.ask(now);
            }
        }
    }
}

/// On either side.
impl Forwarder {
    /// Ten times a second for a remote track: what is due, and wishes that the home may not have heard.
    pub(crate) fn sweep_remote(&mut self, now: Micros, track_index: u32) {
        self.ask_home(now, track_index);
        let unheard = |track: &&Track| track.home.as_ref().is_some_and(|home| !home.is_heard);
        if self.tracks.get(track_index).filter(unheard).is_some() {
            self.repeat_wants(track_index);
        }
    }

    /// Once a second: states are said again, and wishes that were not end.
    pub(crate) fn renew_relays(&mut self) {
        self.relays.leased_s += 1;
        let ends = self.relays.leased_s >= RELAY_LEASE_S;
        if ends {
            self.relays.leased_s = 0;
        }
        for index in 0..self.tracks.end() {
            let Some(track) = self.tracks.get_mut(index) else { continue };
            if track.home.is_some() {
                self.repeat_wants(index);
                continue;
            }
            let before = track.siblings();
            if before == 0 {
                continue;
            }
            if ends {
                for layer in &mut track.layers {
                    layer.siblings &= std::mem::take(&mut layer.renewed);
                }
                self.recount(index);
            }
            self.relay_layers(index);
        }
    }

    fn repeat_wants(&mut self, track_index: u32) {
        let Some(track) = self.tracks.get(track_index) else { return };
        // The home forgets by itself who wants nothing.
        let Some(home) = track.home.as_ref().filter(|home| home.wants != 0) else { return };
        self.relays.push(1 << home.index, track.id, Said::Wants { layers: home.wants }, &mut self.counters);
    }

    /// How far the clock of a track's publisher is from ours.
    pub(crate) fn ntp_delta(&self, track: &Track) -> Option<u64> {
        match &track.home {
            Some(home) => home.ntp_delta,
            None => self.peers.get(track.publisher)?.ntp_delta,
        }
    }

    /// CNAME of a track's publisher.
    pub(crate) fn cname<'a>(&'a self, track: &'a Track) -> &'a [u8] {
        match &track.home {
            Some(home) => home.cname.as_bytes(),
            None if track.is_relayed => track.cname.as_bytes(),
            None => self.peers.get(track.publisher).map_or(&[][..], |peer| peer.cname.as_bytes()),
        }
    }
}

/// The home counts anew: so do we.
fn adopt(track: &mut Track, encoding: u8, generation: u32, pool: &mut Pool) {
    let Track { home, layers, .. } = track;
    let n = usize::from(encoding);
    let known = home.as_mut().and_then(|home| home.generations.get_mut(n));
    let (Some(known), Some(layer)) = (known, layers.get_mut(n)) else { return };
    if known.replace(generation).is_some_and(|known| known != generation) {
        layer.restart(pool);
    }
}
