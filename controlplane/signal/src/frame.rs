//! WebSocket messages: binary frames carry protobuf, text frames carry protojson; we answer in the client's mode.

use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use prost::Message as _;

/// Longest message in bytes, the limit LiveKit has. Raising it lets one client make us hold more, lowering it refuses
/// descriptions of large calls. A longer one closes the socket with 1009.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// How a client writes its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Protobuf in binary frames.
    #[default]
    Binary,
    /// Protojson in text frames.
    Text,
}

/// A message to put on the WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Binary(Vec<u8>),
    Text(String),
}

/// A message that closes the connection with this reason.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// {0} bytes are more than a signalling message may have
    #[error("{0} bytes are more than a signalling message may have ({MESSAGE_BYTES_MAX})")]
    TooLong(usize),
    /// not a SignalRequest: {0}
    #[error("not a SignalRequest: {0}")]
    Binary(#[from] prost::DecodeError),
    /// not a SignalRequest in protojson: {0}
    #[error("not a SignalRequest in protojson: {0}")]
    Text(#[from] serde_json::Error),
}

/// Decodes a binary frame. `None` is a message of a newer protocol: it is ignored.
pub fn decode_binary(bytes: &[u8]) -> Result<Option<signal_request::Message>, FrameError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(bytes.len()));
    }
    Ok(SignalRequest::decode(bytes)?.message)
}

/// Decodes a text frame. `None` is a message of a newer protocol: it is ignored.
pub fn decode_text(text: &str) -> Result<Option<signal_request::Message>, FrameError> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(text.len()));
    }
    Ok(serde_json::from_str::<SignalRequest>(text)?.message)
}

/// Encodes a message for a binary frame.
pub fn binary(message: signal_response::Message) -> Vec<u8> {
    SignalResponse { message: Some(message) }.encode_to_vec()
}

/// Encodes a message in the mode of its client.
pub fn encode(message: signal_response::Message, mode: Mode) -> Result<Frame, FrameError> {
    Ok(match mode {
        Mode::Binary => Frame::Binary(binary(message)),
        Mode::Text => Frame::Text(serde_json::to_string(&SignalResponse { message: Some(message) })?),
    })
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{Pong, SessionDescription};

    use super::*;

    fn offer() -> SignalRequest {
        let sdp = SessionDescription { r#type: "offer".into(), sdp: "v=0".into(), id: 7, ..Default::default() };
        SignalRequest { message: Some(signal_request::Message::Offer(sdp)) }
    }

    #[test]
    fn both_modes_carry_the_same_request() {
        let binary = decode_binary(&offer().encode_to_vec()).unwrap();
        let text = decode_text(r#"{"offer":{"type":"offer","sdp":"v=0","id":7}}"#).unwrap();
        assert_eq!(binary, offer().message);
        assert_eq!(text, offer().message);
    }

    #[test]
    fn messages_of_a_newer_protocol_are_ignored() {
        // Field 4000, length-delimited, empty.
        assert_eq!(decode_binary(&[0x82, 0xfa, 0x01, 0x00]).unwrap(), None);
        assert_eq!(decode_text(r#"{"tomorrow":{"x":1}}"#).unwrap(), None);
        assert_eq!(decode_binary(&[]).unwrap(), None);
    }

    #[test]
    fn broken_and_oversized_messages_are_refused_with_a_reason() {
        let whole = offer().encode_to_vec();
        assert!(matches!(decode_binary(&whole[..whole.len() - 1]), Err(FrameError::Binary(_))));
        assert!(matches!(decode_text("{"), Err(FrameError::Text(_))));
        assert!(matches!(decode_binary(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(FrameError::TooLong(_))));
        assert!(matches!(decode_text(&" ".repeat(MESSAGE_BYTES_MAX + 1)), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn responses_mirror_the_mode() {
        let pong = signal_response::Message::PongResp(Pong { last_ping_timestamp: 5, timestamp: 6 });
        let Frame::Binary(bytes) = encode(pong.clone(), Mode::Binary).unwrap() else { panic!("binary expected") };
        assert_eq!(SignalResponse::decode(&bytes[..]).unwrap().message, Some(pong.clone()));
        let Frame::Text(text) = encode(pong, Mode::Text).unwrap() else { panic!("text expected") };
        // 64-bit integers are strings in protojson.
        assert_eq!(text, r#"{"pongResp":{"lastPingTimestamp":"5","timestamp":"6"}}"#);
    }
}
