//! Descriptions captured from Chromium 156, one after the other of the same peer connection, and one in the style of Firefox.

use sluice_messages::{Codec, Fingerprint, IceCredentials, Kind};
use sluice_signal::{NodeInfo, PendingTrack, sdp::Description};

pub(crate) fn node() -> NodeInfo {
    NodeInfo {
        generation: 0,
        fingerprint: Fingerprint { sha256: [0xa5; 32] },
        candidates: vec!["192.0.2.7:7882".parse().unwrap(), "[2001:db8::7]:7882".parse().unwrap()],
    }
}

/// Credentials that tell themselves apart.
pub(crate) fn credentials(n: u32) -> IceCredentials {
    IceCredentials { ufrag: format!("ufrag{n:03}"), pwd: format!("password-of-the-generation-{n:03}") }
}

pub(crate) fn data(name: &str) -> String {
    let path = format!("{}/tests/data/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An announced track whose cid is the track id of a section in a description.
pub(crate) fn announced(sdp: &str, mid: &str, codec: Option<Codec>) -> PendingTrack {
    let description = Description::parse(sdp).unwrap();
    let media = description.media.iter().find(|media| media.mid == mid).unwrap();
    let kind = sluice_signal::codecs::kind(media).unwrap();
    let cid = media.msid.clone().unwrap().1;
    PendingTrack { cid, kind, codec, rids: Vec::new(), stereo: false, dtx: true, red: kind == Kind::Audio }
}
