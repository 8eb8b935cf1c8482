//! A call on several nodes: another node is one more peer, which gets layers of tracks as SRTP and has tracks for us the same
//! way. Keys and SSRCs are given out by control, so that both ends know them from the start.
//!
//! Each layer that somebody behind the other node wants crosses once, as a subscription that is *pinned* to it: numbered
//! anew like any other, so that whatever its source does, no number of a key comes twice and the other end can guess the
//! roll-over count, but never switched to another layer. What comes from a node is a track whose publisher it is, and does not
//! go on to a third. Losses are repaired hop by hop, by NACK and RTX; key frames are asked for by PLI.
//!
//! Besides, nodes say to each other in RTCP what clients say nowhere (APP, RFC 3550 section 6.7): which layers are wanted, and
//! which there are. All of that is said some times over when it is news, a wish until it is answered, and again each second: a
//! wish that is not ends.

use arrayvec::{ArrayString, ArrayVec};
use sluice_frames::Pool;
use sluice_messages::{self as messages, Event, PayloadMap, TransportId, TransportState, Wish};
use sluice_srtp::{KeyMaterial, MasterKey, Profile};
use sluice_wire::{
    Micros,
    rtcp::{Application, Compound, SourceDescription},
};

use crate::{
    Forwarder,
    limits::{
        RELAY_SAID_AGAIN, RELAY_SAYS, RELAY_SILENCE, RELAY_WISH_S, RELAYS_MAX, RELAYS_PER_CALL_MAX, RTCP_BYTES_MAX,
        TRACKS_PER_PEER_MAX,
    },
    peer::Peer,
    subscription::{Pin, Subscription},
    track::{LAYERS_MAX, Track},
};

/// Which layers are wanted: their SSRCs, with [`WANTED`] or [`UNWANTED`] as subtype.
const WISHES: [u8; 4] = *b"SLWI";
const WANTED: u8 = 0;
const UNWANTED: u8 = 1;

/// Which layers there are: pairs of an SSRC, and a bit that says whether it is live with 31 of its rate in kbit/s.
const LAYERS: [u8; 4] = *b"SLLA";
const LIVE: u32 = 1 << 31;

/// Words that fit a compound of their own.
const WORDS_MAX: usize = RTCP_BYTES_MAX / 4;

/// Bytes of an APP packet without its data.
const APPLICATION_BYTES: usize = 12;

/// What one compound says.
pub(crate) type News = ArrayVec<(u32, Said), WORDS_MAX>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Wanted(bool),
    Layer { live: bool, rate_bps: u64 },
}

/// The table.
impl Forwarder {
    pub(crate) fn is_relay(&self, id: TransportId) -> bool {
        self.peer_map.get(id.0).and_then(|index| self.peers.get(index)).is_some_and(|peer| peer.is_relay)
    }

    pub(crate) fn put_relay(&mut self, now: Micros, entry: &messages::Relay, pool: &mut Pool) {
        let Some(material) = material(entry).filter(|_| messages::Relay::first(entry.ssrc) == entry.ssrc) else {
            self.counters.refuse_keys += 1;
            return;
        };
        if let Some(peer) = self.peer_map.get(entry.id.0).and_then(|index| self.peers.get(index))
            && !(peer.is_relay && peer.ssrc == entry.ssrc)
        {
            self.remove_transport(entry.id, pool);
        }
        if let Some(index) = self.peer_map.get(entry.id.0) {
            let keys = self.peers.get(index).and_then(|peer| peer.keys.as_ref());
            let is_half = keys.is_some_and(|keys| {
                let (sends, receives) =
                    (keys.material.outbound == material.outbound, keys.material.inbound == material.inbound);
                sends != receives
            });
            if is_half {
                self.counters.refuse_keys += 1;
                return;
            }
            return self.rekey(now, index, &material, pool);
        }
        let random = self.random.next();
        let Some(call_index) = self.enter_call(entry.call) else { return self.refuse_transport(entry.id) };
        let has_room = self.relay_peers < RELAYS_MAX
            && self.calls.get(call_index).is_some_and(|call| call.relays < RELAYS_PER_CALL_MAX);
        let inserted = if has_room { self.peers.insert(Peer::relay(entry, call_index, random)).ok() } else { None };
        let Some(index) = inserted else {
            self.leave_call(call_index);
            return self.refuse_transport(entry.id);
        };
        self.relay_peers += 1;
        if let Some(call) = self.calls.get_mut(call_index) {
            call.relays += 1;
        }
        self.peer_map.insert(entry.id.0, index);
        self.tick.start(now);
        self.rekey(now, index, &material, pool);
    }

    fn rekey(&mut self, now: Micros, index: u32, material: &KeyMaterial, pool: &mut Pool) {
        self.keys(now, index, material, pool);
        if let Some(peer) = self.peers.get_mut(index) {
            // From now on it has time to speak.
            peer.heard = now;
        }
    }

    pub(crate) fn put_relay_track(&mut self, now: Micros, entry: &messages::RelayTrack, pool: &mut Pool) {
        let receiver = self.peer_map.get(entry.relay.0).filter(|_| self.is_relay(entry.relay));
        let (Some(receiver), Some(track)) = (receiver, self.track_map.get(entry.track.0)) else {
            self.counters.refuse_unknown += 1;
            return;
        };
        let (Some(peer), Some(source)) = (self.peers.get(receiver), self.tracks.get(track)) else { return };
        if source.is_relayed {
            self.counters.refuse_loop += 1;
            return;
        }
        let is_ours = |ssrc: u32| messages::Relay::first(ssrc) == peer.ssrc;
        if !entry.ssrcs.iter().all(|pair| is_ours(pair.ssrc) && pair.rtx_ssrc.is_none_or(is_ours)) {
            self.counters.refuse_unknown += 1;
            return;
        }
        let pins = peer.subscriptions.iter().filter_map(|&index| self.subscriptions.get(index));
        let had = pins.filter(|pin| pin.track == track);
        let ssrcs = entry.ssrcs.iter().take(LAYERS_MAX);
        if had.map(|pin| (pin.ssrc, pin.rtx_ssrc)).eq(ssrcs.clone().map(|pair| (pair.ssrc, pair.rtx_ssrc))) {
            return;
        }
        while let Some(index) = self.subscription_index(entry.relay, entry.track) {
            self.remove_subscription(index, pool);
        }
        let Some(peer) = self.peers.get(receiver) else { return };
        if peer.subscriptions.len() + ssrcs.len() > TRACKS_PER_PEER_MAX * LAYERS_MAX {
            self.counters.refuse_full += 1;
            return;
        }
        for (encoding, pair) in ssrcs.enumerate() {
            let row = messages::Subscription {
                receiver: entry.relay,
                track: entry.track,
                mid: String::new(),
                ssrc: pair.ssrc,
                rtx_ssrc: pair.rtx_ssrc,
                payloads: Vec::new(),
                wish: Wish { enabled: false, ..Wish::default() },
            };
            let random = self.random.next();
            let mut subscription = Subscription::new(&row, receiver, track, random);
            subscription.pin = Some(Pin { encoding: encoding as u8, lease_s: 0, says: 0 });
            self.enrol(now, subscription);
        }
        self.repin(track);
    }

    /// Payload types cross as they are.
    pub(crate) fn repin(&mut self, track_index: u32) {
        let Some(track) = self.tracks.get(track_index) else { return };
        for &index in &track.subscribers {
            let Some(pin) = self.subscriptions.get_mut(index).filter(|subscription| subscription.pin.is_some()) else {
                continue;
            };
            let maps =
                track.payloads.iter().map(|p| PayloadMap { from: p.payload_type, to: p.payload_type, rtx: p.rtx });
            if !pin.payloads.iter().copied().eq(maps.clone()) {
                pin.payloads.clear();
                pin.payloads.extend(maps);
                pin.sent.clear();
            }
        }
    }
}

fn material(relay: &messages::Relay) -> Option<KeyMaterial> {
    let profile = Profile::AeadAes128Gcm;
    let key = |keys: &messages::SrtpKeys| MasterKey::new(profile, &keys.key, &keys.salt).ok();
    Some(KeyMaterial { profile, outbound: key(&relay.send)?, inbound: key(&relay.receive)? })
}

/// What is said.
impl Forwarder {
    /// Tells the other node of a relayed track which layers are wanted here, if that is news.
    pub(crate) fn tell_node(&mut self, track_index: u32) {
        let Some(track) = self.tracks.get_mut(track_index).filter(|track| track.is_relayed) else { return };
        let mut is_news = false;
        for layer in &mut track.layers {
            let is_wanted = layer.wanted_by > 0;
            if std::mem::replace(&mut layer.told, is_wanted) != is_wanted {
                layer.says = RELAY_SAYS;
                layer.is_heard = false;
                is_news = true;
            }
        }
        let publisher = track.publisher;
        if is_news {
            self.hasten(publisher);
        }
    }

    /// Tells the other nodes that want any layer of a track which ones there are.
    pub(crate) fn say_layers(&mut self, track_index: u32) {
        let count = self.tracks.get(track_index).map_or(0, |track| track.subscribers.len());
        for n in 0..count {
            let Some(&index) = self.tracks.get(track_index).and_then(|track| track.subscribers.get(n)) else { return };
            let Some(receiver) = self.subscriptions.get(index).filter(|s| s.pin.is_some()).map(|s| s.receiver) else {
                continue;
            };
            if !self.crosses(receiver, track_index) {
                continue;
            }
            if let Some(pin) = self.subscriptions.get_mut(index).and_then(|s| s.pin.as_mut()) {
                pin.says = RELAY_SAYS;
            }
            self.hasten(receiver);
        }
    }

    /// Whether a node wants any layer of a track.
    fn crosses(&self, receiver: u32, track_index: u32) -> bool {
        let Some(peer) = self.peers.get(receiver) else { return false };
        let pins = peer.subscriptions.iter().filter_map(|&index| self.subscriptions.get(index));
        pins.filter(|pin| pin.track == track_index).any(|pin| pin.wish.enabled)
    }

    /// News are to leave with the next turn.
    fn hasten(&mut self, peer_index: u32) {
        if let Some(peer) = self.peers.get_mut(peer_index) {
            peer.due.news = Micros(0);
            self.timers.sooner(peer_index, peer.due.news);
        }
    }

    pub(crate) fn tell_state(&mut self, peer_index: u32, state: TransportState) {
        if let Some(peer) = self.peers.get(peer_index) {
            self.events.push(Event::Transport { transport: peer.id, state }, &mut self.counters);
        }
    }

    /// Once a second: all that holds is said again, and be it only that we are there; wishes that were not end, and who is
    /// silent is told.
    pub(crate) fn renew_nodes(&mut self, now: Micros) {
        for peer_index in 0..self.peers.end() {
            let Some(peer) = self.peers.get(peer_index).filter(|peer| peer.is_relay) else { continue };
            let (tracks, subscriptions) = (peer.tracks.len(), peer.subscriptions.len());
            let is_silent = now.since(peer.heard) >= RELAY_SILENCE && peer.is_up != Some(false);
            for n in 0..tracks {
                let track = self.peers.get(peer_index).and_then(|peer| peer.tracks.get(n).copied());
                let Some(track) = track.and_then(|track| self.tracks.get_mut(track)) else { continue };
                for layer in track.layers.iter_mut().filter(|layer| layer.told) {
                    layer.says = layer.says.max(1);
                }
            }
            for n in 0..subscriptions {
                let index = self.peers.get(peer_index).and_then(|peer| peer.subscriptions.get(n).copied());
                let Some(index) = index else { break };
                self.renew_pin(now, peer_index, index);
            }
            if let Some(peer) = self.peers.get_mut(peer_index) {
                peer.owes_a_word = true;
                peer.is_up = if is_silent { Some(false) } else { peer.is_up };
            }
            if is_silent {
                self.tell_state(peer_index, TransportState::Disconnected);
            }
            self.hasten(peer_index);
        }
    }

    fn renew_pin(&mut self, now: Micros, peer_index: u32, index: u32) {
        let Some(subscription) = self.subscriptions.get_mut(index) else { return };
        let track_index = subscription.track;
        let Some(pin) = subscription.pin.as_mut() else { return };
        pin.lease_s = pin.lease_s.saturating_sub(1);
        if pin.lease_s == 0 {
            self.enable(now, index, false);
        }
        let crosses = self.crosses(peer_index, track_index);
        if let Some(pin) = self.subscriptions.get_mut(index).and_then(|s| s.pin.as_mut()).filter(|_| crosses) {
            pin.says = pin.says.max(1);
        }
    }

    /// Writes what is to be said of layers: wishes for those that come from the other node, states of those that go there.
    pub(crate) fn write_news(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) {
        let Some(peer) = self.peers.get_mut(peer_index).filter(|peer| peer.due.news <= now) else { return };
        let mut next = Micros::NEVER;
        let mut room = (compound.room() / 4).min(WORDS_MAX).saturating_sub(3 * APPLICATION_BYTES / 4);
        // Whether there is room for so many words of something that is still to be said.
        let mut is_due = |says: &mut u8, words: usize| {
            if *says == 0 {
                return false;
            }
            if room < words {
                next = now;
                return false;
            }
            room -= words;
            *says -= 1;
            if *says > 0 {
                next = next.min(now + RELAY_SAID_AGAIN);
            }
            true
        };
        let [mut wanted, mut unwanted, mut states] = [const { ArrayVec::<u32, WORDS_MAX>::new_const() }; 3];
        for &track in &peer.tracks {
            let Some(track) = self.tracks.get_mut(track) else { continue };
            for layer in &mut track.layers {
                if layer.told && !layer.is_heard {
                    // It may have been told of the track later than we were.
                    layer.says = layer.says.max(2);
                }
                if let Some(ssrc) = layer.ssrc
                    && is_due(&mut layer.says, 1)
                {
                    let list = if layer.told { &mut wanted } else { &mut unwanted };
                    list.push(ssrc);
                }
            }
        }
        for &index in &peer.subscriptions {
            let Some(subscription) = self.subscriptions.get_mut(index) else { continue };
            let (ssrc, track) = (subscription.ssrc, subscription.track);
            let Some(pin) = subscription.pin.as_mut() else { continue };
            if !is_due(&mut pin.says, 2) {
                continue;
            }
            let layer = self.tracks.get(track).and_then(|track| track.layers.get(usize::from(pin.encoding)));
            let state = layer.filter(|layer| layer.live).map_or(0, |layer| {
                LIVE | u32::try_from(layer.rate.rate_bps() / 1000).unwrap_or(u32::MAX).min(LIVE - 1)
            });
            states.extend([ssrc, state]);
        }
        for (name, subtype, words) in [(WISHES, WANTED, &wanted), (WISHES, UNWANTED, &unwanted), (LAYERS, 0, &states)] {
            let is_sign_of_life = name == LAYERS && std::mem::take(&mut peer.owes_a_word);
            if !words.is_empty() || is_sign_of_life {
                // There is room, as counted above.
                let _ = compound.application(subtype, peer.ssrc, name, words);
            }
        }
        peer.due.news = next;
    }
}

/// What is heard.
impl Forwarder {
    /// Takes down what another node says of layers; from clients it is nothing.
    pub(crate) fn collect_news(&self, peer_index: u32, application: &Application<'_>, news: &mut News) {
        if !self.peers.get(peer_index).is_some_and(|peer| peer.is_relay) {
            return;
        }
        let mut words = application.words();
        match (application.name, application.subtype) {
            (WISHES, WANTED | UNWANTED) => {
                let said = Said::Wanted(application.subtype == WANTED);
                // A compound longer than those that we write says the rest again.
                words.take(news.remaining_capacity()).for_each(|ssrc| news.push((ssrc, said)));
            }
            (LAYERS, 0) => {
                while let (Some(ssrc), Some(state)) = (words.next(), words.next()) {
                    let rate_bps = u64::from(state & !LIVE) * 1000;
                    let _ = news.try_push((ssrc, Said::Layer { live: state & LIVE != 0, rate_bps }));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn news_heard(&mut self, now: Micros, peer_index: u32, news: &News, pool: &mut Pool) {
        if !news.is_empty() {
            // What came before goes to those who get it now.
            self.distribute(now, pool);
        }
        for &(ssrc, said) in news {
            let is_known = match said {
                Said::Wanted(is_wanted) => self.wish_heard(now, peer_index, ssrc, is_wanted),
                Said::Layer { live, rate_bps } => self.layer_heard(now, peer_index, ssrc, live, rate_bps),
            };
            self.counters.drop_wish_stale += u64::from(is_known.is_none());
        }
    }

    /// CNAMEs come with the tracks of another node, as each has its own publisher.
    pub(crate) fn cnames_heard(&mut self, peer_index: u32, description: &SourceDescription<'_>) {
        for (ssrc, cname) in description.cnames() {
            let stream = self.stream(peer_index, ssrc);
            let Some(track) = stream.and_then(|stream| self.tracks.get_mut(stream.track)) else { continue };
            if track.is_relayed
                && let Ok(cname) = std::str::from_utf8(cname)
            {
                track.cname = ArrayString::from(cname).unwrap_or_default();
            }
        }
    }

    fn wish_heard(&mut self, now: Micros, peer_index: u32, ssrc: u32, is_wanted: bool) -> Option<()> {
        let index = self.outgoing(peer_index, ssrc)?;
        let subscription = self.subscriptions.get_mut(index).filter(|subscription| subscription.ssrc == ssrc)?;
        let (track, pin) = (subscription.track, subscription.pin.as_mut()?);
        pin.lease_s = if is_wanted { RELAY_WISH_S } else { 0 };
        let is_news = is_wanted && !subscription.wish.enabled;
        self.enable(now, index, is_wanted);
        if is_news {
            self.say_layers(track);
        }
        Some(())
    }

    /// Lets a layer cross, or no longer.
    fn enable(&mut self, now: Micros, index: u32, is_wanted: bool) {
        let Some(subscription) = self.subscriptions.get_mut(index) else { return };
        if std::mem::replace(&mut subscription.wish.enabled, is_wanted) != is_wanted {
            self.remember_or_not(index);
            self.retarget(now, index);
        }
    }

    fn layer_heard(&mut self, now: Micros, peer_index: u32, ssrc: u32, live: bool, rate_bps: u64) -> Option<()> {
        let stream = self.stream(peer_index, ssrc).filter(|stream| !stream.rtx)?;
        let track: &mut Track = self.tracks.get_mut(stream.track)?;
        let layer = track.layers.get_mut(usize::from(stream.encoding))?;
        layer.is_heard = true;
        if layer.wanted_by == 0 {
            // Of what comes here the rate is measured.
            layer.rate.set(rate_bps);
        }
        if std::mem::replace(&mut layer.live, live) != live {
            self.layers_changed(now, stream.track);
        }
        Some(())
    }
}
