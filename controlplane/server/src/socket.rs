//! One client's WebSocket.

use std::{error::Error as _, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use livekit_protocol::signal_response;
use sluice_rooms::{Command, SocketClosed, SocketId};
use sluice_signal::frame::{self, Frame, FrameError, Mode};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use crate::actor::{Inbox, Input, Outgoing, outgoing};

/// WebSocket-level pings keep proxies from closing idle connections.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// A client whose socket takes nothing for this long is closed. Raising it keeps clients on bad links, lowering it frees
/// what waits for them sooner.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closed socket is read from, so that the client gets the reason. Raising it serves clients on slow links,
/// lowering it bounds what hostile ones can make us read.
const LINGER: Duration = Duration::from_secs(2);

/// RFC 6455 section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;
const TRY_AGAIN: u16 = 1013;

/// Serves a socket from its connect command to its end.
pub(crate) async fn serve(stream: WebSocket, socket: SocketId, connect: Command, inbox: Inbox) {
    let (queue, mut messages) = outgoing();
    if inbox.send(Input::Open { socket, outgoing: queue, connect: Box::new(connect) }).await.is_err() {
        return;
    }
    let (mut sink, mut stream) = stream.split();
    let mut mode = Mode::Binary;
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => match write(&mut sink, message, mode).await {
                    Written::Sent => {}
                    Written::Closed => return linger(&mut stream).await,
                    Written::Failed => break SocketClosed::Gone,
                },
                None => {
                    close(&mut sink, TRY_AGAIN, "this client reads too slowly").await;
                    break SocketClosed::Refused;
                }
            },
            message = stream.next() => match read(message, &mut mode) {
                Incoming::Signal(message) => {
                    let signal = Command::Signal { socket, message: *message };
                    if inbox.send(Input::Command(Box::new(signal))).await.is_err() {
                        return;
                    }
                }
                Incoming::Alive => drop(inbox.send(Input::Command(Box::new(Command::Alive { socket }))).await),
                Incoming::Gone => break SocketClosed::Gone,
                Incoming::Bad(code, reason) => {
                    metrics::counter!("sluice_socket_bad_messages_total").increment(1);
                    tracing::warn!(?socket, reason, "a socket is closed for what it sent");
                    close(&mut sink, code, &reason).await;
                    break SocketClosed::Refused;
                }
            },
            _ = pings.tick() => {
                if !matches!(timeout(WRITE_TIMEOUT, sink.send(Message::Ping(Default::default()))).await, Ok(Ok(()))) {
                    break SocketClosed::Gone;
                }
            }
        }
    };
    drain(&mut messages);
    // Fails only while the server stops.
    drop(inbox.send(Input::Command(Box::new(Command::SocketClosed { socket, reason }))).await);
    if reason == SocketClosed::Refused {
        linger(&mut stream).await;
    }
}

/// Reads on until the client has closed its side. A TCP socket that is closed with unread bytes is reset (RFC 9293 section
/// 3.6.1), and the reset may overtake the reason that was sent last.
async fn linger(stream: &mut SplitStream<WebSocket>) {
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    // A client that does not close is not waited for.
    let _ = timeout(LINGER, rest).await;
}

/// What a client sent.
enum Incoming {
    Signal(Box<livekit_protocol::signal_request::Message>),
    Alive,
    Gone,
    Bad(u16, String),
}

fn read(message: Option<Result<Message, axum::Error>>, mode: &mut Mode) -> Incoming {
    let decoded = match message {
        Some(Ok(Message::Binary(bytes))) => {
            *mode = Mode::Binary;
            frame::decode_binary(&bytes)
        }
        Some(Ok(Message::Text(text))) => {
            *mode = Mode::Text;
            frame::decode_text(&text)
        }
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Incoming::Alive,
        Some(Ok(Message::Close(_))) | None => return Incoming::Gone,
        Some(Err(error)) => {
            let source = error.source().and_then(|source| source.downcast_ref::<tungstenite::Error>());
            return match source {
                Some(tungstenite::Error::Capacity(error)) => Incoming::Bad(TOO_BIG, error.to_string()),
                // How a killed client or a cut line ends.
                Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Incoming::Gone,
                Some(tungstenite::Error::Protocol(error)) => Incoming::Bad(PROTOCOL_ERROR, error.to_string()),
                Some(tungstenite::Error::Utf8(error)) => Incoming::Bad(INVALID_DATA, error.to_string()),
                _ => Incoming::Gone,
            };
        }
    };
    match decoded {
        Ok(Some(message)) => Incoming::Signal(Box::new(message)),
        Ok(None) => Incoming::Alive,
        Err(error @ FrameError::TooLong(_)) => Incoming::Bad(TOO_BIG, error.to_string()),
        Err(error) => Incoming::Bad(INVALID_DATA, error.to_string()),
    }
}

enum Written {
    Sent,
    Closed,
    Failed,
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, message: Outgoing, mode: Mode) -> Written {
    let message = match message {
        Outgoing::Close { code, reason } => {
            close(sink, code, &reason).await;
            return Written::Closed;
        }
        Outgoing::Message(message) => encoded(*message, mode),
        Outgoing::Common(common) => match mode {
            Mode::Binary => Some(Message::Binary(common.binary.clone())),
            Mode::Text => encoded(common.message.clone(), mode),
        },
    };
    let Some(message) = message else { return Written::Sent };
    match timeout(WRITE_TIMEOUT, sink.send(message)).await {
        Ok(Ok(())) => Written::Sent,
        _ => Written::Failed,
    }
}

fn encoded(message: signal_response::Message, mode: Mode) -> Option<Message> {
    match frame::encode(message, mode) {
        Ok(Frame::Binary(bytes)) => Some(Message::Binary(bytes.into())),
        Ok(Frame::Text(text)) => Some(Message::Text(text.into())),
        Err(error) => {
            tracing::error!(%error, "a message for a client cannot be encoded");
            None
        }
    }
}

/// Closes with a reason that fits a close frame (RFC 6455 section 5.5: 125 bytes, two of them for the code).
async fn close(sink: &mut SplitSink<WebSocket, Message>, code: u16, reason: &str) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let frame = CloseFrame { code, reason: reason[..end].to_owned().into() };
    // The client may be gone or not reading: then there is nobody to tell.
    let _ = timeout(WRITE_TIMEOUT, sink.send(Message::Close(Some(frame)))).await;
}

/// Empties the queue, so that what waits is freed now and not when the rooms let go of their end.
fn drain(messages: &mut mpsc::Receiver<Outgoing>) {
    messages.close();
    while messages.try_recv().is_ok() {}
}
