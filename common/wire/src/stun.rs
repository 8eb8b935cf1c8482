//! STUN (RFC 8489) as far as ICE-lite (RFC 8445) needs it: Binding requests in, responses out.

mod write;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use thiserror::Error;

pub use self::write::{Request, write_error, write_plain_success, write_request, write_success};
use crate::bytes::{u16_at, u32_at, u64_at};

/// Bytes of the header: type, length, magic cookie, transaction id.
pub const HEADER_BYTES: usize = 20;
/// The longest message written here: every response, and requests with a username of up to 512 bytes.
pub const MAX_WRITTEN_BYTES: usize = 640;
/// Unknown comprehension-required attributes that are reported back; a message with more is still known to have some.
/// Raising it makes error responses longer.
pub const MAX_UNKNOWN_ATTRIBUTES: usize = 8;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const BINDING: u16 = 0x001;
/// What FINGERPRINT's CRC-32 is combined with (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;
const INTEGRITY_BYTES: usize = 20;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const PASSWORD_ALGORITHM: u16 = 0x001D;
const USERHASH: u16 = 0x001E;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802A;
/// Attribute types from here on may be ignored by who does not know them.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

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
    #[error("an attribute has the wrong length or value")]
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

/// A parsed message. Attributes behind MESSAGE-INTEGRITY are ignored, except FINGERPRINT; of an attribute that occurs
/// twice, the first counts.
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
        let header = datagram.first_chunk::<HEADER_BYTES>().ok_or(StunError::Length)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, transaction_id @ ..] = *header;
        let message_type = u16::from_be_bytes([t0, t1]);
        if message_type >> 14 != 0 || u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
            return Err(StunError::Cookie);
        }
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len % 4 != 0 || datagram.len() != HEADER_BYTES + len {
            return Err(StunError::Length);
        }
        // The class is bits 4 and 8 of the type, the method all others.
        let class = match (message_type >> 8 & 1, message_type >> 4 & 1) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            (_, 0) => Class::Success,
            _ => Class::Error,
        };
        let mut message = Message {
            class,
            is_binding: message_type & !0x0110 == BINDING,
            transaction_id: TransactionId(transaction_id),
            username: None,
            priority: None,
            use_candidate: false,
            role: None,
            mapped_address: None,
            error_code: None,
            unknown: ArrayVec::new(),
            bytes: datagram,
            integrity_at: None,
            fingerprint_at: None,
        };
        let mut at = HEADER_BYTES;
        while at < datagram.len() {
            let (attribute, value) = attribute_at(datagram, at).ok_or(StunError::Attribute)?;
            message.take(at, attribute, value).ok_or(StunError::Value)?;
            at += 4 + value.len().next_multiple_of(4);
        }
        Ok(message)
    }

    /// Whether the message carries MESSAGE-INTEGRITY at all.
    pub fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// Whether FINGERPRINT is there at all.
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint_at.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and made with this short-term password (RFC 8489 section 14.5). The comparison
    /// takes the same time wherever the bytes differ.
    pub fn verify_integrity(&self, password: &[u8]) -> bool {
        self.integrity_at.is_some_and(|at| {
            let (Some((_, sent)), Some(mac)) = (attribute_at(self.bytes, at), integrity_mac(self.bytes, at, password))
            else {
                return false;
            };
            mac.verify_slice(sent).is_ok()
        })
    }

    /// Whether FINGERPRINT is there and right (section 14.7).
    pub fn verify_fingerprint(&self) -> bool {
        self.fingerprint_at.is_some_and(|at| {
            let sent = u32_at(self.bytes, at + 4);
            sent.is_some() && sent == fingerprint(self.bytes, at)
        })
    }

    /// Remembers one attribute; `None` if its value is malformed.
    fn take(&mut self, at: usize, attribute: u16, value: &'a [u8]) -> Option<()> {
        if self.fingerprint_at.is_some() {
            // Nothing may follow FINGERPRINT.
            return None;
        }
        if attribute == FINGERPRINT {
            self.fingerprint_at = (value.len() == 4).then_some(at);
            return self.fingerprint_at.map(|_| ());
        }
        if self.integrity_at.is_some() {
            return Some(());
        }
        match attribute {
            MESSAGE_INTEGRITY => self.integrity_at = Some((value.len() == INTEGRITY_BYTES).then_some(at)?),
            USERNAME => self.username = self.username.or(Some(value)),
            PRIORITY => self.priority = self.priority.or(Some(u32::from_be_bytes(value.try_into().ok()?))),
            USE_CANDIDATE => self.use_candidate = value.is_empty().then_some(true)?,
            ICE_CONTROLLING => self.role = self.role.or(Some(Role::Controlling(tie_breaker(value)?))),
            ICE_CONTROLLED => self.role = self.role.or(Some(Role::Controlled(tie_breaker(value)?))),
            XOR_MAPPED_ADDRESS => {
                let address = xor_address(value, &self.transaction_id)?;
                self.mapped_address = self.mapped_address.or(Some(address));
            }
            ERROR_CODE => {
                let &[_, _, class, number] = value.first_chunk()?;
                let code = u16::from(class & 0x07) * 100 + u16::from(number);
                self.error_code = self.error_code.or(Some((300..700).contains(&code).then_some(code)?));
            }
            MAPPED_ADDRESS
            | UNKNOWN_ATTRIBUTES
            | REALM
            | NONCE
            | MESSAGE_INTEGRITY_SHA256
            | PASSWORD_ALGORITHM
            | USERHASH
            | COMPREHENSION_OPTIONAL.. => {}
            unknown => {
                // A full list is enough to refuse the message.
                let _ = self.unknown.try_push(unknown);
            }
        }
        Some(())
    }
}

fn tie_breaker(value: &[u8]) -> Option<u64> {
    if value.len() == 8 { u64_at(value, 0) } else { None }
}

/// Type and value of the attribute that begins at `at`; its padding must be within the message, too.
fn attribute_at(message: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let attribute = u16_at(message, at)?;
    let len = usize::from(u16_at(message, at + 2)?);
    let padded = message.get(at + 4..at + 4 + len.next_multiple_of(4))?;
    Some((attribute, padded.get(..len)?))
}

/// Reads XOR-MAPPED-ADDRESS (section 14.2).
fn xor_address(value: &[u8], id: &TransactionId) -> Option<SocketAddr> {
    let port = u16_at(value, 2)? ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match (value.get(1)?, value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from_bits(u32_at(value, 4)? ^ MAGIC_COOKIE)),
        (2, 20) => {
            let bits = u128::from_be_bytes(value.get(4..20)?.try_into().ok()?);
            IpAddr::V6(Ipv6Addr::from_bits(bits ^ address_mask(id)))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Cookie and transaction id, which IPv6 addresses are combined with.
fn address_mask(id: &TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id.0);
    u128::from_be_bytes(mask)
}

/// The HMAC over everything before the attribute at `at`, with the header's length as if that attribute were the last.
fn integrity_mac(message: &[u8], at: usize, password: &[u8]) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(password).ok()?;
    mac.update(message.get(..2)?);
    mac.update(&u16::try_from(at + 4 + INTEGRITY_BYTES - HEADER_BYTES).ok()?.to_be_bytes());
    mac.update(message.get(4..at)?);
    Some(mac)
}

/// FINGERPRINT's value for everything before the attribute at `at`, which is the last.
fn fingerprint(message: &[u8], at: usize) -> Option<u32> {
    Some(crc32fast::hash(message.get(..at)?) ^ FINGERPRINT_XOR)
}

#[cfg(test)]
mod tests;
