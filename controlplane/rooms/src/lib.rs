//! Rooms as a pure state machine: a command goes in with the time, effects come out. No socket, clock or thread is seen
//! here; the server feeds what happens and carries out what is wanted.
//!
//! Read [`command`] for the inputs, [`effect`] for the outputs, `room` and `participant` for what is held, `settle` for how
//! changes reach clients and nodes. Each of the other modules is one thing that people do: `join`, `publish`, `subscribe`,
//! `datatrack`, `resume`, `session` (everything else a client says), `api`, and `nodes` for what the media nodes say.

#![forbid(unsafe_code)]

mod api;
mod backup;
pub mod command;
mod datatrack;
mod demand;
mod dice;
pub mod effect;
mod join;
pub mod limits;
mod news;
mod nodes;
mod note;
mod participant;
mod publish;
mod quality;
mod relocate;
mod resume;
mod room;
mod session;
mod settle;
mod shared;
mod subscribe;
mod timers;
mod wish;

pub use command::{ApiCall, Command, NodeId, NodeState, Now, ReplyId, SocketClosed, SocketId};
pub use dice::Seed;
pub use effect::{ApiAnswer, ApiCode, ApiError, CloseReason, Effect, Notice};
pub use limits::RoomsConfig;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use sluice_messages::CallId;

use room::Room;
use shared::Shared;
use timers::Waiter;

/// All rooms of this control plane.
pub struct Rooms {
    rooms: HashMap<CallId, Room>,
    names: HashMap<String, CallId>,
    shared: Shared,
    /// Rooms in which something happened during this command.
    touched: BTreeSet<CallId>,
}

impl Rooms {
    /// No rooms, no nodes. Production seeds with 32 random bytes, tests with a number.
    pub fn new(config: RoomsConfig, seed: impl Into<Seed>) -> Rooms {
        let shared = Shared::new(config, seed.into());
        Rooms { rooms: HashMap::new(), names: HashMap::new(), shared, touched: BTreeSet::new() }
    }

    /// Handles one command. Carry the effects out in their order before the next command.
    pub fn handle(&mut self, now: Now, command: Command) -> Vec<Effect> {
        self.shared.now = now;
        match command {
            Command::Connect { socket, room, claims, params } => self.connect(socket, &room, *claims, *params),
            Command::Signal { socket, message } => {
                let Some(&(call, key)) = self.shared.sockets.get(&socket) else { return Vec::new() };
                let Some(room) = self.rooms.get_mut(&call) else { return Vec::new() };
                self.touched.insert(call);
                room.signal(&mut self.shared, key, message);
            }
            Command::Alive { socket } => {
                let place = self.shared.sockets.get(&socket);
                let room = place.and_then(|(call, key)| Some((self.rooms.get_mut(call)?, key)));
                if let Some(participant) = room.and_then(|(room, key)| room.participants.get_mut(key)) {
                    participant.last_heard = now.monotonic;
                }
            }
            Command::SocketClosed { socket, reason: _ } => {
                if let Some((call, key)) = self.shared.sockets.remove(&socket)
                    && let Some(room) = self.rooms.get_mut(&call)
                {
                    self.touched.insert(call);
                    room.lost_socket(&mut self.shared, key);
                }
            }
            Command::Api { reply, call } => {
                let result = self.api(*call);
                self.shared.out.reply(reply, result);
            }
            Command::NodeUp { hello, state } => self.node_up(hello, state),
            Command::NodeEvent { node, event } => self.node_event(&node, event),
            Command::NodeDown { node } => self.node_down(&node),
            Command::NodeLost { node } => self.node_lost(&node),
            Command::Tick => {}
        }
        self.due();
        for call in std::mem::take(&mut self.touched) {
            if let Some(room) = self.rooms.get_mut(&call) {
                room.settle(&mut self.shared);
                if let Some(at) = room.closes_at(&self.shared) {
                    self.shared.deadlines.no_later(Waiter::Room(call), at);
                }
            }
        }
        let rooms = &self.rooms;
        self.shared.out.take(|node| Rooms::table(rooms, node))
    }

    /// When to send [`Command::Tick`], in [`Now::monotonic`]; none while nothing is due.
    pub fn wake(&self) -> Option<Duration> {
        self.shared.deadlines.first()
    }

    /// A node is linked: joins can succeed. Otherwise the server answers them with 503 before they come here.
    pub fn ready(&self) -> bool {
        self.shared.nodes.values().any(|node| node.down_since.is_none())
    }

    /// The room exists. The server asks before a join when rooms are not made automatically, to answer 404.
    pub fn exists(&self, room: &str) -> bool {
        self.names.contains_key(room)
    }

    /// Rooms, participants and live tracks, for metrics.
    pub fn counts(&self) -> (usize, usize, usize) {
        let participants = self.rooms.values().map(|room| room.participants.len()).sum();
        (self.rooms.len(), participants, self.shared.tracks.len())
    }

    fn due(&mut self) {
        let now = self.shared.now.monotonic;
        while let Some(waiter) = self.shared.deadlines.due(now) {
            match waiter {
                Waiter::Room(call) => {
                    let closes_at = self.rooms.get(&call).and_then(|room| room.closes_at(&self.shared));
                    match closes_at {
                        Some(at) if at <= now => self.close_room(call),
                        Some(at) => self.shared.deadlines.no_later(Waiter::Room(call), at),
                        None => {}
                    }
                }
                Waiter::Participant(call, key) => {
                    if let Some(room) = self.rooms.get_mut(&call) {
                        self.touched.insert(call);
                        room.participant_due(&mut self.shared, key);
                    }
                }
                // Looking at the room tells it.
                Waiter::News(call) => drop(self.touched.insert(call)),
            }
        }
    }
}
