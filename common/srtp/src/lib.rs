//! SRTP and SRTCP (RFC 3711, RFC 7714): protect straight into the transmit slot, unprotect in place. No I/O, no clock.

#![forbid(unsafe_code)]

mod cipher;
mod counter;
mod derive;
pub mod exercise;
mod gcm;
mod material;
mod receiver;
mod replay;
mod sender;

pub use material::{KeyMaterial, MasterKey, Profile};
pub use receiver::{DropReason, MAX_STREAMS, Opened, Receiver};
pub use sender::Sender;

use thiserror::Error;

/// Bytes that protection adds to an RTP packet at most: the longest tag.
pub const MAX_RTP_OVERHEAD_BYTES: usize = 16;
/// Bytes that protection adds to an RTCP packet at most: the longest tag and the index.
pub const MAX_RTCP_OVERHEAD_BYTES: usize = 20;

/// In the last word of an SRTCP packet: the payload is encrypted.
const ENCRYPTED_BIT: u32 = 1 << 31;

/// Why a key was refused or a packet not protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Error {
    #[error("keying material has the wrong length for its profile")]
    KeyLength,
    #[error("the slot is too short for the protected packet")]
    SlotTooShort,
    #[error("not a header of RTP or RTCP")]
    Header,
    #[error("the key has protected as many RTCP packets as it may")]
    Exhausted,
    #[error("the cipher refused")]
    Cipher,
}
