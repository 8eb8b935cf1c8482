//! The server's HTTP side: RoomService, validation, metrics.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{PATIENCE, process};

/// Numbers of the metrics page by name, summed over labels.
pub type Metrics = BTreeMap<String, f64>;

/// Calls RoomService as an administrator of `room`.
pub async fn room_service(http: SocketAddr, method: &str, room: &str, body: Value) -> anyhow::Result<Value> {
    let video = json!({ "room": room, "roomAdmin": true, "roomList": true, "roomCreate": true });
    let token = process::sign(&json!({ "iss": "devkey", "exp": process::now_s() + 600, "video": video }));
    let url = format!("http://{http}/twirp/livekit.RoomService/{method}");
    let response = reqwest::Client::new().post(url).bearer_auth(token).json(&body).send().await?;
    let status = response.status();
    let text = response.text().await?;
    anyhow::ensure!(status.is_success(), "{method}: {status} {text}");
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Participants of a room: identity, sid, state, sids of tracks.
pub async fn participants(http: SocketAddr, room: &str) -> anyhow::Result<BTreeMap<String, Participant>> {
    let answer = room_service(http, "ListParticipants", room, json!({ "room": room })).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = answer["participants"].as_array().cloned().unwrap_or_default();
    let participant = |info: &Value| {
        let tracks = info["tracks"].as_array().cloned().unwrap_or_default();
        let mut tracks: Vec<String> = tracks.iter().map(|track| text(&track["sid"])).collect();
        tracks.sort();
        (text(&info["identity"]), Participant { sid: text(&info["sid"]), state: text(&info["state"]), tracks })
    };
    Ok(list.iter().map(participant).collect())
}

/// As RoomService sees a participant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Participant {
    pub sid: String,
    pub state: String,
    pub tracks: Vec<String>,
}

/// Status and text of `/rtc/validate`.
pub async fn validate(http: SocketAddr, token: &str) -> anyhow::Result<(u16, String)> {
    let url = format!("http://{http}/rtc/validate?access_token={token}&{}", crate::signal::QUERY);
    let response = reqwest::get(url).await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// The metrics page.
pub async fn metrics(http: SocketAddr) -> anyhow::Result<Metrics> {
    let page = reqwest::get(format!("http://{http}/metrics")).await?.text().await?;
    let mut metrics = Metrics::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) {
            *metrics.entry(name.to_owned()).or_default() += value;
        }
    }
    Ok(metrics)
}

/// Waits for numbers that a test wants to see. Those of nodes come every 10 s.
pub async fn metrics_until(
    http: SocketAddr,
    what: &str,
    mut enough: impl FnMut(&Metrics) -> bool,
) -> anyhow::Result<Metrics> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = metrics(http).await?;
        if enough(&metrics) {
            return Ok(metrics);
        }
        if Instant::now() > deadline {
            bail!("waiting for {what}: only saw {metrics:#?}");
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Numbers of the node that were counted after this call; something must arrive at it meanwhile, as in any call.
pub async fn fresh_metrics(http: SocketAddr) -> anyhow::Result<Metrics> {
    let received = |metrics: &Metrics| metrics.get("sluice_node_worker_received").copied().unwrap_or_default();
    let before = received(&metrics(http).await?);
    metrics_until(http, "the node's next report", |now| received(now) > before).await?;
    // One report sets many numbers, one after the other.
    sleep(Duration::from_millis(200)).await;
    metrics(http).await
}

/// A number; 0 where it is not there yet.
pub fn number(metrics: &Metrics, name: &str) -> f64 {
    metrics.get(name).copied().unwrap_or_default()
}
