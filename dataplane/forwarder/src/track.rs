//! One row per published track, with its simulcast layers.

use arrayvec::{ArrayString, ArrayVec};
use sluice_messages::{Codec, Encoding, Kind, Payload, Track as Entry, TrackId};
use sluice_wire::Micros;

use crate::{
    estimate::Meter,
    feedback::{keyframe::Keyframe, nack::Missing, report::Reception},
    history::History,
    intake::Allowance,
    limits::{Config, PAYLOADS_MAX},
    peer::{Label, label},
    relay::Home,
    speakers::Loudness,
};

/// Layers of a track.
pub(crate) const LAYERS_MAX: usize = Entry::MAX_ENCODINGS;

/// One published track.
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) call_index: u32,
    /// [`NOBODY`](crate::relay::NOBODY) if that is at a sibling.
    pub(crate) publisher: u32,
    /// Where it is published, if not here.
    pub(crate) home: Option<Box<Home>>,
    /// It is published at another node and comes by a relay; what it is there for control is told there.
    pub(crate) is_relayed: bool,
    /// CNAME of its publisher, as the other node said, if it is relayed.
    pub(crate) cname: ArrayString<64>,
    pub(crate) kind: Kind,
    pub(crate) mid: Label,
    pub(crate) payloads: ArrayVec<Payload, PAYLOADS_MAX>,
    pub(crate) layers: ArrayVec<Layer, LAYERS_MAX>,
    pub(crate) muted: bool,
    pub(crate) allowance: Allowance,
    pub(crate) started: bool,
    pub(crate) subscribers: Vec<u32>,
    /// `wanted_by` of the layers is to be counted again before it is next used.
    pub(crate) is_recount_due: bool,
    pub(crate) loudness: Loudness,
    /// Bits of layers last reported live.
    pub(crate) reported_live: u8,
}

/// One incoming stream.
pub(crate) struct Layer {
    pub(crate) rid: Option<Label>,
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx_ssrc: Option<u32>,
    /// Raised whenever numbering starts anew (another SSRC, other keys, a jump): receivers continue as after a switch.
    pub(crate) generation: u32,
    pub(crate) window: Window,
    pub(crate) history: History,
    pub(crate) live: bool,
    pub(crate) last_packet: Option<Micros>,
    pub(crate) last_timestamp: u32,
    pub(crate) missing: Missing,
    pub(crate) reception: Reception,
    pub(crate) keyframe: Keyframe,
    pub(crate) rate: Meter,
    /// Receivers and siblings that get this layer or wait for it; maintained by `layers.rs`.
    pub(crate) wanted_by: u32,
    /// Bits of the siblings that do, and of those that said so since this was last looked at; maintained by `relay.rs`.
    pub(crate) siblings: u64,
    pub(crate) renewed: u64,
    /// What the other node of a relayed track was told: whether it is wanted; and how often that is still to be said.
    pub(crate) told: bool,
    pub(crate) says: u8,
    /// The other node has said of it since whether it lives, so it knows of the wish.
    pub(crate) is_heard: bool,
    /// Frames per temporal layer in the current second and in the last one.
    pub(crate) frames: [u32; 4],
    pub(crate) fps: [u32; 4],
    /// SSRCs as the last entry named them; those in use may have been learned since.
    pub(crate) declared: (Option<u32>, Option<u32>),
}

impl Track {
    pub(crate) fn new(entry: &Entry, call_index: u32, publisher: u32, config: &Config) -> Track {
        let mut track = Track {
            id: entry.id,
            call_index,
            publisher,
            home: None,
            is_relayed: false,
            cname: ArrayString::new(),
            kind: entry.kind,
            mid: label(&entry.mid),
            payloads: ArrayVec::new(),
            layers: ArrayVec::new(),
            muted: entry.muted,
            allowance: Allowance::new(entry),
            started: false,
            subscribers: Vec::new(),
            is_recount_due: false,
            loudness: Loudness::default(),
            reported_live: 0,
        };
        let packets = config.history_packets(entry.kind);
        let encodings = entry.encodings.iter().take(LAYERS_MAX);
        track.layers.extend(encodings.map(|encoding| Layer::new(encoding, packets)));
        if track.layers.is_empty() {
            track.layers.push(Layer::new(&Encoding { rid: None, ssrc: None, rtx_ssrc: None }, packets));
        }
        track.payloads.extend(entry.payloads.iter().copied().take(PAYLOADS_MAX));
        track
    }

    /// The payload whose own or RTX type this is; true for RTX.
    pub(crate) fn payload(&self, payload_type: u8) -> Option<(Payload, bool)> {
        self.payloads.iter().find_map(|p| {
            if p.payload_type == payload_type {
                Some((*p, false))
            } else {
                (p.rtx == Some(payload_type)).then_some((*p, true))
            }
        })
    }

    /// Clock of all its codecs.
    pub(crate) fn clock_rate(&self) -> u32 {
        match self.kind {
            Kind::Audio => Codec::Opus.clock_rate(),
            Kind::Video => Codec::Vp8.clock_rate(),
        }
    }

    /// Bits of the layers that have packets now.
    pub(crate) fn live(&self) -> u8 {
        self.layers.iter().enumerate().fold(0, |bits, (n, layer)| bits | (u8::from(layer.live) << n))
    }
}

impl Layer {
    /// A layer whose SSRCs are bound later.
    pub(crate) fn new(encoding: &Encoding, packets: usize) -> Layer {
        Layer {
            rid: encoding.rid.as_deref().map(label),
            ssrc: None,
            rtx_ssrc: None,
            generation: 0,
            window: Window::default(),
            history: History::new(packets),
            live: false,
            last_packet: None,
            last_timestamp: 0,
            missing: Missing::default(),
            reception: Reception::default(),
            keyframe: Keyframe::default(),
            rate: Meter::default(),
            wanted_by: 0,
            siblings: 0,
            renewed: 0,
            told: false,
            says: 0,
            is_heard: false,
            frames: [0; 4],
            fps: [0; 4],
            declared: (None, None),
        }
    }

    /// Numbering starts anew. Frames that are kept belong to the old numbers and go.
    pub(crate) fn restart(&mut self, pool: &mut sluice_frames::Pool) {
        self.generation += 1;
        self.window = Window::default();
        self.history.clear(pool);
        self.missing = Missing::default();
        self.reception = Reception::default();
    }
}

/// Bits of [`Window`]. At 1,000 packets a second they are a second, longer than any retransmission is worth waiting for.
const WINDOW: u64 = 1024;

/// A jump forward by more than this is a new numbering, not loss: nobody could ask for so much again.
const JUMP_MAX: u64 = 3000;

/// Which indices arrived.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    highest: Option<u64>,
    bits: [u64; WINDOW as usize / 64],
}

impl Default for Window {
    fn default() -> Self {
        Window { highest: None, bits: [0; WINDOW as usize / 64] }
    }
}

/// What [`Window::accept`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// The first packet of this numbering.
    First,
    /// Newer than all before, after `missing` that have not come.
    Newer { missing: u64 },
    /// Fills a gap.
    Late,
    /// Seen, or too old to know.
    Duplicate,
    /// Too far ahead: start over.
    Jump,
}

impl Window {
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The extended index of a 16-bit sequence number, nearest to the highest.
    pub(crate) fn extend(&self, sequence: u16) -> Option<u64> {
        let highest = self.highest?;
        highest.checked_add_signed(i64::from(sequence.wrapping_sub(highest as u16) as i16))
    }

    pub(crate) fn accept(&mut self, index: u64) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(index);
            self.set(index);
            return Arrival::First;
        };
        if index > highest {
            if index - highest > JUMP_MAX {
                return Arrival::Jump;
            }
            if index - highest >= WINDOW {
                self.bits = [0; WINDOW as usize / 64];
            } else {
                (highest + 1..=index).for_each(|i| self.bits[i as usize / 64 % self.bits.len()] &= !(1 << (i % 64)));
            }
            self.highest = Some(index);
            self.set(index);
            return Arrival::Newer { missing: index - highest - 1 };
        }
        if highest - index > JUMP_MAX {
            return Arrival::Jump;
        }
        if highest - index >= WINDOW || self.bits[index as usize / 64 % self.bits.len()] & (1 << (index % 64)) != 0 {
            return Arrival::Duplicate;
        }
        self.set(index);
        Arrival::Late
    }

    fn set(&mut self, index: u64) {
        self.bits[index as usize / 64 % self.bits.len()] |= 1 << (index % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_is_accepted_once() {
        let mut window = Window::default();
        assert_eq!(window.accept(65_530), Arrival::First);
        assert_eq!(window.accept(65_534), Arrival::Newer { missing: 3 });
        assert_eq!(window.accept(65_531), Arrival::Late);
        assert_eq!(window.accept(65_531), Arrival::Duplicate);
        assert_eq!(window.extend(2), Some(65_538));
        assert_eq!(window.accept(65_538), Arrival::Newer { missing: 3 });
        assert_eq!(window.accept(65_530), Arrival::Duplicate);
        assert_eq!(window.accept(67_000), Arrival::Newer { missing: 1461 });
        assert_eq!(window.accept(65_600), Arrival::Duplicate, "older than the window");
        assert_eq!(window.accept(66_999), Arrival::Late);
        assert_eq!(window.accept(80_000), Arrival::Jump);
    }
}
