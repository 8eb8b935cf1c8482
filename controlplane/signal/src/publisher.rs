//! The peer connection that the client offers: it publishes on it.

use serde::{Deserialize, Serialize};
use sluice_messages::{Encoding, ExtensionMap, Fingerprint, Ice, IceCredentials, Kind, Payload};

use livekit_protocol::AddTrackRequest;

use crate::{NodeInfo, Quirks, sdp::SdpError};

/// A media section that the client announced with AddTrack: one per codec (`simulcast_codecs`) that has a cid of its own.
/// Give all announced ones on each call, those that already have media included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PendingTrack {
    /// Client's id of the MediaStreamTrack.
    pub cid: String,
    pub kind: Kind,
    /// Codec asked for (`video/VP9`, `vp9`); it goes first in the answer.
    pub codec: Option<sluice_messages::Codec>,
    /// RIDs of the announced layers, from low to high.
    pub rids: Vec<String>,
    /// Opus in stereo.
    pub stereo: bool,
    /// Opus with discontinuous transmission.
    pub dtx: bool,
    /// Opus inside RED.
    pub red: bool,
}

impl PendingTrack {
    /// The sections a request announces. A backup codec whose cid is still empty comes with a later request.
    pub fn from_request(request: &AddTrackRequest) -> Vec<PendingTrack> {
        let _ = request;
        Vec::new()
    }
}

/// Negotiation state of a client-offered peer connection.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Publisher {
    ice: Ice,
    quirks: Quirks,
    session: u64,
}

/// An accepted offer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    /// Id of the offer, to echo.
    pub id: u32,
    /// The answer, candidates included.
    pub sdp: String,
    /// Credentials for the node from now on.
    pub ice: Ice,
    /// The offer restarted ICE: `ice.local` is the fresh pair, `ice.previous_local` the one before.
    pub ice_restarted: bool,
    /// Certificate of the client.
    pub fingerprint: Fingerprint,
    /// Header extension ids in what the client sends.
    pub receive_extensions: ExtensionMap,
    /// There is an application section.
    pub data: bool,
    /// Every audio and video section in m-line order, inactive ones too. What was active before and is not now has ended.
    pub media: Vec<PublishedMedia>,
}

/// One media section of the publisher.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PublishedMedia {
    /// Unique within the peer connection, also over time.
    pub mid: String,
    pub kind: Kind,
    /// The announced track it carries; none while no AddTrack fits (see [`Publisher::announce`]).
    pub cid: Option<String>,
    /// Track id in the description, where it is not `cid` (for `TrackInfo.codecs[].sdp_cid`).
    pub sdp_cid: Option<String>,
    /// Accepted formats; the first is the one the client sends.
    pub payloads: Vec<Payload>,
    /// Layers from low to high; one without RID for anything but simulcast.
    pub encodings: Vec<Encoding>,
    /// The client sends on it.
    pub active: bool,
}

/// Why an offer was not accepted. State is as before the offer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// {0}
    #[error(transparent)]
    Sdp(#[from] SdpError),
}

impl Publisher {
    /// A peer connection before its first offer. `session` goes into the origin line (RFC 8866 section 5.2); any random
    /// number below 2^63 will do.
    pub fn new(local: IceCredentials, session: u64, quirks: Quirks) -> Publisher {
        Publisher { ice: Ice { local, remote: None, previous_local: None }, quirks, session: session >> 1 }
    }

    /// Answers an offer. `fresh` is used if the offer restarts ICE and dropped otherwise.
    pub fn on_offer(
        &mut self,
        id: u32,
        sdp: &str,
        pending: &[PendingTrack],
        node: &NodeInfo,
        fresh: IceCredentials,
    ) -> Result<Answered, Refused> {
        let _ = (id, sdp, pending, node, fresh);
        Err(Refused::Sdp(SdpError::Empty))
    }

    /// Matches sections whose AddTrack came after the offer; returns those that got their cid now.
    pub fn announce(&mut self, pending: &[PendingTrack]) -> Vec<PublishedMedia> {
        let _ = pending;
        Vec::new()
    }

    /// Every audio and video section of the last accepted offer.
    pub fn media(&self) -> impl Iterator<Item = &PublishedMedia> {
        [].iter()
    }

    /// Credentials as the node shall have them.
    pub fn ice(&self) -> &Ice {
        &self.ice
    }
}
