//! The peer connection that we offer: the client receives on it.

use serde::{Deserialize, Serialize};
use sluice_messages::{ExtensionMap, Fingerprint, Ice, IceCredentials, Kind, Payload, PayloadMap, TrackId};

use crate::{NodeInfo, Quirks, sdp::SdpError};

/// A track to be received.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SubscribedTrack {
    pub track: TrackId,
    pub kind: Kind,
    /// `PA_…` of the publisher.
    pub participant_sid: String,
    /// `TR_…`
    pub track_sid: String,
    /// Replaces the track sid in the stream id, in rooms with `sync_streams`.
    pub stream: Option<String>,
    /// The publisher's formats, first the one it sends.
    pub payloads: Vec<Payload>,
    /// Opus in stereo.
    pub stereo: bool,
}

/// Negotiation state of a server-offered peer connection. One offer is outstanding at most; what changes meanwhile goes
/// into the next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Subscriber {
    ice: Ice,
    quirks: Quirks,
    seed: u64,
}

/// An offer to send.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// Never 0.
    pub id: u32,
    pub sdp: String,
}

/// An answer was applied.
#[derive(Clone, PartialEq, Debug)]
pub struct SubscriberAnswered {
    pub ice: Ice,
    /// Certificate of the client.
    pub fingerprint: Fingerprint,
    /// Extensions we may send, by canonical id.
    pub send_extensions: ExtensionMap,
    /// There is an application section.
    pub data: bool,
    /// Everything that is negotiated now, not only what is new.
    pub subscriptions: Vec<NegotiatedSubscription>,
    /// Tracks that this answer refused: the client cannot decode them (`SE_CODEC_UNSUPPORTED`). They are removed.
    pub unsupported: Vec<TrackId>,
    /// Something changed while the offer was out: call [`Subscriber::offer`] again.
    pub more: bool,
}

/// How a track appears at the receiver.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NegotiatedSubscription {
    pub track: TrackId,
    pub mid: String,
    pub ssrc: u32,
    /// Present where the client accepted RTX.
    pub rtx_ssrc: Option<u32>,
    pub payloads: Vec<PayloadMap>,
}

/// A track cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// more tracks than one peer connection can carry
    #[error("more tracks than one peer connection can carry")]
    Full,
    /// none of its codecs can be forwarded
    #[error("none of its codecs can be forwarded")]
    NoCodec,
}

/// Why an answer was not accepted. The offer stays outstanding.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// {0}
    #[error(transparent)]
    Sdp(#[from] SdpError),
}

impl Subscriber {
    /// A peer connection before its first offer. `seed` decides SSRCs and the origin line; it must differ between peer
    /// connections.
    pub fn new(local: IceCredentials, seed: u64, quirks: Quirks) -> Subscriber {
        Subscriber { ice: Ice { local, remote: None, previous_local: None }, quirks, seed }
    }

    /// Adds a track to the next offer. Adding a track that is there already changes nothing.
    pub fn add(&mut self, track: SubscribedTrack) -> Result<(), AddError> {
        let _ = track;
        Ok(())
    }

    /// Takes a track out of the next offer; false if it is not there.
    pub fn remove(&mut self, track: TrackId) -> bool {
        let _ = track;
        false
    }

    /// The track is here, negotiated or not.
    pub fn contains(&self, track: TrackId) -> bool {
        let _ = track;
        false
    }

    /// Uses new local credentials from the next offer on. Give [`Subscriber::ice`] to the node at once: the client checks
    /// with them as soon as it has the offer.
    pub fn restart_ice(&mut self, local: IceCredentials) {
        self.ice.previous_local = Some(std::mem::replace(&mut self.ice.local, local));
    }

    /// Forgets the outstanding offer because it, or its answer, was lost with the WebSocket. Its changes go into the next.
    pub fn abandon_offer(&mut self) {}

    /// The next offer, if something changed since the last one and none is outstanding.
    pub fn offer(&mut self, node: &NodeInfo) -> Option<Offer> {
        let _ = node;
        None
    }

    /// Applies the answer to the outstanding offer. `Ok(None)`: the answer belongs to an earlier offer and is ignored. Id 0
    /// counts as the outstanding one, since Rust clients do not echo ids.
    pub fn on_answer(&mut self, id: u32, sdp: &str) -> Result<Option<SubscriberAnswered>, AnswerError> {
        let _ = (id, sdp);
        Ok(None)
    }

    /// Everything negotiated by the last answer and still wanted.
    pub fn subscriptions(&self) -> Vec<NegotiatedSubscription> {
        Vec::new()
    }

    /// Credentials as the node shall have them.
    pub fn ice(&self) -> &Ice {
        &self.ice
    }
}
