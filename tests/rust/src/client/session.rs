//! A client's signalling and its two peer connections in one loop.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use livekit_protocol as proto;
use proto::{SignalTarget, signal_request::Message as Request, signal_response::Message as Response};
use rand::{SeedableRng, rngs::StdRng};
use str0m::{
    Candidate, Event, Output,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    channel::{ChannelConfig, Reliability},
    media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

use super::{
    LAYERS, Options, Order, Seen,
    media::{self, Audio, Video},
    peer::Peer,
};
use crate::signal::Signal;

/// Datagrams taken from one socket before the other one and the clock get their turn.
const BURST_MAX: usize = 32;

/// Between two attempts to resume.
const RETRY: Duration = Duration::from_millis(300);

type Resume = Pin<Box<dyn Future<Output = anyhow::Result<Signal>> + Send>>;

pub(super) struct Session {
    server: SocketAddr,
    token: String,
    options: Options,
    report: watch::Sender<Seen>,
    orders: mpsc::Receiver<Order>,
    dice: StdRng,
    /// None while it is lost: then `resume` is on its way.
    signal: Option<Signal>,
    resume: Option<Resume>,
    /// The socket is new: its first message must be `reconnect`.
    is_resuming: bool,
    publisher: Peer,
    subscriber: Peer,
    pending: Option<SdpPendingOffer>,
    offers: u32,
    audio: Option<Audio>,
    video: Option<Video>,
    /// Tracks of others that were asked for.
    subscribed: HashSet<String>,
    videos: usize,
    own: String,
    /// Own tracks as the server describes them, and the last description of the subscriber each way.
    published: Vec<proto::TrackPublishedResponse>,
    last_offer: Option<proto::SessionDescription>,
    last_answer: Option<proto::SessionDescription>,
    last_ufrag: Option<String>,
    kinds: HashMap<Mid, MediaKind>,
    started: Instant,
}

impl Session {
    pub(super) async fn connect(
        server: SocketAddr,
        token: String,
        options: Options,
        report: watch::Sender<Seen>,
        orders: mpsc::Receiver<Order>,
    ) -> anyhow::Result<Session> {
        let started = Instant::now();
        let query = query(&options);
        let signal = Signal::connect(server, &token, &query).await?;
        Ok(Session {
            server,
            token,
            dice: StdRng::seed_from_u64(options.seed),
            options,
            report,
            orders,
            signal: Some(signal),
            resume: None,
            is_resuming: false,
            publisher: Peer::new().await?,
            subscriber: Peer::new().await?,
            pending: None,
            offers: 0,
            audio: None,
            video: None,
            subscribed: HashSet::new(),
            videos: 0,
            own: String::new(),
            published: Vec::new(),
            last_offer: None,
            last_answer: None,
            last_ufrag: None,
            kinds: HashMap::new(),
            started,
        })
    }

    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut pings = tokio::time::interval(Duration::from_secs(2));
        loop {
            self.publish()?;
            self.pump()?;
            let media = [self.audio.as_ref().map(|a| a.next), self.video.as_ref().map(|v| v.next)];
            let timeouts = [self.publisher.timeout, self.subscriber.timeout];
            let wake = media.into_iter().flatten().chain(timeouts).min().expect("two timeouts are always there");
            tokio::select! {
                message = next(&mut self.signal) => match message {
                    Ok(message) => self.message(message).await?,
                    Err(_) => self.lost(),
                },
                resumed = resumed(&mut self.resume) => {
                    self.signal = Some(resumed?);
                    self.resume = None;
                    self.is_resuming = true;
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => return Ok(()),
                },
                ready = self.publisher.socket.readable() => { ready?; self.receive(true)?; }
                ready = self.subscriber.socket.readable() => { ready?; self.receive(false)?; }
                () = sleep_until(wake.into()) => {
                    let now = Instant::now();
                    self.publisher.tick(now)?;
                    self.subscriber.tick(now)?;
                }
                _ = pings.tick() => self.send(Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 })).await,
            }
        }
    }

    /// Says something, if there is a socket; a broken one is replaced.
    async fn send(&mut self, request: Request) {
        if let Some(signal) = &mut self.signal
            && signal.send(request).await.is_err()
        {
            self.lost();
        }
    }

    /// The socket is gone: comes back with `reconnect=1`, as clients do.
    fn lost(&mut self) {
        self.signal = None;
        self.pending = None;
        self.report.send_modify(|seen| seen.breaks += 1);
        let (server, token) = (self.server, self.token.clone());
        let query = format!("{}&reconnect=1&sid={}", query(&self.options), self.own);
        self.resume = Some(Box::pin(async move {
            let deadline = Instant::now() + crate::PATIENCE;
            loop {
                match Signal::connect(server, &token, &query).await {
                    Ok(signal) => return Ok(signal),
                    Err(error) if Instant::now() > deadline => return Err(error.context("resume")),
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            }
        }));
    }

    async fn obey(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Signal(request) => self.send(*request).await,
            Order::Break => self.lost(),
            Order::Data(message) => {
                let id = *self.publisher.channels.get("_reliable").context("the channel is open")?;
                if let Some(mut channel) = self.publisher.rtc.channel(id) {
                    channel.write(true, &message)?;
                }
            }
            Order::Raw(datagrams) => self.publisher.raw(&datagrams),
            Order::Shadow(shadow) => self.publisher.shadow = Some(shadow),
            Order::DeafToData => self.subscriber.is_deaf_to_data = true,
        }
        Ok(())
    }

    /// Takes what has arrived.
    fn receive(&mut self, publisher: bool) -> anyhow::Result<()> {
        let mut buffer = [0; 2000];
        for _ in 0..BURST_MAX {
            let peer = if publisher { &mut self.publisher } else { &mut self.subscriber };
            let Ok((bytes, from)) = peer.socket.try_recv_from(&mut buffer) else { break };
            peer.deliver(&mut self.dice, &self.options, from, &buffer[..bytes])?;
            self.drain(publisher)?;
        }
        Ok(())
    }

    /// Lets both stacks say all they have to say.
    fn pump(&mut self) -> anyhow::Result<()> {
        self.drain(true)?;
        self.drain(false)
    }

    fn drain(&mut self, publisher: bool) -> anyhow::Result<()> {
        loop {
            let peer = if publisher { &mut self.publisher } else { &mut self.subscriber };
            match peer.rtc.poll_output()? {
                Output::Timeout(at) => {
                    peer.timeout = at;
                    return Ok(());
                }
                Output::Transmit(transmit) => {
                    peer.transmit(&mut self.dice, &self.options, transmit.destination, &transmit.contents);
                }
                Output::Event(event) => self.event(event, publisher)?,
            }
        }
    }

    fn event(&mut self, event: Event, publisher: bool) -> anyhow::Result<()> {
        let since = self.started.elapsed();
        match event {
            Event::Connected if !publisher => {
                self.report.send_modify(|seen| _ = seen.connected.get_or_insert(since));
            }
            Event::ChannelOpen(id, label) => {
                let peer = if publisher { &mut self.publisher } else { &mut self.subscriber };
                peer.channels.insert(label, id);
                let is_open = peer.channels.contains_key("_reliable");
                self.report.send_modify(|seen| match publisher {
                    true => seen.can_send_data = is_open,
                    false => seen.can_receive_data = is_open,
                });
            }
            Event::ChannelData(_) if !publisher => self.report.send_modify(|seen| seen.data += 1),
            Event::MediaAdded(added) if !publisher => drop(self.kinds.insert(added.mid, added.kind)),
            Event::MediaData(data) => {
                let kind = self.kinds.get(&data.mid).copied().unwrap_or(MediaKind::Video);
                let number = media::number(kind, &data);
                self.report.send_modify(|seen| {
                    let (frames, first) = match kind {
                        MediaKind::Audio => (&mut seen.audios, &mut seen.first_audio),
                        MediaKind::Video => (&mut seen.videos, &mut seen.first_video),
                    };
                    first.get_or_insert(since);
                    let Some(number) = number else {
                        seen.odd_frames += 1;
                        return;
                    };
                    frames.entry(data.mid).or_default().frame(number, &data);
                });
            }
            Event::KeyframeRequest(request) => {
                self.report.send_modify(|seen| seen.keyframe_requests += 1);
                if let (Some(video), Some(rid)) = (&mut self.video, request.rid) {
                    video.request(rid);
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn message(&mut self, message: Response) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_resuming) {
            match message {
                Response::Reconnect(_) => return self.resumed().await,
                other => bail!("a resume was answered with {other:?}"),
            }
        }
        match message {
            Response::Join(join) => self.joined(join).await?,
            Response::Answer(answer) => {
                // One from before a break has lost its offer.
                if let Some(pending) = self.pending.take() {
                    let answer = SdpAnswer::from_sdp_string(&answer.sdp)?;
                    self.publisher.rtc.sdp_api().accept_answer(pending, answer)?;
                }
            }
            Response::Offer(offer) => self.offered(offer).await?,
            Response::Trickle(trickle) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
                let line = init["candidate"].as_str().unwrap_or_default();
                if !line.is_empty() {
                    let peer = match trickle.target() {
                        SignalTarget::Publisher => &mut self.publisher,
                        SignalTarget::Subscriber => &mut self.subscriber,
                    };
                    peer.rtc.add_remote_candidate(Candidate::from_sdp_string(line)?);
                }
            }
            Response::Update(update) => {
                self.report.send_modify(|seen| seen.updates += 1);
                self.people(&update.participants).await;
            }
            Response::TrackPublished(published) => self.published.push(published),
            Response::PongResp(_) => self.report.send_modify(|seen| seen.pongs += 1),
            Response::Leave(leave) => bail!("told to leave: {leave:?}"),
            _ => {}
        }
        Ok(())
    }

    async fn offered(&mut self, offer: proto::SessionDescription) -> anyhow::Result<()> {
        let ufrag = offer.sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::to_owned);
        if self.last_ufrag.is_some() && self.last_ufrag != ufrag {
            self.report.send_modify(|seen| seen.restarts += 1);
        }
        self.last_ufrag = ufrag;
        // Given the choice str0m takes the passive role, where RFC 8842 section 5.3 recommends the active one, and the server
        // is passive always: so it is not given the choice.
        let sdp = SdpOffer::from_sdp_string(&offer.sdp.replace("a=setup:actpass", "a=setup:passive"))?;
        let answer = self.subscriber.rtc.sdp_api().accept_offer(sdp)?;
        let answer = description("answer", answer.to_sdp_string(), offer.id);
        self.last_offer = Some(offer);
        self.last_answer = Some(answer.clone());
        self.send(Request::Answer(answer)).await;
        Ok(())
    }

    /// The server knows us again: tell what we believe, and restart ICE on the connection that we offer.
    async fn resumed(&mut self) -> anyhow::Result<()> {
        self.report.send_modify(|seen| seen.resumes += 1);
        let subscription = proto::UpdateSubscription {
            track_sids: self.subscribed.iter().cloned().collect(),
            subscribe: !self.options.auto_subscribe,
            ..Default::default()
        };
        let state = proto::SyncState {
            answer: self.last_answer.clone(),
            offer: self.last_offer.clone(),
            subscription: Some(subscription),
            publish_tracks: self.published.clone(),
            ..Default::default()
        };
        self.send(Request::SyncState(state)).await;
        if self.audio.is_none() && self.video.is_none() {
            return Ok(());
        }
        let mut changes = self.publisher.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().context("an offer that restarts ICE")?;
        self.pending = Some(pending);
        self.offers += 1;
        self.send(Request::Offer(description("offer", offer.to_sdp_string(), self.offers))).await;
        Ok(())
    }

    async fn joined(&mut self, join: proto::JoinResponse) -> anyhow::Result<()> {
        self.own = join.participant.as_ref().map(|own| own.sid.clone()).unwrap_or_default();
        self.report.send_modify(|seen| seen.sid.clone_from(&self.own));
        self.people(&join.other_participants).await;
        if self.options.audio.is_none() && self.options.video.is_none() {
            return Ok(());
        }
        let mut changes = self.publisher.rtc.sdp_api();
        let lossy = Reliability::MaxRetransmits { retransmits: 0 };
        for (label, ordered, reliability) in
            [("_reliable", true, Reliability::default()), ("_lossy", false, lossy), ("_data_track", false, lossy)]
        {
            let config = ChannelConfig { label: label.into(), ordered, reliability, ..Default::default() };
            changes.add_channel_with_config(config);
        }
        let now = Instant::now();
        let mut requests = Vec::new();
        if self.options.audio.is_some() {
            let mid = changes.add_media(MediaKind::Audio, Direction::SendOnly, None, Some("mic".into()), None);
            self.audio = Some(Audio { mid, next: now, number: 0 });
            requests.push(proto::AddTrackRequest {
                cid: "mic".into(),
                name: "mic".into(),
                r#type: proto::TrackType::Audio as i32,
                source: proto::TrackSource::Microphone as i32,
                ..Default::default()
            });
        }
        if self.options.video.is_some() {
            let mut simulcast = Simulcast::new();
            for (rid, ..) in LAYERS {
                simulcast.add_send_layer(SimulcastLayer::new(rid));
            }
            let mid =
                changes.add_media(MediaKind::Video, Direction::SendOnly, None, Some("cam".into()), Some(simulcast));
            let keyframes = LAYERS.iter().map(|layer| layer.0).collect();
            self.video = Some(Video { mid, next: now, number: 0, keyframes });
            let quality = [proto::VideoQuality::Low, proto::VideoQuality::Medium, proto::VideoQuality::High];
            let layers = LAYERS.iter().zip(quality).map(|((_, width, height, _), quality)| proto::VideoLayer {
                quality: quality as i32,
                width: *width,
                height: *height,
                ..Default::default()
            });
            requests.push(proto::AddTrackRequest {
                cid: "cam".into(),
                name: "cam".into(),
                r#type: proto::TrackType::Video as i32,
                source: proto::TrackSource::Camera as i32,
                width: 1280,
                height: 720,
                layers: layers.collect(),
                ..Default::default()
            });
        }
        let (offer, pending) = changes.apply().context("an offer with new media")?;
        self.pending = Some(pending);
        for request in requests {
            self.send(Request::AddTrack(request)).await;
        }
        self.offers += 1;
        self.send(Request::Offer(description("offer", offer.to_sdp_string(), self.offers))).await;
        Ok(())
    }

    /// Notes who is there, and subscribes to every audio and to as many videos as wanted.
    async fn people(&mut self, participants: &[proto::ParticipantInfo]) {
        let mut sids = Vec::new();
        let own = self.own.clone();
        for participant in participants {
            if participant.sid == own {
                continue;
            }
            self.report.send_modify(|seen| seen.person(participant));
            if self.options.auto_subscribe {
                continue;
            }
            for track in &participant.tracks {
                let is_video = track.r#type() == proto::TrackType::Video;
                if (!is_video || self.videos < self.options.videos) && self.subscribed.insert(track.sid.clone()) {
                    self.videos += usize::from(is_video);
                    sids.push(track.sid.clone());
                }
            }
        }
        if !sids.is_empty() {
            let request = proto::UpdateSubscription { track_sids: sids, subscribe: true, ..Default::default() };
            self.send(Request::Subscription(request)).await;
        }
    }

    /// Writes the frames that are due.
    fn publish(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let since = now.duration_since(self.started);
        let later = (!self.publisher.rtc.is_connected()).then(|| now + Duration::from_millis(50));
        if let (Some(audio), Some(period)) = (&mut self.audio, self.options.audio)
            && audio.next <= now
        {
            // A late frame does not make the next one late, nor follow it within a tick of the media clock.
            audio.next = later.unwrap_or((audio.next + period).max(now + period / 2));
            if later.is_none() {
                audio.write(&mut self.publisher.rtc, now, since)?;
                self.drain(true)?;
            }
        }
        if let (Some(video), Some(period)) = (&mut self.video, self.options.video)
            && video.next <= now
        {
            video.next = later.unwrap_or((video.next + period).max(now + period / 2));
            if later.is_none() {
                video.write(&mut self.publisher.rtc, now, since)?;
            }
        }
        Ok(())
    }
}

fn query(options: &Options) -> String {
    let auto = u8::from(options.auto_subscribe);
    format!("auto_subscribe={auto}&sdk=rust&version=2.0&protocol=17&adaptive_stream=0")
}

fn description(kind: &str, sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: kind.into(), sdp, id, ..Default::default() }
}

async fn next(signal: &mut Option<Signal>) -> anyhow::Result<Response> {
    match signal {
        Some(signal) => signal.next().await,
        None => std::future::pending().await,
    }
}

async fn resumed(resume: &mut Option<Resume>) -> anyhow::Result<Signal> {
    match resume {
        Some(resume) => resume.await,
        None => std::future::pending().await,
    }
}
