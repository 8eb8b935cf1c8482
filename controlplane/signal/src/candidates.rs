//! Trickled ICE candidates (RFC 8838): the client's are only checked, since an ICE-lite side never sends checks; ours are
//! the node's host addresses.

use std::net::SocketAddr;

use livekit_protocol::{SignalTarget, TrickleRequest};
use serde::{Deserialize, Serialize};

use crate::NodeInfo;

/// Longest `candidateInit` in bytes; browsers send some 250.
pub const INIT_BYTES_MAX: usize = 2048;

/// RTCIceCandidateInit. An empty candidate marks the end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CandidateInit {
    pub candidate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    pub sdp_m_line_index: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// A candidate that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// {0} bytes are more than a candidate may have
    #[error("{0} bytes are more than a candidate may have ({INIT_BYTES_MAX})")]
    TooLong(usize),
    /// candidateInit is not the JSON of RTCIceCandidateInit: {0}
    #[error("candidateInit is not the JSON of RTCIceCandidateInit: {0}")]
    Json(#[from] serde_json::Error),
    /// candidate line does not follow RFC 8839 section 5.1
    #[error("candidate line does not follow RFC 8839 section 5.1")]
    Line,
}

/// Reads and checks what a client trickles. `None` marks the end of candidates.
pub fn parse(init: &str) -> Result<Option<CandidateInit>, CandidateError> {
    if init.len() > INIT_BYTES_MAX {
        return Err(CandidateError::TooLong(init.len()));
    }
    if init.is_empty() {
        return Ok(None);
    }
    let init: CandidateInit = serde_json::from_str(init)?;
    let line = init.candidate.strip_prefix("a=").unwrap_or(&init.candidate);
    if line.is_empty() {
        return Ok(None);
    }
    check(line).ok_or(CandidateError::Line)?;
    Ok(Some(init))
}

/// foundation component transport priority address port "typ" type, then pairs.
fn check(line: &str) -> Option<()> {
    let ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    let mut words = line.strip_prefix("candidate:")?.split(' ');
    let foundation = words.next()?;
    // Some stacks send foundations that are longer than the 32 characters of the RFC; nothing depends on them.
    if foundation.is_empty() || !foundation.chars().all(|c| ice_char(c) || c == '-' || c == '_') {
        return None;
    }
    let component: u16 = words.next()?.parse().ok()?;
    words.next().filter(|transport| !transport.is_empty())?;
    words.next()?.parse::<u32>().ok()?;
    // An address, or a name that hides one (RFC 8828).
    words.next().filter(|address| !address.is_empty())?;
    words.next()?.parse::<u16>().ok()?;
    (words.next()? == "typ" && words.next().is_some_and(|kind| !kind.is_empty())).then_some(())?;
    ((1..=256).contains(&component) && !line.chars().any(char::is_control)).then_some(())
}

/// The node's host candidates as messages for one peer connection, the last one marked final. `mid` and index 0 name the
/// bundled section.
pub fn trickle(node: &NodeInfo, mid: &str, target: SignalTarget) -> Vec<TrickleRequest> {
    let candidates = &node.candidates;
    let last = candidates.len().saturating_sub(1);
    let message = |(i, address): (usize, &SocketAddr)| {
        let init = CandidateInit {
            candidate: format!("candidate:{}", host(i, address, node.generation)),
            sdp_mid: Some(mid.to_owned()),
            sdp_m_line_index: Some(0),
            username_fragment: None,
        };
        let candidate_init = serde_json::to_string(&init).unwrap_or_default();
        TrickleRequest { candidate_init, target: target as i32, r#final: i == last }
    };
    candidates.iter().enumerate().map(message).collect()
}

/// Addresses of a node that are told apart by preference.
const ADDRESSES: u32 = 8;

/// Local preference of the first candidate of a call that has not moved: a hundred moves fit above it. After those a client
/// may stay with the node it has until that falls silent.
const PREFERENCE: u32 = 65_535 - 100 * ADDRESSES;

/// What follows `candidate:` for the `i`-th host address. Earlier ones are preferred, and all of them to those of former
/// generations (RFC 8445 section 5.1.2).
pub(crate) fn host(i: usize, address: &SocketAddr, generation: u32) -> String {
    let below = (i as u32).min(ADDRESSES - 1);
    let local_preference = PREFERENCE.saturating_add(generation.saturating_mul(ADDRESSES)).min(65_535) - below;
    let priority = (126 << 24) | (local_preference << 8) | 255;
    let foundation = generation.saturating_mul(ADDRESSES).saturating_add(i as u32 + 1);
    format!("{foundation} 1 udp {priority} {} {} typ host", address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_trickle_is_read() {
        let check = |init: &str, mid: &str| {
            let parsed = parse(init).unwrap().unwrap();
            assert_eq!(parsed.sdp_mid.as_deref(), Some(mid), "{init}");
        };
        check(
            r#"{"candidate":"candidate:842163049 1 udp 1677729535 203.0.113.7 40000 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag EsAw network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}"#,
            "0",
        );
        check(
            r#"{"candidate":"candidate:0 1 UDP 2122252543 3f1b4ad0-0000-4000-8000-000000000000.local 51111 typ host","sdpMid":"a","sdpMLineIndex":1,"x":1}"#,
            "a",
        );
        check(r#"{"candidate":"candidate:1 1 tcp 1518280447 ::1 9 typ host tcptype active","sdpMid":"0"}"#, "0");
    }

    #[test]
    fn end_of_candidates() {
        assert_eq!(parse(r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0}"#).unwrap(), None);
        assert_eq!(parse("").unwrap(), None);
    }

    #[test]
    fn bad_candidates_are_refused() {
        for line in
            ["candidate:", "candidate:1 1 udp x 1.2.3.4 5 typ host", "nonsense", "candidate:1 1 udp 1 a 99999 typ host"]
        {
            let init = serde_json::to_string(&CandidateInit { candidate: line.into(), ..Default::default() }).unwrap();
            assert!(matches!(parse(&init), Err(CandidateError::Line)), "{line}");
        }
        assert!(matches!(parse("[1"), Err(CandidateError::Json(_))));
        assert!(matches!(parse(&" ".repeat(INIT_BYTES_MAX + 1)), Err(CandidateError::TooLong(_))));
    }

    #[test]
    fn ours_parse_as_theirs_and_the_last_is_final() {
        let addresses = ["192.0.2.1:7882".parse().unwrap(), "[2001:db8::1]:7882".parse().unwrap()];
        let node = |generation| NodeInfo {
            fingerprint: sluice_messages::Fingerprint { sha256: [0; 32] },
            candidates: addresses.to_vec(),
            generation,
        };
        let messages = trickle(&node(0), "0", SignalTarget::Subscriber);
        assert_eq!(messages.iter().map(|m| m.r#final).collect::<Vec<_>>(), [false, true]);
        let first = parse(&messages[0].candidate_init).unwrap().unwrap();
        assert_eq!(first.candidate, "candidate:1 1 udp 2130501631 192.0.2.1 7882 typ host");
        assert_eq!(parse(&messages[1].candidate_init).unwrap().unwrap().sdp_m_line_index, Some(0));
        let priority = |generation: u32, i: usize| -> u32 {
            let messages = trickle(&node(generation), "0", SignalTarget::Subscriber);
            let line = parse(&messages[i].candidate_init).unwrap().unwrap().candidate;
            line.split(' ').nth(3).unwrap().parse().unwrap()
        };
        assert!(priority(0, 0) > priority(0, 1));
        assert!((0..90).all(|generation| priority(generation + 1, 1) > priority(generation, 0)));
        assert!(priority(u32::MAX, 0) >= priority(90, 0));
    }
}
