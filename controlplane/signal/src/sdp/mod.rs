//! Session descriptions (RFC 8866, RFC 9429), as far as WebRTC uses them: [`Description::parse`] reads what a client sent,
//! `Display` writes ours. Attributes that are not modelled here are skipped when read and never written.

mod parse;
mod write;

use sluice_messages::{Fingerprint, IceCredentials};

/// Longest description in bytes. An answer to 300 m-lines of four codecs has 600 KiB. Raising it lets one client make us
/// hold more; lowering it limits how many tracks a receiver may have at once.
pub const BYTES_MAX: usize = 1 << 20;

/// Most m-lines. Also bounds what a [`crate::Subscriber`] offers: 512 tracks at once.
pub const MEDIA_MAX: usize = 513;

/// Most entries of one kind (formats, extensions, SSRCs, …) in a media section; browsers have some forty formats.
pub const LIST_MAX: usize = 128;

/// Longest MID. The one-byte header extension carries 16 bytes; some stacks announce longer ones and abbreviate nothing.
pub const MID_BYTES_MAX: usize = 32;

/// Why a description was not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// the description is empty
    #[error("the description is empty")]
    Empty,
    /// {0} bytes are more than a description may have
    #[error("{0} bytes are more than a description may have ({BYTES_MAX})")]
    TooLong(usize),
    /// more than {MEDIA_MAX} m-lines
    #[error("more than {MEDIA_MAX} m-lines")]
    TooManyMedia,
    /// line {line}: more than {LIST_MAX} of {what}
    #[error("line {line}: more than {LIST_MAX} of {what} in one media section")]
    TooMany { line: usize, what: &'static str },
    /// line {line} contains a control character
    #[error("line {line} contains a control character")]
    Control { line: usize },
    /// line {line}: {what} cannot be read
    #[error("line {line}: {what} cannot be read")]
    Malformed { line: usize, what: &'static str },
    /// media section {index} has no mid
    #[error("media section {index} has no mid")]
    NoMid { index: usize },
    /// mid {0:?} is used twice
    #[error("mid {0:?} is used twice")]
    DuplicateMid(String),
}

/// A description. Session-level attributes have been copied into the media sections that lack them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Description {
    /// Origin line: session id and version.
    pub session: u64,
    pub version: u64,
    pub ice_lite: bool,
    pub extmap_allow_mixed: bool,
    /// MIDs of the BUNDLE group (RFC 9143), in its order.
    pub bundle: Vec<String>,
    pub media: Vec<Media>,
}

/// What a media section is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaKind {
    Audio,
    Video,
    Application,
    /// Never accepted.
    Other(String),
}

/// RFC 8866 section 6.7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Whoever wrote the description sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whoever wrote the description receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// DTLS role (RFC 8842).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    ActPass,
    Active,
    Passive,
    HoldConn,
}

/// One media section.
#[derive(Clone, PartialEq, Debug)]
pub struct Media {
    pub kind: MediaKind,
    /// 0 rejects or stops the section.
    pub port: u16,
    pub protocol: String,
    pub mid: String,
    pub direction: Direction,
    pub setup: Option<Setup>,
    pub ice: Option<IceCredentials>,
    /// SHA-256 only; other hashes are skipped.
    pub fingerprint: Option<Fingerprint>,
    /// What follows `a=candidate:`; written, not read.
    pub candidates: Vec<String>,
    pub rtcp_mux: bool,
    pub rtcp_rsize: bool,
    /// Stream id and track id.
    pub msid: Option<(String, String)>,
    /// In order of preference. Empty for application sections.
    pub formats: Vec<Format>,
    /// Id and URI.
    pub extensions: Vec<(u8, String)>,
    /// RIDs of `a=simulcast`, from the side that sends, in its order; of alternatives the first.
    pub rids: Vec<String>,
    /// SSRCs in order of appearance.
    pub ssrcs: Vec<u32>,
    /// CNAME of the SSRCs; written, not read.
    pub cname: Option<String>,
    /// Semantics (`FID`, `SIM`) and SSRCs.
    pub groups: Vec<(String, Vec<u32>)>,
    /// RFC 8841; present in application sections of data channels.
    pub sctp_port: Option<u16>,
    pub max_message_size: Option<u64>,
    /// What follows the protocol on the m-line where formats are not payload types.
    pub other_formats: String,
}

impl Media {
    /// A section with nothing in it, `inactive`.
    pub fn new(kind: MediaKind, mid: String) -> Media {
        let application = kind == MediaKind::Application;
        Media {
            kind,
            port: 9,
            protocol: if application { "UDP/DTLS/SCTP" } else { "UDP/TLS/RTP/SAVPF" }.to_owned(),
            mid,
            direction: if application { Direction::SendRecv } else { Direction::Inactive },
            setup: None,
            ice: None,
            fingerprint: None,
            candidates: Vec::new(),
            rtcp_mux: false,
            rtcp_rsize: false,
            msid: None,
            formats: Vec::new(),
            extensions: Vec::new(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
            cname: None,
            groups: Vec::new(),
            sctp_port: None,
            max_message_size: None,
            other_formats: if application { "webrtc-datachannel" } else { "" }.to_owned(),
        }
    }

    /// The RTX stream that repairs an SSRC, by FID group (RFC 5576).
    pub fn rtx_of(&self, ssrc: u32) -> Option<u32> {
        let fid = |(semantics, ssrcs): &&(String, Vec<u32>)| semantics == "FID" && ssrcs.first() == Some(&ssrc);
        self.groups.iter().find(fid).and_then(|(_, ssrcs)| ssrcs.get(1).copied())
    }
}

/// One payload type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Format {
    pub payload_type: u8,
    /// Encoding name; empty for static types without `a=rtpmap`.
    pub name: String,
    pub clock_rate: u32,
    pub channels: Option<u8>,
    /// `a=fmtp` parameters as written.
    pub parameters: String,
    /// `a=rtcp-fb` values.
    pub feedback: Vec<String>,
}

impl Format {
    /// Value of a `key=value` parameter.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        let pair = |pair: &str| pair.trim().split_once('=').is_some_and(|(k, _)| k.trim().eq_ignore_ascii_case(key));
        let found = self.parameters.split(';').find(|p| pair(p))?;
        found.split_once('=').map(|(_, value)| value.trim())
    }

    /// This feedback is negotiated.
    pub fn has_feedback(&self, value: &str) -> bool {
        self.feedback.iter().any(|f| f.eq_ignore_ascii_case(value))
    }
}
