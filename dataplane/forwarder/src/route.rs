//! Who gets a packet, and as what.

use sluice_frames::{FrameId, Pool};
use sluice_messages::{Event, Kind};
use sluice_wire::Micros;

use crate::{
    Forwarder,
    counters::Counters,
    feedback::report::{SenderClock, ntp_span, units},
    history::Sent,
    limits::REPORT_FIRST,
    receive::Meta,
    send::{Lane, Queued},
    subscription::{Source, Subscription, Temporal},
};

/// What a switch needs to know of the source.
#[derive(Clone, Copy)]
struct Context {
    now: Micros,
    kind: Kind,
    clock_rate: u32,
    clock: Option<SenderClock>,
}

/// What became of a packet for one receiver.
enum Verdict {
    /// Goes out; true if the receiver was switched to this source here.
    Out(Sent, bool),
    /// Not this one.
    No,
    /// The receiver waits for a key frame of this layer.
    Waiting,
}

impl Forwarder {
    /// Queues a packet for every receiver of its layer.
    pub(crate) fn fan_out(&mut self, now: Micros, track_index: u32, frame: FrameId, pool: &mut Pool) {
        let meta = self.meta[frame.index()];
        let Some(track) = self.tracks.get(track_index) else { return };
        let (mut waiting, mut switched) = (false, false);
        for n in 0..track.subscribers.len() {
            let Some(&index) = self.tracks.get(track_index).and_then(|track| track.subscribers.get(n)) else { break };
            match self.offer(now, index, track_index, frame, &meta, pool) {
                Some(true) => switched = true,
                Some(false) => {}
                None => waiting = true,
            }
        }
        if switched {
            self.recount(track_index);
            self.catch_up(now, track_index, &meta, pool);
        }
        if waiting {
            self.want_keyframe(now, track_index, meta.encoding);
        }
    }

    /// Offers a packet to one subscription: whether it was switched by it, or none if it waits for a key frame.
    fn offer(
        &mut self,
        now: Micros,
        index: u32,
        track_index: u32,
        frame: FrameId,
        meta: &Meta,
        pool: &mut Pool,
    ) -> Option<bool> {
        let Some(track) = self.tracks.get(track_index) else { return Some(false) };
        let Some(subscription) = self.subscriptions.get_mut(index) else { return Some(false) };
        let Some(peer) = self.peers.get_mut(subscription.receiver) else { return Some(false) };
        if !peer.is_reachable() {
            return Some(false);
        }
        let layer = track.layers.get(usize::from(meta.encoding));
        let context = Context {
            now,
            kind: track.kind,
            clock_rate: track.clock_rate(),
            clock: layer.and_then(|layer| layer.reception.clock),
        };
        let (sent, switched) = match subscription.consider(meta, &context, &mut self.counters) {
            Verdict::Out(sent, switched) => (sent, switched),
            Verdict::No => return Some(false),
            Verdict::Waiting => return None,
        };
        let lane = match track.kind {
            Kind::Audio => Lane::Audio,
            Kind::Video => Lane::Video,
        };
        subscription.sent.insert(sent);
        let queued = Queued { frame, subscription: index, out: sent.out };
        if peer.egress.push(lane, queued, pool) {
            self.ready.push(subscription.receiver, peer);
        } else {
            self.counters.drop_queue_full += 1;
        }
        if switched {
            subscription.catching_up = true;
            if subscription.next_report == Micros::NEVER {
                subscription.next_report = now + REPORT_FIRST;
                peer.due.report = peer.due.report.min(subscription.next_report);
                self.timers.sooner(subscription.receiver, peer.due.report);
            }
            if subscription.reported != Some(Some(meta.encoding)) {
                subscription.reported = Some(Some(meta.encoding));
                let event = Event::Forwarding { receiver: peer.id, track: track.id, encoding: Some(meta.encoding) };
                self.events.push(event, &mut self.counters);
            }
        }
        Some(switched)
    }

    /// A key frame whose first packet came late: what followed it is kept, and goes to those who were switched by it.
    fn catch_up(&mut self, now: Micros, track_index: u32, first: &Meta, pool: &mut Pool) {
        let Some(track) = self.tracks.get(track_index) else { return };
        let highest = track.layers.get(usize::from(first.encoding)).and_then(|layer| layer.window.highest());
        let following = first.incoming.index + 1..=highest.unwrap_or(0);
        for n in 0..track.subscribers.len() {
            let subscriber = self.tracks.get(track_index).and_then(|track| track.subscribers.get(n).copied());
            let Some(subscription) = subscriber.and_then(|index| self.subscriptions.get_mut(index)) else { continue };
            if !std::mem::take(&mut subscription.catching_up) {
                continue;
            }
            for index in following.clone() {
                let layer = self.tracks.get(track_index).and_then(|t| t.layers.get(usize::from(first.encoding)));
                let Some(frame) = layer.and_then(|layer| layer.history.frame(index)) else { continue };
                let meta = self.meta[frame.index()];
                if let Some(subscriber) = subscriber {
                    self.offer(now, subscriber, track_index, frame, &meta, pool);
                }
            }
        }
    }

    /// A packet that nobody gets (padding, rubbish): what follows closes up for those who get its layer.
    pub(crate) fn leave_out(&mut self, track_index: u32, meta: &Meta) {
        let Some(track) = self.tracks.get(track_index) else { return };
        let source = Source { encoding: meta.encoding, generation: meta.generation };
        for &index in &track.subscribers {
            if let Some(subscription) = self.subscriptions.get_mut(index).filter(|s| s.current == Some(source)) {
                subscription.rewriter.skip(meta.incoming, None);
            }
        }
    }
}

impl Subscription {
    fn consider(&mut self, meta: &Meta, context: &Context, counters: &mut Counters) -> Verdict {
        let source = Source { encoding: meta.encoding, generation: meta.generation };
        let is_current = self.current == Some(source);
        if !is_current && self.target != Some(meta.encoding) {
            return Verdict::No;
        }
        if meta.payload_for(self).is_none() {
            counters.skip_payload += 1;
            if is_current {
                self.rewriter.skip(meta.incoming, None);
            }
            return Verdict::No;
        }
        if !is_current {
            if context.kind == Kind::Video && !meta.keyframe {
                counters.skip_keyframe_wait += 1;
                return Verdict::Waiting;
            }
            let wanted = self.wanted_timestamp(source, meta.incoming.timestamp, context);
            self.rewriter.switch(meta.incoming, wanted);
            self.start(source, context);
            counters.switches += 1;
        }
        if self.is_above_temporal(meta) {
            counters.skip_temporal += 1;
            self.rewriter.skip(meta.incoming, meta.incoming.picture_id);
            return Verdict::No;
        }
        let Some(out) = self.rewriter.map(meta.incoming) else {
            counters.skip_late += 1;
            return Verdict::No;
        };
        self.last_sent = context.now;
        let sent = Sent {
            out,
            source_index: meta.incoming.index,
            generation: meta.generation,
            encoding: meta.encoding,
            valid: true,
            ..Sent::default()
        };
        Verdict::Out(sent, !is_current)
    }

    fn start(&mut self, source: Source, context: &Context) {
        if self.last_source.is_none() {
            self.started = context.now;
        }
        (self.current, self.last_source) = (Some(source), Some(source));
        self.temporal.current = self.temporal.target;
        if let Some(clock) = context.clock {
            let timestamp = clock.rtp_timestamp.wrapping_add(self.rewriter.timestamp_offset());
            self.anchor = Some((clock.ntp, timestamp.wrapping_sub(self.rewriter.skew())));
        }
    }

    /// The outgoing timestamp that a source's first packet should have: the same offset if it was only paused; by the
    /// publisher's clock if reports told it for both sources; by arrival otherwise. None for the very first packet.
    fn wanted_timestamp(&self, source: Source, timestamp: u32, context: &Context) -> Option<u32> {
        let last = self.rewriter.last_timestamp()?;
        if self.last_source == Some(source) {
            return Some(timestamp.wrapping_add(self.rewriter.timestamp_offset()));
        }
        let waited = ntp_span(context.now.since(self.last_sent).as_micros() as u64);
        let by_arrival = last.wrapping_add(units(waited as i64, context.clock_rate).max(1));
        let by_clock = context.clock.and_then(|clock| {
            let (anchor_ntp, anchor_timestamp) = self.anchor?;
            // From the new layer's timestamp to its report, from there by NTP to the anchor.
            let from_report = timestamp.wrapping_sub(clock.rtp_timestamp);
            let from_anchor = units(clock.ntp.wrapping_sub(anchor_ntp) as i64, context.clock_rate);
            Some(anchor_timestamp.wrapping_add(from_anchor).wrapping_add(from_report))
        });
        // Clocks that disagree with arrival by more than two seconds are not of the same publisher.
        let tolerance = 2 * context.clock_rate as i32;
        Some(by_clock.filter(|t| (t.wrapping_sub(by_arrival) as i32).abs() < tolerance).unwrap_or(by_arrival))
    }

    /// Whether the packet belongs to a VP8 temporal layer that is not wanted. More layers pass again from a frame on that
    /// depends on the base layer alone (RFC 7741 section 4.2, Y), as decoders lack the ones before.
    fn is_above_temporal(&mut self, meta: &Meta) -> bool {
        if self.temporal == Temporal::ALL {
            return false;
        }
        let Some((layer, descriptor)) = meta.vp8.and_then(|d| Some((d.temporal_id?, d))) else { return false };
        let Some(picture_id) = meta.incoming.picture_id else { return false };
        if meta.keyframe {
            self.temporal.current = self.temporal.target;
        } else if descriptor.starts_frame {
            let raises = layer > self.temporal.current && layer <= self.temporal.target && descriptor.layer_sync;
            if raises {
                self.temporal.current = if self.temporal.target == u8::MAX { u8::MAX } else { layer };
            }
            self.temporal.current = self.temporal.current.min(self.temporal.target);
        }
        layer > self.temporal.current || self.rewriter.is_dropping(picture_id)
    }
}
