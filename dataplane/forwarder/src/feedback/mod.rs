//! RTCP, both ways: [`incoming`] is what clients say, this file writes what we say, and each kind of feedback keeps its own
//! state in its own file.

pub(crate) mod incoming;
pub(crate) mod keyframe;
pub(crate) mod nack;
pub(crate) mod report;
pub(crate) mod twcc;

use std::time::Duration;

use arrayvec::ArrayVec;
use sluice_messages::Kind;
use sluice_wire::{
    Micros,
    rtcp::{Compound, MAX_REPORTS},
};

use crate::{
    Forwarder,
    limits::{REPORT_PERIOD, RTCP_BYTES_MAX},
    peer::Peer,
};

/// Reports that would be due within this leave together with the one that is.
const REPORT_GATHER: Duration = Duration::from_millis(100);
/// Room for the SR and the CNAME of one stream.
const SENDER_REPORT_BYTES: usize = 28 + 12 + 68;
/// A stream whose publisher's clock is not known yet is looked at again after this.
const REPORT_AGAIN: Duration = Duration::from_millis(100);

impl Forwarder {
    /// Something of a peer is due: it is written when the peer is flushed.
    pub(crate) fn fire(&mut self, peer_index: u32) {
        if let Some(peer) = self.peers.get_mut(peer_index) {
            peer.egress.rtcp = true;
            self.pace.urge(peer_index, &mut peer.egress);
        }
    }

    /// Sets a peer's timer to the earliest of what is due.
    pub(crate) fn arm(&mut self, peer_index: u32) {
        let due = self.peers.get(peer_index).map_or(Micros::NEVER, |peer| peer.due.earliest());
        self.timers.set(peer_index, due);
    }

    /// Writes one compound of what is due for a peer and returns its length before protection, 0 if nothing is due.
    pub(crate) fn write_rtcp(&mut self, now: Micros, peer_index: u32, out: &mut [u8]) -> usize {
        let room = out.len().min(RTCP_BYTES_MAX);
        let mut compound = Compound::new(&mut out[..room]);
        self.write_receiver_report(now, peer_index, &mut compound);
        let head = compound.len();
        self.write_twcc(now, peer_index, &mut compound);
        self.write_nacks(now, peer_index, &mut compound);
        // Before the requests for key frames of layers that are news.
        self.write_news(now, peer_index, &mut compound);
        self.write_plis(now, peer_index, &mut compound);
        let reports = self.write_sender_reports(now, peer_index, &mut compound);
        self.schedule_reports(now, peer_index);
        // An empty receiver report alone says nothing.
        if compound.len() == head && head <= 8 && !reports { 0 } else { compound.len() }
    }

    /// RR of all incoming streams that are due. Always written, as a compound begins with a report (RFC 3550 section 6.1).
    fn write_receiver_report(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        let mut blocks = ArrayVec::<_, MAX_REPORTS>::new();
        if peer.due.report <= now {
            for &track_index in &peer.tracks {
                let Some(track) = self.tracks.get_mut(track_index) else { continue };
                let clock_rate = track.clock_rate();
                for layer in &mut track.layers {
                    let due = layer.reception.next_report.is_some_and(|due| due <= now + REPORT_GATHER);
                    let Some(ssrc) = layer.ssrc.filter(|_| due && !blocks.is_full()) else { continue };
                    if let Some((block, interval)) = layer.reception.report(ssrc, now) {
                        blocks.push(block);
                        peer.period.expected_up += interval.expected;
                        peer.period.lost_up += interval.lost;
                        let jitter_us = u64::from(layer.reception.jitter()) * 1_000_000 / u64::from(clock_rate);
                        peer.period.jitter_us = peer.period.jitter_us.max(jitter_us as u32);
                    }
                }
            }
        }
        // 31 blocks always fit an empty compound.
        let _ = compound.receiver_report(peer.ssrc, &blocks);
    }

    fn write_twcc(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) {
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        if peer.due.twcc > now {
            return;
        }
        // The media SSRC of transport-wide feedback names any stream of the transport; clients look at none.
        let media = self.media_ssrc(peer_index).unwrap_or(0);
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        let more = peer.arrivals.as_mut().is_some_and(|arrivals| arrivals.write(compound, peer.ssrc, media));
        peer.due.twcc = if more { now } else { Micros::NEVER };
    }

    fn media_ssrc(&self, peer_index: u32) -> Option<u32> {
        let tracks = &self.peers.get(peer_index)?.tracks;
        tracks.iter().filter_map(|&t| self.tracks.get(t)).flat_map(|t| &t.layers).find_map(|layer| layer.ssrc)
    }

    fn write_nacks(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) {
        let Some(peer) = self.peers.get_mut(peer_index).filter(|peer| peer.due.nack <= now) else { return };
        let mut next = Micros::NEVER;
        let mut gave_up = ArrayVec::<(u32, u8), 16>::new();
        for &track_index in &peer.tracks {
            let Some(track) = self.tracks.get_mut(track_index) else { continue };
            for (encoding, layer) in track.layers.iter_mut().enumerate() {
                let Some(due) = layer.missing.due() else { continue };
                let Some(ssrc) = layer.ssrc.filter(|_| due <= now) else {
                    next = next.min(due);
                    continue;
                };
                if compound.room() < 12 + 4 * nack::MISSING_MAX {
                    next = now;
                    continue;
                }
                let mut sequences = ArrayVec::<u16, { nack::MISSING_MAX }>::new();
                let asked = layer.missing.ask(now, peer.rtt_us, |sequence| sequences.try_push(sequence).is_ok());
                // There is room for one pair per sequence number, as asked for above.
                self.counters.sent_nacks += compound.nack(peer.ssrc, ssrc, &sequences).unwrap_or(0) as u64;
                next = next.min(asked.next.unwrap_or(Micros::NEVER));
                if asked.gave_up && track.kind == Kind::Video && layer.wanted_by > 0 {
                    let _ = gave_up.try_push((track_index, encoding as u8));
                }
            }
        }
        peer.due.nack = next;
        for (track_index, encoding) in gave_up {
            self.want_keyframe(now, track_index, encoding);
        }
    }

    fn write_plis(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) {
        let Some(peer) = self.peers.get_mut(peer_index).filter(|peer| peer.due.keyframe <= now) else { return };
        let mut next = Micros::NEVER;
        for &track_index in &peer.tracks {
            let Some(track) = self.tracks.get_mut(track_index) else { continue };
            for layer in &mut track.layers {
                if let Some(ssrc) = layer.ssrc
                    && layer.keyframe.due() <= now
                {
                    if compound.picture_loss(peer.ssrc, ssrc).is_none() {
                        next = now;
                        break;
                    }
                    layer.keyframe.ask(now);
                    self.counters.sent_plis += 1;
                }
                // A layer without SSRC has not spoken yet and begins with a key frame anyway.
                if layer.ssrc.is_some() {
                    next = next.min(layer.keyframe.due());
                }
            }
        }
        peer.due.keyframe = next;
    }

    /// SR and CNAME of all outgoing streams that are due. True if any was written.
    fn write_sender_reports(&mut self, now: Micros, peer_index: u32, compound: &mut Compound<'_>) -> bool {
        let Some(peer) = self.peers.get(peer_index).filter(|peer| peer.due.report <= now) else { return false };
        let count = peer.subscriptions.len();
        let mut written = false;
        for n in 0..count {
            let Some(&index) = self.peers.get(peer_index).and_then(|peer| peer.subscriptions.get(n)) else { break };
            if self.subscriptions.get(index).is_none_or(|s| s.next_report > now + REPORT_GATHER) {
                continue;
            }
            if compound.room() < SENDER_REPORT_BYTES {
                break;
            }
            let info = self.sender_info(now, index);
            let Some(subscription) = self.subscriptions.get_mut(index) else { continue };
            let Some(info) = info else {
                let again =
                    if subscription.current.is_some() { now + REPORT_GATHER + REPORT_AGAIN } else { Micros::NEVER };
                subscription.next_report = again;
                continue;
            };
            subscription.next_report = now + REPORT_PERIOD;
            let track = subscription.track;
            let _ = compound.sender_report(&info, &[]);
            let cname = self.tracks.get(track).map_or(&[][..], |track| self.cname(track));
            let _ = compound.cname(info.ssrc, cname);
            written = true;
        }
        written
    }

    fn schedule_reports(&mut self, now: Micros, peer_index: u32) {
        let Some(peer) = self.peers.get(peer_index).filter(|peer| peer.due.report <= now) else { return };
        let Peer { tracks, subscriptions, .. } = peer;
        let incoming = tracks.iter().filter_map(|&t| self.tracks.get(t)).flat_map(|track| &track.layers);
        let incoming = incoming.filter(|l| l.ssrc.is_some()).filter_map(|layer| layer.reception.next_report);
        let outgoing = subscriptions.iter().filter_map(|&s| self.subscriptions.get(s)).map(|s| s.next_report);
        let next = incoming.chain(outgoing).min().unwrap_or(Micros::NEVER);
        if let Some(peer) = self.peers.get_mut(peer_index) {
            peer.due.report = next;
        }
    }
}
