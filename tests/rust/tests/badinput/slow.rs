//! Clients that do not read: they lose what they do not take, others wait for nothing.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{
    self as proto, SignalRequest, UpdateParticipantMetadata, signal_request::Message as Request,
    signal_response::Message as Response,
};
use prost::Message as _;
use serde_json::json;
use sluice_tests::{
    api::{metrics_until, number, participants},
    client::{Client, Options, Order},
    process::{Server, token},
    signal::{QUERY, Signal},
};
use tokio_tungstenite::tungstenite::Message;

/// Others wait for no more than this for what a slow one does not take.
const PROMPT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_websocket_that_is_never_read_is_closed_and_slows_nobody() -> anyhow::Result<()> {
    const UPDATES: u32 = 600;
    let mut server = Server::up(&[])?;
    let join = async |identity: &str, grants| {
        let mut signal = Signal::connect(server.http, &token("slow", identity, grants), QUERY).await?;
        signal.until(|message| matches!(message, Response::Join(_)).then_some(())).await?;
        anyhow::Ok(signal)
    };
    // Joins and is never read again; it goes on to ping, so that its silence is no reason to close it.
    let (mut stuck, _never_read) = join("stuck", json!({})).await?.socket.split();
    let pings = tokio::spawn(async move {
        let ping =
            SignalRequest { message: Some(Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 })) }.encode_to_vec();
        while stuck.send(Message::Binary(ping.clone().into())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut carol = join("carol", json!({})).await?;
    let mut bob = join("bob", json!({ "canUpdateOwnMetadata": true })).await?;

    let mut slowest = Duration::ZERO;
    for i in 0..UPDATES {
        let metadata = format!("{i} {}", "x".repeat(50_000));
        let started = Instant::now();
        let update = UpdateParticipantMetadata { metadata: metadata.clone(), request_id: i + 1, ..Default::default() };
        bob.send(Request::UpdateMetadata(update)).await?;
        let answered = |message| matches!(message, Response::RequestResponse(answer) if answer.request_id == i + 1);
        bob.until(|message| answered(message).then_some(())).await?;
        let shows = |message| match message {
            Response::Update(update) => {
                update.participants.iter().any(|p| p.identity == "bob" && p.metadata == metadata)
            }
            _ => false,
        };
        carol.until(|message| shows(message).then_some(())).await?;
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < PROMPT, "the slowest update took {slowest:?}");
    // Its socket is closed for not taking what comes, and as it never had media, it is gone.
    carol
        .until(|message| match message {
            Response::Update(update) => update
                .participants
                .iter()
                .any(|p| p.identity == "stuck" && p.state() == proto::participant_info::State::Disconnected)
                .then_some(()),
            _ => None,
        })
        .await?;
    pings.abort();
    let there: Vec<String> = participants(server.http, "slow").await?.into_keys().collect();
    assert_eq!(there, ["bob", "carol"]);
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_data_channel_that_is_never_read_slows_nobody() -> anyhow::Result<()> {
    const MESSAGES: u64 = 400;
    let mut server = Server::up(&[])?;
    let options = || Options { video: None, ..Options::default() };
    let ann = Client::join(server.http, "deaf", "ann", options()).await?;
    let deaf = Client::join(server.http, "deaf", "deaf", options()).await?;
    let mut carol = Client::join(server.http, "deaf", "carol", options()).await?;
    for client in [&ann, &deaf, &carol] {
        let mut seen = client.seen.clone();
        let all =
            |seen: &sluice_tests::client::Seen| seen.can_send_data && seen.can_receive_data && seen.audios.len() == 2;
        tokio::time::timeout(sluice_tests::PATIENCE, seen.wait_for(all)).await??;
    }
    deaf.order(Order::DeafToData).await;

    let packet = |number: u64| {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(10_000, 0);
        let user = proto::UserPacket { payload, ..Default::default() };
        proto::DataPacket { value: Some(proto::data_packet::Value::User(user)), ..Default::default() }.encode_to_vec()
    };
    let before = carol.now().data;
    let mut slowest = Duration::ZERO;
    for number in 1..=MESSAGES {
        let started = Instant::now();
        ann.order(Order::Data(packet(number))).await;
        carol.until("the message", |seen| seen.data >= before + number).await?;
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < PROMPT, "the slowest message took {slowest:?}");
    let seen = carol.goes_on("audio", 20).await?;
    assert_eq!((seen.breaks, seen.failed), (0, None));
    metrics_until(server.http, "what the deaf one did not take", |metrics| {
        number(metrics, "sluice_node_slow_drop_data_full") + number(metrics, "sluice_node_slow_closed_unread") >= 1.0
    })
    .await?;
    server.healthy()?;
    Ok(())
}
