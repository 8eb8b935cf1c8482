//! What can happen to the rooms: the input side of the state machine.

use std::time::Duration;

use livekit_protocol as proto;
use sluice_messages::{Entry, Event, Hello};
use sluice_signal::{Claims, ConnectParams};

/// One WebSocket of a client, named by the server for the life of the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u64);

/// One API call that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyId(pub u64);

/// Name of a media node, as in [`Hello::node`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub String);

/// The time at which a command is handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since the start of the process; never goes back. Deadlines are kept in it.
    pub monotonic: Duration,
    /// Wall clock in milliseconds since 1970, for what clients are told.
    pub unix_ms: i64,
}

/// One input.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time is handed over, and nearly all are the large variant")]
pub enum Command {
    /// A socket was opened with a verified token: a join, or a resume if the parameters say so.
    Connect { socket: SocketId, room: String, claims: Box<Claims>, params: Box<ConnectParams> },
    /// A message of the client.
    Signal { socket: SocketId, message: proto::signal_request::Message },
    /// The socket carried something else than a message, such as a WebSocket-level pong: the client lives.
    Alive { socket: SocketId },
    /// The socket is gone. Sockets that an [`crate::Effect::Close`] named need not be reported.
    SocketClosed { socket: SocketId, reason: SocketClosed },
    /// A call of the server API, already authorised.
    Api { reply: ReplyId, call: Box<ApiCall> },
    /// The link to a node came up. `state` is what the node holds when this control does not know it: rooms are rebuilt
    /// from it. Without it the node is sent everything it should hold as [`crate::Effect::NodeSnapshot`].
    NodeUp { hello: Hello, state: Option<NodeState> },
    /// A node reports.
    NodeEvent { node: NodeId, event: Event },
    /// The link to a node is gone. Media may still flow: its calls stay there.
    NodeDown { node: NodeId },
    /// A node whose link is gone is given up: its calls go on elsewhere.
    NodeLost { node: NodeId },
    /// A deadline that [`crate::Rooms::wake`] named may be over.
    Tick,
}

/// The table and last states that a node gives back to a restarted control.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeState {
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
}

/// Why a socket is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketClosed {
    /// The client closed it, or the connection broke: it may come back.
    Gone,
    /// The server closed it, because the client sent what is not a message or does not read.
    Refused,
}

/// A call of `livekit.RoomService`.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "always boxed")]
pub enum ApiCall {
    CreateRoom(proto::CreateRoomRequest),
    ListRooms(proto::ListRoomsRequest),
    DeleteRoom(proto::DeleteRoomRequest),
    ListParticipants(proto::ListParticipantsRequest),
    GetParticipant(proto::RoomParticipantIdentity),
    RemoveParticipant(proto::RoomParticipantIdentity),
    MutePublishedTrack(proto::MuteRoomTrackRequest),
    UpdateParticipant(proto::UpdateParticipantRequest),
    UpdateSubscriptions(proto::UpdateSubscriptionsRequest),
    SendData(proto::SendDataRequest),
    UpdateRoomMetadata(proto::UpdateRoomMetadataRequest),
}
