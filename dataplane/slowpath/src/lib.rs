//! What happens beside the packet path: ICE-lite checks, DTLS handshakes and SCTP data channels. Sans-IO: datagrams, time
//! and certificates are arguments; nothing here has a socket, reads a clock or starts a thread.
//!
//! A worker owns one [`ice::Agent`] for all its transports and asks it about every datagram: STUN goes to
//! [`Agent::input`](ice::Agent::input), anything else must come from a 5-tuple that [`Agent::by_route`](ice::Agent::by_route)
//! knows, or it is dropped. DTLS records of a known transport go to its [`peer::Peer`], which lives on a slow thread, gives
//! the SRTP keys back and carries the data channels.

#![forbid(unsafe_code)]

pub mod certificate;
pub mod ice;
pub mod peer;

pub use certificate::Certificate;
pub use ice::Agent;
pub use peer::Peer;
