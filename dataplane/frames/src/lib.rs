//! The memory packets live in, and the traits that lend it.
//!
//! A [`Pool`] is one mapping cut into frames of [`FRAME_BYTES`]; a frame is named by a [`FrameId`] and counted by plain
//! integers, as everything here belongs to one worker thread. An I/O backend receives into frames ([`Backend::turn`]); the
//! forwarder keeps them as long as somebody may still need them (egress queues, retransmission history) and writes what it
//! sends into slots that the backend lends ([`Tx`]). Nobody passes byte buffers around.
//!
//! A frame is free, used (by one or more), or lent to the kernel, which may then write to it at any time. Lent frames are
//! out of everybody's reach, and the [`Memory`] stays mapped as long as the backend that lent them needs it.

mod backend;
mod memory;
mod pool;

pub use backend::{Backend, Datagram, Route, Turn, Tx};
pub use memory::Memory;
pub use pool::{DATAGRAM_BYTES, FRAME_BYTES, FrameId, HEADROOM_BYTES, Pool};
