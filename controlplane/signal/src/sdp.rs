//! Session descriptions (RFC 8866, RFC 9429), as far as WebRTC uses them.

/// Why a description was not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// the description is empty
    #[error("the description is empty")]
    Empty,
}
