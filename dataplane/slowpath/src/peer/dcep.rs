//! Data Channel Establishment Protocol (RFC 8832).

use sctp_proto::ReliabilityType;
use sluice_messages::DataKind;

const OPEN: u8 = 0x03;
/// Channel types (section 5.1): the high bit means unordered.
const UNORDERED: u8 = 0x80;
const HEADER_BYTES: usize = 12;

/// DATA_CHANNEL_ACK.
pub(super) const ACK: [u8; 1] = [0x02];

/// How a channel delivers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Reliability {
    pub(super) unordered: bool,
    pub(super) kind: ReliabilityType,
    pub(super) value: u32,
}

impl Reliability {
    /// What LiveKit clients expect of the channel with this label.
    pub(super) fn of(kind: DataKind) -> Reliability {
        match kind {
            DataKind::Reliable => Reliability { unordered: false, kind: ReliabilityType::Reliable, value: 0 },
            DataKind::Lossy | DataKind::Track => {
                Reliability { unordered: true, kind: ReliabilityType::Rexmit, value: 0 }
            }
        }
    }
}

/// A DATA_CHANNEL_OPEN as far as it is used.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Open<'a> {
    pub(super) reliability: Reliability,
    pub(super) label: &'a str,
}

/// A message on PPID 50.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Message<'a> {
    Open(Open<'a>),
    Ack,
}

/// Reads a message; none if it is not one.
pub(super) fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    if bytes.first() == Some(&ACK[0]) {
        return Some(Message::Ack);
    }
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if header[0] != OPEN {
        return None;
    }
    let kind = match header[1] & !UNORDERED {
        0 => ReliabilityType::Reliable,
        1 => ReliabilityType::Rexmit,
        2 => ReliabilityType::Timed,
        _ => return None,
    };
    let value = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let label_bytes = usize::from(u16::from_be_bytes([header[8], header[9]]));
    let protocol_bytes = usize::from(u16::from_be_bytes([header[10], header[11]]));
    if rest.len() < label_bytes + protocol_bytes {
        return None;
    }
    let label = std::str::from_utf8(&rest[..label_bytes]).ok()?;
    let reliability = Reliability { unordered: header[1] & UNORDERED != 0, kind, value };
    Some(Message::Open(Open { reliability, label }))
}

/// Writes a DATA_CHANNEL_OPEN for a channel of ours.
pub(super) fn open(kind: DataKind) -> Vec<u8> {
    let reliability = Reliability::of(kind);
    let label = kind.label().as_bytes();
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[0] = OPEN;
    bytes[1] = reliability.kind as u8 | if reliability.unordered { UNORDERED } else { 0 };
    // Priority "normal" (RFC 8831 section 6.4), as browsers say it.
    bytes[2..4].copy_from_slice(&256u16.to_be_bytes());
    bytes[4..8].copy_from_slice(&reliability.value.to_be_bytes());
    bytes[8..10].copy_from_slice(&(label.len() as u16).to_be_bytes());
    bytes.extend_from_slice(label);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_write_can_be_read() {
        for kind in [DataKind::Reliable, DataKind::Lossy, DataKind::Track] {
            let bytes = open(kind);
            let expected = Open { reliability: Reliability::of(kind), label: kind.label() };
            assert_eq!(parse(&bytes), Some(Message::Open(expected)));
        }
        assert_eq!(parse(&ACK), Some(Message::Ack));
    }

    #[test]
    fn lies_are_refused() {
        let good = open(DataKind::Lossy);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&good[..good.len() - 1]), None, "label shorter than announced");
        let mut bad = good.clone();
        bad[1] = 0x07;
        assert_eq!(parse(&bad), None, "unknown channel type");
        let mut bad = good.clone();
        bad[12] = 0xff;
        assert_eq!(parse(&bad), None, "label is not UTF-8");
        let mut bad = good;
        bad[10..12].copy_from_slice(&u16::MAX.to_be_bytes());
        assert_eq!(parse(&bad), None, "protocol longer than the message");
    }
}
