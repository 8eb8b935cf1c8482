//! The receiving end of a transport: counts every packet, opens some, and says what receivers say (reports, requests for
//! packets and pictures, transport-wide feedback).

use std::time::Duration;

use rand::{Rng, rngs::SmallRng};
use sluice_wire::{
    Micros,
    rtcp::{self, Compound, MAX_REPORTS, Packet},
    rtp::{self, Header},
};

use crate::{
    feedback::Arrivals,
    measure::{Kind, Phase, Tally},
    stamp::Stamp,
    stream::{Arrival, Stream},
    transport::Keys,
};

/// Between two receiver reports. Browsers send one a second for video.
const REPORT: Duration = Duration::from_millis(1000);

/// Between two rounds of transport-wide feedback: libwebrtc's default.
const FEEDBACK: Duration = Duration::from_millis(100);

/// Between two requests for a key frame of one receiver.
const PICTURE: Duration = Duration::from_millis(1000);

/// What a receiver without transport-wide feedback says it can take (goog-remb): more than any load sends to one.
const REMB_BPS: u64 = 200_000_000;

/// Longest RTCP compound before protection.
const COMPOUND_BYTES: usize = 1200;

/// What the description says of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamInfo {
    pub kind: Kind,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    pub clock_hz: u32,
}

/// How a receiver receives.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    pub loss: f64,
    pub sampled: u16,
    pub verify: u16,
}

/// What was negotiated for the whole transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Negotiated {
    /// Id of the header extension with transport-wide numbers.
    pub transport_cc: Option<u8>,
    pub remb: bool,
}

/// A receiver learned something that is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum First {
    Audio,
    /// A whole key frame, or the first packet where pictures cannot be put together.
    Video,
}

/// Receives the streams of one transport.
pub struct Subscriber {
    rules: Rules,
    negotiated: Negotiated,
    streams: Vec<Stream>,
    /// SSRC, place in `streams`, whether it repairs.
    places: Vec<(u32, u16, bool)>,
    arrivals: Arrivals,
    sender_ssrc: u32,
    next_report: Micros,
    next_feedback: Micros,
    next_picture: Micros,
    has_audio: bool,
    has_video: bool,
    /// Streams of audio and video it should get.
    expected: (usize, usize),
    active: (usize, usize),
    asks: Vec<u16>,
    dice: SmallRng,
}

impl Subscriber {
    /// A receiver that should get so many streams of (audio, video).
    pub fn new(rules: Rules, expected: (usize, usize), now: Micros, mut dice: SmallRng) -> Subscriber {
        // Receivers that joined together do not report together.
        let phase = Duration::from_micros(dice.random_range(0..1_000_000));
        Subscriber {
            rules,
            negotiated: Negotiated::default(),
            streams: Vec::new(),
            places: Vec::new(),
            arrivals: Arrivals::default(),
            sender_ssrc: dice.random_range(1..u32::MAX),
            next_report: now + phase,
            next_feedback: now + phase / 10,
            next_picture: now + PICTURE,
            has_audio: false,
            has_video: false,
            expected,
            active: (0, 0),
            asks: Vec::new(),
            dice,
        }
    }

    /// A new description: streams that it has no more are counted and forgotten.
    pub fn describe(&mut self, infos: &[StreamInfo], negotiated: Negotiated, tally: &mut Tally) {
        self.negotiated = negotiated;
        self.streams.retain_mut(|stream| {
            let stays = infos.iter().any(|info| info.ssrc == stream.ssrc);
            if !stays {
                stream.settle_into(&mut tally.counters);
            }
            stays
        });
        for info in infos {
            if !self.streams.iter().any(|stream| stream.ssrc == info.ssrc) {
                self.streams.push(Stream::new(info.kind, info.ssrc, info.rtx_ssrc, info.clock_hz, self.rules.sampled));
            }
        }
        self.places = Vec::with_capacity(self.streams.len() * 2);
        for (place, stream) in self.streams.iter().enumerate() {
            self.places.push((stream.ssrc, place as u16, false));
            self.places.extend(stream.rtx_ssrc.map(|rtx| (rtx, place as u16, true)));
        }
    }

    /// A protected RTP packet.
    pub fn rtp(
        &mut self,
        now: Micros,
        now_ns: u64,
        packet: &mut [u8],
        keys: &mut Keys,
        phase: Phase,
        tally: &mut Tally,
    ) -> Option<First> {
        let Ok(header) = Header::parse_protected(packet) else { return None };
        if self.rules.sampled > 1 && !header.sequence.is_multiple_of(self.rules.sampled) {
            // It came in one train with a packet that was let through.
            return None;
        }
        if self.rules.loss > 0.0 && self.dice.random_bool(self.rules.loss) {
            tally.counters.dropped_packets += 1;
            return None;
        }
        if let Some(id) = self.negotiated.transport_cc
            && let Some(&[high, low]) = header.extension(packet, id)
        {
            self.arrivals.note(now, u16::from_be_bytes([high, low]));
        }
        let Some(&(_, place, is_rtx)) = self.places.iter().find(|(ssrc, ..)| *ssrc == header.ssrc) else {
            tally.counters.unknown_packets += 1;
            return None;
        };
        let stream = self.streams.get_mut(usize::from(place))?;
        tally.counters.received_packets += 1;
        tally.counters.received_bytes += packet.len() as u64;
        if is_rtx {
            return repaired(stream, now, packet, keys, tally);
        }
        let Arrival::New(index) = stream.arrive(now, header.sequence, header.timestamp) else { return None };
        let kind = stream.kind;
        if phase == Phase::Measuring && !std::mem::replace(&mut stream.is_active, true) {
            let (count, active) = match kind {
                Kind::Audio => (&mut tally.counters.audio_streams, &mut self.active.0),
                Kind::Video => (&mut tally.counters.video_streams, &mut self.active.1),
            };
            (*count, *active) = (*count + 1, *active + 1);
            tally.counters.complete_receivers += u64::from(self.active == self.expected);
        }
        let waits = kind == Kind::Video && stream.wants_all();
        if header.sequence.is_multiple_of(self.rules.verify) || waits || self.rules.sampled > 1 {
            match keys.receiver.unprotect_rtp(packet) {
                Ok(opened) => {
                    tally.counters.verified_packets += 1;
                    let plain = header.unprotected(packet.get(..opened.len)?).ok()?;
                    let payload = plain.payload(packet.get(..opened.len)?);
                    tally.counters.padding_packets += u64::from(payload.is_empty());
                    if let Some(stamp) = Stamp::read(payload) {
                        tally.latency.record(kind, now_ns.saturating_sub(stamp.sent_ns) / 1000);
                    }
                    if waits && self.rules.sampled > 1 {
                        stream.settle();
                    } else if waits {
                        stream.look(index, plain.marker, payload);
                    }
                }
                Err(sluice_srtp::DropReason::Forged) => tally.counters.forged_packets += 1,
                // A packet whose turn in the replay window has passed is counted by its sequence number.
                Err(_) => {}
            }
        }
        let is_first = match kind {
            Kind::Audio => !std::mem::replace(&mut self.has_audio, true),
            Kind::Video => !stream.wants_all() && !std::mem::replace(&mut self.has_video, true),
        };
        is_first.then_some(if kind == Kind::Audio { First::Audio } else { First::Video })
    }

    /// A protected RTCP packet.
    pub fn rtcp(&mut self, now: Micros, packet: &mut [u8], keys: &mut Keys, tally: &mut Tally) {
        let Ok(len) = keys.receiver.unprotect_rtcp(packet) else {
            tally.counters.forged_packets += 1;
            return;
        };
        for packet in rtcp::packets(packet.get(..len).unwrap_or_default()).flatten() {
            if let Packet::SenderReport(report) = packet
                && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == report.info.ssrc)
            {
                stream.on_sender_report(now, report.info.ntp);
            }
        }
    }

    /// When [`Subscriber::tick`] is due.
    pub fn wake(&self) -> Micros {
        let missing = self.streams.iter().map(Stream::wake).min().unwrap_or(Micros::NEVER);
        let feedback = if self.negotiated.transport_cc.is_some() { self.next_feedback } else { Micros::NEVER };
        self.next_report.min(feedback).min(missing)
    }

    /// Says what is due: unprotected compounds go to `send`.
    pub fn tick(&mut self, now: Micros, tally: &mut Tally, mut send: impl FnMut(&[u8])) {
        if self.next_report <= now {
            self.next_report = later(self.next_report, REPORT, now);
            self.report(now, &mut send);
        }
        if self.negotiated.transport_cc.is_some() && self.next_feedback <= now {
            self.next_feedback = later(self.next_feedback, FEEDBACK, now);
            if !self.arrivals.is_empty() {
                let media_ssrc = self.streams.first().map_or(0, |stream| stream.ssrc);
                let all = self.rules.sampled > 1;
                compose(&mut send, |compound| self.arrivals.write(self.sender_ssrc, media_ssrc, all, compound));
            }
        }
        let mut asks = std::mem::take(&mut self.asks);
        let may_ask = self.next_picture <= now;
        for stream in &mut self.streams {
            asks.clear();
            stream.asks(now, &mut asks);
            if !asks.is_empty() {
                tally.counters.nacks_sent += asks.len() as u64;
                compose(&mut send, |compound| {
                    // What does not fit is asked for at the next turn.
                    let _ = compound.nack(self.sender_ssrc, stream.ssrc, &asks);
                });
            }
            if may_ask && stream.kind == Kind::Video && stream.take_broken() {
                self.next_picture = now + PICTURE;
                tally.counters.plis_sent += 1;
                compose(&mut send, |compound| {
                    let _ = compound.picture_loss(self.sender_ssrc, stream.ssrc);
                });
            }
        }
        self.asks = asks;
    }

    fn report(&mut self, now: Micros, send: &mut impl FnMut(&[u8])) {
        let (streams, ssrc) = (&mut self.streams, self.sender_ssrc);
        let blocks: Vec<_> = streams.iter_mut().filter_map(|stream| stream.report(now)).collect();
        let videos: Vec<u32> = streams.iter().filter(|stream| stream.kind == Kind::Video).map(|s| s.ssrc).collect();
        let remb = self.negotiated.remb && self.negotiated.transport_cc.is_none() && !videos.is_empty();
        let mut chunks = blocks.chunks(MAX_REPORTS).peekable();
        // Without anything to report the report is empty, but there is one.
        let first = chunks.next().unwrap_or_default();
        compose(send, |compound| {
            let _ = compound.receiver_report(ssrc, first);
            if remb {
                let _ = compound.remb(ssrc, REMB_BPS, videos.get(..videos.len().min(32)).unwrap_or_default());
            }
        });
        for chunk in chunks {
            compose(send, |compound| {
                let _ = compound.receiver_report(ssrc, chunk);
            });
        }
    }

    /// Adds what came since this was last asked.
    pub fn settle_into(&mut self, tally: &mut Tally) {
        for stream in &mut self.streams {
            stream.settle_into(&mut tally.counters);
            if let Some(jitter_us) = stream.jitter_us() {
                tally.jitter.record(stream.kind, jitter_us);
            }
        }
    }
}

/// A retransmission: which packet it repeats is encrypted.
fn repaired(stream: &mut Stream, now: Micros, packet: &mut [u8], keys: &mut Keys, tally: &mut Tally) -> Option<First> {
    let Ok(opened) = keys.receiver.unprotect_rtp(packet) else {
        tally.counters.forged_packets += 1;
        return None;
    };
    tally.counters.verified_packets += 1;
    let plain = packet.get(..opened.len)?;
    let header = Header::parse(plain).ok()?;
    match rtp::original_sequence(header.payload(plain)) {
        Some(sequence) => drop(stream.repair(now, sequence)),
        None => tally.counters.padding_packets += 1,
    }
    None
}

/// The next time of something periodic: late once does not mean late for ever.
fn later(due: Micros, period: Duration, now: Micros) -> Micros {
    (due + period).max(now)
}

fn compose(send: &mut impl FnMut(&[u8]), write: impl FnOnce(&mut Compound<'_>)) {
    let mut bytes = [0; COMPOUND_BYTES];
    let mut compound = Compound::new(&mut bytes);
    write(&mut compound);
    let len = compound.len();
    if len > 0 {
        send(bytes.get(..len).unwrap_or_default());
    }
}
