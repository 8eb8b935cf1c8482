//! Writing messages into the caller's memory.

use std::net::{IpAddr, SocketAddr};

use hmac::Mac;

use super::{
    BINDING, Class, ERROR_CODE, ErrorCode, FINGERPRINT, HEADER_BYTES, ICE_CONTROLLED, ICE_CONTROLLING, INTEGRITY_BYTES,
    MAGIC_COOKIE, MESSAGE_INTEGRITY, PRIORITY, Role, TransactionId, UNKNOWN_ATTRIBUTES, USE_CANDIDATE, USERNAME,
    XOR_MAPPED_ADDRESS, address_mask, fingerprint, integrity_mac,
};
use crate::bytes::put;

/// A Binding request to be written.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub transaction_id: TransactionId,
    /// `<receiver's ufrag>:<sender's ufrag>`.
    pub username: &'a [u8],
    /// The receiver's.
    pub password: &'a [u8],
    pub priority: u32,
    pub use_candidate: bool,
    pub role: Role,
}

/// Writes an ICE connectivity check with MESSAGE-INTEGRITY and FINGERPRINT; returns its length, `None` where `out` is too
/// short.
pub fn write_request(out: &mut [u8], request: &Request) -> Option<usize> {
    let mut draft = Draft::begin(out, Class::Request, request.transaction_id)?;
    draft.attribute(USERNAME, request.username)?;
    draft.attribute(PRIORITY, &request.priority.to_be_bytes())?;
    match request.role {
        Role::Controlling(tie_breaker) => draft.attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes())?,
        Role::Controlled(tie_breaker) => draft.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes())?,
    }
    if request.use_candidate {
        draft.attribute(USE_CANDIDATE, &[])?;
    }
    draft.integrity(request.password)?;
    draft.fingerprint()?;
    Some(draft.end)
}

/// Writes the success response to an authenticated check: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY with the password that
/// the request was made with, FINGERPRINT. Returns its length, `None` where `out` is too short.
pub fn write_success(out: &mut [u8], id: TransactionId, mapped: SocketAddr, password: &[u8]) -> Option<usize> {
    let mut draft = Draft::begin(out, Class::Success, id)?;
    draft.mapped_address(id, mapped)?;
    draft.integrity(password)?;
    draft.fingerprint()?;
    Some(draft.end)
}

/// Writes the answer to a plain Binding request, as from a STUN server: XOR-MAPPED-ADDRESS alone, 32 bytes for IPv4 and 44
/// for IPv6. A bare request has 20 bytes, so the caller decides whom to answer.
pub fn write_plain_success(out: &mut [u8], id: TransactionId, mapped: SocketAddr) -> Option<usize> {
    let mut draft = Draft::begin(out, Class::Success, id)?;
    draft.mapped_address(id, mapped)?;
    Some(draft.end)
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
    let mut draft = Draft::begin(out, Class::Error, id)?;
    let number = code as u16;
    // The reason phrase may be empty (RFC 8489 section 14.8); an error must not be longer than what caused it.
    draft.attribute(ERROR_CODE, &[0, 0, (number / 100) as u8, (number % 100) as u8])?;
    if !unknown.is_empty() {
        draft.attribute_of(UNKNOWN_ATTRIBUTES, unknown.iter().flat_map(|attribute| attribute.to_be_bytes()))?;
    }
    if let Some(password) = password {
        draft.integrity(password)?;
    }
    draft.fingerprint()?;
    Some(draft.end)
}

/// A message being written; the header's length is right after each attribute.
struct Draft<'a> {
    out: &'a mut [u8],
    end: usize,
}

impl<'a> Draft<'a> {
    fn begin(out: &'a mut [u8], class: Class, id: TransactionId) -> Option<Draft<'a>> {
        let class_bits = match class {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        put(out, 0, &u16::to_be_bytes(BINDING | class_bits))?;
        put(out, 2, &[0, 0])?;
        put(out, 4, &MAGIC_COOKIE.to_be_bytes())?;
        put(out, 8, &id.0)?;
        Some(Draft { out, end: HEADER_BYTES })
    }

    fn attribute(&mut self, attribute: u16, value: &[u8]) -> Option<()> {
        self.attribute_of(attribute, value.iter().copied())
    }

    fn attribute_of(&mut self, attribute: u16, value: impl Iterator<Item = u8>) -> Option<()> {
        let start = self.end + 4;
        let mut end = start;
        for byte in value {
            *self.out.get_mut(end)? = byte;
            end += 1;
        }
        let len = u16::try_from(end - start).ok()?;
        let padded = start + (end - start).next_multiple_of(4);
        self.out.get_mut(end..padded)?.fill(0);
        put(self.out, self.end, &attribute.to_be_bytes())?;
        put(self.out, self.end + 2, &len.to_be_bytes())?;
        put(self.out, 2, &u16::try_from(padded - HEADER_BYTES).ok()?.to_be_bytes())?;
        self.end = padded;
        Some(())
    }

    fn mapped_address(&mut self, id: TransactionId, mapped: SocketAddr) -> Option<()> {
        let [p0, p1] = (mapped.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes();
        // A dual-stack socket reports IPv4 peers as mapped IPv6 addresses; they mean the IPv4 one.
        match mapped.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = (ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes();
                self.attribute(XOR_MAPPED_ADDRESS, &[0, 1, p0, p1, a, b, c, d])
            }
            IpAddr::V6(ip) => {
                let mut value = [0, 2, p0, p1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                value[4..].copy_from_slice(&(ip.to_bits() ^ address_mask(&id)).to_be_bytes());
                self.attribute(XOR_MAPPED_ADDRESS, &value)
            }
        }
    }

    fn integrity(&mut self, password: &[u8]) -> Option<()> {
        let mac: [u8; INTEGRITY_BYTES] = integrity_mac(self.out, self.end, password)?.finalize().into_bytes().into();
        self.attribute(MESSAGE_INTEGRITY, &mac)
    }

    fn fingerprint(&mut self) -> Option<()> {
        // The length that the CRC covers already counts FINGERPRINT itself.
        let len = u16::try_from(self.end + 8 - HEADER_BYTES).ok()?;
        put(self.out, 2, &len.to_be_bytes())?;
        let value = fingerprint(self.out, self.end)?;
        self.attribute(FINGERPRINT, &value.to_be_bytes())
    }
}
