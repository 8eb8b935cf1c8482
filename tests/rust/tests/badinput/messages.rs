//! What is not a signalling message closes the socket that it came on, with a reason, and nothing else.

use livekit_protocol::{
    Ping, SessionDescription, SignalRequest, TrickleRequest, UpdateSubscription, UpdateTrackSettings,
    signal_request::Message as Request, signal_response::Message as Response,
};
use prost::Message as _;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use sluice_tests::{
    client::{Client, Options},
    process::{Server, token},
    signal::{QUERY, Signal},
};
use tokio_tungstenite::tungstenite::Message;

use futures_util::SinkExt;

/// RFC 6455 section 7.4.1.
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// Largest message that is taken.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

async fn join(server: &Server, identity: &str) -> anyhow::Result<Signal> {
    let mut signal = Signal::connect(server.http, &token("messages", identity, json!({})), QUERY).await?;
    signal.until(|message| matches!(message, Response::Join(_)).then_some(())).await?;
    Ok(signal)
}

fn offer() -> Vec<u8> {
    let sdp = SessionDescription { r#type: "offer".into(), sdp: "v=0\r\n".repeat(20), id: 7, ..Default::default() };
    SignalRequest { message: Some(Request::Offer(sdp)) }.encode_to_vec()
}

#[tokio::test]
async fn what_is_not_a_message_closes_its_own_socket_with_a_reason() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "messages", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "messages", "bob", Options::default()).await?;
    ann.until("bob's media", |seen| !seen.videos.is_empty() && !seen.audios.is_empty()).await?;
    bob.until("ann's media", |seen| !seen.videos.is_empty() && !seen.audios.is_empty()).await?;

    let whole = offer();
    let over = MESSAGE_BYTES_MAX + 1;
    let bad = [
        ("oversized, binary", Message::Binary(vec![0; over].into()), TOO_BIG, "2097152"),
        ("oversized, text", Message::Text(" ".repeat(over).into()), TOO_BIG, "2097152"),
        ("truncated", Message::Binary(whole[..whole.len() - 3].to_vec().into()), INVALID_DATA, "not a SignalRequest"),
        (
            "a lying length",
            Message::Binary(vec![0x0a, 0xff, 0xff, 0xff, 0x7f, 0].into()),
            INVALID_DATA,
            "not a SignalRequest",
        ),
        ("random text", Message::Text("hello, is anybody there?".into()), INVALID_DATA, "not a SignalRequest"),
        (
            "half of JSON",
            Message::Text(r#"{"offer":{"type":"offer","sdp":"v=0"#.into()),
            INVALID_DATA,
            "not a SignalRequest",
        ),
        ("deep JSON", Message::Text("[".repeat(100_000).into()), INVALID_DATA, "not a SignalRequest"),
    ];
    let bad_messages = bad.len();
    for (what, message, code, says) in bad {
        let mut signal = join(&server, "mallory").await?;
        // The server may close before everything is written.
        let _ = signal.socket.send(message).await;
        let (got, reason) = signal.closed().await.map_err(|error| error.context(what))?;
        assert_eq!(got, code, "{what}: {reason}");
        assert!(!reason.is_empty() && reason.contains(says), "{what}: {reason:?} does not say {says:?}");
    }

    // Far above the limit the server stops reading; whether its close frame is seen before the broken pipe is up to TCP.
    let mut signal = join(&server, "mallory").await?;
    let _ = signal.socket.send(Message::Binary(vec![0; 64 << 20].into())).await;
    if let Ok((code, reason)) = signal.closed().await {
        assert_eq!(code, TOO_BIG, "{reason}");
    }

    let before = (ann.now().pongs, bob.now().pongs);
    for (client, pongs) in [(&mut ann, before.0), (&mut bob, before.1)] {
        let seen = client.until("an answer to a ping", |seen| seen.pongs > pongs).await?;
        assert_eq!((seen.breaks, seen.failed.clone()), (0, None), "others notice nothing");
        client.goes_on("media", 20).await?;
        assert!(!client.now().people.contains_key("mallory"), "whoever was closed is gone");
    }
    // The operator reads each of them.
    for _ in 0..bad_messages {
        server.process.line("a socket is closed for what it sent")?;
    }
    server.healthy()?;
    Ok(())
}

/// Bytes that may or may not be a message: mutations of good ones and noise.
fn noise(dice: &mut StdRng) -> Vec<u8> {
    let seeds = [
        SignalRequest { message: Some(Request::PingReq(Ping { timestamp: 1, rtt: 2 })) },
        SignalRequest {
            message: Some(Request::Trickle(TrickleRequest { candidate_init: "{}".into(), ..Default::default() })),
        },
        SignalRequest {
            message: Some(Request::Subscription(UpdateSubscription {
                track_sids: vec!["TR_x".into(); 5],
                subscribe: true,
                ..Default::default()
            })),
        },
        SignalRequest {
            message: Some(Request::TrackSetting(UpdateTrackSettings {
                track_sids: vec!["TR_x".into()],
                width: u32::MAX,
                ..Default::default()
            })),
        },
    ];
    let mut bytes = match dice.random_range(0..=seeds.len()) {
        index if index < seeds.len() => seeds[index].encode_to_vec(),
        _ => (0..dice.random_range(1..200)).map(|_| dice.random()).collect(),
    };
    for _ in 0..dice.random_range(0..4) {
        let at = dice.random_range(0..bytes.len());
        bytes[at] = dice.random();
    }
    bytes
}

#[tokio::test]
async fn random_messages_are_taken_or_close_with_a_reason() -> anyhow::Result<()> {
    const MESSAGES: usize = 2_000;
    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "messages", "ann", Options { video: None, ..Options::default() }).await?;
    let mut bob = Client::join(server.http, "messages", "bob", Options { video: None, ..Options::default() }).await?;
    ann.until("bob's audio", |seen| !seen.audios.is_empty()).await?;
    let mut dice = StdRng::seed_from_u64(20);
    let (mut sent, mut closed) = (0, 0);
    while sent < MESSAGES {
        let mut signal = join(&server, "mallory").await?;
        while sent < MESSAGES {
            sent += 1;
            if signal.socket.send(Message::Binary(noise(&mut dice).into())).await.is_err() {
                break;
            }
            if sent % 8 == 0 {
                break;
            }
        }
        // Whatever came before: this closes.
        let _ = signal.socket.send(Message::Binary(vec![0xff; 9].into())).await;
        if let Ok((code, reason)) = signal.closed().await {
            assert!(code != 1011 && code != 1006 && !reason.is_empty(), "{code} {reason:?}");
            closed += 1;
        }
    }
    assert!(closed > 10, "closed with a reason only {closed} times");
    let seen = bob.goes_on("audio", 20).await?;
    assert_eq!((seen.breaks, seen.failed), (0, None));
    assert_eq!(ann.now().breaks, 0);
    server.healthy()?;
    Ok(())
}
