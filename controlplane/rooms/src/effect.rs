//! What the rooms want done: the output side of the state machine. Effects are carried out in their order.

use livekit_protocol as proto;
use sluice_messages::{Entry, Op, SendData};
use sluice_signal::Claims;

use crate::{NodeId, ReplyId, SocketId};

/// One output.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send a message to a client.
    Send { socket: SocketId, message: proto::signal_response::Message },
    /// Send the same message to several clients.
    Tell { sockets: Vec<SocketId>, message: proto::signal_response::Message },
    /// Close a socket after what was sent on it before. It is not reported back by `SocketClosed`.
    Close { socket: SocketId, reason: CloseReason },
    /// Sign a fresh token from these claims and send it as `refresh_token`.
    RefreshToken { socket: SocketId, claims: Box<Claims> },
    /// Answer an API call.
    Reply { reply: ReplyId, result: Result<ApiAnswer, ApiError> },
    /// Change a node's table, in this order.
    Node { node: NodeId, ops: Vec<Op> },
    /// This is the whole table the node should hold.
    NodeSnapshot { node: NodeId, entries: Vec<Entry> },
    /// Have a node deliver a data packet.
    NodeSend { node: NodeId, data: SendData },
    /// Something happened that an operator or a webhook may want to know.
    Notice(Notice),
}

/// Why a socket is closed, for the WebSocket close frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The session is over and the client was told so by `leave`, or has said so itself.
    Left,
    /// What the client asked for or described cannot be: why. It was told by `leave` what to do now.
    Refused(String),
    /// Nothing came from the client for the ping timeout.
    PingTimeout,
    /// The session goes on at a newer socket.
    Replaced,
    /// Closed on the client's own request, to try a resume.
    Simulated,
}

impl CloseReason {
    /// RFC 6455 section 7.4.1 code.
    pub fn code(&self) -> u16 {
        match self {
            CloseReason::Left | CloseReason::Simulated => 1000,
            CloseReason::Refused(_) => 1008,
            CloseReason::PingTimeout | CloseReason::Replaced => 1001,
        }
    }

    /// Text of the close frame.
    pub fn text(&self) -> &str {
        match self {
            CloseReason::Left => "left",
            CloseReason::Refused(reason) => reason,
            CloseReason::PingTimeout => "ping timeout",
            CloseReason::Replaced => "resumed elsewhere",
            CloseReason::Simulated => "simulated disconnect",
        }
    }
}

/// Answer of an [`crate::ApiCall`].
#[derive(Clone, PartialEq, Debug)]
pub enum ApiAnswer {
    /// `CreateRoom`, `UpdateRoomMetadata`
    Room(proto::Room),
    /// `ListRooms`
    Rooms(proto::ListRoomsResponse),
    /// `GetParticipant`, `UpdateParticipant`
    Participant(Box<proto::ParticipantInfo>),
    /// `ListParticipants`
    Participants(proto::ListParticipantsResponse),
    /// `MutePublishedTrack`
    Muted(Box<proto::MuteRoomTrackResponse>),
    /// `DeleteRoom`
    Deleted(proto::DeleteRoomResponse),
    /// `RemoveParticipant`
    Removed(proto::RemoveParticipantResponse),
    /// `UpdateSubscriptions`
    Subscriptions(proto::UpdateSubscriptionsResponse),
    /// `SendData`
    Sent(proto::SendDataResponse),
}

/// Why an API call failed: the caller's fault except for [`ApiCode::Unavailable`], where a retry can help.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct ApiError {
    pub code: ApiCode,
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(code: ApiCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into() }
    }
}

/// Twirp error codes that rooms use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiCode {
    InvalidArgument,
    NotFound,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
}

impl ApiCode {
    /// `code` of the Twirp error body.
    pub fn name(self) -> &'static str {
        match self {
            ApiCode::InvalidArgument => "invalid_argument",
            ApiCode::NotFound => "not_found",
            ApiCode::FailedPrecondition => "failed_precondition",
            ApiCode::ResourceExhausted => "resource_exhausted",
            ApiCode::Unavailable => "unavailable",
        }
    }

    /// HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            ApiCode::InvalidArgument => 400,
            ApiCode::NotFound => 404,
            ApiCode::FailedPrecondition => 412,
            ApiCode::ResourceExhausted => 429,
            ApiCode::Unavailable => 503,
        }
    }
}

/// Life of rooms, participants and tracks.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    RoomStarted {
        room: String,
        sid: String,
    },
    RoomFinished {
        room: String,
        sid: String,
    },
    ParticipantJoined {
        room: String,
        sid: String,
        identity: String,
    },
    ParticipantActive {
        room: String,
        sid: String,
        identity: String,
    },
    ParticipantResumed {
        room: String,
        sid: String,
        identity: String,
    },
    ParticipantLeft {
        room: String,
        sid: String,
        identity: String,
        reason: proto::DisconnectReason,
    },
    TrackPublished {
        room: String,
        participant: String,
        track: String,
    },
    TrackUnpublished {
        room: String,
        participant: String,
        track: String,
    },
    /// A join or resume that was answered with `leave`.
    Refused {
        room: String,
        identity: String,
        reason: String,
    },
    /// A description or request of a client that was not accepted; its session goes on or was told to reconnect. `unsaid`
    /// more came before it and were not told, see [`crate::limits::COMPLAINTS_MAX`].
    BadRequest {
        room: String,
        identity: String,
        reason: String,
        unsaid: u32,
    },
    /// These many rooms and participants of a node went on elsewhere.
    Relocated {
        node: String,
        rooms: usize,
        participants: usize,
    },
    /// A node gave back these many rooms and participants.
    Restored {
        node: String,
        rooms: usize,
        participants: usize,
    },
}
