//! Changes of the table. Entries say how things shall be; what differs from how they are is changed, and media goes on.

use sluice_frames::{Pool, Route};
use sluice_messages::{
    self as messages, CallId, Encoding, Entry, Event, Failure, Key, Kind, TrackId, TransportId, TransportState,
};
use sluice_srtp::{KeyMaterial, Receiver, Sender};
use sluice_wire::Micros;

use crate::{
    Call, Forwarder,
    feedback::incoming::key,
    history::SentRing,
    limits::{AUDIO_RECORDS, PAYLOADS_MAX, VIDEO_RECORDS},
    peer::{Due, Keys, Peer, label},
    relay::NOBODY,
    speakers::Speakers,
    stream::Stream,
    subscription::{Pin, Subscription},
    track::{LAYERS_MAX, Layer, Track},
};

impl Forwarder {
    pub(crate) fn put(&mut self, now: Micros, entry: &Entry, pool: &mut Pool) {
        match entry {
            Entry::Transport(transport) => self.put_transport(now, transport, pool),
            Entry::Relay(relay) => self.put_relay(now, relay, pool),
            Entry::RelayTrack(track) => self.put_relay_track(now, track, pool),
            Entry::Track(track) => self.put_track(now, track, pool),
            Entry::Subscription(subscription) => self.put_subscription(now, subscription, pool),
            // Not media: the slow path's, or control's own.
            Entry::DataTrack(_) | Entry::DataSubscription(_) | Entry::Note(_) => {}
        }
    }

    pub(crate) fn remove(&mut self, key: &Key, pool: &mut Pool) {
        match key {
            Key::Transport(id) => self.remove_transport(*id, pool),
            Key::Track(id) => self.remove_track(*id, pool),
            Key::Subscription { receiver, track } => {
                while let Some(index) = self.subscription_index(*receiver, *track) {
                    self.remove_subscription(index, pool);
                }
            }
            Key::DataTrack(_) | Key::DataSubscription { .. } | Key::Note(_) => {}
        }
    }

    pub(crate) fn keys(&mut self, now: Micros, peer_index: u32, material: &KeyMaterial, pool: &mut Pool) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        // The same keys again are no new association: starting their packet counts over would use them up twice.
        if peer.keys.as_ref().is_some_and(|keys| keys.material == *material) {
            return;
        }
        let (Ok(receiver), Ok(sender)) = (Receiver::new(material), Sender::new(material)) else {
            self.counters.refuse_keys += 1;
            return;
        };
        let is_rekeyed = peer.keys.replace(Keys { material: material.clone(), receiver, sender }).is_some();
        if is_rekeyed {
            self.counters.drop_unroutable += peer.egress.purge(None, &mut self.queues, pool);
            peer.retired.clear();
            for &index in &peer.subscriptions {
                if let Some(subscription) = self.subscriptions.get_mut(index) {
                    subscription.rewriter.rekey();
                    subscription.rtx_next &= 0xffff;
                    subscription.sent.clear();
                }
            }
            for &track_index in &peer.tracks {
                if let Some(track) = self.tracks.get_mut(track_index) {
                    track.layers.iter_mut().for_each(|layer| layer.restart(pool));
                }
            }
        }
        self.restart_receiver(now, peer_index);
        self.arm(peer_index);
    }

    pub(crate) fn route(&mut self, now: Micros, peer_index: u32, route: Route) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        if peer.route.replace(route).is_none() {
            self.restart_receiver(now, peer_index);
            // What was due meanwhile could not be sent.
            self.arm(peer_index);
        }
    }

    pub(crate) fn unroute(&mut self, peer_index: u32, pool: &mut Pool) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        peer.route = None;
        self.counters.drop_unroutable += peer.egress.purge(None, &mut self.queues, pool);
    }

    fn put_transport(&mut self, now: Micros, transport: &messages::Transport, pool: &mut Pool) {
        if self.is_relay(transport.id) {
            self.remove_transport(transport.id, pool);
        }
        if let Some(index) = self.peer_map.get(transport.id.0) {
            let Some(peer) = self.peers.get_mut(index) else { return };
            let changes_headers = peer.send_extensions != transport.send_extensions;
            peer.describe(transport);
            if changes_headers {
                // What was sent could no longer be sent again byte for byte.
                for &subscription in &peer.subscriptions {
                    if let Some(subscription) = self.subscriptions.get_mut(subscription) {
                        subscription.sent.clear();
                    }
                }
            }
            return;
        }
        let random = self.random.next();
        let Some(call_index) = self.enter_call(transport.call) else { return self.refuse_transport(transport.id) };
        match self.peers.insert(Peer::new(transport, call_index, random)) {
            Ok(index) => {
                self.peer_map.insert(transport.id.0, index);
                self.tick.start(now);
            }
            Err(_) => {
                self.leave_call(call_index);
                self.refuse_transport(transport.id);
            }
        }
    }

    pub(crate) fn refuse_transport(&mut self, id: TransportId) {
        self.counters.refuse_full += 1;
        let state = TransportState::Failed(Failure::Full);
        self.events.push(Event::Transport { transport: id, state }, &mut self.counters);
    }

    pub(crate) fn enter_call(&mut self, id: CallId) -> Option<u32> {
        if let Some(index) = self.call_map.get(id.0) {
            self.calls.get_mut(index)?.peers += 1;
            return Some(index);
        }
        let call = Call { id, peers: 1, relays: 0, heard: Speakers::new(), reported: Speakers::new() };
        let index = self.calls.insert(call).ok()?;
        self.call_map.insert(id.0, index);
        Some(index)
    }

    pub(crate) fn leave_call(&mut self, index: u32) {
        let Some(call) = self.calls.get_mut(index) else { return };
        call.peers -= 1;
        if call.peers == 0 {
            let id = call.id;
            self.call_map.remove(id.0);
            self.calls.remove(index);
        }
    }

    fn put_track(&mut self, now: Micros, entry: &messages::Track, pool: &mut Pool) {
        let Some(publisher) = self.peer_map.get(entry.publisher.0) else {
            self.counters.refuse_unknown += 1;
            return;
        };
        if let Some(index) = self.track_map.get(entry.id.0) {
            if self.tracks.get(index).is_some_and(|t| t.publisher == publisher && t.kind == entry.kind) {
                return self.change_track(now, index, entry, pool);
            }
            self.remove_track(entry.id, pool);
        }
        let Some(peer) = self.peers.get_mut(publisher) else { return };
        let mut track = Track::new(entry, peer.call_index, publisher, &self.config);
        track.is_relayed = peer.is_relay;
        let Ok(index) = self.tracks.insert(track) else {
            self.counters.refuse_full += 1;
            return;
        };
        if peer.tracks.try_push(index).is_err() {
            self.tracks.remove(index);
            self.counters.refuse_full += 1;
            return;
        }
        self.track_map.insert(entry.id.0, index);
        self.bind_declared(now, index, &entry.encodings, pool);
    }

    pub(crate) fn change_track(&mut self, now: Micros, index: u32, entry: &messages::Track, pool: &mut Pool) {
        let packets = self.config.history_packets(entry.kind);
        let Some(track) = self.tracks.get_mut(index) else { return };
        let publisher = track.publisher;
        track.mid = label(&entry.mid);
        track.allowance.declare(entry);
        track.payloads.clear();
        track.payloads.extend(entry.payloads.iter().copied().take(PAYLOADS_MAX));
        let changes_mute = std::mem::replace(&mut track.muted, entry.muted) != entry.muted;
        let count = entry.encodings.len().clamp(1, LAYERS_MAX);
        let changes_layers = track.layers.len() != count;
        while let Some(encoding) = self.tracks.get(index).map(|t| t.layers.len()).filter(|&len| len > count) {
            self.unbind(publisher, Stream { track: index, encoding: encoding as u8 - 1, rtx: false });
            if let Some(mut layer) = self.tracks.get_mut(index).and_then(|track| track.layers.pop()) {
                layer.history.clear(pool);
            }
        }
        let Some(track) = self.tracks.get_mut(index) else { return };
        for (n, encoding) in entry.encodings.iter().take(LAYERS_MAX).enumerate() {
            match track.layers.get_mut(n) {
                Some(layer) => layer.rid = encoding.rid.as_deref().map(label),
                None => track.layers.push(Layer::new(encoding, packets)),
            }
        }
        // The SSRCs of a remote track are its home's business.
        if publisher != NOBODY {
            self.bind_declared(now, index, &entry.encodings, pool);
        }
        self.repin(index);
        if changes_mute || changes_layers {
            // Numbers of a layer that was away are no guide to what comes now: start from a key frame.
            self.retarget_track(now, index);
        }
    }

    /// Binds the SSRCs that an entry names, where they are other ones than it named before.
    fn bind_declared(&mut self, now: Micros, index: u32, encodings: &[Encoding], pool: &mut Pool) {
        for (n, encoding) in encodings.iter().take(LAYERS_MAX).enumerate() {
            let Some(track) = self.tracks.get_mut(index) else { return };
            let publisher = track.publisher;
            let Some(layer) = track.layers.get_mut(n) else { return };
            let before = std::mem::replace(&mut layer.declared, (encoding.ssrc, encoding.rtx_ssrc));
            let pairs = [(encoding.ssrc, before.0, false), (encoding.rtx_ssrc, before.1, true)];
            for (ssrc, before, rtx) in pairs {
                if let Some(ssrc) = ssrc.filter(|_| ssrc != before) {
                    self.bind(now, publisher, ssrc, Stream { track: index, encoding: n as u8, rtx }, pool);
                }
            }
        }
    }

    fn put_subscription(&mut self, now: Micros, entry: &messages::Subscription, pool: &mut Pool) {
        let (Some(receiver), Some(track)) = (self.peer_map.get(entry.receiver.0), self.track_map.get(entry.track.0))
        else {
            self.counters.refuse_unknown += 1;
            return;
        };
        if self.is_relay(entry.receiver) {
            // It would be sent what its other end knows nothing of.
            self.counters.refuse_unknown += 1;
            return;
        }
        let pair = pair(receiver, track, None);
        if let Some(index) = self.subscription_map.get(pair) {
            let same = |s: &&mut Subscription| s.ssrc == entry.ssrc && s.rtx_ssrc == entry.rtx_ssrc;
            if let Some(subscription) = self.subscriptions.get_mut(index).filter(same) {
                let mut fresh = Subscription::new(entry, receiver, track, 0);
                if subscription.mid != fresh.mid || subscription.payloads != fresh.payloads {
                    subscription.sent.clear();
                    subscription.mid = fresh.mid;
                    subscription.payloads = std::mem::take(&mut fresh.payloads);
                }
                subscription.wish = entry.wish;
                self.remember_or_not(index);
                return self.retarget(now, index);
            }
            self.remove_subscription(index, pool);
        }
        let random = self.random.next();
        self.enrol(now, Subscription::new(entry, receiver, track, random));
    }

    /// Takes in a new subscription.
    pub(crate) fn enrol(&mut self, now: Micros, mut subscription: Subscription) {
        let Subscription { receiver, track, ssrc, rtx_ssrc, pin, .. } = subscription;
        let (Some(peer), Some(source)) = (self.peers.get_mut(receiver), self.tracks.get_mut(track)) else { return };
        if let Some(next) = peer.retired(ssrc) {
            subscription.rewriter.start_at(next);
        }
        if let Some(next) = rtx_ssrc.and_then(|ssrc| peer.retired(ssrc)) {
            subscription.rtx_next = next;
        }
        let Ok(index) = self.subscriptions.insert(subscription) else {
            self.counters.refuse_full += 1;
            return;
        };
        peer.subscriptions.push(index);
        source.subscribers.push(index);
        self.subscription_map.insert(pair(receiver, track, pin), index);
        for ssrc in [Some(ssrc), rtx_ssrc].into_iter().flatten() {
            self.outgoing.insert(key(receiver, ssrc), index);
        }
        self.remember_or_not(index);
        self.retarget(now, index);
    }

    /// Gives a subscription memory of what it sends while it is enabled.
    pub(crate) fn remember_or_not(&mut self, index: u32) {
        let Some(subscription) = self.subscriptions.get_mut(index) else { return };
        let is_video = self.tracks.get(subscription.track).is_some_and(|track| track.kind == Kind::Video);
        if !subscription.wish.enabled {
            self.histories -= usize::from(is_video && !subscription.sent.is_empty());
            subscription.sent = SentRing::default();
        } else if subscription.sent.is_empty() {
            if is_video && self.histories == self.config.histories_max {
                self.counters.history_refused += 1;
                return;
            }
            self.histories += usize::from(is_video);
            subscription.sent = SentRing::new(if is_video { VIDEO_RECORDS } else { AUDIO_RECORDS });
        }
    }

    pub(crate) fn remove_transport(&mut self, id: TransportId, pool: &mut Pool) {
        let Some(index) = self.peer_map.remove(id.0) else { return };
        while let Some(track) = self.peers.get(index).and_then(|peer| peer.tracks.last()) {
            let Some(track) = self.tracks.get(*track).map(|track| track.id) else { break };
            self.remove_track(track, pool);
        }
        while let Some(&subscription) = self.peers.get(index).and_then(|peer| peer.subscriptions.last()) {
            self.remove_subscription(subscription, pool);
        }
        if let Some(mut peer) = self.peers.remove(index) {
            peer.due = Due::NONE;
            peer.egress.purge(None, &mut self.queues, pool);
            self.relay_peers -= usize::from(peer.is_relay);
            if let Some(call) = self.calls.get_mut(peer.call_index) {
                call.relays -= usize::from(peer.is_relay);
            }
            self.leave_call(peer.call_index);
        }
        self.timers.set(index, Micros::NEVER);
        self.pace.remove(index);
    }

    pub(crate) fn remove_track(&mut self, id: TrackId, pool: &mut Pool) {
        let Some(index) = self.track_map.get(id.0) else { return };
        while let Some(&subscription) = self.tracks.get(index).and_then(|track| track.subscribers.last()) {
            self.remove_subscription(subscription, pool);
        }
        let Some(publisher) = self.tracks.get(index).map(|track| track.publisher) else { return };
        for encoding in 0..LAYERS_MAX as u8 {
            self.unbind(publisher, Stream { track: index, encoding, rtx: false });
        }
        if let Some(mut track) = self.tracks.remove(index) {
            track.layers.iter_mut().for_each(|layer| layer.history.clear(pool));
        }
        if let Some(peer) = self.peers.get_mut(publisher) {
            peer.tracks.retain(|track| *track != index);
        }
        self.track_map.remove(id.0);
        self.relays.purge(id, pool);
    }

    pub(crate) fn remove_subscription(&mut self, index: u32, pool: &mut Pool) {
        let Some(subscription) = self.subscriptions.remove(index) else { return };
        let Subscription { receiver, track, ssrc, rtx_ssrc, pin, .. } = subscription;
        self.subscription_map.remove(pair(receiver, track, pin));
        for ssrc in [Some(ssrc), rtx_ssrc].into_iter().flatten() {
            self.outgoing.remove(key(receiver, ssrc));
        }
        if let Some(peer) = self.peers.get_mut(receiver) {
            peer.subscriptions.retain(|&s| s != index);
            peer.egress.purge(Some(index), &mut self.queues, pool);
            peer.retire(ssrc, subscription.rewriter.next_index());
            if let Some(rtx_ssrc) = rtx_ssrc {
                peer.retire(rtx_ssrc, subscription.rtx_next);
            }
        }
        let mut is_video = false;
        if let Some(source) = self.tracks.get_mut(track) {
            source.subscribers.retain(|&s| s != index);
            is_video = source.kind == Kind::Video;
        }
        self.histories -= usize::from(is_video && !subscription.sent.is_empty());
        self.recount_later(track);
    }

    /// What a receiver has of a track: the next of them, if it is a relay and has several.
    pub(crate) fn subscription_index(&self, receiver: TransportId, track: TrackId) -> Option<u32> {
        let (receiver, track) = (self.peer_map.get(receiver.0)?, self.track_map.get(track.0)?);
        let pins = (0..LAYERS_MAX as u8).map(|encoding| Some(Pin { encoding, lease_s: 0, says: 0 }));
        std::iter::once(None).chain(pins).find_map(|pin| self.subscription_map.get(pair(receiver, track, pin)))
    }
}

/// Key of a subscription. Indices of tracks leave three bits free, as those of streams need them too.
pub(crate) fn pair(receiver: u32, track: u32, pin: Option<Pin>) -> u64 {
    let layer = pin.map_or(0, |pin| u32::from(pin.encoding) + 1);
    u64::from(receiver) << 32 | u64::from(layer << 29 | track)
}
