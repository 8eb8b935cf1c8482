//! The sending end of a transport: a microphone and a camera with simulcast layers, in sealed packets.

mod line;

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use sluice_wire::{
    Micros,
    rtcp::{self, Compound, Packet, SenderInfo},
    rtp::ExtensionWriter,
};

use crate::{
    measure::{Kind, Tally},
    model::{self, Model},
    scenario::{self, LAYERS, Scenario},
    transport::Keys,
};
use line::Line;

/// Between two audio packets: Opus's usual frame.
const AUDIO_PERIOD: Duration = Duration::from_millis(20);

/// Between two sender reports.
const REPORT: Duration = Duration::from_millis(1000);

/// A source that is late by more starts over instead of catching up with a burst.
const LATE_MAX: Duration = Duration::from_millis(200);

/// Bytes of our VP8 payload descriptor (RFC 7741 section 4.2): X, I with 15 bits, L, T and K.
const DESCRIPTOR_BYTES: usize = 6;

/// Ids of header extensions that we offer.
pub const EXTENSION_LEVEL: u8 = 1;
pub const EXTENSION_TRANSPORT_CC: u8 = 3;
pub const EXTENSION_MID: u8 = 4;
pub const EXTENSION_RID: u8 = 10;

/// Payload types that we offer.
pub const OPUS: u8 = 111;
pub const VP8: u8 = 96;

/// MIDs of the sections.
pub const AUDIO_MID: &str = "0";
pub const VIDEO_MID: &str = "1";

/// SSRCs of a publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ssrcs {
    pub audio: u32,
    pub video: [u32; LAYERS.len()],
}

impl Ssrcs {
    /// Draws them; they differ from each other.
    pub fn draw(dice: &mut impl Rng) -> Ssrcs {
        let base = dice.random_range(1..u32::MAX / 2);
        Ssrcs { audio: base, video: [1, 2, 3].map(|step| base + step) }
    }
}

/// What the server accepted of our offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Accepted {
    pub audio: bool,
    pub video: bool,
    pub transport_cc: bool,
    pub level: bool,
}

/// Everything one participant publishes.
pub struct Publisher {
    number: u32,
    accepted: Accepted,
    microphone: Option<Microphone>,
    camera: Option<Camera>,
    transport_sequence: u16,
    next_report: Micros,
    /// Random bytes, so that nothing on the way can compress them; beginning and end of it are overwritten.
    payload: Vec<u8>,
}

struct Microphone {
    line: Line,
    bytes: usize,
    next: Micros,
}

struct Camera {
    layers: Vec<Layer>,
    period: Duration,
    packet_bytes: usize,
    equal: bool,
    next: Micros,
}

struct Layer {
    line: Line,
    model: Model,
    size: (u16, u16),
    picture_id: u16,
    tl0_picture_index: u8,
    /// Somebody asked for a key frame.
    key: bool,
}

impl Publisher {
    /// What the participant with this number sends from now on.
    pub fn new(scenario: &Scenario, number: u32, ssrcs: &Ssrcs, accepted: Accepted, now: Micros) -> Publisher {
        let mut dice = SmallRng::seed_from_u64(scenario.seed ^ u64::from(number) << 32);
        let mut phase = |period: Duration| now + period.mul_f64(dice.random::<f64>());
        let audio_next = phase(AUDIO_PERIOD);
        let microphone = scenario.audio.filter(|_| accepted.audio).map(|audio| Microphone {
            line: Line::new(ssrcs.audio, OPUS, 48_000, AUDIO_MID, None, now, &mut dice),
            bytes: audio.bytes,
            next: audio_next,
        });
        let camera =
            scenario.video.as_ref().filter(|_| accepted.video).map(|video| Camera::new(video, ssrcs, now, &mut dice));
        let longest = scenario.video.as_ref().map_or(0, |video| video.packet_bytes);
        let mut payload =
            vec![0; longest.max(scenario.audio.map_or(0, |audio| audio.bytes)).max(model::FRAME_BYTES_MIN)];
        dice.fill(&mut payload[..]);
        Publisher {
            number,
            accepted,
            microphone,
            camera,
            transport_sequence: 0,
            next_report: now + Duration::from_micros(dice.random_range(0..1_000_000)),
            payload,
        }
    }

    /// When [`Publisher::tick`] is due.
    pub fn wake(&self) -> Micros {
        let audio = self.microphone.as_ref().map_or(Micros::NEVER, |microphone| microphone.next);
        let video = self.camera.as_ref().map_or(Micros::NEVER, |camera| camera.next);
        audio.min(video).min(self.next_report)
    }

    /// Sends what is due. `clock_ns` is read before each packet.
    pub fn tick(
        &mut self,
        now: Micros,
        clock_ns: impl Fn() -> u64,
        keys: &mut Keys,
        tally: &mut Tally,
        mut send: impl FnMut(&[u8]) -> bool,
    ) {
        if let Some(microphone) = &mut self.microphone
            && microphone.next <= now
        {
            tally.late.record(Kind::Audio, now.since(microphone.next).as_micros() as u64);
            microphone.next = following(microphone.next, AUDIO_PERIOD, now);
            let line = &mut microphone.line;
            let timestamp = line.timestamp(now);
            let payload = self.payload.get_mut(..microphone.bytes).unwrap_or_default();
            // Opus, CELT, 20 ms, mono, one frame (RFC 6716 section 3.1).
            payload[0] = 0xF8;
            let mut extend = |writer: &mut ExtensionWriter<'_>| {
                if self.accepted.level {
                    // Voice, at -30 dBov (RFC 6464).
                    let _ = writer.push(EXTENSION_LEVEL, &[0x80 | 30]);
                }
                number(writer, self.accepted.transport_cc, &mut self.transport_sequence);
            };
            line.send(timestamp, false, self.number, payload, &clock_ns, keys, tally, &mut extend, &mut send);
        }
        if self.camera.as_ref().is_some_and(|camera| camera.next <= now) {
            self.picture(now, &clock_ns, keys, tally, &mut send);
        }
        if self.next_report <= now {
            self.next_report = following(self.next_report, REPORT, now);
            self.report(now, keys, &mut send);
        }
    }

    fn picture(
        &mut self,
        now: Micros,
        clock_ns: &impl Fn() -> u64,
        keys: &mut Keys,
        tally: &mut Tally,
        send: &mut impl FnMut(&[u8]) -> bool,
    ) {
        let Some(camera) = &mut self.camera else { return };
        tally.late.record(Kind::Video, now.since(camera.next).as_micros() as u64);
        camera.next = following(camera.next, camera.period, now);
        let room = camera.packet_bytes - DESCRIPTOR_BYTES;
        for layer in &mut camera.layers {
            let frame = layer.model.next(std::mem::take(&mut layer.key));
            let bytes = if camera.equal { frame.bytes.div_ceil(room) * room } else { frame.bytes };
            layer.picture_id = (layer.picture_id + 1) & 0x7FFF;
            layer.tl0_picture_index = layer.tl0_picture_index.wrapping_add(1);
            let timestamp = layer.line.timestamp(now);
            let mut left = model::cut(bytes, room).count();
            for (i, piece) in model::cut(bytes, room).enumerate() {
                left -= 1;
                let payload = self.payload.get_mut(..DESCRIPTOR_BYTES + piece).unwrap_or_default();
                layer.describe(payload, i == 0, frame.is_key);
                let mut extend = |writer: &mut ExtensionWriter<'_>| {
                    number(writer, self.accepted.transport_cc, &mut self.transport_sequence)
                };
                let marker = left == 0;
                layer.line.send(timestamp, marker, self.number, payload, clock_ns, keys, tally, &mut extend, send);
            }
        }
    }

    fn report(&mut self, now: Micros, keys: &mut Keys, send: &mut impl FnMut(&[u8]) -> bool) {
        let lines = self.microphone.iter().map(|microphone| &microphone.line);
        for line in lines.chain(self.camera.iter().flat_map(|camera| camera.layers.iter().map(|layer| &layer.line))) {
            let Some(info) = line.report(now) else { continue };
            transmit(keys, send, |compound| {
                let _ = compound.sender_report(&SenderInfo { ntp: ntp(), ..info }, &[]);
                let _ = compound.cname(info.ssrc, b"load");
            });
        }
    }

    /// A protected RTCP packet from the server.
    pub fn rtcp(&mut self, packet: &mut [u8], keys: &mut Keys, tally: &mut Tally, mut send: impl FnMut(&[u8]) -> bool) {
        let Ok(len) = keys.receiver.unprotect_rtcp(packet) else {
            tally.counters.forged_packets += 1;
            return;
        };
        for packet in rtcp::packets(packet.get(..len).unwrap_or_default()).flatten() {
            match packet {
                Packet::Nack(nack) => {
                    for sequence in nack.sequences() {
                        tally.counters.nacks_received += 1;
                        let packet = self.line(nack.media_ssrc).and_then(|line| line.sent(sequence));
                        if packet.is_some_and(&mut send) {
                            tally.counters.resent_packets += 1;
                        }
                    }
                }
                Packet::PictureLossIndication { media_ssrc, .. } => self.asked(media_ssrc, tally),
                Packet::FullIntraRequest(request) => request.entries().for_each(|(ssrc, _)| self.asked(ssrc, tally)),
                _ => {}
            }
        }
    }

    fn line(&self, ssrc: u32) -> Option<&Line> {
        let audio = self.microphone.iter().map(|microphone| &microphone.line);
        let video = self.camera.iter().flat_map(|camera| camera.layers.iter().map(|layer| &layer.line));
        audio.chain(video).find(|line| line.ssrc() == ssrc)
    }

    fn asked(&mut self, ssrc: u32, tally: &mut Tally) {
        tally.counters.plis_received += 1;
        let layers = self.camera.iter_mut().flat_map(|camera| camera.layers.iter_mut());
        layers.filter(|layer| layer.line.ssrc() == ssrc).for_each(|layer| layer.key = true);
    }
}

impl Camera {
    fn new(video: &scenario::Video, ssrcs: &Ssrcs, now: Micros, dice: &mut SmallRng) -> Camera {
        let count = video.rates_bps.len();
        let period = Duration::from_secs(1) / video.fps;
        let key_every = (video.keyframe.as_secs_f64() * f64::from(video.fps)).round() as u64;
        let layers = video.rates_bps.iter().zip(ssrcs.video).enumerate().map(|(i, (rate_bps, ssrc))| {
            // One layer is the best one, and has no RID.
            let (rid, width, height) = if count == 1 { LAYERS[LAYERS.len() - 1] } else { LAYERS[i] };
            Layer {
                line: Line::new(ssrc, VP8, 90_000, VIDEO_MID, (count > 1).then_some(rid), now, dice),
                model: Model::new(*rate_bps, video.fps, key_every, SmallRng::seed_from_u64(dice.random())),
                size: (width, height),
                picture_id: dice.random_range(0..0x7FFF),
                tl0_picture_index: dice.random(),
                key: false,
            }
        });
        let layers = layers.collect();
        let next = now + period.mul_f64(dice.random::<f64>());
        Camera { layers, period, packet_bytes: video.packet_bytes, equal: video.equal, next }
    }
}

impl Layer {
    /// Writes the payload descriptor and, at the beginning of a frame, the payload header (RFC 7741 section 4.3; RFC 6386
    /// section 9.1).
    fn describe(&self, payload: &mut [u8], begins: bool, is_key: bool) {
        let [id_high, id_low] = self.picture_id.to_be_bytes();
        // Temporal layer 0, and key index 0.
        let descriptor = [0x80 | u8::from(begins) << 4, 0xF0, 0x80 | id_high, id_low, self.tl0_picture_index, 0];
        payload[..DESCRIPTOR_BYTES].copy_from_slice(&descriptor);
        if begins {
            payload[DESCRIPTOR_BYTES..DESCRIPTOR_BYTES + 3].copy_from_slice(&[0x10 | u8::from(!is_key), 0, 0]);
            if is_key {
                let ([w0, w1], [h0, h1]) = (self.size.0.to_le_bytes(), self.size.1.to_le_bytes());
                payload[DESCRIPTOR_BYTES + 3..DESCRIPTOR_BYTES + 10]
                    .copy_from_slice(&[0x9D, 0x01, 0x2A, w0, w1, h0, h1]);
            }
        }
    }
}

/// Appends the transport-wide number.
fn number(writer: &mut ExtensionWriter<'_>, transport_cc: bool, sequence: &mut u16) {
    if transport_cc {
        let _ = writer.push(EXTENSION_TRANSPORT_CC, &sequence.to_be_bytes());
        *sequence = sequence.wrapping_add(1);
    }
}

/// The next time of something periodic, on its grid unless that is far behind.
fn following(due: Micros, period: Duration, now: Micros) -> Micros {
    if now.since(due) > LATE_MAX { now + period } else { due + period }
}

/// Wall-clock time in NTP's form.
fn ntp() -> u64 {
    /// Seconds from 1900 to 1970.
    const EPOCH_S: u64 = 2_208_988_800;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    (now.as_secs() + EPOCH_S) << 32 | fraction
}

/// Protects and sends a compound.
pub fn transmit(keys: &mut Keys, send: &mut impl FnMut(&[u8]) -> bool, write: impl FnOnce(&mut Compound<'_>)) {
    let mut bytes = [0; 1300];
    let mut compound = Compound::new(&mut bytes[..1200]);
    write(&mut compound);
    let len = compound.len();
    if let Ok(len) = keys.sender.protect_rtcp(&mut bytes, len) {
        send(&bytes[..len]);
    }
}
