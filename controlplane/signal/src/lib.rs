//! Everything a participant's signalling needs except the rules of rooms: frames of the WebSocket, token claims, connect
//! parameters, session descriptions, and the two negotiations of a dual peer connection.
//!
//! Nothing here reads a clock, opens a socket or draws randomness: ICE credentials and seeds are arguments.
//! [`Publisher`] and [`Subscriber`] are serialisable; a restarted control plane stores and restores them as they are.

#![forbid(unsafe_code)]

pub mod candidates;
pub mod clients;
pub mod codecs;
pub mod connect;
pub mod frame;
pub mod grants;
pub mod publisher;
pub mod sdp;
pub mod subscriber;

pub use clients::Quirks;
pub use connect::{ConnectError, ConnectParams, Reconnect};
pub use frame::{Frame, FrameError, Mode};
pub use grants::{Claims, NameError, Permission, VideoGrant};
pub use publisher::{Answered, PendingTrack, PublishedMedia, Publisher, Refused};
pub use subscriber::{
    AddError, AnswerError, Backup, NegotiatedSubscription, Offer, SubscribedTrack, Subscriber, SubscriberAnswered,
};

use std::net::SocketAddr;

use sluice_messages::Fingerprint;

/// What a description says about the node that carries the media.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeInfo {
    /// Certificate it shows in DTLS.
    pub fingerprint: Fingerprint,
    /// Its host candidates, the preferred first.
    pub candidates: Vec<SocketAddr>,
    /// How often the call has moved: candidates of later nodes are preferred to all earlier ones.
    pub generation: u32,
}
