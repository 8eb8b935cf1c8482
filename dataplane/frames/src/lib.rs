//! The memory packets live in, and the traits that lend it.
//!
//! A [`Pool`] is one mapping cut into frames of [`FRAME_BYTES`]; a frame is named by a [`FrameId`] and counted by plain
//! integers, as everything here belongs to one worker thread. An I/O backend receives into frames ([`Backend::turn`]); the
//! forwarder keeps them as long as somebody may still need them (egress queues, retransmission history) and writes what it
//! sends into slots that the backend lends ([`Tx`]). Nobody passes byte buffers around.

mod backend;
mod pool;

pub use backend::{Backend, Datagram, Route, Turn, Tx};
pub use pool::{FRAME_BYTES, FrameId, Pool};
