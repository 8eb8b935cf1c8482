//! A media node: workers that move packets, slow threads that do handshakes and data channels, and the link by which
//! control tells both what to do.
//!
//! ```text
//!            link (tokio, QUIC)          one per node
//!      tables | ^ events
//!             v |
//!   slow <-> worker <-> worker <-> slow  one pair per core; a call lives on one, a large one on several
//! ```
//!
//! Threads share nothing but bounded single-producer queues, a bell that wakes a sleeper, and counters with one writer
//! each. Read [`worker`] for the life of a packet, [`link`] for what survives the loss of control.

#![forbid(unsafe_code)]

mod clock;
mod config;
mod counters;
mod lane;
mod link;
mod node;
mod queue;
mod slow;
mod worker;

pub use config::{Credential, DtlsCertificate, LinkConfig, NodeConfig, POOL_FRAMES, PORT, SPREAD};
pub use node::{Node, StartError, Watch};
pub use sluice_forwarder::Config as ForwarderConfig;
pub use sluice_io::Preference as BackendPreference;
