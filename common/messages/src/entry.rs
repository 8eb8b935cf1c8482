//! The table that a node holds: transports, tracks and data tracks, subscriptions to both, relays to other nodes, and notes
//! that control keeps there for its own restart.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{CallId, Codec, DataKind, DataTrackId, ExtensionMap, Kind, TrackId, TransportId};

/// One row of the table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Entry {
    Transport(Transport),
    Track(Track),
    Subscription(Subscription),
    DataTrack(DataTrack),
    DataSubscription(DataSubscription),
    Note(Note),
    Relay(Relay),
    RelayTrack(RelayTrack),
}

/// What names a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// A peer connection or a relay.
    Transport(TransportId),
    Track(TrackId),
    /// What a peer connection or a relay gets of a track.
    Subscription {
        receiver: TransportId,
        track: TrackId,
    },
    DataTrack(DataTrackId),
    DataSubscription {
        receiver: TransportId,
        track: DataTrackId,
    },
    Note(String),
}

/// One change. Removing a transport removes its tracks, data tracks and subscriptions; removing a track or a data track
/// removes its subscriptions.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all changes are puts; a box would be one more allocation for each"
)]
pub enum Op {
    /// Inserts the entry or replaces the one with the same key.
    Put(Entry),
    /// Removing what is not there is not an error.
    Remove(Key),
}

impl Entry {
    /// The name of this row.
    pub fn key(&self) -> Key {
        match self {
            Entry::Transport(t) => Key::Transport(t.id),
            Entry::Track(t) => Key::Track(t.id),
            Entry::Subscription(s) => Key::Subscription { receiver: s.receiver, track: s.track },
            Entry::Relay(r) => Key::Transport(r.id),
            Entry::RelayTrack(t) => Key::Subscription { receiver: t.relay, track: t.track },
            Entry::DataTrack(t) => Key::DataTrack(t.id),
            Entry::DataSubscription(s) => Key::DataSubscription { receiver: s.receiver, track: s.track },
            Entry::Note(n) => Key::Note(n.key.clone()),
        }
    }
}

/// A peer connection. The node's side is ICE-lite (RFC 8445 section 2.5) and always the DTLS server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transport {
    pub id: TransportId,
    pub call: CallId,
    pub participant: Participant,
    pub ice: Ice,
    /// Certificate the client must show; absent until its description is known, and DTLS does not start before.
    pub fingerprint: Option<Fingerprint>,
    /// Header extension ids in what the *client* sends on this transport. What we send uses canonical ids.
    pub receive_extensions: ExtensionMap,
    /// Extensions we may put into what we send on this transport (canonical ids; only what the client negotiated).
    pub send_extensions: ExtensionMap,
    /// Data channels on this transport, if it has an application section.
    pub data: Option<Data>,
}

/// Whose transport it is; data packets are stamped and routed by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Participant {
    /// `PA_…`
    pub sid: String,
    pub identity: String,
}

/// ICE credentials. After an ICE restart the previous local ones stay accepted until a check with the new ones passed, so
/// that media goes on over the old pair meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ice {
    pub local: IceCredentials,
    pub remote: Option<IceCredentials>,
    pub previous_local: Option<IceCredentials>,
}

/// RFC 8839 section 5.4: ufrag of 4..=256 and password of 22..=256 ice-chars.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

/// SHA-256 of a certificate (RFC 8122).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fingerprint {
    pub sha256: [u8; 32],
}

/// Data channels of a transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Data {
    /// We open `_reliable`, `_lossy` and `_data_track` (subscriber transports); otherwise the client opens them.
    pub opened_by_us: bool,
    /// The participant may send data (permission `canPublishData`); what it sends otherwise is dropped and counted.
    pub may_send: bool,
    /// Data for the participant is delivered on this transport.
    pub delivers: bool,
    /// Channels that are open already, since another node had the transport before: the association is restarted (RFC 9260
    /// section 5.2.2), and they go on without being opened again.
    pub streams: Streams,
}

/// SCTP streams of the channels that are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Streams {
    reliable: Option<u16>,
    lossy: Option<u16>,
    track: Option<u16>,
}

impl Streams {
    /// No channel is open.
    pub const NONE: Streams = Streams { reliable: None, lossy: None, track: None };

    /// The stream of a channel; none while it is not open.
    pub fn of(&self, kind: DataKind) -> Option<u16> {
        match kind {
            DataKind::Reliable => self.reliable,
            DataKind::Lossy => self.lossy,
            DataKind::Track => self.track,
        }
    }

    /// A channel was opened, or closed.
    pub fn set(&mut self, kind: DataKind, stream: Option<u16>) {
        match kind {
            DataKind::Reliable => self.reliable = stream,
            DataKind::Lossy => self.lossy = stream,
            DataKind::Track => self.track = stream,
        }
    }

    /// All that are open.
    pub fn iter(&self) -> impl Iterator<Item = (DataKind, u16)> {
        let kinds = [DataKind::Reliable, DataKind::Lossy, DataKind::Track];
        let streams = *self;
        kinds.into_iter().filter_map(move |kind| Some((kind, streams.of(kind)?)))
    }
}

/// One published media section.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Track {
    pub id: TrackId,
    pub call: CallId,
    /// A peer connection, or the relay by which it comes from another node.
    pub publisher: TransportId,
    pub kind: Kind,
    /// Value of the MID header extension in the publisher's packets.
    pub mid: String,
    /// Payload types the publisher may send.
    pub payloads: Vec<Payload>,
    /// Simulcast layers from low to high; one for anything else. At most [`Track::MAX_ENCODINGS`].
    pub encodings: Vec<Encoding>,
    /// Muted by its owner or a moderator: nothing of it is forwarded.
    pub muted: bool,
    /// What its publisher says that all layers together take, in bits per second; 0 where it says nothing.
    pub rate_bps: u64,
}

impl Track {
    /// LiveKit clients send at most three (`q`, `h`, `f`).
    pub const MAX_ENCODINGS: usize = 3;
}

/// A payload type in what a publisher sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payload {
    pub payload_type: u8,
    pub codec: Codec,
    /// Payload type of its RTX stream (RFC 4588), if negotiated.
    pub rtx: Option<u8>,
    /// Generic NACK was negotiated.
    pub nack: bool,
}

/// One simulcast layer. SSRCs are filled where the description names them and learned from RID otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encoding {
    pub rid: Option<String>,
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
}

/// One receiver's subscription to one track.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Subscription {
    pub receiver: TransportId,
    pub track: TrackId,
    /// MID at the receiver.
    pub mid: String,
    /// SSRC of what we send; unique within the receiver's transport and never reused on it.
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    /// From the publisher's payload types to the receiver's. A packet whose type is not here is dropped, but RED whose Opus
    /// is here is stripped to its primary block.
    pub payloads: Vec<PayloadMap>,
    pub wish: Wish,
}

/// How one payload type of the publisher appears at a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayloadMap {
    pub from: u8,
    pub to: u8,
    /// RTX payload type at the receiver.
    pub rtx: Option<u8>,
}

/// What the receiver asked for, reduced to what the forwarder needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// False stops forwarding (tile not visible, subscription paused).
    pub enabled: bool,
    /// Highest encoding index wanted (0 is the lowest layer).
    pub max_encoding: u8,
    /// Highest frame rate wanted, where the codec has temporal layers; none: all.
    pub max_fps: Option<u8>,
    /// Larger is more important when a receiver's rate does not suffice for all.
    pub priority: u32,
}

impl Default for Wish {
    fn default() -> Self {
        Wish { enabled: true, max_encoding: u8::MAX, max_fps: None, priority: 0 }
    }
}

/// A way to another node for one call, in both directions: a transport without ICE, DTLS and SCTP, as both ends know from the
/// start where it goes and with which keys. Each end has one, with the keys swapped.
///
/// Tracks that come in on it are ordinary [`Track`]s whose publisher it is, with the SSRCs that the other end's
/// [`RelayTrack`] sends with. It carries 64 tracks each way; a call with more has more relays. All that leaves and arrives
/// has SSRCs of `ssrc..ssrc + Relay::SSRCS`, which tells relays between the same two ports apart.
///
/// An index of a key and SSRC must never be used twice (RFC 7714 section 8.1), and a node cannot remember beyond its own life
/// how far it got. So `send` is fresh for each relay, and again whenever a node says that it starts with an empty table. A relay
/// of another call, address or range is another one and needs fresh keys too.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Relay {
    pub id: TransportId,
    pub call: CallId,
    /// Name of the other node.
    pub peer: String,
    /// Media address of the other node. Ours is the socket of the same address family.
    pub address: SocketAddr,
    /// First SSRC of this relay, a multiple of [`Relay::SSRCS`], and the sender of its RTCP. Of no other relay between the two
    /// nodes at the same time.
    pub ssrc: u32,
    pub send: SrtpKeys,
    /// Changes together with `send`: a relay with other keys starts anew.
    pub receive: SrtpKeys,
}

impl Relay {
    /// SSRCs of one relay, as many as an SRTP receiver remembers under one key: a power of two. When control has given out
    /// all of them it makes another relay, or gives this one other keys and begins again.
    pub const SSRCS: u32 = 512;

    /// The [`Relay::ssrc`] of the relay that this SSRC belongs to.
    pub fn first(ssrc: u32) -> u32 {
        ssrc & !(Relay::SSRCS - 1)
    }
}

/// Master key and salt of one direction, for AEAD_AES_128_GCM (RFC 7714).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKeys {
    pub key: [u8; 16],
    pub salt: [u8; 12],
}

impl fmt::Debug for SrtpKeys {
    /// Keys do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKeys(..)")
    }
}

/// A track that another node may have by a relay: those of its layers that the other node asks for. What came by a relay
/// leaves by none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelayTrack {
    pub relay: TransportId,
    pub track: TrackId,
    /// By encoding of the track, from low to high: what it is sent with. Never used before on this relay.
    pub ssrcs: Vec<RelaySsrcs>,
}

/// SSRCs of one layer on a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelaySsrcs {
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
}

/// A data track: packets of its publisher on `_data_track` that carry its handle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataTrack {
    pub id: DataTrackId,
    pub call: CallId,
    pub publisher: TransportId,
    /// What the publisher's client calls it in its packets: never zero, and of one data track of a transport at a time.
    pub handle: u16,
}

/// One receiver's subscription to one data track. It is delivered on the receiver's `_data_track`, if that is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataSubscription {
    pub receiver: TransportId,
    pub track: DataTrackId,
    /// What the receiver was told to call it: put into the packets in place of the publisher's. Never zero.
    pub handle: u16,
}

/// Bytes that control keeps with the media they describe, opaque to the node: a restarted control reads them back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    pub key: String,
    pub bytes: Vec<u8>,
}
