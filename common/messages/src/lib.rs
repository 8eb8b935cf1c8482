//! What the control plane and a media node say to each other: the only types serialised on that link.
//!
//! The node's state is a table of [`Entry`]s, each under a [`Key`]. Control sends it whole ([`Down::Snapshot`]) when a link
//! comes up and then as numbered [`Down::Delta`]s. Everything is declarative: an entry says how things shall be, never how
//! to get there, so a snapshot that differs from what the node has is applied as a difference and media goes on.
//! Events come up ([`Up::Event`]); nothing per packet crosses the link.
//!
//! Read [`link`] for the frames, [`entry`] for the table, [`event`] for what a node reports.

#![forbid(unsafe_code)]

pub mod codec;
pub mod entry;
pub mod event;
pub mod extension;
pub mod ids;
pub mod link;

pub use codec::{Codec, Kind};
pub use entry::{
    Data, DataSubscription, DataTrack, Encoding, Entry, Fingerprint, Ice, IceCredentials, Key, Note, Op, Participant,
    Payload, PayloadMap, Relay, RelaySsrcs, RelayTrack, SrtpKeys, Streams, Subscription, Track, Transport, Wish,
};
pub use event::{Event, Failure, LayerLive, Quality, Speaker, TransportState};
pub use extension::{Extension, ExtensionMap};
pub use ids::{CallId, DataTrackId, TrackId, TransportId};
pub use link::{DataKind, Down, Hello, LinkError, Refusal, SendData, Up, VERSION, decode, encode};
