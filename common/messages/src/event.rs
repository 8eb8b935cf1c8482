//! What a node reports.

use serde::{Deserialize, Serialize};

use crate::{CallId, DataKind, TrackId, TransportId};

/// Something control should know. Events are repeated in full after a reconnect where they are states.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// State of a transport changed.
    Transport { transport: TransportId, state: TransportState },
    /// A data channel was opened on a stream, or closed.
    Channel { transport: TransportId, kind: DataKind, stream: Option<u16> },
    /// First packet of a track arrived.
    TrackStarted { track: TrackId },
    /// Layers of a track that have packets now, each with its SSRC; sent on change.
    Layers { track: TrackId, live: Vec<LayerLive> },
    /// Who is heard in a call: all tracks above the threshold, loudest first; sent on change, at most each 300 ms.
    Speakers { call: CallId, speakers: Vec<Speaker> },
    /// Each [`Event::QUALITY_PERIOD_S`] seconds for every connected transport.
    Quality { transport: TransportId, quality: Quality },
    /// What a receiver gets of a track now: the encoding index, or none while nothing is sent.
    Forwarding { receiver: TransportId, track: TrackId, encoding: Option<u8> },
    /// Counters since the start, by name, of one worker or of the node as a whole; each ten seconds.
    Counters { worker: Option<u32>, counters: Vec<(String, u64)> },
}

impl Event {
    /// Raising it makes quality signs slower, lowering it makes them nervous and costs link traffic.
    pub const QUALITY_PERIOD_S: u64 = 5;
}

/// Life of a transport.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TransportState {
    /// A check passed, DTLS goes on.
    Checking,
    /// ICE and DTLS are done: media flows.
    Connected,
    /// Consent is missing (RFC 7675); it can come back.
    Disconnected,
    /// It will not come back by itself.
    Failed(Failure),
}

/// Why a transport failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Failure {
    /// No consent for 30 s (RFC 7675 section 5.1).
    Consent,
    /// The certificate does not match the fingerprint of the description.
    Fingerprint,
    /// The DTLS handshake broke or the client closed the association.
    Dtls,
    /// A table of the node is full.
    Full,
}

/// A layer that has packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayerLive {
    pub encoding: u8,
    pub ssrc: u32,
    /// SSRC of its retransmissions, once seen.
    pub rtx_ssrc: Option<u32>,
}

/// Somebody heard.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Speaker {
    pub track: TrackId,
    /// 0.0 silent ..= 1.0 loudest, linear in amplitude.
    pub level: f32,
}

/// How a transport does, over the last period.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Quality {
    /// Share of packets from the client that never came, 0.0..=1.0, before retransmission.
    pub loss_up: f32,
    /// Share of our packets that the client reports missing.
    pub loss_down: f32,
    /// Round trip from receiver reports or STUN; 0 where unknown.
    pub rtt_us: u32,
    pub jitter_us: u32,
    pub rate_up_bps: u64,
    pub rate_down_bps: u64,
}
