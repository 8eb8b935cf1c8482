//! Rooms as a pure state machine: a command goes in with the time, effects come out. No socket, clock or thread is seen
//! here; the server feeds what happens and carries out what is wanted.
//!
//! Read [`command`] for the inputs, [`effect`] for the outputs, `room` for what is held, `settle` for how changes reach
//! clients and nodes.

#![forbid(unsafe_code)]

pub mod command;
pub mod dice;
pub mod effect;
pub mod limits;

pub use command::{ApiCall, Command, NodeId, NodeState, Now, ReplyId, SocketClosed, SocketId};
pub use dice::Seed;
pub use effect::{ApiAnswer, ApiCode, ApiError, CloseReason, Effect, Notice};
pub use limits::RoomsConfig;

use std::time::Duration;

/// All rooms of this control plane.
pub struct Rooms {
    config: RoomsConfig,
}

impl Rooms {
    /// No rooms, no nodes. Production seeds with 32 random bytes, tests with a number.
    pub fn new(config: RoomsConfig, seed: impl Into<Seed>) -> Rooms {
        let _ = seed.into();
        Rooms { config }
    }

    /// Handles one command. Carry the effects out in their order before the next command.
    pub fn handle(&mut self, now: Now, command: Command) -> Vec<Effect> {
        let _ = (now, command, &self.config);
        Vec::new()
    }

    /// When to send [`Command::Tick`], in [`Now::monotonic`]; none while nothing is due.
    pub fn wake(&self) -> Option<Duration> {
        None
    }

    /// A node is linked: joins can succeed. Otherwise the server answers them with 503 before they come here.
    pub fn ready(&self) -> bool {
        false
    }

    /// The room exists. The server asks before a join when rooms are not made automatically, to answer 404.
    pub fn exists(&self, room: &str) -> bool {
        let _ = room;
        false
    }
}
