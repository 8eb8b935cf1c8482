//! RTP header extensions (RFC 8285) that are understood or passed through.

use serde::{Deserialize, Serialize};

/// A header extension by meaning; ids differ from one transport to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Extension {
    Mid,
    Rid,
    RepairedRid,
    AudioLevel,
    TransportCc,
    AbsSendTime,
    VideoOrientation,
    PlayoutDelay,
    AbsCaptureTime,
    DependencyDescriptor,
    ContentType,
    ColorSpace,
}

impl Extension {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Extension; 12] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::AudioLevel,
        Extension::TransportCc,
        Extension::AbsSendTime,
        Extension::VideoOrientation,
        Extension::PlayoutDelay,
        Extension::AbsCaptureTime,
        Extension::DependencyDescriptor,
        Extension::ContentType,
        Extension::ColorSpace,
    ];

    /// URI of SDP `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Extension::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::ContentType => "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
            Extension::ColorSpace => "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
        }
    }

    /// The extension with this URI.
    pub fn from_uri(uri: &str) -> Option<Extension> {
        Extension::ALL.into_iter().find(|e| e.uri() == uri)
    }

    /// The id used in everything this server sends: one numbering for all receivers, so that what is copied from an
    /// incoming packet is translated once per packet and not once per receiver. Fits the one-byte form (1..=14).
    pub fn canonical_id(self) -> u8 {
        self as u8 + 1
    }
}

/// Ids negotiated on one transport: `ids[extension as usize]`, 0 where it was not negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExtensionMap {
    ids: [u8; Extension::ALL.len()],
}

impl ExtensionMap {
    /// Sets the id (1..=255) of an extension; 0 removes it.
    pub fn insert(&mut self, extension: Extension, id: u8) {
        self.ids[extension as usize] = id;
    }

    /// The id of an extension on this transport.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        Some(self.ids[extension as usize]).filter(|&id| id != 0)
    }

    /// The extension that has this id on this transport.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        if id == 0 {
            return None;
        }
        Extension::ALL.into_iter().find(|&e| self.ids[e as usize] == id)
    }

    /// The numbering of everything this server sends, reduced to what `keep` accepts.
    pub fn canonical(keep: impl Fn(Extension) -> bool) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for extension in Extension::ALL.into_iter().filter(|&e| keep(e)) {
            map.insert(extension, extension.canonical_id());
        }
        map
    }
}
