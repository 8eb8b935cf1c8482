//! LiveKit's signalling (protocol 17, two peer connections) from the client's side, and the tokens that open it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use prost::Message as _;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message},
};

use crate::scenario::Roles;

/// A server under a storm of joins answers late; clients give up after some such time.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Life of a token. The server asks for it once.
const TOKEN_LIFE_S: u64 = 6 * 3600;

/// Why signalling ended or never began.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The URL is none of a server
    #[error("{0:?} is not the URL of a server: use ws://HOST:PORT (TLS is not spoken)")]
    Url(String),
    /// Nobody answers there
    #[error("cannot reach the server: {0}")]
    Connect(std::io::Error),
    /// The server refused the connection
    #[error("the server refused with {status}: {reason}")]
    Refused { status: u16, reason: String },
    /// The server let us wait
    #[error("the server did not answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    /// The server told us to go
    #[error("the server ended the session: {0}")]
    Leave(String),
    /// The socket broke
    #[error("the signalling socket closed: {0}")]
    Closed(String),
    /// Something that is no message
    #[error("the server sent something that is no message: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The secret makes no key
    #[error("the token cannot be signed: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
}

/// Who signs tokens, and for which server.
#[derive(Clone)]
pub struct Door {
    /// `ws://HOST:PORT`, with a path where the server is behind one.
    pub base: String,
    pub api_key: String,
    pub api_secret: String,
}

impl Door {
    /// Reads `ws://HOST:PORT` or the same with http; returns it with host and port.
    pub fn new(url: &str, api_key: &str, api_secret: &str) -> Result<(Door, String), SignalError> {
        let error = || SignalError::Url(url.to_owned());
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://")).ok_or_else(error)?;
        let authority = rest.split('/').next().filter(|authority| !authority.is_empty()).ok_or_else(error)?;
        let after_host = authority.rsplit(']').next().unwrap_or_default();
        let has_port = after_host.contains(':');
        let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let base = format!("ws://{}", rest.trim_end_matches('/'));
        Ok((Door { base, api_key: api_key.to_owned(), api_secret: api_secret.to_owned() }, address))
    }

    /// A token to join `room` as `identity`.
    pub fn token(&self, room: &str, identity: &str, roles: Roles, now_s: u64) -> Result<String, SignalError> {
        let claims = json!({
            "iss": self.api_key, "sub": identity, "name": identity, "nbf": now_s - 60, "exp": now_s + TOKEN_LIFE_S,
            "video": { "room": room, "roomJoin": true, "canPublish": roles.publishes, "canSubscribe": roles.receives,
                "canPublishData": false, "hidden": roles.hidden },
        });
        let key = EncodingKey::from_secret(self.api_secret.as_bytes());
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }
}

/// An open signalling socket.
pub struct Signal {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Signal {
    /// Connects with a token.
    pub async fn connect(door: &Door, token: &str, auto_subscribe: bool) -> Result<Signal, SignalError> {
        let auto = u8::from(auto_subscribe);
        let base = &door.base;
        let url = format!(
            "{base}/rtc?access_token={token}&auto_subscribe={auto}&adaptive_stream=0&sdk=rust&version=2.0&protocol=17"
        );
        match timeout(ANSWER_MAX, connect_async(url)).await {
            Err(_) => Err(SignalError::Silent),
            Ok(Ok((socket, _))) => Ok(Signal { socket }),
            Ok(Err(tungstenite::Error::Io(error))) => Err(SignalError::Connect(error)),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                let reason = String::from_utf8_lossy(body).trim().chars().take(300).collect();
                Err(SignalError::Refused { status: response.status().as_u16(), reason })
            }
            Ok(Err(tungstenite::Error::Url(_))) => Err(SignalError::Url(base.clone())),
            Ok(Err(error)) => Err(SignalError::Closed(error.to_string())),
        }
    }

    /// Sends a request.
    pub async fn send(&mut self, message: signal_request::Message) -> Result<(), SignalError> {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        self.socket.send(Message::Binary(bytes.into())).await.map_err(|error| SignalError::Closed(error.to_string()))
    }

    /// The next response, however long it takes.
    pub async fn next(&mut self) -> Result<signal_response::Message, SignalError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(message) = SignalResponse::decode(&bytes[..])?.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map_or("without a reason".to_owned(), |frame| frame.to_string());
                    return Err(SignalError::Closed(reason));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(SignalError::Closed(error.to_string())),
                None => return Err(SignalError::Closed("by the server".to_owned())),
            }
        }
    }

    /// The first message, which is `join` unless the server refuses.
    pub async fn joined(&mut self) -> Result<Box<livekit_protocol::JoinResponse>, SignalError> {
        loop {
            match timeout(ANSWER_MAX, self.next()).await.map_err(|_| SignalError::Silent)?? {
                signal_response::Message::Join(join) => return Ok(Box::new(join)),
                signal_response::Message::Leave(leave) => return Err(left(&leave)),
                _ => {}
            }
        }
    }

    /// Leaves the room and closes the socket.
    pub async fn leave(mut self) {
        let leave = livekit_protocol::LeaveRequest::default();
        // The server may be gone already.
        let _ = self.send(signal_request::Message::Leave(leave)).await;
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

/// What a leave request says.
pub fn left(leave: &livekit_protocol::LeaveRequest) -> SignalError {
    SignalError::Leave(leave.reason().as_str_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, want: Option<(&str, &str)>| {
            let door = Door::new(url, "k", "s").ok();
            let got = door.as_ref().map(|(door, address)| (door.base.as_str(), address.as_str()));
            assert_eq!(got, want, "{url}");
        };
        check("ws://127.0.0.1:7880", Some(("ws://127.0.0.1:7880", "127.0.0.1:7880")));
        check("http://[::1]:7880/", Some(("ws://[::1]:7880", "[::1]:7880")));
        check("ws://host/media/", Some(("ws://host/media", "host:80")));
        check("ws://[::1]", Some(("ws://[::1]", "[::1]:80")));
        for bad in ["wss://host", "ws://", "host:7880", ""] {
            check(bad, None);
        }
    }
}
