//! Viewers of a mountpoint of Janus' streaming plugin, as real clients: Janus' HTTP API, ICE, DTLS. What arrives as media is
//! not looked at: the sink of the rig counted it, and a client that saw the sink's gaps would ask for repeats.
//!
//! `janus http://10.99.0.1:8088/janus 1 200 10.99.0.2` lets 200 viewers watch mountpoint 1 from that address, prints `ready`
//! once all are connected, and runs until it is ended.

#![forbid(unsafe_code)]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::SdpOffer,
    net::{Protocol, Receive},
};
use tokio::{net::UdpSocket, sync::mpsc};

const PLUGIN: &str = "janus.plugin.streaming";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, mountpoint, viewers, from] = &words[..] else {
        anyhow::bail!("four arguments are wanted: URL MOUNTPOINT VIEWERS FROM")
    };
    let (mountpoint, viewers, from): (u64, usize, IpAddr) = (mountpoint.parse()?, viewers.parse()?, from.parse()?);
    let (connected, mut waiting) = mpsc::channel(viewers.max(1));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..viewers {
        let session = Session::begin(url).await?;
        let viewer = Viewer::join(&session, mountpoint, from).await?;
        running.spawn(session.keep());
        running.spawn(viewer.run(connected.clone()));
        tokio::select! {
            up = waiting.recv() => up.context("viewers say when they are connected")?,
            ended = running.join_next() => ended.context("a task runs")???,
        }
    }
    println!("ready");
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// A session of Janus' HTTP API with one handle.
struct Session {
    http: reqwest::Client,
    url: String,
    handle: u64,
}

impl Session {
    async fn begin(url: &str) -> anyhow::Result<Session> {
        let http = reqwest::Client::new();
        let made = post(&http, url, json!({ "janus": "create" })).await?;
        let url = format!("{url}/{}", made["data"]["id"].as_u64().context("a session's id")?);
        let attached = post(&http, &url, json!({ "janus": "attach", "plugin": PLUGIN })).await?;
        let handle = attached["data"]["id"].as_u64().context("a handle's id")?;
        Ok(Session { http, url, handle })
    }

    async fn say(&self, body: Value, jsep: Option<Value>) -> anyhow::Result<()> {
        let mut message = json!({ "janus": "message", "body": body });
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        post(&self.http, &format!("{}/{}", self.url, self.handle), message).await.map(drop)
    }

    /// The next thing Janus has to say; nothing for half a minute is a thing, too.
    async fn hear(&self) -> anyhow::Result<Value> {
        Ok(self.http.get(&self.url).query(&[("maxev", "1")]).send().await?.error_for_status()?.json().await?)
    }

    /// Listens on, without which Janus would take the session for abandoned.
    async fn keep(self) -> anyhow::Result<()> {
        loop {
            let heard = self.hear().await?;
            anyhow::ensure!(heard["janus"] != "hangup", "Janus hung up: {heard}");
        }
    }
}

async fn post(http: &reqwest::Client, url: &str, mut message: Value) -> anyhow::Result<Value> {
    message["transaction"] = "bench".into();
    let reply: Value = http.post(url).json(&message).send().await?.error_for_status()?.json().await?;
    anyhow::ensure!(reply["janus"] != "error", "Janus refused {message}: {reply}");
    Ok(reply)
}

/// One peer connection.
struct Viewer {
    rtc: Rtc,
    socket: UdpSocket,
}

impl Viewer {
    async fn join(session: &Session, mountpoint: u64, from: IpAddr) -> anyhow::Result<Viewer> {
        let socket = UdpSocket::bind((from, 0)).await?;
        let mut rtc = Rtc::builder().clear_codecs().enable_vp8(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, Protocol::Udp)?);
        session.say(json!({ "request": "watch", "id": mountpoint }), None).await?;
        let offer = loop {
            let heard = session.hear().await?;
            if let Some(sdp) = heard["jsep"]["sdp"].as_str() {
                break SdpOffer::from_sdp_string(sdp)?;
            }
            let error = &heard["plugindata"]["data"]["error"];
            anyhow::ensure!(error.is_null(), "the mountpoint cannot be watched: {error}");
        };
        let answer = rtc.sdp_api().accept_offer(offer)?.to_sdp_string();
        session.say(json!({ "request": "start" }), Some(json!({ "type": "answer", "sdp": answer }))).await?;
        Ok(Viewer { rtc, socket })
    }

    async fn run(mut self, connected: mpsc::Sender<()>) -> anyhow::Result<()> {
        let mut buffer = vec![0; 2048];
        let local = self.socket.local_addr()?;
        loop {
            let until = match self.rtc.poll_output()? {
                Output::Timeout(at) => at,
                Output::Transmit(transmit) => {
                    // A full socket buffer is loss like any other.
                    let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                    continue;
                }
                Output::Event(Event::Connected) => {
                    connected.send(()).await?;
                    continue;
                }
                Output::Event(_) => continue,
            };
            let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match tokio::time::timeout(wait, self.socket.recv_from(&mut buffer)).await {
                Ok(received) => {
                    let (bytes, from) = received?;
                    if is_media(&buffer[..bytes]) {
                        continue;
                    }
                    let receive = Receive::new(Protocol::Udp, from, local, &buffer[..bytes])?;
                    self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
                }
                Err(_) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
            }
        }
    }
}

/// RTP and not RTCP (RFC 7983 section 7, RFC 5761 section 4).
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second))
}
