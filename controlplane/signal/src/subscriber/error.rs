//! Why a track or an answer was not taken.

use crate::sdp::{self, SdpError};

/// A track cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// more tracks than one peer connection can carry
    #[error("more tracks than one peer connection can carry ({})", sdp::MEDIA_MAX - 1)]
    Full,
    /// none of its codecs can be forwarded to this client
    #[error("none of its codecs can be forwarded to this client")]
    NoCodec,
}

/// Why an answer was not accepted. The offer stays outstanding.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// {0}
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// the answer does not have the m-lines of the offer
    #[error("the answer does not have the m-lines of the offer: {offered} offered, {answered} answered")]
    Count { offered: usize, answered: usize },
    /// m-line {index} of the answer has another mid or kind than in the offer
    #[error("m-line {index} of the answer has another mid or kind than in the offer")]
    Order { index: usize },
    /// the answer has no ICE credentials
    #[error("the answer has no ICE credentials")]
    NoCredentials,
    /// the answer has no SHA-256 fingerprint
    #[error("the answer has no SHA-256 fingerprint")]
    NoFingerprint,
    /// media section {mid:?} has another fingerprint
    #[error("media section {mid:?} has another fingerprint than the first one or than the answer before")]
    Fingerprint { mid: String },
    /// media section {mid:?} takes the wrong DTLS role
    #[error("media section {mid:?} must answer setup:active, since the server is passive")]
    Role { mid: String },
    /// media section {mid:?} does not use rtcp-mux
    #[error("media section {mid:?} does not use rtcp-mux")]
    NotMuxed { mid: String },
}
