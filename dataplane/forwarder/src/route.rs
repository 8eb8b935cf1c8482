//! Who gets a packet, and as what. What was received together is offered together: receiver by receiver, all packets of a
//! track, so that a receiver's rows are fetched from memory once for all of them.

use arrayvec::ArrayVec;
use sluice_frames::{FrameId, Pool};
use sluice_messages::{Event, Kind};
use sluice_wire::Micros;

use crate::{
    Forwarder,
    counters::Counters,
    egress::Lane,
    feedback::report::{SenderClock, ntp_span, units},
    history::Sent,
    limits::REPORT_FIRST,
    queue::Queued,
    receive::Meta,
    rewrite::Outgoing,
    subscription::{Source, Subscription, Temporal},
    track::Track,
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
    /// Goes out; `switched` if the receiver was switched to this source here.
    Out { sent: Sent, out: Outgoing, switched: bool },
    /// Not this one.
    No,
    /// The receiver waits for a key frame of this layer.
    Waiting,
}

/// Packets that are offered together at most. More share the fetches among more, and keep more frames out of the pool for a
/// moment; a frame of video is seldom more than this.
const BATCH: usize = 32;

/// A receiver of one participant, camera and microphone, gets nothing soon after the end of a frame: waiting would only delay.
const LONE_SUBSCRIPTIONS: usize = 2;

/// Packets that were received and not offered yet, with their tracks.
pub(crate) struct Pending(ArrayVec<(u32, FrameId), BATCH>);

impl Pending {
    pub(crate) fn new() -> Pending {
        Pending(ArrayVec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Forwarder {
    /// Remembers a packet that is to be offered to the receivers of its track with the next [`Forwarder::distribute`].
    pub(crate) fn defer(&mut self, now: Micros, track_index: u32, frame: FrameId, pool: &mut Pool) {
        pool.retain(frame);
        self.pending.0.push((track_index, frame));
        // Whatever is in a history has been offered or is pending, which `catch_up` relies on.
        if self.pending.0.is_full() {
            self.distribute(now, pool);
        }
    }

    /// Offers what was received, track by track.
    pub(crate) fn distribute(&mut self, now: Micros, pool: &mut Pool) {
        if self.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::replace(&mut self.pending.0, ArrayVec::new());
        while let Some(&(track_index, _)) = pending.first() {
            let mut frames = ArrayVec::<FrameId, BATCH>::new();
            pending.retain(|(track, frame)| {
                let is_of_track = *track == track_index;
                if is_of_track {
                    frames.push(*frame);
                }
                !is_of_track
            });
            self.fan_out(now, track_index, &frames, pool);
            frames.into_iter().for_each(|frame| pool.release(frame));
        }
    }

    /// Queues packets of one track, in order of arrival, for every receiver of their layers.
    fn fan_out(&mut self, now: Micros, track_index: u32, frames: &[FrameId], pool: &mut Pool) {
        let count = self.tracks.get(track_index).map_or(0, |track| track.subscribers.len());
        // Of the frames, one bit each: whether somebody was switched by it, and whether somebody waits for a key frame.
        const { assert!(BATCH <= u32::BITS as usize) };
        let (mut switching, mut waiting) = (0u32, 0u32);
        for n in 0..count {
            let Some(&index) = self.tracks.get(track_index).and_then(|track| track.subscribers.get(n)) else { break };
            for (at, &frame) in frames.iter().enumerate() {
                match self.offer(now, index, track_index, frame, pool) {
                    Some(true) => {
                        switching |= 1 << at;
                        self.catch_up(now, index, track_index, frame, &frames[at + 1..], pool);
                    }
                    Some(false) => {}
                    None => waiting |= 1 << at,
                }
            }
        }
        if switching != 0 {
            self.recount(track_index);
        }
        for (at, frame) in frames.iter().enumerate() {
            if waiting & (1 << at) != 0 {
                self.want_keyframe(now, track_index, self.meta[frame.index()].encoding);
            }
        }
    }

    /// Offers a packet to one subscription: whether it was switched by it, or none if it waits for a key frame.
    fn offer(&mut self, now: Micros, index: u32, track_index: u32, frame: FrameId, pool: &mut Pool) -> Option<bool> {
        let Some(track) = self.tracks.get(track_index) else { return Some(false) };
        let Some(subscription) = self.subscriptions.get_mut(index) else { return Some(false) };
        let meta = &self.meta[frame.index()];
        if !subscription.is_for(meta) {
            self.counters.shed_packets += u64::from(subscription.shed == Some(meta.encoding));
            return Some(false);
        }
        let Some(peer) = self.peers.get_mut(subscription.receiver) else { return Some(false) };
        if !peer.is_reachable() {
            return Some(false);
        }
        let context = Context::new(now, track, meta);
        let (sent, out, switched) = match subscription.consider(meta, &context, &mut self.counters) {
            Verdict::Out { sent, out, switched } => (sent, out, switched),
            Verdict::No => return Some(false),
            Verdict::Waiting => return None,
        };
        let lane = match track.kind {
            Kind::Audio => Lane::Audio,
            Kind::Video => Lane::Video,
        };
        subscription.sent.insert(sent);
        let queued = Queued { frame, subscription: index, out };
        if peer.egress.push(lane, queued, self.config.egress_queue_max, &mut self.queues, pool) {
            match track.kind {
                Kind::Audio => self.pace.urge(subscription.receiver, &mut peer.egress),
                Kind::Video => {
                    let is_last = meta.marker && peer.subscriptions.len() <= LONE_SUBSCRIPTIONS;
                    self.pace.queued(now, is_last, subscription.receiver, &mut peer.egress);
                }
            }
        } else {
            self.counters.drop_queue_full += 1;
        }
        if switched {
            if subscription.next_report == Micros::NEVER {
                subscription.next_report = now + REPORT_FIRST;
                peer.due.report = peer.due.report.min(subscription.next_report);
                self.timers.sooner(subscription.receiver, peer.due.report);
            }
            if subscription.pin.is_none() && subscription.reported != Some(Some(meta.encoding)) {
                subscription.reported = Some(Some(meta.encoding));
                let event = Event::Forwarding { receiver: peer.id, track: track.id, encoding: Some(meta.encoding) };
                self.events.push(event, &mut self.counters);
            }
        }
        Some(switched)
    }

    /// A receiver was switched by a key frame whose first packet came late: what follows it and is here already goes out
    /// behind it, except for `later`, which is offered next anyway.
    fn catch_up(
        &mut self,
        now: Micros,
        index: u32,
        track_index: u32,
        first: FrameId,
        later: &[FrameId],
        pool: &mut Pool,
    ) {
        let Meta { encoding, incoming, .. } = self.meta[first.index()];
        let highest = self
            .tracks
            .get(track_index)
            .and_then(|track| track.layers.get(usize::from(encoding)))
            .and_then(|layer| layer.window.highest());
        for following in incoming.index + 1..=highest.unwrap_or(0) {
            let layer = self.tracks.get(track_index).and_then(|track| track.layers.get(usize::from(encoding)));
            let Some(frame) = layer.and_then(|layer| layer.history.frame(following)) else { continue };
            if !later.contains(&frame) {
                self.offer(now, index, track_index, frame, pool);
            }
        }
    }

    /// A packet that nobody gets (padding, rubbish): what follows closes up for those who get its layer.
    pub(crate) fn leave_out(&mut self, now: Micros, track_index: u32, meta: &Meta, pool: &mut Pool) {
        // What came before it takes its numbers first.
        self.distribute(now, pool);
        self.relay_left_out(track_index, meta);
        let Some(track) = self.tracks.get(track_index) else { return };
        let source = Source { encoding: meta.encoding, generation: meta.generation };
        for &index in &track.subscribers {
            if let Some(subscription) = self.subscriptions.get_mut(index).filter(|s| s.current == Some(source)) {
                subscription.rewriter.skip(meta.incoming, None);
            }
        }
    }
}

impl Context {
    fn new(now: Micros, track: &Track, meta: &Meta) -> Context {
        let layer = track.layers.get(usize::from(meta.encoding));
        Context {
            now,
            kind: track.kind,
            clock_rate: track.clock_rate(),
            clock: layer.and_then(|layer| layer.reception.clock),
        }
    }
}

impl Subscription {
    /// Whether it gets the packet's layer, or is to get it.
    fn is_for(&self, meta: &Meta) -> bool {
        self.target == Some(meta.encoding)
            || self.current == Some(Source { encoding: meta.encoding, generation: meta.generation })
    }

    /// Decides about a packet that [is for](Subscription::is_for) this receiver.
    fn consider(&mut self, meta: &Meta, context: &Context, counters: &mut Counters) -> Verdict {
        let source = Source { encoding: meta.encoding, generation: meta.generation };
        let is_current = self.current == Some(source);
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
        let sent = Sent::new(out, meta.incoming.index, meta.generation, meta.encoding);
        Verdict::Out { sent, out, switched: !is_current }
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
    /// publisher's clock if reports told it for both sources; by arrival otherwise. None for the very first packet, whose
    /// timestamp may be any.
    fn wanted_timestamp(&self, source: Source, timestamp: u32, context: &Context) -> Option<u32> {
        let Some(last) = self.rewriter.last_timestamp() else {
            // Layers that cross begin at the publisher's timestamps, so that they keep time with each other at the other node.
            return self.pin.map(|_| timestamp);
        };
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
