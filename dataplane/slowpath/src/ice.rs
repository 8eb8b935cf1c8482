//! ICE-lite (RFC 8445 section 2.5) for all transports of one worker, with consent (RFC 7675).
//!
//! The agent never sends by itself: it answers checks. Control draws the credentials, the client is always the controlling
//! side. A check that carries the local user name and passes the integrity check validates the 5-tuple it came from: a
//! *route*. Everything that is not STUN must come from a route ([`Agent::by_route`]).
//!
//! Whoever cannot authenticate never gets more bytes back than were sent. The plain Binding responder (RFC 8489 section
//! 2.2) therefore answers only requests that are at least as long as the response: [`RESPONDER_BYTES_V4`] or
//! [`RESPONDER_BYTES_V6`], which clients reach with SOFTWARE, FINGERPRINT or PADDING. A bare 20-byte request is dropped and
//! counted: the price for not being of use to somebody who forges addresses.

mod agent;
mod counters;
mod routes;

use std::time::Duration;

use sluice_frames::Route;
use sluice_messages::TransportId;

pub use agent::{Agent, local_ufrag};
pub use counters::Counters;

/// Length in bytes of the plain Binding response to an IPv4 address: header and XOR-MAPPED-ADDRESS.
pub const RESPONDER_BYTES_V4: usize = 20 + 12;
/// Length in bytes of the plain Binding response to an IPv6 address.
pub const RESPONDER_BYTES_V6: usize = 20 + 24;

/// Validated 5-tuples of one transport. Raising it costs memory per transport (a route is about 64 bytes); lowering it makes
/// clients with many interfaces lose a route they still check, as the one checked longest ago makes room.
pub const ROUTES_MAX: usize = 16;

/// Bytes that `out` of [`Agent::input`] must have for any answer.
pub const REPLY_BYTES_MAX: usize = 128;

/// What an agent may use and how patient it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Transports at most. Tables are sized for it at start.
    pub transports_max: usize,
    /// A route without a check for this long is forgotten; a transport without routes has lost consent.
    pub consent: Duration,
    /// A transport without a check for this long is reported as disconnected. Browsers check each 2.5 s (Chromium) or
    /// each 4 to 6 s (Firefox, RFC 7675 section 5.1): lowering it reports healthy Firefox clients.
    pub disconnected: Duration,
    /// Plain Binding requests answered per second at most. Raising it makes the port more useful to strangers.
    pub responder_per_s: u32,
    /// Mixed into the hash of routes, so that strangers cannot choose addresses that collide.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            transports_max: 4096,
            consent: Duration::from_secs(30),
            disconnected: Duration::from_secs(7),
            responder_per_s: 200,
            seed: 0,
        }
    }
}

/// A transport that cannot be taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PutError {
    /// All places for transports are taken
    #[error("all places for transports are taken")]
    Full,
    /// Another transport has this local user name fragment
    #[error("another transport has this local user name fragment")]
    UfragTaken,
    /// The credentials are shorter or longer than RFC 8839 section 5.4 allows
    #[error("the credentials are shorter or longer than RFC 8839 section 5.4 allows")]
    Credentials,
}

/// What to do after [`Agent::input`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// So many bytes of `out` go back to where the datagram came from.
    pub reply: Option<usize>,
    pub outcome: Outcome,
}

/// What a datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An authenticated check.
    Accepted(Accepted),
    /// A check for a user name that is not here: of another worker, or of nobody. The caller may hand it over.
    Foreign,
    /// A plain Binding request, answered.
    Responded,
    /// Not answered, or answered with an error to an authenticated sender.
    Dropped(Dropped),
}

/// An authenticated check and what it changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub transport: TransportId,
    /// This 5-tuple was not a route of the transport before.
    pub new_route: bool,
    /// This 5-tuple is now where to send to, and was not before.
    pub selected: bool,
    /// This route had to make room.
    pub evicted: Option<Route>,
    /// This 5-tuple was a route of that transport until now (a browser that reuses its port).
    pub taken_from: Option<TransportId>,
    /// The transport was reported disconnected or expired and is back, or this is its first check.
    pub connected: bool,
}

/// Why a datagram was dropped; each is counted in [`Counters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Not a STUN message, or one that lies about its lengths.
    Malformed,
    /// STUN, but not a Binding request (an agent that never asks gets no responses).
    Method,
    /// USERNAME without the form `local:remote`.
    Username,
    /// USERNAME without MESSAGE-INTEGRITY.
    IntegrityMissing,
    /// MESSAGE-INTEGRITY of another password.
    IntegrityWrong,
    /// FINGERPRINT does not match.
    Fingerprint,
    /// Comprehension-required attributes that are unknown; an authenticated sender gets error 420.
    UnknownAttribute,
    /// The sender believes to be controlled; it gets error 487 and switches (RFC 8445 section 7.3.1.1).
    RoleConflict,
    /// A plain request shorter than its response would be.
    Amplifying,
    /// More plain requests than are answered per second.
    RateLimited,
    /// `out` is too small for the answer.
    NoRoom,
}

/// A change that comes with time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A route has lost its consent: nothing is sent to it or taken from it any more. If it was the selected one,
    /// [`Agent::selected`] now names another, or none.
    Unrouted { transport: TransportId, route: Route },
    /// No check for [`Config::disconnected`].
    Disconnected { transport: TransportId },
    /// The last route has lost its consent. A new check brings the transport back.
    Expired { transport: TransportId },
}
