//! Datagram in: decrypt in place, find its stream, count it, keep it, and hand it to `route.rs`.

use arrayvec::ArrayVec;
use sluice_frames::{FrameId, Pool};
use sluice_messages::{Codec, Event, Extension, Kind, PayloadMap, TransportState};
use sluice_srtp::DropReason;
use sluice_wire::{
    Micros, PacketClass, classify,
    level::AudioLevel,
    rtp::{Header, original_sequence, restore_rtx},
    vp8::Descriptor,
};

use crate::{
    Forwarder, codec,
    limits::{DATAGRAM_BYTES_MAX, PASSTHROUGH_BYTES_MAX, TWCC_PERIOD},
    rewrite::Incoming,
    stream::{Labels, Stream, label_of},
    subscription::Subscription,
    track::Arrival,
};

/// A retransmission further than this from the newest media is not of the same source.
const RTX_AGE_MAX_S: u32 = 5;

/// What is known of a received packet, kept beside its frame as long as somebody uses that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) incoming: Incoming,
    pub(crate) encoding: u8,
    pub(crate) generation: u32,
    /// As the publisher numbers it.
    pub(crate) payload_type: u8,
    pub(crate) codec: Codec,
    pub(crate) marker: bool,
    /// Begins a key frame: a receiver may be switched here.
    pub(crate) keyframe: bool,
    pub(crate) vp8: Option<Descriptor>,
    /// Payload type and place of RED's primary block.
    pub(crate) primary: Option<(u8, u16)>,
    pub(crate) payload_start: u16,
    pub(crate) payload_end: u16,
    /// Extensions to be copied are at `packet_end..packet_end + passthrough_len` of the frame.
    packet_end: u16,
    passthrough_len: u16,
}

impl Default for Meta {
    fn default() -> Self {
        Meta {
            incoming: Incoming::default(),
            encoding: 0,
            generation: 0,
            payload_type: 0,
            codec: Codec::Opus,
            marker: false,
            keyframe: false,
            vp8: None,
            primary: None,
            payload_start: 0,
            payload_end: 0,
            packet_end: 0,
            passthrough_len: 0,
        }
    }
}

impl Meta {
    /// How the packet appears at a receiver and where its payload begins there: RED that a receiver does not know is
    /// reduced to its primary block. None if the receiver has no payload type for it.
    pub(crate) fn payload_for(&self, subscription: &Subscription) -> Option<(PayloadMap, usize)> {
        if let Some(map) = subscription.payload(self.payload_type) {
            // Blocks inside RED carry the publisher's numbers, which a receiver with others would not understand.
            let renumbered =
                self.primary.is_some_and(|(inner, _)| subscription.payload(inner).is_some_and(|m| m.to != inner));
            if !renumbered {
                return Some((map, usize::from(self.payload_start)));
            }
        }
        let (inner, start) = self.primary?;
        Some((subscription.payload(inner)?, usize::from(start)))
    }

    /// Extension elements to be copied, as `extension, length, value`.
    pub(crate) fn passthrough<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.packet_end);
        frame.get(start..start + usize::from(self.passthrough_len)).unwrap_or_default()
    }
}

/// What the header extensions of a packet say.
#[derive(Default)]
struct Seen {
    labels: Labels,
    transport_sequence: Option<u16>,
    level: Option<AudioLevel>,
    passthrough: ArrayVec<u8, PASSTHROUGH_BYTES_MAX>,
}

impl Forwarder {
    /// Takes a datagram in; the caller releases the frame.
    pub(crate) fn datagram(&mut self, now: Micros, peer_index: u32, frame: FrameId, pool: &mut Pool) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        let factor = peer.factor();
        let Some(keys) = peer.keys.as_mut() else {
            self.counters.drop_no_keys += 1;
            return;
        };
        let bytes = pool.bytes_mut(frame);
        let wire_bytes = bytes.len();
        if wire_bytes > DATAGRAM_BYTES_MAX {
            self.counters.drop_size += 1;
            return;
        }
        let class = classify(bytes);
        let is_within = match class {
            Some(PacketClass::Rtp) => peer.intake.rtp(now, factor),
            Some(PacketClass::Rtcp) => peer.intake.rtcp(now, factor),
            _ => true,
        };
        if !is_within {
            self.counters.drop_rate += 1;
            return;
        }
        let is_news = match class {
            Some(PacketClass::Rtp) => match keys.receiver.unprotect_rtp(bytes) {
                Ok(opened) => {
                    pool.set_len(frame, opened.len);
                    self.counters.received_packets += 1;
                    self.counters.received_bytes += wire_bytes as u64;
                    peer.received.add(now, wire_bytes);
                    let is_news = peer.hear(now);
                    self.rtp(now, peer_index, frame, opened.index, pool);
                    is_news
                }
                Err(reason) => return self.count_srtp(reason),
            },
            Some(PacketClass::Rtcp) => match keys.receiver.unprotect_rtcp(bytes) {
                Ok(len) => {
                    pool.set_len(frame, len);
                    self.counters.received_rtcp += 1;
                    let is_news = peer.hear(now);
                    self.rtcp(now, peer_index, frame, pool);
                    is_news
                }
                Err(reason) => return self.count_srtp(reason),
            },
            _ => {
                self.counters.drop_unclassified += 1;
                return;
            }
        };
        if is_news {
            self.tell_state(peer_index, TransportState::Connected);
        }
    }

    fn count_srtp(&mut self, reason: DropReason) {
        match reason {
            DropReason::Replayed | DropReason::TooOld => self.counters.drop_replayed += 1,
            DropReason::Forged => self.counters.drop_unauthentic += 1,
            DropReason::TooManyStreams => self.counters.drop_streams_full += 1,
            DropReason::Malformed => self.counters.drop_srtp += 1,
        }
    }

    /// A decrypted packet with its extended index.
    fn rtp(&mut self, now: Micros, peer_index: u32, frame: FrameId, index: u64, pool: &mut Pool) {
        let Ok(header) = Header::parse(pool.bytes(frame)) else {
            self.counters.drop_malformed += 1;
            return;
        };
        let seen = self.look(peer_index, &header, pool.bytes(frame));
        if let Some(sequence) = seen.transport_sequence {
            self.arrived(now, peer_index, sequence);
        }
        let stream = match self.stream(peer_index, header.ssrc) {
            Some(stream) => stream,
            None => match self.learn(now, peer_index, header.ssrc, header.payload_type, &seen.labels, pool) {
                Some(stream) => stream,
                None => {
                    self.counters.drop_unknown_ssrc += 1;
                    return;
                }
            },
        };
        if stream.rtx {
            self.rtx(now, peer_index, stream, frame, header, &seen, pool);
        } else {
            self.media(now, peer_index, stream, frame, header, index, &seen, pool);
        }
    }

    /// Reads the extensions once: what this hop needs, and what goes on under the numbers that all receivers share.
    fn look(&self, peer_index: u32, header: &Header, packet: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let Some(peer) = self.peers.get(peer_index) else { return seen };
        for (id, value) in header.extensions(packet) {
            let Some(extension) = peer.extensions.meaning(id) else { continue };
            match extension {
                Extension::Mid => seen.labels.mid = label_of(value),
                Extension::Rid => seen.labels.rid = label_of(value),
                Extension::RepairedRid => seen.labels.repaired_rid = label_of(value),
                Extension::TransportCc => {
                    seen.transport_sequence = value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
                }
                // Stamped anew on each hop.
                Extension::AbsSendTime => {}
                Extension::AudioLevel
                | Extension::VideoOrientation
                | Extension::PlayoutDelay
                | Extension::AbsCaptureTime
                | Extension::DependencyDescriptor
                | Extension::ContentType
                | Extension::ColorSpace => {
                    if extension == Extension::AudioLevel {
                        seen.level = AudioLevel::parse(value);
                    }
                    if let Ok(length) = u8::try_from(value.len())
                        && seen.passthrough.remaining_capacity() >= value.len() + 2
                    {
                        seen.passthrough.push(extension as u8);
                        seen.passthrough.push(length);
                        seen.passthrough.extend(value.iter().copied());
                    }
                }
            }
        }
        seen
    }

    /// Feeds transport-wide feedback: every packet counts, whatever it carries.
    fn arrived(&mut self, now: Micros, peer_index: u32, sequence: u16) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        let Some(arrivals) = peer.arrivals.as_mut() else { return };
        if arrivals.add(sequence, now) && peer.due.twcc == Micros::NEVER {
            peer.due.twcc = now + TWCC_PERIOD;
            self.timers.sooner(peer_index, peer.due.twcc);
        }
    }

    /// A publisher's retransmission becomes the packet it repeats (RFC 4588 section 4), which is then a late one.
    #[allow(clippy::too_many_arguments, reason = "everything that is known of one packet, passed on once")]
    fn rtx(
        &mut self,
        now: Micros,
        peer_index: u32,
        stream: Stream,
        frame: FrameId,
        header: Header,
        seen: &Seen,
        pool: &mut Pool,
    ) {
        if header.payload_len() == 0 {
            self.counters.received_padding += 1;
            return;
        }
        let layer = self.tracks.get(stream.track).and_then(|t| Some((t, t.layers.get(usize::from(stream.encoding))?)));
        let original = layer.and_then(|(track, layer)| {
            let (payload, rtx) = track.payload(header.payload_type)?;
            let sequence = original_sequence(header.payload(pool.bytes(frame)))?;
            // It may belong to a source that replaces the one known here and has not been seen itself.
            let age = layer.last_timestamp.wrapping_sub(header.timestamp) as i32;
            if age.unsigned_abs() > RTX_AGE_MAX_S * track.clock_rate() {
                return None;
            }
            Some((layer.ssrc.filter(|_| rtx)?, payload.payload_type, layer.window.extend(sequence)?))
        });
        let Some((ssrc, payload_type, index)) = original else {
            self.counters.drop_rtx += 1;
            return;
        };
        let restored = restore_rtx(pool.bytes_mut(frame), &header, ssrc, payload_type);
        let Some(header) = restored.and_then(|len| {
            pool.set_len(frame, len);
            Header::parse(pool.bytes(frame)).ok()
        }) else {
            self.counters.drop_rtx += 1;
            return;
        };
        self.counters.received_rtx += 1;
        self.media(now, peer_index, stream, frame, header, index, seen, pool);
    }

    /// A packet of a layer, original or restored.
    #[allow(clippy::too_many_arguments, reason = "everything that is known of one packet, passed on once")]
    fn media(
        &mut self,
        now: Micros,
        peer_index: u32,
        stream: Stream,
        frame: FrameId,
        header: Header,
        index: u64,
        seen: &Seen,
        pool: &mut Pool,
    ) {
        self.recount_if_due(stream.track);
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        let clock_rate = track.clock_rate();
        let Some((payload, false)) = track.payload(header.payload_type) else {
            self.counters.drop_unknown_payload += 1;
            return;
        };
        let (is_video, muted) = (track.kind == Kind::Video, track.muted);
        let simulcast = track.layers.len() > 1;
        let is_within = track.allowance.take(now, usize::from(header.payload_end));
        if !track.started {
            track.started = true;
            if !track.is_relayed {
                self.events.push(Event::TrackStarted { track: track.id }, &mut self.counters);
            }
        }
        if let Some(level) = seen.level.filter(|_| !muted && !track.is_relayed) {
            track.loudness.add(level);
        }
        let Some(layer) = track.layers.get_mut(usize::from(stream.encoding)) else { return };

        let mut arrival = layer.window.accept(index);
        if arrival == Arrival::Jump {
            if stream.rtx {
                self.counters.drop_rtx += 1;
                return;
            }
            // Authentic and far off: the publisher numbers anew.
            layer.restart(pool);
            arrival = layer.window.accept(index);
        }
        let is_newest = match arrival {
            Arrival::Duplicate | Arrival::Jump => {
                self.counters.drop_duplicate += 1;
                return;
            }
            Arrival::First => true,
            Arrival::Newer { missing } => {
                if missing > 0 && payload.nack && layer.wanted_by > 0 && !muted {
                    self.miss(now, peer_index, stream, index, missing, is_video);
                }
                true
            }
            Arrival::Late => {
                let round_trip = layer.missing.close(index, now).filter(|_| stream.rtx);
                if let (Some(round_trip), Some(peer)) = (round_trip, self.peers.get_mut(peer_index)) {
                    peer.note_rtt(round_trip.as_micros() as u32);
                }
                false
            }
        };
        let Some(layer) =
            self.tracks.get_mut(stream.track).and_then(|t| t.layers.get_mut(usize::from(stream.encoding)))
        else {
            return;
        };
        layer.rate.add(now, usize::from(header.payload_end));
        if !stream.rtx {
            let first = layer.reception.next_report.is_none();
            layer.reception.add(index, header.timestamp, now, clock_rate);
            if first && let (Some(due), Some(peer)) = (layer.reception.next_report, self.peers.get_mut(peer_index)) {
                peer.due.report = peer.due.report.min(due);
                self.timers.sooner(peer_index, peer.due.report);
            }
        }

        let incoming = Incoming { index, timestamp: header.timestamp, picture_id: None, tl0: None };
        let mut meta = Meta {
            incoming,
            encoding: stream.encoding,
            generation: layer.generation,
            payload_type: header.payload_type,
            codec: payload.codec,
            marker: header.marker,
            payload_start: header.payload_start,
            payload_end: header.payload_end,
            ..Meta::default()
        };
        if header.payload_len() == 0 {
            self.counters.received_padding += 1;
            self.leave_out(now, stream.track, &meta, pool);
            return;
        }
        if !is_within {
            // A gap, and as it did arrive, none that the publisher is asked to fill.
            self.counters.drop_rate += 1;
            return;
        }
        if muted {
            self.counters.drop_muted += 1;
            return;
        }
        if codec::inspect(header.payload(pool.bytes(frame)), &mut meta).is_none() {
            self.counters.drop_malformed += 1;
            self.leave_out(now, stream.track, &meta, pool);
            return;
        }
        attach(&mut meta, frame, seen, simulcast, pool);
        self.forward(now, stream, frame, meta, is_newest, pool);
    }

    /// A packet that somebody may get, whether it came from its publisher or from a sibling.
    pub(crate) fn forward(
        &mut self,
        now: Micros,
        stream: Stream,
        frame: FrameId,
        meta: Meta,
        is_newest: bool,
        pool: &mut Pool,
    ) {
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        let has_subscribers = !track.subscribers.is_empty();
        let Some(layer) = track.layers.get_mut(usize::from(stream.encoding)) else { return };
        if is_newest {
            layer.last_timestamp = meta.incoming.timestamp;
        }
        layer.last_packet = Some(now);
        layer.count_frame(&meta);
        let woke = !std::mem::replace(&mut layer.live, true);
        self.meta[frame.index()] = meta;
        if has_subscribers {
            layer.history.insert(meta.incoming.index, frame, now, pool);
        }
        if woke {
            self.layers_changed(now, stream.track);
        }
        if meta.keyframe {
            // After receivers were pointed to the layer: this is what they would ask for.
            self.keyframe_arrived(stream);
        }
        self.relay_packet(stream, &meta, frame, pool);
        self.defer(now, stream.track, frame, pool);
    }

    /// Packets before `index` are missing: ask for them soon, or for a key frame if they are too many.
    fn miss(&mut self, now: Micros, peer_index: u32, stream: Stream, index: u64, missing: u64, is_video: bool) {
        let layer = self.tracks.get_mut(stream.track).and_then(|t| t.layers.get_mut(usize::from(stream.encoding)));
        let (Some(layer), Some(peer)) = (layer, self.peers.get_mut(peer_index)) else { return };
        match layer.missing.open(index, missing, now) {
            Some(due) => {
                peer.due.nack = peer.due.nack.min(due);
                self.timers.sooner(peer_index, peer.due.nack);
            }
            None if is_video => self.want_keyframe(now, stream.track, stream.encoding),
            None => {}
        }
    }
}

/// Puts the extensions that go on behind the packet in its frame, once for all receivers.
fn attach(meta: &mut Meta, frame: FrameId, seen: &Seen, simulcast: bool, pool: &mut Pool) {
    let end = pool.bytes(frame).len();
    (meta.packet_end, meta.passthrough_len) = (end as u16, 0);
    let mut at = end;
    let mut rest = seen.passthrough.as_slice();
    while let [extension, length, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        rest = &tail[length..];
        // Its frame numbers belong to one layer, and codecs that say the same themselves do without: it would contradict
        // the rewritten stream after a switch.
        let is_descriptor = *extension == Extension::DependencyDescriptor as u8;
        if is_descriptor && (simulcast || !matches!(meta.codec, Codec::Av1 | Codec::Vp9)) {
            continue;
        }
        let element = 2 + length;
        let Some(place) = pool.buffer_mut(frame).get_mut(at..at + element) else { break };
        place[..2].copy_from_slice(&[*extension, length as u8]);
        place[2..].copy_from_slice(&tail[..length]);
        at += element;
    }
    meta.passthrough_len = (at - end) as u16;
    pool.set_len(frame, at);
}
