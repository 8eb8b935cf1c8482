//! What clients say in RTCP.

use arrayvec::ArrayVec;
use sluice_frames::{FrameId, Pool};
use sluice_messages::Kind;
use sluice_wire::{
    Micros,
    rtcp::{Packet, ReportBlock, SenderInfo, TransportFeedback, packets},
};

use super::report::SenderClock;
use crate::{
    Forwarder,
    egress::Lane,
    estimate::Estimator,
    limits::{NACKED_MAX, RESEND_PERIOD, RESENDS_MAX},
    nodes::News,
    queue::Queued,
    stream::Stream,
    subscription::Source,
};

/// Sequence numbers taken from one RTCP datagram. More are a storm; the rest is asked for again if it matters.
const NACKS_MAX: usize = 256;
/// Answers to requests for the same packet.
const RESENDS_EACH_MAX: u8 = 10;
/// The same packet is not sent again within this while the round trip is not known.
const RESEND_SPACING_MS: u32 = 10;

impl Forwarder {
    /// Takes in a decrypted compound.
    pub(crate) fn rtcp(&mut self, now: Micros, peer_index: u32, frame: FrameId, pool: &mut Pool) {
        let mut nacked = ArrayVec::<(u32, u16), NACKS_MAX>::new();
        let mut news = News::new();
        for packet in packets(pool.bytes(frame)) {
            match packet {
                Ok(Packet::SenderReport(report)) => {
                    self.sender_report(now, peer_index, &report.info);
                    report.reports().for_each(|block| self.receiver_report(now, peer_index, &block));
                }
                Ok(Packet::ReceiverReport(report)) => {
                    report.reports().for_each(|block| self.receiver_report(now, peer_index, &block));
                }
                Ok(Packet::Nack(nack)) => {
                    for sequence in nack.sequences() {
                        self.counters.nacked += 1;
                        if nacked.try_push((nack.media_ssrc, sequence)).is_err() {
                            self.counters.nack_limited += 1;
                        }
                    }
                }
                Ok(Packet::PictureLossIndication { media_ssrc, .. }) => {
                    self.keyframe_request(now, peer_index, media_ssrc);
                }
                Ok(Packet::FullIntraRequest(request)) => {
                    request.entries().for_each(|(ssrc, _)| self.keyframe_request(now, peer_index, ssrc));
                }
                Ok(Packet::Remb(remb)) => {
                    if let Some(peer) = self.peers.get_mut(peer_index) {
                        peer.estimator.on_remb(now, remb.bitrate_bps);
                    }
                }
                Ok(Packet::TransportFeedback(feedback)) => self.transport_feedback(now, peer_index, &feedback),
                Ok(Packet::Application(application)) => self.collect_news(peer_index, &application, &mut news),
                Ok(Packet::SourceDescription(description)) => self.cnames_heard(peer_index, &description),
                Ok(Packet::Goodbye(_) | Packet::Unknown { .. }) => {}
                Err(_) => self.counters.drop_rtcp_malformed += 1,
            }
        }
        self.news_heard(now, peer_index, &news, pool);
        for (ssrc, sequence) in nacked {
            if !self.may_ask(now, peer_index) {
                self.counters.nack_limited += 1;
                continue;
            }
            self.resend(now, peer_index, ssrc, sequence, pool);
        }
    }

    /// A publisher's clock: it goes on in our reports, and anchors timestamps across switches.
    fn sender_report(&mut self, now: Micros, peer_index: u32, info: &SenderInfo) {
        let ntp_now = self.ntp(now);
        let Some(stream) = self.stream(peer_index, info.ssrc).filter(|stream| !stream.rtx) else { return };
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        let Some(layer) = track.layers.get_mut(usize::from(stream.encoding)) else { return };
        let clock = SenderClock { ntp: info.ntp, rtp_timestamp: info.rtp_timestamp, arrival: now };
        layer.reception.clock = Some(clock);
        let source = Source { encoding: stream.encoding, generation: layer.generation };
        if let Some(peer) = self.peers.get_mut(peer_index) {
            let delta = ntp_now.wrapping_sub(info.ntp);
            let least = peer.ntp_delta.is_none_or(|old| {
                let change = delta.wrapping_sub(old) as i64;
                // A publisher whose clock was set (by more than 2 s) starts over.
                !(0..=2 << 32).contains(&change)
            });
            if least {
                peer.ntp_delta = Some(delta);
            }
        }
        self.anchor(stream.track, source, clock);
        self.relay_clock(stream);
    }

    /// Ties the outgoing timestamps of those who get a source to its publisher's clock.
    pub(crate) fn anchor(&mut self, track_index: u32, source: Source, clock: SenderClock) {
        let Some(track) = self.tracks.get(track_index) else { return };
        for &index in &track.subscribers {
            let Some(subscription) = self.subscriptions.get_mut(index).filter(|s| s.current == Some(source)) else {
                continue;
            };
            let rewriter = &subscription.rewriter;
            let timestamp = clock.rtp_timestamp.wrapping_add(rewriter.timestamp_offset());
            subscription.anchor = Some((clock.ntp, timestamp.wrapping_sub(rewriter.skew())));
        }
    }

    /// How one of our streams does at a receiver.
    fn receiver_report(&mut self, now: Micros, peer_index: u32, block: &ReportBlock) {
        let ntp_now = self.ntp(now);
        if self.outgoing(peer_index, block.ssrc).is_none() {
            return;
        }
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        let fraction = f32::from(block.fraction_lost) / 256.0;
        peer.period.loss_down_sum += fraction;
        peer.period.loss_down_reports += 1;
        peer.estimator.on_loss(now, fraction);
        if block.last_sr != 0 {
            // RFC 3550 section 6.4.1, in 1/65536 s.
            let rtt = ((ntp_now >> 16) as u32).wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
            if rtt < 10 << 16 {
                let fresh = (u64::from(rtt) * 1_000_000 / 65_536) as u32;
                peer.note_rtt(fresh.max(1));
            }
        }
    }

    fn transport_feedback(&mut self, now: Micros, peer_index: u32, feedback: &TransportFeedback<'_>) {
        let (mut received, mut lost) = (0, 0);
        for arrival in feedback.arrivals() {
            if arrival.at_us.is_some() { received += 1 } else { lost += 1 }
        }
        if let Some(peer) = self.peers.get_mut(peer_index) {
            peer.estimator.on_transport_feedback(now, received, lost);
        }
    }

    fn keyframe_request(&mut self, now: Micros, peer_index: u32, ssrc: u32) {
        let Some(subscription) = self.outgoing(peer_index, ssrc).and_then(|index| self.subscriptions.get(index)) else {
            return;
        };
        self.counters.keyframe_requests += 1;
        let track = subscription.track;
        let pinned = subscription.pin.map(|pin| pin.encoding);
        let encoding = pinned.or(subscription.current.map(|source| source.encoding)).or(subscription.target);
        let is_video = self.tracks.get(track).is_some_and(|track| track.kind == Kind::Video);
        if let Some(encoding) = encoding.filter(|_| is_video) {
            self.want_keyframe(now, track, encoding);
        }
    }

    /// Whether one more sequence number of a receiver may be looked up in this window.
    fn may_ask(&mut self, now: Micros, peer_index: u32) -> bool {
        let Some(peer) = self.peers.get_mut(peer_index) else { return false };
        if now.since(peer.resends_since) >= RESEND_PERIOD {
            (peer.nacked, peer.resends, peer.resends_since) = (0, 0, now);
        }
        peer.nacked += 1;
        peer.nacked <= NACKED_MAX * peer.factor()
    }

    /// A receiver misses a packet: it is queued again if it is still kept and was not asked for too often.
    fn resend(&mut self, now: Micros, peer_index: u32, ssrc: u32, sequence: u16, pool: &mut Pool) {
        let Some(index) = self.outgoing(peer_index, ssrc) else {
            self.counters.nack_unknown += 1;
            return;
        };
        let (Some(subscription), Some(peer)) = (self.subscriptions.get_mut(index), self.peers.get_mut(peer_index))
        else {
            return;
        };
        let newest = subscription.rewriter.next_index().wrapping_sub(1);
        let distance = newest.wrapping_sub(u64::from(sequence)) as u16;
        let out_index = newest.wrapping_sub(u64::from(distance));
        let now_ms = (now.0 / 1000) as u16;
        let spacing_ms = (peer.rtt_us / 1000 / 2).max(RESEND_SPACING_MS);
        let Some(sent) = subscription.sent.get_mut(out_index).filter(|_| subscription.ssrc == ssrc) else {
            self.counters.nack_unknown += 1;
            return;
        };
        let too_often = sent.resends >= RESENDS_EACH_MAX
            || (sent.resends > 0 && u32::from(now_ms.wrapping_sub(sent.resent_ms)) < spacing_ms)
            || peer.resends >= RESENDS_MAX * peer.factor()
            || !sent.has_left();
        if too_often {
            self.counters.nack_limited += 1;
            return;
        }
        let layer = self.tracks.get(subscription.track).and_then(|t| t.layers.get(usize::from(sent.encoding())));
        let layer = layer.filter(|layer| sent.is_of(layer.generation));
        let Some(frame) = layer.and_then(|layer| layer.history.frame_by_low(sent.source_index())) else {
            self.counters.nack_unknown += 1;
            return;
        };
        sent.resends += 1;
        sent.resent_ms = now_ms;
        peer.resends += 1;
        let queued = Queued { frame, subscription: index, out: sent.out(out_index) };
        if peer.egress.push(Lane::Resend, queued, self.config.egress_queue_max, &mut self.queues, pool) {
            self.pace.urge(peer_index, &mut peer.egress);
        } else {
            self.counters.drop_queue_full += 1;
        }
    }

    /// The incoming stream with this SSRC.
    pub(crate) fn stream(&self, peer_index: u32, ssrc: u32) -> Option<Stream> {
        self.streams.get(key(peer_index, ssrc)).map(Stream::unpack)
    }

    /// The subscription that sends with this SSRC (its own or that of its RTX).
    pub(crate) fn outgoing(&self, peer_index: u32, ssrc: u32) -> Option<u32> {
        self.outgoing.get(key(peer_index, ssrc))
    }
}

/// Key of a per-transport SSRC.
pub(crate) fn key(peer_index: u32, ssrc: u32) -> u64 {
    u64::from(peer_index) << 32 | u64::from(ssrc)
}
