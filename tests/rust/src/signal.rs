//! LiveKit's signalling as bare messages.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use prost::Message as _;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::PATIENCE;

/// Query parameters of a current client.
pub const QUERY: &str = "auto_subscribe=1&sdk=rust&version=2.0&protocol=17&adaptive_stream=0";

/// An open signalling socket.
pub struct Signal {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Signal {
    /// Connects with a token and more query parameters.
    pub async fn connect(server: SocketAddr, token: &str, query: &str) -> anyhow::Result<Signal> {
        let url = format!("ws://{server}/rtc?access_token={token}&{query}");
        let (socket, _) = timeout(PATIENCE, connect_async(url)).await??;
        Ok(Signal { socket })
    }

    /// Sends a request.
    pub async fn send(&mut self, message: signal_request::Message) -> anyhow::Result<()> {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        Ok(self.socket.send(Message::Binary(bytes.into())).await?)
    }

    /// The next response; an error once the socket is closed.
    pub async fn next(&mut self) -> anyhow::Result<signal_response::Message> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("nothing came")? {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some(message) = SignalResponse::decode(&bytes[..])?.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Text(text))) => {
                    if let Some(message) = serde_json::from_str::<SignalResponse>(&text)?.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => bail!("closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("closed"),
            }
        }
    }

    /// Reads until `pick` takes a message.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(signal_response::Message) -> Option<T>) -> anyhow::Result<T> {
        loop {
            if let Some(found) = pick(self.next().await?) {
                return Ok(found);
            }
        }
    }

    /// Reads until the socket closes and returns the code and reason of the close frame.
    pub async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.context("the socket stays open")? {
                Some(Ok(Message::Close(Some(frame)))) => return Ok((frame.code.into(), frame.reason.to_string())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("closed without a close frame"),
            }
        }
    }
}
