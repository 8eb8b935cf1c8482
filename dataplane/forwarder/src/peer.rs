//! One row per transport: where it is, its keys, what waits for it.

use arrayvec::{ArrayString, ArrayVec};
use sluice_frames::Route;
use sluice_messages::{Extension, ExtensionMap, Relay, Transport, TransportId};
use sluice_srtp::{KeyMaterial, Receiver, Sender};
use sluice_wire::Micros;

use crate::{
    egress::Egress,
    estimate::{LossCap, Meter},
    feedback::twcc::Arrivals,
    intake::Intake,
    limits::{LABEL_BYTES_MAX, RELAY_FACTOR, TRACKS_PER_PEER_MAX},
};

/// A MID or RID.
pub(crate) type Label = ArrayString<LABEL_BYTES_MAX>;

/// Copies a label; one that is too long for a header extension can never be matched and becomes empty.
pub(crate) fn label(text: &str) -> Label {
    Label::from(text).unwrap_or_default()
}

/// One transport.
pub(crate) struct Peer {
    pub(crate) id: TransportId,
    /// A way to another node.
    pub(crate) is_relay: bool,
    /// When it last said something, if it is one, and whether control believes that it does.
    pub(crate) heard: Micros,
    pub(crate) is_up: Option<bool>,
    /// It is to hear from us, be there news or not.
    pub(crate) owes_a_word: bool,
    pub(crate) call_index: u32,
    /// Participant sid: CNAME of all that this participant publishes, so that receivers synchronise its streams.
    pub(crate) cname: ArrayString<64>,
    pub(crate) route: Option<Route>,
    pub(crate) keys: Option<Keys>,
    pub(crate) extensions: Received,
    pub(crate) send_extensions: ExtensionMap,
    pub(crate) tracks: ArrayVec<u32, TRACKS_PER_PEER_MAX>,
    pub(crate) subscriptions: Vec<u32>,
    pub(crate) egress: Egress,
    /// Last transport-cc sequence number given out.
    pub(crate) transport_sequence: u16,
    /// SSRC of our RTCP to a peer to which we send no media.
    pub(crate) ssrc: u32,
    pub(crate) arrivals: Option<Box<Arrivals>>,
    pub(crate) estimator: LossCap,
    /// Layers of its subscriptions are limited by the estimator.
    pub(crate) is_capped: bool,
    pub(crate) due: Due,
    /// Round trip, from its receiver reports or from how fast it answers our NACKs; 0 while unknown.
    pub(crate) rtt_us: u32,
    /// Our clock minus its NTP clock in 32.32, the least seen: one for all its streams, so that their mutual timing stays.
    pub(crate) ntp_delta: Option<u64>,
    pub(crate) period: Period,
    pub(crate) received: Meter,
    pub(crate) intake: Intake,
    pub(crate) resends: u32,
    /// Sequence numbers asked for in the same window.
    pub(crate) nacked: u32,
    pub(crate) resends_since: Micros,
    /// Outgoing SSRCs of removed subscriptions and the next index each would have had, so that no index comes twice under
    /// one key even if an SSRC were used again.
    pub(crate) retired: ArrayVec<(u32, u64), 32>,
}

/// Cipher state of one DTLS association.
pub(crate) struct Keys {
    pub(crate) material: KeyMaterial,
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
}

/// What is due for a peer, each with its deadline. One timer row fires at the earliest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) twcc: Micros,
    pub(crate) nack: Micros,
    pub(crate) keyframe: Micros,
    pub(crate) report: Micros,
    /// Wishes and layers, on a relay.
    pub(crate) news: Micros,
}

impl Due {
    pub(crate) const NONE: Due = Due {
        twcc: Micros::NEVER,
        nack: Micros::NEVER,
        keyframe: Micros::NEVER,
        report: Micros::NEVER,
        news: Micros::NEVER,
    };

    pub(crate) fn earliest(&self) -> Micros {
        self.twcc.min(self.nack).min(self.keyframe).min(self.report).min(self.news)
    }
}

/// Sums of one quality period.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Period {
    pub(crate) expected_up: u64,
    pub(crate) lost_up: u64,
    pub(crate) loss_down_sum: f32,
    pub(crate) loss_down_reports: u32,
    pub(crate) jitter_us: u32,
}

/// The receiving side of header extensions: meaning by id, one look per element.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    by_id: [Option<Extension>; 256],
}

impl Received {
    pub(crate) fn new(map: &ExtensionMap) -> Received {
        let mut by_id = [None; 256];
        for extension in Extension::ALL {
            if let Some(id) = map.id(extension) {
                by_id[usize::from(id)] = Some(extension);
            }
        }
        Received { by_id }
    }

    pub(crate) fn meaning(&self, id: u8) -> Option<Extension> {
        self.by_id[usize::from(id)]
    }
}

impl Peer {
    pub(crate) fn new(transport: &Transport, call_index: u32, random: u64) -> Peer {
        let mut peer = Peer::empty(transport.id, call_index, random);
        peer.describe(transport);
        peer
    }

    /// The other node, at the end of a relay. What it needs of header extensions goes on under the canonical numbers; the
    /// others are about one hop.
    pub(crate) fn relay(relay: &Relay, call_index: u32, random: u64) -> Peer {
        let is_of_hop = |extension| {
            use Extension::{AbsSendTime, Mid, RepairedRid, Rid, TransportCc};
            matches!(extension, Mid | Rid | RepairedRid | TransportCc | AbsSendTime)
        };
        let extensions = ExtensionMap::canonical(|extension| !is_of_hop(extension));
        Peer {
            is_relay: true,
            ssrc: relay.ssrc,
            extensions: Received::new(&extensions),
            send_extensions: extensions,
            ..Peer::empty(relay.id, call_index, random)
        }
    }

    fn empty(id: TransportId, call_index: u32, random: u64) -> Peer {
        Peer {
            id,
            is_relay: false,
            heard: Micros(0),
            is_up: None,
            owes_a_word: false,
            call_index,
            cname: ArrayString::new(),
            route: None,
            keys: None,
            extensions: Received::new(&ExtensionMap::default()),
            send_extensions: ExtensionMap::default(),
            tracks: ArrayVec::new(),
            subscriptions: Vec::new(),
            egress: Egress::default(),
            transport_sequence: random as u16,
            ssrc: (random >> 16) as u32 | 1,
            arrivals: None,
            estimator: LossCap::default(),
            is_capped: false,
            due: Due::NONE,
            rtt_us: 0,
            ntp_delta: None,
            period: Period::default(),
            received: Meter::default(),
            intake: Intake::default(),
            resends: 0,
            nacked: 0,
            resends_since: Micros(0),
            retired: ArrayVec::new(),
        }
    }

    /// Takes over what may change while the transport lives.
    pub(crate) fn describe(&mut self, transport: &Transport) {
        let sid = &transport.participant.sid;
        self.cname = ArrayString::from(sid.get(..sid.len().min(64)).unwrap_or_default()).unwrap_or_default();
        self.extensions = Received::new(&transport.receive_extensions);
        self.send_extensions = transport.send_extensions;
        if transport.receive_extensions.id(Extension::TransportCc).is_some() && self.arrivals.is_none() {
            self.arrivals = Some(Box::default());
        }
    }

    /// Something authentic came. True if control is to hear that it does.
    pub(crate) fn hear(&mut self, now: Micros) -> bool {
        self.heard = now;
        self.is_relay && self.is_up.replace(true) != Some(true)
    }

    /// How many clients it counts for.
    pub(crate) fn factor(&self) -> u32 {
        if self.is_relay { RELAY_FACTOR } else { 1 }
    }

    /// Media can be sent to it.
    pub(crate) fn is_reachable(&self) -> bool {
        self.route.is_some() && self.keys.is_some()
    }

    /// Remembers how far an outgoing SSRC got.
    pub(crate) fn retire(&mut self, ssrc: u32, next: u64) {
        self.retired.retain(|(s, _)| *s != ssrc);
        if self.retired.is_full() {
            self.retired.remove(0);
        }
        self.retired.push((ssrc, next));
    }

    /// How far an outgoing SSRC got before, if it was used on this transport.
    pub(crate) fn retired(&self, ssrc: u32) -> Option<u64> {
        self.retired.iter().find(|(s, _)| *s == ssrc).map(|(_, next)| *next)
    }

    /// A fresh round trip; smoothed.
    pub(crate) fn note_rtt(&mut self, fresh_us: u32) {
        self.rtt_us = if self.rtt_us == 0 { fresh_us } else { self.rtt_us - self.rtt_us / 8 + fresh_us / 8 };
    }
}
