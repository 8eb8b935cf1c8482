//! A LiveKit client on str0m: publishes audio and simulcast video whose frames carry numbers, subscribes, resumes, and
//! counts what it sees.

mod media;
mod peer;
mod seen;
mod session;

use std::{net::SocketAddr, time::Duration};

use anyhow::bail;
use livekit_protocol::{VideoQuality, signal_request};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

pub use seen::{Received, Remote, Seen};

/// Layers that are published, low to high: RID, width, height, bytes of a frame. The bytes tell a receiver which layer it
/// gets.
pub const LAYERS: [(&str, u32, u32, usize); 3] = [("q", 320, 180, 300), ("h", 640, 360, 700), ("f", 1280, 720, 1800)];

/// What a client does.
#[derive(Clone)]
pub struct Options {
    /// Time between audio frames; none publishes no audio.
    pub audio: Option<Duration>,
    /// Time between video frames.
    pub video: Option<Duration>,
    /// Videos to subscribe to; audio is always subscribed in full.
    pub videos: usize,
    /// Leave the choice of subscriptions to the server, as browsers do.
    pub auto_subscribe: bool,
    /// Share of datagrams dropped in each direction, and of datagrams delayed behind the next one.
    pub loss: f64,
    pub reorder: f64,
    pub seed: u64,
    /// More grants for the token.
    pub grants: serde_json::Value,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            audio: Some(Duration::from_millis(50)),
            video: Some(Duration::from_millis(50)),
            videos: usize::MAX,
            auto_subscribe: false,
            loss: 0.0,
            reorder: 0.0,
            seed: 1,
            grants: json!({}),
        }
    }
}

/// What more to send for a datagram of the publisher.
pub type Shadow = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

/// Something a client is asked to do.
pub enum Order {
    /// Say this on the WebSocket.
    Signal(Box<signal_request::Message>),
    /// Cut the WebSocket without a word; the client resumes.
    Break,
    /// Send a data message on `_reliable` of the publisher.
    Data(Vec<u8>),
    /// Send these datagrams from the publisher's socket, as they are.
    Raw(Vec<Vec<u8>>),
    /// From now on, also send what this makes of each datagram that the publisher sends.
    Shadow(Shadow),
    /// From now on, throw away every DTLS datagram that comes for the subscriber: data is never acknowledged.
    DeafToData,
}

/// A joined client; its task ends with it.
pub struct Client {
    pub seen: watch::Receiver<Seen>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Client {
    /// Joins and starts to publish and subscribe.
    pub async fn join(server: SocketAddr, room: &str, identity: &str, options: Options) -> anyhow::Result<Client> {
        let token = crate::process::token(room, identity, options.grants.clone());
        let (report, seen) = watch::channel(Seen::default());
        let (orders, queue) = mpsc::channel(64);
        let session = session::Session::connect(server, token, options, report.clone(), queue).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = session.run().await {
                report.send_modify(|seen| seen.failed = Some(format!("{error:#}")));
            }
        });
        Ok(Client { seen, orders, task })
    }

    /// Gives an order; the client's end shows in what was seen.
    pub async fn order(&self, order: Order) {
        drop(self.orders.send(order).await);
    }

    /// Asks for a layer of a track.
    pub async fn quality(&self, track: &str, quality: VideoQuality) {
        self.settings(track, quality, false).await;
    }

    /// Tells how a track is shown.
    pub async fn settings(&self, track: &str, quality: VideoQuality, disabled: bool) {
        let settings = livekit_protocol::UpdateTrackSettings {
            track_sids: vec![track.to_owned()],
            quality: quality as i32,
            disabled,
            ..Default::default()
        };
        self.order(Order::Signal(Box::new(signal_request::Message::TrackSetting(settings)))).await;
    }

    /// What was seen up to now.
    pub fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until `enough` of what was seen; says what was seen if the client fails or it takes too long.
    pub async fn until(&mut self, what: &str, mut enough: impl FnMut(&Seen) -> bool) -> anyhow::Result<Seen> {
        let wait = self.seen.wait_for(|seen| seen.failed.is_some() || enough(seen));
        let found = match tokio::time::timeout(crate::PATIENCE, wait).await {
            Ok(Ok(seen)) => Some(seen.clone()),
            Ok(Err(_)) => bail!("waiting for {what}: the client has ended"),
            Err(_) => None,
        };
        match found {
            Some(seen) if seen.failed.is_none() => Ok(seen),
            Some(seen) => bail!("waiting for {what}: {:?}", seen.failed),
            None => bail!("waiting for {what}: only saw {:?}", self.now()),
        }
    }

    /// Waits for `frames` more audio and video frames on every track there is now: the call goes on.
    pub async fn goes_on(&mut self, what: &str, frames: u64) -> anyhow::Result<Seen> {
        let before = self.now();
        self.until(what, |seen| {
            let more = |now: &std::collections::HashMap<_, Received>, then: &std::collections::HashMap<_, Received>| {
                then.iter().all(|(mid, then)| now.get(mid).is_some_and(|now| now.frames >= then.frames + frames))
            };
            more(&seen.audios, &before.audios) && more(&seen.videos, &before.videos)
        })
        .await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}
