//! Which layer each receiver gets: the highest that is there, wished for and affordable.

use std::time::Duration;

use arrayvec::ArrayVec;
use sluice_frames::Pool;
use sluice_messages::{Event, Kind, LayerLive};
use sluice_wire::Micros;

use crate::{
    Forwarder,
    estimate::Estimator,
    limits::LAYER_SILENCE,
    receive::Meta,
    subscription::Temporal,
    track::{LAYERS_MAX, Layer},
};

/// A layer is gone if it is silent while the others of its track go on; if all are silent (a still screen, a dead
/// network) only after this times [`LAYER_SILENCE`].
const ALL_SILENT: u32 = 4;
/// Without a measured rate a layer is taken to need this, from low to high.
const RATE_UNKNOWN_BPS: [u64; LAYERS_MAX] = [150_000, 500_000, 1_700_000];

impl Forwarder {
    /// Decides anew what a subscription should get, and sees to it that it can be switched there.
    pub(crate) fn retarget(&mut self, now: Micros, index: u32) {
        let Some(subscription) = self.subscriptions.get_mut(index) else { return };
        let Some(track) = self.tracks.get(subscription.track) else { return };
        let Some(peer) = self.peers.get(subscription.receiver) else { return };
        let wish = subscription.wish;
        let is_wanted = wish.enabled && !track.muted;
        let highest = wish.max_encoding.min(subscription.cap);
        let best = |max: u8| choose(track.live(), track.layers.len() as u8, max);
        let allowed = match track.kind {
            Kind::Audio => Some(highest),
            Kind::Video => self.shed.max_encoding().map(|max| max.min(highest)),
        };
        // What crosses serves many: the other node chooses for them, and leaves out what it must.
        let pinned = subscription.pin.map(|pin| pin.encoding);
        let target = pinned.or_else(|| allowed.map(best)).filter(|_| is_wanted);
        let unshed = pinned.or_else(|| Some(best(highest))).filter(|_| is_wanted);
        subscription.shed = unshed.filter(|_| unshed != target);
        subscription.target = target;
        let track_index = subscription.track;
        if target.is_none() {
            subscription.current = None;
            subscription.next_report = Micros::NEVER;
            if subscription.reported.is_some_and(|reported| reported.is_some()) {
                subscription.reported = Some(None);
                let event = Event::Forwarding { receiver: peer.id, track: track.id, encoding: None };
                self.events.push(event, &mut self.counters);
            }
        }
        let layer = target.and_then(|target| Some((target, track.layers.get(usize::from(target))?)));
        let switches = layer.filter(|(target, layer)| {
            subscription.current.is_none_or(|c| c.encoding != *target || c.generation != layer.generation)
        });
        let asks = switches.filter(|_| track.kind == Kind::Video && peer.is_reachable()).map(|(target, _)| target);
        self.recount_later(track_index);
        if let Some(target) = asks {
            self.want_keyframe(now, track_index, target);
        }
    }

    /// All subscriptions of a track.
    pub(crate) fn retarget_track(&mut self, now: Micros, track_index: u32) {
        let count = self.tracks.get(track_index).map_or(0, |track| track.subscribers.len());
        for n in 0..count {
            if let Some(&index) = self.tracks.get(track_index).and_then(|track| track.subscribers.get(n)) {
                self.retarget(now, index);
            }
        }
    }

    /// All subscriptions of a receiver, which start over: it was out of reach or has new keys.
    pub(crate) fn restart_receiver(&mut self, now: Micros, peer_index: u32) {
        let count = self.peers.get(peer_index).map_or(0, |peer| peer.subscriptions.len());
        for n in 0..count {
            let Some(&index) = self.peers.get(peer_index).and_then(|peer| peer.subscriptions.get(n)) else { break };
            if let Some(subscription) = self.subscriptions.get_mut(index) {
                subscription.current = None;
            }
            self.retarget(now, index);
        }
    }

    /// Somebody's wish changed. A thousand receivers that join one after the other are counted once, with the next packet,
    /// which visits them all anyway. A track from elsewhere is counted at once: without a wish its packets do not come.
    pub(crate) fn recount_later(&mut self, track_index: u32) {
        match self.tracks.get_mut(track_index) {
            Some(track) if track.home.is_none() && !track.is_relayed => track.is_recount_due = true,
            _ => self.recount(track_index),
        }
    }

    /// Counts if anything changed since the last time.
    pub(crate) fn recount_if_due(&mut self, track_index: u32) {
        if self.tracks.get(track_index).is_some_and(|track| track.is_recount_due) {
            self.recount(track_index);
        }
    }

    /// Counts again who gets or waits for which layer of a track: only those layers are worth repairs.
    pub(crate) fn recount(&mut self, track_index: u32) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        track.is_recount_due = false;
        track.layers.iter_mut().for_each(|layer| layer.wanted_by = layer.siblings.count_ones());
        for &index in &track.subscribers {
            let Some(subscription) = self.subscriptions.get(index) else { continue };
            let current = subscription.current.map(|source| source.encoding);
            for encoding in [current, subscription.target.filter(|&t| Some(t) != current)].into_iter().flatten() {
                if let Some(layer) = track.layers.get_mut(usize::from(encoding)) {
                    layer.wanted_by += 1;
                }
            }
        }
        track.layers.iter_mut().filter(|layer| layer.wanted_by == 0).for_each(|layer| layer.missing.clear());
        self.tell_wants(track_index);
        self.tell_node(track_index);
    }

    /// A layer came or went.
    pub(crate) fn layers_changed(&mut self, now: Micros, track_index: u32) {
        let Some(track) = self.tracks.get_mut(track_index) else { return };
        let live = track.live();
        // Of a track from elsewhere its home reports.
        if live != track.reported_live && track.home.is_none() && !track.is_relayed {
            let layers = track.layers.iter().enumerate().filter(|(_, layer)| layer.live);
            let live = layers
                .filter_map(|(n, layer)| {
                    Some(LayerLive { encoding: n as u8, ssrc: layer.ssrc?, rtx_ssrc: layer.rtx_ssrc })
                })
                .collect();
            self.events.push(Event::Layers { track: track.id, live }, &mut self.counters);
        }
        if live != std::mem::replace(&mut track.reported_live, live) {
            self.relay_layers(track_index);
            self.say_layers(track_index);
        }
        self.retarget_track(now, track_index);
    }

    /// Looks for layers that fell silent, and lets old frames go.
    pub(crate) fn sweep(&mut self, now: Micros, pool: &mut Pool) {
        let age = self.history_age(pool);
        for track_index in 0..self.tracks.end() {
            self.recount_if_due(track_index);
            let Some(track) = self.tracks.get_mut(track_index) else { continue };
            let newest = track.layers.iter().filter_map(|layer| layer.last_packet).max();
            let (mut changed, is_remote) = (false, track.home.is_some());
            let is_from_elsewhere = is_remote || track.is_relayed;
            for layer in &mut track.layers {
                let expired = layer.history.expire(now, age, pool);
                if age < self.config.history {
                    self.counters.history_squeezed += expired;
                }
                // Only wanted layers of a track from elsewhere come here: its home says which ones live.
                let Some(last) = layer.last_packet.filter(|_| layer.live && !is_from_elsewhere) else { continue };
                let silent = now.since(last);
                let behind = newest.map_or(Duration::ZERO, |newest| newest.since(last));
                if silent >= LAYER_SILENCE * ALL_SILENT || (silent >= LAYER_SILENCE && behind >= LAYER_SILENCE * 3 / 4)
                {
                    layer.live = false;
                    changed = true;
                }
            }
            if changed {
                self.layers_changed(now, track_index);
            }
            if is_remote {
                self.sweep_remote(now, track_index);
            }
        }
    }

    /// How long frames are kept: shorter while packet memory runs low, as new packets matter more than repairs.
    fn history_age(&self, pool: &Pool) -> Duration {
        match (pool.free() * 16).checked_div(pool.capacity()).unwrap_or(0) {
            0 => Duration::ZERO,
            1..4 => self.config.history / 4,
            _ => self.config.history,
        }
    }

    /// Shares a receiver's rate: everybody gets the lowest layer, then layers are raised one by one, those with higher
    /// priority first, as long as the rate suffices.
    pub(crate) fn allocate(&mut self, now: Micros, peer_index: u32) {
        let Some(peer) = self.peers.get(peer_index).filter(|peer| !peer.is_relay) else { return };
        let Some(rate_bps) = peer.estimator.rate_bps() else {
            if !peer.is_capped {
                return;
            }
            return self.lift_caps(now, peer_index);
        };
        let subscriptions = peer.subscriptions.len();
        let mut left = rate_bps;
        for n in 0..subscriptions {
            let Some((index, rates)) = self.rates(peer_index, n) else { continue };
            left = left.saturating_sub(rates[0]);
            if let Some(subscription) = self.subscriptions.get_mut(index) {
                subscription.fresh_cap = 0;
            }
        }
        for level in 1..LAYERS_MAX {
            // Priorities are visited from high to low; each round finds the next lower one.
            let mut below = None;
            loop {
                let in_round = |p: u32| below.is_none_or(|below| p < below);
                let priorities = (0..subscriptions).filter_map(|n| {
                    let (index, _) = self.rates(peer_index, n)?;
                    self.subscriptions.get(index).map(|s| s.wish.priority)
                });
                let Some(priority) = priorities.filter(|&p| in_round(p)).max() else { break };
                for n in 0..subscriptions {
                    let Some((index, rates)) = self.rates(peer_index, n) else { continue };
                    let Some(subscription) = self.subscriptions.get_mut(index) else { continue };
                    let more = rates[level].saturating_sub(rates[level - 1]);
                    let fits = subscription.wish.priority == priority
                        && usize::from(subscription.fresh_cap) == level - 1
                        && more <= left;
                    if fits {
                        left -= more;
                        subscription.fresh_cap = level as u8;
                    }
                }
                below = Some(priority);
            }
        }
        for n in 0..subscriptions {
            let Some((index, _)) = self.rates(peer_index, n) else { continue };
            let Some(subscription) = self.subscriptions.get_mut(index) else { continue };
            if subscription.cap != subscription.fresh_cap {
                subscription.cap = subscription.fresh_cap;
                self.retarget(now, index);
            }
        }
        if let Some(peer) = self.peers.get_mut(peer_index) {
            peer.is_capped = true;
        }
    }

    fn lift_caps(&mut self, now: Micros, peer_index: u32) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        peer.is_capped = false;
        for n in 0..peer.subscriptions.len() {
            let Some(&index) = self.peers.get(peer_index).and_then(|peer| peer.subscriptions.get(n)) else { break };
            if let Some(subscription) = self.subscriptions.get_mut(index).filter(|s| s.cap != u8::MAX) {
                subscription.cap = u8::MAX;
                self.retarget(now, index);
            }
        }
    }

    /// What each layer of a receiver's n-th subscription costs, if it is video that is wished for.
    fn rates(&self, peer_index: u32, n: usize) -> Option<(u32, [u64; LAYERS_MAX])> {
        let &index = self.peers.get(peer_index)?.subscriptions.get(n)?;
        let subscription = self.subscriptions.get(index)?;
        let track = self.tracks.get(subscription.track)?;
        if track.kind != Kind::Video || !subscription.wish.enabled || track.muted {
            return None;
        }
        let mut rates = [0; LAYERS_MAX];
        let highest = subscription.wish.max_encoding;
        for (n, rate) in rates.iter_mut().enumerate() {
            let layer = track.layers.get(n).filter(|layer| layer.live && n as u8 <= highest);
            let measured = layer.map(|layer| layer.rate.rate_bps());
            *rate = match measured {
                Some(0) => RATE_UNKNOWN_BPS[n],
                Some(measured) => measured,
                None => 0,
            };
        }
        // A layer that is not there costs what the one below costs.
        for n in 1..LAYERS_MAX {
            rates[n] = rates[n].max(rates[n - 1]);
        }
        Some((index, rates))
    }

    /// Chooses VP8 temporal layers by frame rate; once a second.
    pub(crate) fn choose_temporal(&mut self) {
        for track_index in 0..self.tracks.end() {
            let Some(track) = self.tracks.get_mut(track_index).filter(|track| track.kind == Kind::Video) else {
                continue;
            };
            track.layers.iter_mut().for_each(Layer::end_second);
            for &index in &track.subscribers {
                let Some(subscription) = self.subscriptions.get_mut(index) else { continue };
                let encoding = subscription.current.map(|source| source.encoding);
                let layer = encoding.and_then(|encoding| track.layers.get(usize::from(encoding)));
                let Some(max_fps) = subscription.wish.max_fps else {
                    // All pass again as soon as a frame allows it.
                    subscription.temporal.target = u8::MAX;
                    continue;
                };
                if let Some(layer) = layer {
                    subscription.temporal.target = layer.temporal_for(u32::from(max_fps));
                }
            }
        }
    }
}

/// The highest live layer up to `max`, or the lowest live one above, or what should be there if none lives.
fn choose(live: u8, count: u8, max: u8) -> u8 {
    let max = max.min(count.saturating_sub(1));
    let up_to: u8 = live & ((1u16 << (max + 1)) - 1) as u8;
    if up_to != 0 {
        return 7 - up_to.leading_zeros() as u8;
    }
    if live != 0 { live.trailing_zeros() as u8 } else { max }
}

impl Layer {
    /// Counts frames per temporal layer.
    pub(crate) fn count_frame(&mut self, meta: &Meta) {
        if let Some(descriptor) = meta.vp8.filter(|descriptor| descriptor.starts_frame) {
            self.frames[usize::from(descriptor.temporal_id.unwrap_or(0) & 3)] += 1;
        }
    }

    fn end_second(&mut self) {
        self.fps = std::mem::take(&mut self.frames);
    }

    /// The highest temporal layer at which there are at most `max_fps` frames a second (a tenth more is the same rate).
    fn temporal_for(&self, max_fps: u32) -> u8 {
        let mut sum = 0;
        let fitting = self.fps.iter().take_while(|fps| {
            sum += **fps;
            sum * 10 <= max_fps * 11
        });
        let fitting = ArrayVec::<u32, 4>::from_iter(fitting.copied()).len();
        match fitting {
            4 => Temporal::ALL.target,
            fitting => fitting.saturating_sub(1) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_layer_that_is_there() {
        let check = |live, max, expected| assert_eq!(choose(live, 3, max), expected, "live {live:03b}, up to {max}");
        check(0b111, 2, 2);
        check(0b111, 1, 1);
        check(0b011, u8::MAX, 1);
        check(0b101, 1, 0);
        check(0b110, 0, 1);
        check(0b000, 1, 1);
    }
}
