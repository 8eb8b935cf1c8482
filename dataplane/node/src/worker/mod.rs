//! A worker: one thread on one core with its own sockets, packet memory, forwarder and ICE agent. Read `run.rs`, which is
//! the life of a packet, then `receive.rs` for where a datagram goes, `inbox.rs` for what other threads say, and `relay.rs`
//! for calls that live on several workers, and `nodes.rs` for those that live on several nodes.

mod directory;
mod handoff;
mod inbox;
mod load;
mod nodes;
mod pin;
mod receive;
mod relay;
mod run;
mod status;
mod steer;

use std::net::SocketAddr;

use sluice_messages::{Entry, Key, Track, TransportId};

pub(crate) use directory::{Directory, WorkerIndex};
pub(crate) use handoff::{connect, lanes_bytes};
pub(crate) use nodes::Nodes;
pub(crate) use pin::pin;
pub(crate) use run::{Parts, Worker};
pub(crate) use steer::{Steer, steering};

/// Workers at most. Lanes between them grow with the square; a machine with more cores is better served by two nodes.
pub(crate) const WORKERS_MAX: usize = 64;

const _: () = assert!(WORKERS_MAX <= sluice_forwarder::SIBLINGS_MAX);

/// Commands from the link that wait. Beyond it the link waits, and control with it.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// From the link.
pub(crate) enum Command {
    Put(Box<Entry>),
    /// Receivers here get a track that is published at a sibling.
    PutRemote(Box<RemoteTrack>),
    Remove(Key),
    /// Checks with this user name are for that sibling.
    Foreign {
        ufrag: String,
        owner: usize,
    },
    /// They are no longer.
    Forget {
        ufrag: String,
        owner: usize,
    },
    /// What comes from that address with SSRCs of that relay is for that transport and worker, or for nobody any more.
    Relay {
        address: SocketAddr,
        ssrc: u32,
        owner: Option<(TransportId, usize)>,
    },
}

/// A track and the worker of its publisher.
pub(crate) struct RemoteTrack {
    pub(crate) track: Track,
    pub(crate) home: usize,
    /// Participant sid of the publisher.
    pub(crate) cname: String,
}
