//! One row per subscription: an outgoing stream and how it is made from what comes in.

use arrayvec::ArrayVec;
use sluice_messages::{PayloadMap, Subscription as Entry, Wish};
use sluice_wire::Micros;

use crate::{
    history::SentRing,
    limits::PAYLOADS_MAX,
    peer::{Label, label},
    rewrite::Rewriter,
};

/// One receiver's copy of one track.
pub(crate) struct Subscription {
    pub(crate) receiver: u32,
    pub(crate) track: u32,
    /// On a relay: it is one layer of the track and nothing else.
    pub(crate) pin: Option<Pin>,
    pub(crate) mid: Label,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: Option<u32>,
    pub(crate) payloads: ArrayVec<PayloadMap, PAYLOADS_MAX>,
    pub(crate) wish: Wish,
    /// Highest encoding that the receiver's rate allows.
    pub(crate) cap: u8,
    pub(crate) rewriter: Rewriter,
    pub(crate) sent: SentRing,
    /// Next index of the RTX stream.
    pub(crate) rtx_next: u64,
    /// What it would be, were the worker not too busy for that.
    pub(crate) shed: Option<u8>,
    /// What is forwarded now.
    pub(crate) current: Option<Source>,
    /// What it should become; reached at a key frame.
    pub(crate) target: Option<u8>,
    /// What was forwarded last, for timestamps that go on after a pause.
    pub(crate) last_source: Option<Source>,
    pub(crate) temporal: Temporal,
    /// When the newest packet was queued.
    pub(crate) last_sent: Micros,
    /// The publisher's NTP time of an outgoing timestamp, without skew.
    pub(crate) anchor: Option<(u64, u32)>,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    pub(crate) next_report: Micros,
    /// What the last `Forwarding` event said.
    pub(crate) reported: Option<Option<u8>>,
    /// When it was first forwarded.
    pub(crate) started: Micros,
    /// Result of an allocation under way.
    pub(crate) fresh_cap: u8,
}

/// The layer of a subscription on a relay. The other node says whether it is enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pin {
    pub(crate) encoding: u8,
    /// Seconds for which the other node's last wish holds.
    pub(crate) lease_s: u8,
    /// How often it is still to be said whether the layer is live.
    pub(crate) says: u8,
}

/// A layer in one numbering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(crate) encoding: u8,
    pub(crate) generation: u32,
}

/// Temporal layers of VP8: what passes now and what is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Temporal {
    pub(crate) current: u8,
    pub(crate) target: u8,
}

impl Temporal {
    /// Nothing is dropped.
    pub(crate) const ALL: Temporal = Temporal { current: u8::MAX, target: u8::MAX };
}

impl Subscription {
    pub(crate) fn new(entry: &Entry, receiver: u32, track: u32, random: u64) -> Subscription {
        let mut subscription = Subscription {
            receiver,
            track,
            pin: None,
            mid: label(&entry.mid),
            ssrc: entry.ssrc,
            rtx_ssrc: entry.rtx_ssrc,
            payloads: ArrayVec::new(),
            wish: entry.wish,
            cap: u8::MAX,
            rewriter: Rewriter::new(random),
            sent: SentRing::default(),
            rtx_next: random >> 17 & 0x7fff,
            current: None,
            target: None,
            shed: None,
            last_source: None,
            temporal: Temporal::ALL,
            last_sent: Micros(0),
            anchor: None,
            packets: 0,
            octets: 0,
            next_report: Micros::NEVER,
            reported: None,
            started: Micros(0),
            fresh_cap: 0,
        };
        subscription.payloads.extend(entry.payloads.iter().copied().take(PAYLOADS_MAX));
        subscription
    }

    /// How a payload type of the publisher appears here.
    pub(crate) fn payload(&self, from: u8) -> Option<PayloadMap> {
        self.payloads.iter().copied().find(|map| map.from == from)
    }
}
