//! A worker: one thread on one core with its own sockets, packet memory, forwarder and ICE agent. Read `run.rs`, which is
//! the life of a packet, then `receive.rs` for where a datagram goes and `inbox.rs` for what other threads say.

mod directory;
mod handoff;
mod inbox;
mod load;
mod pin;
mod receive;
mod run;
mod status;
mod steer;

use sluice_messages::{Entry, Key};

pub(crate) use directory::{Directory, WorkerIndex};
pub(crate) use handoff::{connect, places};
pub(crate) use pin::pin;
pub(crate) use run::{Parts, Worker};
pub(crate) use steer::{Steer, steering};

/// Workers at most. Lanes between them grow with the square; a machine with more cores is better served by two nodes.
pub(crate) const WORKERS_MAX: usize = 64;

/// Commands from the link that wait. Beyond it the link waits, and control with it.
pub(crate) const COMMANDS_MAX: usize = 4096;

/// From the link.
pub(crate) enum Command {
    Put(Box<Entry>),
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
}
