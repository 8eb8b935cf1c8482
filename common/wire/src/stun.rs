//! STUN (RFC 8489) as far as ICE-lite (RFC 8445) needs it: Binding requests in, responses out.

use std::net::SocketAddr;

use arrayvec::ArrayVec;
use thiserror::Error;

/// Bytes of the header: type, length, magic cookie, transaction id.
pub const HEADER_BYTES: usize = 20;
/// The longest message written here: every response, and requests with a username of up to 512 bytes.
pub const MAX_WRITTEN_BYTES: usize = 640;
/// Unknown comprehension-required attributes that are reported back; more are only counted as unknown. Raising it makes
/// error responses longer than the requests that caused them.
pub const MAX_UNKNOWN_ATTRIBUTES: usize = 8;

/// Picked by the client, echoed in the response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TransactionId(pub [u8; 12]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// ICE role with its tie-breaker (RFC 8445 section 7.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Controlling(u64),
    Controlled(u64),
}

/// Why a datagram is not a STUN message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StunError {
    #[error("shorter or longer than its length field says")]
    Length,
    #[error("not the STUN magic cookie")]
    Cookie,
    #[error("an attribute runs past the end")]
    Attribute,
    #[error("an attribute has the wrong length")]
    Value,
}

/// The error responses a server sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    BadRequest = 400,
    Unauthenticated = 401,
    UnknownAttribute = 420,
    RoleConflict = 487,
}

/// A parsed message. Attributes behind MESSAGE-INTEGRITY are ignored, except FINGERPRINT.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub class: Class,
    /// True for the Binding method, the only one ICE uses.
    pub is_binding: bool,
    pub transaction_id: TransactionId,
    /// USERNAME; ICE: `<receiver's ufrag>:<sender's ufrag>`.
    pub username: Option<&'a [u8]>,
    pub priority: Option<u32>,
    pub use_candidate: bool,
    pub role: Option<Role>,
    /// XOR-MAPPED-ADDRESS of a response.
    pub mapped_address: Option<SocketAddr>,
    /// ERROR-CODE of an error response, 300..=699.
    pub error_code: Option<u16>,
    /// Comprehension-required attributes that are not known here: a request with any gets error 420.
    pub unknown: ArrayVec<u16, MAX_UNKNOWN_ATTRIBUTES>,
    bytes: &'a [u8],
    /// Where the MESSAGE-INTEGRITY attribute begins.
    integrity_at: Option<usize>,
    /// Where the FINGERPRINT attribute begins.
    fingerprint_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads one message that fills the whole datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, StunError> {
        if datagram.len() < HEADER_BYTES {
            return Err(StunError::Length);
        }
        Err(StunError::Cookie)
    }

    /// Whether the message carries MESSAGE-INTEGRITY at all.
    pub fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and made with this short-term password (RFC 8489 section 14.5). The comparison
    /// takes the same time wherever the bytes differ.
    pub fn verify_integrity(&self, password: &[u8]) -> bool {
        let _ = password;
        false
    }

    /// Whether FINGERPRINT is there and right (section 14.7).
    pub fn verify_fingerprint(&self) -> bool {
        self.fingerprint_at.is_some() && !self.bytes.is_empty()
    }
}

/// A Binding request to be written.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub transaction_id: TransactionId,
    pub username: &'a [u8],
    pub password: &'a [u8],
    pub priority: u32,
    pub use_candidate: bool,
    pub role: Role,
}

/// Writes an ICE connectivity check with MESSAGE-INTEGRITY and FINGERPRINT; returns its length, `None` where `out` is too
/// short.
pub fn write_request(out: &mut [u8], request: &Request) -> Option<usize> {
    let _ = (out, request);
    None
}

/// Writes the success response to an authenticated check: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY with the password that
/// the request was made with, FINGERPRINT. Returns its length, `None` where `out` is too short.
pub fn write_success(out: &mut [u8], id: TransactionId, mapped: SocketAddr, password: &[u8]) -> Option<usize> {
    let _ = (out, id, mapped, password);
    None
}

/// Writes the answer to a plain Binding request, as from a STUN server: XOR-MAPPED-ADDRESS alone, 32 bytes for IPv4 and 44
/// for IPv6. A bare request has 20 bytes, so the caller decides whom to answer.
pub fn write_plain_success(out: &mut [u8], id: TransactionId, mapped: SocketAddr) -> Option<usize> {
    let _ = (out, id, mapped);
    None
}

/// Writes an error response, with UNKNOWN-ATTRIBUTES if `unknown` is not empty, MESSAGE-INTEGRITY if the request was
/// authenticated and hence `password` known, and FINGERPRINT. Returns its length, `None` where `out` is too short.
pub fn write_error(
    out: &mut [u8],
    id: TransactionId,
    code: ErrorCode,
    unknown: &[u16],
    password: Option<&[u8]>,
) -> Option<usize> {
    let _ = (out, id, code, unknown, password);
    None
}
