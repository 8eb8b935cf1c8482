//! Bounds and times.

use std::time::Duration;

/// What an operator can set. Times are compared with [`crate::Now::monotonic`].
#[derive(Clone, Debug)]
pub struct RoomsConfig {
    /// Told to clients in `server_info`; see [`COMPATIBLE_VERSION`].
    pub server_version: String,
    /// Told to clients in `server_info`.
    pub region: String,
    /// Told to clients in `server_info`: this control instance.
    pub node_id: String,
    /// A room that nobody joined is closed after this time, unless `CreateRoom` says otherwise.
    pub empty_timeout: Duration,
    /// A room that everybody left is closed after this time, unless `CreateRoom` says otherwise.
    pub departure_timeout: Duration,
    /// Joining creates rooms. Otherwise only `CreateRoom` does.
    pub auto_create: bool,
    /// Participants in a room whose own limit is unset; at most [`PARTICIPANTS_MAX`].
    pub max_participants: u32,
    /// How often clients are told to ping.
    pub ping_interval: Duration,
    /// A socket that is silent for this long is closed.
    pub ping_timeout: Duration,
    /// A participant without a peer connection after this time is removed.
    pub connect_timeout: Duration,
    /// A participant without a socket is kept for this long.
    pub resume_window: Duration,
    /// A fresh token is sent this often.
    pub token_refresh: Duration,
    /// `MutePublishedTrack` may also unmute.
    pub remote_unmute: bool,
}

impl Default for RoomsConfig {
    fn default() -> RoomsConfig {
        RoomsConfig {
            server_version: COMPATIBLE_VERSION.to_string(),
            region: String::new(),
            node_id: "sluice".to_string(),
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            auto_create: true,
            max_participants: 0,
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(60),
            resume_window: Duration::from_secs(30),
            token_refresh: Duration::from_secs(300),
            remote_unmute: false,
        }
    }
}

/// The LiveKit server whose behaviour clients may count on. They compare it before they use remote procedure calls (1.8.0)
/// and other newer messages, and refuse a server whose version is empty.
pub const COMPATIBLE_VERSION: &str = "1.13.5";
/// Rooms of one control. Raising it costs memory and the length of `ListRooms`, lowering it refuses calls earlier.
pub const ROOMS_MAX: usize = 20_000;
/// Participants of one room. Each costs every other one an entry of `other_participants` and of updates.
pub const PARTICIPANTS_MAX: usize = 3_000;
/// Published tracks of one participant, announced ones included. Each can cost every other one a media section.
pub const TRACKS_MAX: usize = 32;
/// Bytes of a participant's or room's metadata: LiveKit's default limit, repeated in every update.
pub const METADATA_BYTES_MAX: usize = 64_000;
/// Bytes of all attribute names and values of a participant together.
pub const ATTRIBUTES_BYTES_MAX: usize = 64_000;
/// Bytes of a participant's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of an identity.
pub const IDENTITY_BYTES_MAX: usize = 256;
/// Bytes of a room's name.
pub const ROOM_BYTES_MAX: usize = 256;
/// Bytes of a track's name.
pub const TRACK_NAME_BYTES_MAX: usize = 256;
/// Bytes of a client's id for a track; browsers use UUIDs.
pub const CID_BYTES_MAX: usize = 256;
/// Bytes of a request to publish: what of it is shown to everybody must not be a way to flood them.
pub const ADD_TRACK_BYTES_MAX: usize = 16 << 10;
/// Bytes of a sid that a client names; ours have 15.
pub const SID_BYTES_MAX: usize = 64;
/// Layers and codecs listed for a track.
pub const LAYERS_MAX: usize = 8;
/// Track sids that one request may name. Lower than what a client in a full room sends at once would break it.
pub const SIDS_MAX: usize = 8_192;
/// Entries of a participant's own subscription permission.
pub const TRACK_PERMISSIONS_MAX: usize = PARTICIPANTS_MAX;
/// Data tracks of one participant. Raising it serves those who publish a track per sensor, lowering it bounds rows at the
/// node.
pub const DATA_TRACKS_MAX: usize = 256;
/// Bytes of a request to publish a data track: name, encoding and schema are shown to everybody.
pub const DATA_TRACK_BYTES_MAX: usize = 1 << 10;
/// Bytes of what all data tracks of a participant tell about themselves: as much as metadata, and repeated as often.
pub const DATA_TRACKS_BYTES_MAX: usize = METADATA_BYTES_MAX;
/// Data tracks that a participant may receive. Fewer than there are handles; each costs a row at the node and a line of
/// every list of handles.
pub const DATA_SUBSCRIPTIONS_MAX: usize = 4_096;
/// Bytes of a data packet sent through the API.
pub const DATA_BYTES_MAX: usize = 64_000;
/// Nonces of API data packets that are remembered per room to drop repeats.
pub const NONCES_MAX: usize = 256;
/// Wishes for tracks that are not there (now), per participant: kept so that they hold when a track comes back.
pub const WISHES_MAX: usize = 4_096;
/// Bytes of one `update`; LiveKit splits at the same size because some clients' sockets do not take larger messages.
pub const UPDATE_BYTES_MAX: usize = 128 << 10;
/// People in a room up to which everybody is told of every change at once.
pub const NEWS_AT_ONCE: usize = 50;
/// In a larger room, the time between two rounds of news for each person in it: a millisecond bounds what a room costs to a
/// thousand messages a second of each kind. Raising it makes large rooms cheaper when many join, lowering it shows people
/// there sooner.
pub const NEWS_PERIOD: Duration = Duration::from_millis(1);
/// Nodes that may be known.
pub const NODES_MAX: usize = 1_024;
/// Media sections of a subscriber connection that may be live: what browsers were seen to take. More subscriptions than
/// this wait until others end.
pub const SUBSCRIPTIONS_MAX: usize = 500;
/// Departures that are remembered per room for those who resume. A resuming client that missed more keeps showing someone
/// who left until it is told otherwise.
pub const DEPARTED_MAX: usize = 1_024;
/// Bad requests of one participant that an operator is told of within [`COMPLAINT_PERIOD`]; the rest is counted. Raising it
/// shows more of what is wrong, lowering it keeps one client from filling the log.
pub const COMPLAINTS_MAX: u32 = 5;
/// See [`COMPLAINTS_MAX`].
pub const COMPLAINT_PERIOD: Duration = Duration::from_secs(60);
/// How often a participant's note on its node is rewritten at most for what media does not depend on. Raising it saves link
/// traffic while windows are resized; lowering it shortens what a control that dies forgets.
pub const NOTE_PERIOD: Duration = Duration::from_secs(1);
/// A layer that nobody wants any more is still asked for this long, so that a resume or a page turn does not stall it.
/// Raising it costs publishers upstream, lowering it costs viewers a wait for a key frame.
pub const DEMAND_HOLD: Duration = Duration::from_secs(5);
/// A client whose call has moved to another node and that has not arrived after this time has to resume with new ICE
/// credentials. Raising it waits for slow clients, lowering it ends the silence of those that got lost sooner.
pub const MOVE_PATIENCE: Duration = Duration::from_secs(3);
/// A client that has not arrived after this time, though it was told to resume, starts anew.
pub const MOVE_RESTART: Duration = Duration::from_secs(15);
