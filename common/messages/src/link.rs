//! Frames on the link. Control is the QUIC server's client-facing side: nodes dial control, authenticate by certificate and
//! open one bidirectional stream; each message on it is a `u32` little-endian length and then [postcard].
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use std::net::SocketAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Entry, Event, Fingerprint, Op, TransportId};

/// Raised with every change of a type on the link; both sides refuse another version.
pub const VERSION: u32 = 5;

/// Longest message in bytes. Raising it lets a snapshot of a larger node through, lowering it bounds what a broken peer
/// can make us allocate.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// From control to node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Down {
    /// Ask for the table as it is. Sent first by a control that does not know the node's calls.
    Dump,
    /// This is the whole table; what is not in it goes.
    Snapshot { epoch: u64, sequence: u64, entries: Vec<Entry> },
    /// Changes in order. `sequence` is one more than the last of this epoch.
    Delta { epoch: u64, sequence: u64, ops: Vec<Op> },
    /// Deliver a data packet now; nothing is kept.
    Send { epoch: u64, data: SendData },
    /// A sign of life, to be answered at once; the next follows after the period.
    Ping { nonce: u64, period_ms: u32 },
}

/// From node to control.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Up {
    /// First message on a link.
    Hello(Hello),
    /// Answer to [`Down::Dump`].
    State {
        epoch: u64,
        sequence: u64,
        entries: Vec<Entry>,
        events: Vec<Event>,
    },
    /// Applied up to here.
    Applied {
        epoch: u64,
        sequence: u64,
    },
    /// Not applied. Control answers with a snapshot, or stops if its epoch is stale.
    Refused {
        epoch: u64,
        sequence: u64,
        refusal: Refusal,
    },
    Event(Event),
    Pong {
        nonce: u64,
    },
}

/// Who a node is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// Name from its configuration; unique in a cluster.
    pub node: String,
    /// Certificate it shows in DTLS.
    pub fingerprint: Fingerprint,
    /// Host candidates to give to clients.
    pub addresses: Vec<SocketAddr>,
    pub workers: u32,
    /// Highest epoch it has obeyed; 0 for none. A new control takes a higher one.
    pub epoch: u64,
    /// Rows in its table.
    pub entries: u64,
}

/// Why a node did not apply a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// A higher epoch has spoken.
    StaleEpoch { current: u64 },
    /// A delta is missing before this one.
    Gap { expected: u64 },
}

/// A data packet for some transports of a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SendData {
    pub to: Vec<TransportId>,
    pub kind: DataKind,
    /// Encoded `livekit.DataPacket`.
    pub payload: Vec<u8>,
}

/// Which data channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum DataKind {
    /// `_reliable`
    Reliable,
    /// `_lossy`
    Lossy,
    /// `_data_track`
    Track,
}

impl DataKind {
    /// The channel's label, as LiveKit clients expect it.
    pub fn label(self) -> &'static str {
        match self {
            DataKind::Reliable => "_reliable",
            DataKind::Lossy => "_lossy",
            DataKind::Track => "_data_track",
        }
    }

    /// The kind of the channel with this label.
    pub fn from_label(label: &str) -> Option<DataKind> {
        [DataKind::Reliable, DataKind::Lossy, DataKind::Track].into_iter().find(|k| k.label() == label)
    }
}

/// A message that cannot be put on or taken off the link. The link is closed: the peer is broken or of another version.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// {0} bytes are more than a message may have
    #[error("{0} bytes are more than a message may have")]
    TooLong(usize),
    /// not a message of this version: {0}
    #[error("not a message of this version: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Encodes a message with its length prefix.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, LinkError> {
    let mut bytes = postcard::to_extend(message, vec![0; 4])?;
    let length = bytes.len() - 4;
    if length > MESSAGE_BYTES_MAX {
        return Err(LinkError::TooLong(length));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// Decodes a message without its length prefix. Trailing bytes are an error of the peer.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LinkError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(LinkError::TooLong(bytes.len()));
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        _ => Err(LinkError::Malformed(postcard::Error::DeserializeBadEncoding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let down = Down::Delta { epoch: 3, sequence: 9, ops: vec![Op::Remove(crate::Key::Note("room".into()))] };
        let bytes = encode(&down).unwrap();
        assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        assert_eq!(decode::<Down>(&bytes[4..]).unwrap(), down);
    }

    #[test]
    fn relays_round_trip_and_keep_their_keys_to_themselves() {
        let keys = |fill| crate::SrtpKeys { key: [fill; 16], salt: [fill; 12] };
        let relay = crate::Relay {
            id: TransportId(7),
            call: crate::CallId(1),
            peer: "node-2".into(),
            address: ([192, 0, 2, 1], 7000).into(),
            ssrc: 3 * crate::Relay::SSRCS,
            send: keys(0xab),
            receive: keys(0xcd),
        };
        let ssrcs = vec![crate::RelaySsrcs { ssrc: relay.ssrc + 1, rtx_ssrc: Some(relay.ssrc + 2) }];
        assert!(ssrcs.iter().all(|s| crate::Relay::first(s.ssrc) == relay.ssrc));
        let track = crate::RelayTrack { relay: relay.id, track: crate::TrackId(9), ssrcs };
        assert_eq!(format!("{:?}", relay.send), "SrtpKeys(..)");
        let entries = vec![Entry::Relay(relay), Entry::RelayTrack(track)];
        let down = Down::Snapshot { epoch: 1, sequence: 0, entries };
        assert_eq!(decode::<Down>(&encode(&down).unwrap()[4..]).unwrap(), down);
    }

    #[test]
    fn garbage_and_trailing_bytes_are_refused() {
        assert!(decode::<Down>(&[0xff; 40]).is_err());
        let mut bytes = encode(&Down::Ping { nonce: 1, period_ms: 100 }).unwrap();
        bytes.push(0);
        assert!(decode::<Down>(&bytes[4..]).is_err());
    }
}
