//! A LiveKit client on str0m: publishes audio and simulcast video whose frames carry numbers, subscribes, and counts.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use livekit_protocol as proto;
use proto::{SignalTarget, signal_request::Message as Request, signal_response::Message as Response};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    channel::{ChannelConfig, ChannelId, Reliability},
    format::Codec,
    media::{Direction, MediaKind, MediaTime, Mid, Rid, Simulcast, SimulcastLayer},
    net::{Protocol, Receive},
};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle, time::sleep_until};

use crate::signal::Signal;

/// Layers that are published, low to high: RID, width, height, bytes of a frame.
pub const LAYERS: [(&str, u32, u32, usize); 3] = [("q", 320, 180, 300), ("h", 640, 360, 700), ("f", 1280, 720, 1800)];

/// What a client does.
#[derive(Clone)]
pub struct Options {
    pub audio: Option<Duration>,
    pub video: Option<Duration>,
    /// Videos to subscribe to; audio is always subscribed in full.
    pub videos: usize,
    /// Share of datagrams dropped in each direction, and of datagrams delayed behind the next one.
    pub loss: f64,
    pub reorder: f64,
    pub seed: u64,
}

/// What a client has seen so far.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    pub active: bool,
    pub failed: Option<String>,
    /// Media sections with something received.
    pub audios: HashMap<Mid, Received>,
    pub videos: HashMap<Mid, Received>,
    pub keyframe_requests: u64,
}

/// What came of one track.
#[derive(Clone, Default, Debug)]
pub struct Received {
    pub frames: u64,
    /// Frames that the depacketiser marked as following a gap.
    pub gaps: u64,
    /// Last number carried by a frame.
    pub number: u64,
    /// Numbers that went backwards or were repeated.
    pub disorder: u64,
}

/// A joined client; its task ends with it.
pub struct Client {
    pub seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Client {
    /// Joins and starts to publish and subscribe.
    pub async fn join(server: SocketAddr, room: &str, identity: &str, options: Options) -> anyhow::Result<Client> {
        let token = crate::process::token(room, identity, json!({}));
        let query = "auto_subscribe=0&sdk=rust&version=2.0&protocol=17&adaptive_stream=0";
        let signal = Signal::connect(server, &token, query).await?;
        let (report, seen) = watch::channel(Seen::default());
        let state = State::new(signal, options).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = state.run(&report).await {
                report.send_modify(|seen| seen.failed = Some(format!("{error:#}")));
            }
        });
        Ok(Client { seen, task })
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
            None => bail!("waiting for {what}: only saw {:?}", *self.seen.borrow()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One peer connection with a socket of its own.
struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    timeout: Instant,
    /// A datagram held back so that it arrives after the next one.
    late: Option<Vec<u8>>,
    channels: HashMap<String, ChannelId>,
}

impl Peer {
    async fn new() -> anyhow::Result<Peer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let local = socket.local_addr()?;
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_reordering_size_audio(50)
            .set_reordering_size_video(200)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp)?);
        Ok(Peer { rtc, socket, local, timeout: Instant::now(), late: None, channels: HashMap::new() })
    }
}

struct State {
    options: Options,
    dice: StdRng,
    signal: Signal,
    publisher: Peer,
    subscriber: Peer,
    pending: Option<SdpPendingOffer>,
    audio: Option<(Mid, Instant, u64)>,
    video: Option<Video>,
    /// Tracks of others by sid, and what was asked for.
    subscribed: HashSet<String>,
    videos: usize,
    own: String,
    kinds: HashMap<Mid, MediaKind>,
    seen: Seen,
    started: Instant,
}

struct Video {
    mid: Mid,
    next: Instant,
    number: u64,
    keyframes: HashSet<&'static str>,
}

impl State {
    async fn new(signal: Signal, options: Options) -> anyhow::Result<State> {
        let dice = StdRng::seed_from_u64(options.seed);
        Ok(State {
            options,
            dice,
            signal,
            publisher: Peer::new().await?,
            subscriber: Peer::new().await?,
            pending: None,
            audio: None,
            video: None,
            subscribed: HashSet::new(),
            videos: 0,
            own: String::new(),
            kinds: HashMap::new(),
            seen: Seen::default(),
            started: Instant::now(),
        })
    }

    async fn run(mut self, report: &watch::Sender<Seen>) -> anyhow::Result<()> {
        let mut buffers = (vec![0; 2000], vec![0; 2000]);
        let mut pings = tokio::time::interval(Duration::from_secs(5));
        loop {
            self.pump()?;
            self.publish()?;
            self.pump()?;
            report.send_replace(self.seen.clone());
            let media = [self.audio.map(|(_, next, _)| next), self.video.as_ref().map(|video| video.next)];
            let wake = media
                .into_iter()
                .flatten()
                .chain([self.publisher.timeout, self.subscriber.timeout])
                .min()
                .expect("two timeouts are always there");
            tokio::select! {
                message = self.signal.next() => self.message(message?).await?,
                got = self.publisher.socket.recv_from(&mut buffers.0) => {
                    let (bytes, from) = got?;
                    deliver(&mut self.publisher, &mut self.dice, &self.options, from, &buffers.0[..bytes])?;
                }
                got = self.subscriber.socket.recv_from(&mut buffers.1) => {
                    let (bytes, from) = got?;
                    deliver(&mut self.subscriber, &mut self.dice, &self.options, from, &buffers.1[..bytes])?;
                }
                () = sleep_until(wake.into()) => {
                    let now = Instant::now();
                    for peer in [&mut self.publisher, &mut self.subscriber] {
                        if peer.timeout <= now {
                            peer.rtc.handle_input(Input::Timeout(now))?;
                        }
                    }
                }
                _ = pings.tick() => {
                    let ping = proto::Ping { timestamp: 1, rtt: 0 };
                    self.signal.send(Request::PingReq(ping)).await?;
                }
            }
        }
    }

    /// Lets both stacks say all they have to say.
    fn pump(&mut self) -> anyhow::Result<()> {
        for publisher in [true, false] {
            let peer = if publisher { &mut self.publisher } else { &mut self.subscriber };
            loop {
                match peer.rtc.poll_output()? {
                    Output::Timeout(at) => {
                        peer.timeout = at;
                        break;
                    }
                    Output::Transmit(transmit) => {
                        if !self.dice.random_bool(self.options.loss) {
                            // A full socket buffer is loss like any other.
                            let _ = peer.socket.try_send_to(&transmit.contents, transmit.destination);
                        }
                    }
                    Output::Event(event) => {
                        event_of(event, publisher, peer, &mut self.seen, &mut self.kinds, &mut self.video)?
                    }
                }
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: Response) -> anyhow::Result<()> {
        match message {
            Response::Join(join) => self.joined(join).await?,
            Response::Answer(answer) => {
                let pending = self.pending.take().context("an answer without an offer")?;
                let answer = SdpAnswer::from_sdp_string(&answer.sdp)?;
                self.publisher.rtc.sdp_api().accept_answer(pending, answer)?;
            }
            Response::Offer(offer) => {
                let sdp = SdpOffer::from_sdp_string(&offer.sdp)?;
                let answer = self.subscriber.rtc.sdp_api().accept_offer(sdp)?;
                let answer = proto::SessionDescription {
                    r#type: "answer".into(),
                    sdp: answer.to_sdp_string(),
                    id: offer.id,
                    ..Default::default()
                };
                self.signal.send(Request::Answer(answer)).await?;
            }
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
                for participant in &update.participants {
                    if participant.sid == self.own && participant.state() == proto::participant_info::State::Active {
                        self.seen.active = true;
                    }
                }
                self.subscribe(&update.participants).await?;
            }
            Response::Leave(leave) => bail!("told to leave: {leave:?}"),
            _ => {}
        }
        Ok(())
    }

    async fn joined(&mut self, join: proto::JoinResponse) -> anyhow::Result<()> {
        self.own = join.participant.as_ref().map(|own| own.sid.clone()).unwrap_or_default();
        self.subscribe(&join.other_participants).await?;
        if self.options.audio.is_none() && self.options.video.is_none() {
            return Ok(());
        }
        let mut changes = self.publisher.rtc.sdp_api();
        let lossy = Reliability::MaxRetransmits { retransmits: 0 };
        for (label, ordered, reliability) in
            [("_reliable", true, Reliability::default()), ("_lossy", false, lossy), ("_data_track", false, lossy)]
        {
            changes.add_channel_with_config(ChannelConfig { label: label.into(), ordered, reliability, ..Default::default() });
        }
        let mut requests = Vec::new();
        if self.options.audio.is_some() {
            let mid = changes.add_media(MediaKind::Audio, Direction::SendOnly, None, Some("mic".into()), None);
            self.audio = Some((mid, Instant::now(), 0));
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
            let mid = changes.add_media(MediaKind::Video, Direction::SendOnly, None, Some("cam".into()), Some(simulcast));
            let keyframes = LAYERS.iter().map(|layer| layer.0).collect();
            self.video = Some(Video { mid, next: Instant::now(), number: 0, keyframes });
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
            self.signal.send(Request::AddTrack(request)).await?;
        }
        let offer = proto::SessionDescription {
            r#type: "offer".into(),
            sdp: offer.to_sdp_string(),
            id: 1,
            ..Default::default()
        };
        self.signal.send(Request::Offer(offer)).await
    }

    /// Subscribes to every audio and to as many videos as wanted.
    async fn subscribe(&mut self, participants: &[proto::ParticipantInfo]) -> anyhow::Result<()> {
        let mut sids = Vec::new();
        for track in participants.iter().filter(|p| p.sid != self.own).flat_map(|p| &p.tracks) {
            let wanted = track.r#type() == proto::TrackType::Audio || self.videos < self.options.videos;
            if wanted && self.subscribed.insert(track.sid.clone()) {
                self.videos += usize::from(track.r#type() == proto::TrackType::Video);
                sids.push(track.sid.clone());
            }
        }
        if sids.is_empty() {
            return Ok(());
        }
        let request = proto::UpdateSubscription { track_sids: sids, subscribe: true, ..Default::default() };
        self.signal.send(Request::Subscription(request)).await
    }

    /// Writes the frames that are due.
    fn publish(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if !self.publisher.rtc.is_connected() {
            let later = now + Duration::from_millis(50);
            if let Some((_, next, _)) = &mut self.audio {
                *next = later;
            }
            if let Some(video) = &mut self.video {
                video.next = later;
            }
            return Ok(());
        }
        let time = now.duration_since(self.started);
        if let (Some((mid, next, number)), Some(period)) = (&mut self.audio, self.options.audio)
            && *next <= now
        {
            *next = now + period;
            *number += 1;
            if let Some(writer) = self.publisher.rtc.writer(*mid) {
                let pt = writer.payload_params().find(|p| p.spec().codec == Codec::Opus).map(|p| p.pt());
                let mut frame = vec![0xfc; 40];
                frame[1..9].copy_from_slice(&number.to_be_bytes());
                let time = MediaTime::new((time.as_micros() * 48 / 1000) as u64, str0m::media::Frequency::FORTY_EIGHT_KHZ);
                writer.audio_level(-30, true).write(pt.context("Opus was negotiated")?, now, time, frame)?;
            }
        }
        if let (Some(video), Some(period)) = (&mut self.video, self.options.video)
            && video.next <= now
        {
            video.next = now + period;
            video.number += 1;
            for (rid, width, height, bytes) in LAYERS {
                let Some(writer) = self.publisher.rtc.writer(video.mid) else { break };
                let Some(pt) = writer.payload_params().find(|p| p.spec().codec == Codec::Vp8).map(|p| p.pt()) else {
                    bail!("VP8 was not negotiated");
                };
                let key = video.keyframes.remove(rid);
                let frame = vp8(key, width, height, video.number, bytes);
                let time = MediaTime::new((time.as_micros() * 90 / 1000) as u64, str0m::media::Frequency::NINETY_KHZ);
                writer.rid(Rid::from(rid)).write(pt, now, time, frame)?;
            }
        }
        Ok(())
    }
}

/// Feeds a datagram to a stack, with loss and reordering on the way.
fn deliver(peer: &mut Peer, dice: &mut StdRng, options: &Options, from: SocketAddr, datagram: &[u8]) -> anyhow::Result<()> {
    if dice.random_bool(options.loss) {
        return Ok(());
    }
    if peer.late.is_none() && dice.random_bool(options.reorder) {
        peer.late = Some(datagram.to_vec());
        return Ok(());
    }
    let late = peer.late.take();
    for contents in [Some(datagram), late.as_deref()].into_iter().flatten() {
        let receive = Receive::new(Protocol::Udp, from, peer.local, contents)?;
        peer.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
    }
    Ok(())
}

fn event_of(
    event: Event,
    publisher: bool,
    peer: &mut Peer,
    seen: &mut Seen,
    kinds: &mut HashMap<Mid, MediaKind>,
    video: &mut Option<Video>,
) -> anyhow::Result<()> {
    match event {
        Event::ChannelOpen(id, label) => drop(peer.channels.insert(label, id)),
        Event::MediaAdded(added) if !publisher => drop(kinds.insert(added.mid, added.kind)),
        Event::MediaData(data) => {
            let (frames, number) = match kinds.get(&data.mid) {
                Some(MediaKind::Audio) => (&mut seen.audios, data.data.get(1..9)),
                _ if data.is_keyframe() => (&mut seen.videos, data.data.get(10..18)),
                _ => (&mut seen.videos, data.data.get(3..11)),
            };
            let number = u64::from_be_bytes(number.context("a frame carries its number")?.try_into()?);
            let received = frames.entry(data.mid).or_default();
            received.frames += 1;
            received.gaps += u64::from(!data.contiguous);
            received.disorder += u64::from(number <= received.number);
            received.number = number;
        }
        Event::KeyframeRequest(request) => {
            seen.keyframe_requests += 1;
            if let (Some(video), Some(rid)) = (video, request.rid)
                && let Some(layer) = LAYERS.iter().find(|layer| Rid::from(layer.0) == rid)
            {
                video.keyframes.insert(layer.0);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A frame that looks like VP8 from outside (RFC 6386 section 9.1): frame tag, start code and size where it is a key frame,
/// then its number.
fn vp8(key: bool, width: u32, height: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut frame = vec![if key { 0x10 } else { 0x11 }, 0, 0];
    if key {
        frame.extend([0x9d, 0x01, 0x2a]);
        frame.extend((width as u16).to_le_bytes());
        frame.extend((height as u16).to_le_bytes());
    }
    frame.extend(number.to_be_bytes());
    frame.resize(bytes.max(frame.len()), 0);
    frame
}
