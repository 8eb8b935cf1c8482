//! One participant's signalling: it joins, publishes, answers offers, chooses what to see, and hands transports over to a
//! media thread.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::Duration,
};

use livekit_protocol as proto;
use proto::{SignalTarget, signal_request::Message as Request, signal_response::Message as Response};
use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::SmallRng};
use sluice_messages::IceCredentials;
use sluice_wire::Micros;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    dtls::Identity,
    ice::Agent,
    publish::Ssrcs,
    receive::{Rules, Subscriber},
    scenario::{LAYERS, Layout, Roles, Scenario},
    sdp::{self, Local, Offered},
    signal::{Door, Signal, SignalError, left},
    transport::{Remote, Transport},
    worker::{Endpoint, Media, News, Order, Worker},
};

/// Wanted for each socket; the system may cap it. Thousands of them share a core, and what waits for its turn must not look
/// like loss on the network.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Where the server says nothing: between two pings.
const PING: Duration = Duration::from_secs(5);

/// What the conductor hears.
pub enum Told {
    News(News),
    /// A participant is on its way.
    Began {
        participant: u32,
        at: Micros,
    },
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// It is out.
    Ended {
        participant: u32,
        error: SessionError,
    },
}

impl From<News> for Told {
    fn from(news: News) -> Told {
        Told::News(news)
    }
}

/// Why a participant is out.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Signalling
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// A description
    #[error(transparent)]
    Description(#[from] sdp::DescriptionError),
    /// The system gives no socket
    #[error("no socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// What all participants of a run share.
pub struct Shared {
    pub clock: Clock,
    pub scenario: Arc<Scenario>,
    pub identity: Identity,
    pub door: Door,
    /// Our address towards the server.
    pub local: IpAddr,
    pub workers: Vec<Worker>,
    pub tell: SyncSender<Told>,
    pub ids: AtomicU64,
}

/// Runs the participant with this number until `stop`, and tells how it went.
pub async fn run(shared: Arc<Shared>, participant: u32, stop: watch::Receiver<bool>) {
    let tell = shared.tell.clone();
    let began = Told::Began { participant, at: shared.clock.now() };
    // The conductor outlives everybody whom it conducts.
    let _ = tell.send(began);
    let mut session = Session::new(shared, participant);
    let result = session.run(stop).await;
    for id in [session.publisher.as_ref(), session.subscriber.as_ref()].into_iter().flatten().filter_map(|p| p.id) {
        session.worker().order(Order::Remove(id));
    }
    if let Err(error) = result {
        let _ = tell.send(Told::Ended { participant, error });
    }
}

struct Session {
    shared: Arc<Shared>,
    participant: u32,
    room: usize,
    /// Among those of its room.
    index: usize,
    roles: Roles,
    dice: SmallRng,
    publisher: Option<Peer>,
    subscriber: Option<Peer>,
    /// Tracks that were announced and not confirmed.
    unconfirmed: usize,
    ssrcs: Ssrcs,
    subscribed: HashSet<String>,
    answers: u64,
}

/// One peer connection before and after its socket has gone to a media thread.
struct Peer {
    local: Local,
    socket: Option<UdpSocket>,
    id: Option<u64>,
    remote: Option<Remote>,
    /// Came before the description.
    candidates: Vec<SocketAddr>,
}

impl Session {
    fn new(shared: Arc<Shared>, participant: u32) -> Session {
        let rooms = shared.scenario.rooms;
        let (index, room) = (participant as usize / rooms, participant as usize % rooms);
        let mut dice = SmallRng::seed_from_u64(rand::random());
        Session {
            roles: shared.scenario.roles(index),
            ssrcs: Ssrcs::draw(&mut dice),
            shared,
            participant,
            room,
            index,
            dice,
            publisher: None,
            subscriber: None,
            unconfirmed: 0,
            subscribed: HashSet::new(),
            answers: 0,
        }
    }

    fn worker(&self) -> &Worker {
        &self.shared.workers[self.participant as usize % self.shared.workers.len()]
    }

    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> Result<(), SessionError> {
        let shared = self.shared.clone();
        let room = format!("{}-{}", shared.scenario.room, self.room);
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let token = shared.door.token(&room, &identity(self.index), self.roles, now_s)?;
        let auto_subscribe = self.roles.receives && shared.scenario.layout == Layout::All;
        let mut signal = Signal::connect(&shared.door, &token, auto_subscribe).await?;
        let join = signal.joined().await?;
        if self.roles.publishes {
            self.announce(&mut signal).await?;
        }
        self.choose(&mut signal, &join.other_participants).await?;
        let seconds = u64::try_from(join.ping_interval).ok().filter(|seconds| *seconds > 0);
        let mut pings = tokio::time::interval(seconds.map_or(PING, Duration::from_secs));
        loop {
            tokio::select! {
                message = signal.next() => self.message(&mut signal, message?).await?,
                _ = pings.tick() => {
                    let timestamp = shared.clock.now().0 as i64 / 1000;
                    signal.send(Request::PingReq(proto::Ping { timestamp, rtt: 0 })).await?;
                }
                () = stopped(&mut stop) => {
                    signal.leave().await;
                    return Ok(());
                }
            }
        }
    }

    async fn message(&mut self, signal: &mut Signal, message: Response) -> Result<(), SessionError> {
        match message {
            Response::TrackPublished(_) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                if self.unconfirmed == 0 && self.publisher.is_none() {
                    self.offer(signal).await?;
                }
            }
            Response::Answer(answer) => self.answered(&answer.sdp)?,
            Response::Offer(offer) => self.offered(signal, &offer).await?,
            Response::Trickle(trickle) => self.trickled(&trickle)?,
            Response::Update(update) => self.choose(signal, &update.participants).await?,
            Response::Leave(leave) => return Err(left(&leave).into()),
            _ => {}
        }
        Ok(())
    }

    /// Says what will be published.
    async fn announce(&mut self, signal: &mut Signal) -> Result<(), SessionError> {
        let scenario = self.shared.scenario.clone();
        if scenario.audio.is_some() {
            self.unconfirmed += 1;
            let request = proto::AddTrackRequest {
                cid: sdp::AUDIO_CID.into(),
                name: sdp::AUDIO_CID.into(),
                r#type: proto::TrackType::Audio as i32,
                source: proto::TrackSource::Microphone as i32,
                disable_red: true,
                ..Default::default()
            };
            signal.send(Request::AddTrack(request)).await?;
        }
        if let Some(video) = &scenario.video {
            self.unconfirmed += 1;
            let count = video.rates_bps.len();
            let quality = [proto::VideoQuality::Low, proto::VideoQuality::Medium, proto::VideoQuality::High];
            let shown = if count == 1 { &LAYERS[2..] } else { &LAYERS[..count] };
            let quality = if count == 1 { &quality[2..] } else { &quality[..count] };
            let layers: Vec<_> = shown
                .iter()
                .zip(quality)
                .zip(&video.rates_bps)
                .map(|(((rid, width, height), quality), rate)| proto::VideoLayer {
                    quality: *quality as i32,
                    width: u32::from(*width),
                    height: u32::from(*height),
                    bitrate: *rate,
                    rid: (*rid).to_owned(),
                    ..Default::default()
                })
                .collect();
            let (width, height) = shown.last().map_or((0, 0), |(_, width, height)| (*width, *height));
            let request = proto::AddTrackRequest {
                cid: sdp::VIDEO_CID.into(),
                name: sdp::VIDEO_CID.into(),
                r#type: proto::TrackType::Video as i32,
                source: proto::TrackSource::Camera as i32,
                width: width.into(),
                height: height.into(),
                simulcast_codecs: vec![proto::SimulcastCodec {
                    codec: "vp8".into(),
                    cid: sdp::VIDEO_CID.into(),
                    layers: layers.clone(),
                    ..Default::default()
                }],
                layers,
                ..Default::default()
            };
            signal.send(Request::AddTrack(request)).await?;
        }
        Ok(())
    }

    async fn offer(&mut self, signal: &mut Signal) -> Result<(), SessionError> {
        let peer = self.peer()?;
        let sdp = sdp::offer(&self.shared.scenario, &peer.local, &self.ssrcs);
        self.publisher = Some(peer);
        signal.send(Request::Offer(description("offer", sdp, 1))).await?;
        Ok(())
    }

    fn answered(&mut self, sdp: &str) -> Result<(), SessionError> {
        let Offered { remote, description } = sdp::read(sdp)?;
        let media = Media::Publish {
            scenario: self.shared.scenario.clone(),
            ssrcs: self.ssrcs.clone(),
            accepted: sdp::accepted(&description),
            publisher: None,
        };
        let Some(mut peer) = self.publisher.take() else { return Ok(()) };
        // We offer and so control (RFC 8445 section 6.1.1).
        let started = self.start(&mut peer, remote, true, false, media);
        self.publisher = Some(peer);
        started
    }

    async fn offered(&mut self, signal: &mut Signal, offer: &proto::SessionDescription) -> Result<(), SessionError> {
        let Offered { remote, description: offered } = sdp::read(&offer.sdp)?;
        let mut peer = match self.subscriber.take() {
            Some(peer) => peer,
            None => self.peer()?,
        };
        let restarts = peer.remote.as_ref().is_some_and(|known| known.ice != remote.ice);
        if restarts {
            peer.local.ice = credentials(&mut self.dice);
        }
        self.answers += 1;
        let answer = sdp::answer(&offered, &peer.local, self.answers);
        signal.send(Request::Answer(description("answer", answer.sdp, offer.id))).await?;
        match peer.id {
            None => {
                let scenario = &self.shared.scenario;
                let rules = Rules { loss: scenario.loss, sampled: scenario.sampled, verify: scenario.verify };
                let now = self.shared.clock.now();
                let dice = SmallRng::seed_from_u64(scenario.seed ^ u64::from(self.participant) << 32);
                let subscriber = Subscriber::new(rules, scenario.expected(self.index), now, dice);
                // An ICE-lite server never controls.
                let controls = offered.ice_lite;
                self.start(&mut peer, remote, controls, answer.data, Media::Receive(Box::new(subscriber)))?;
            }
            Some(id) if restarts => {
                let (local, theirs) = (peer.local.ice.clone(), remote.ice.clone());
                self.worker().order(Order::Restart(id, local, theirs));
                peer.remote = Some(remote);
            }
            Some(_) => {}
        }
        if let Some(id) = peer.id {
            self.worker().order(Order::Describe(id, answer.streams, answer.negotiated));
        }
        self.subscriber = Some(peer);
        Ok(())
    }

    /// Hands a peer connection over to its media thread.
    fn start(
        &mut self,
        peer: &mut Peer,
        mut remote: Remote,
        controls: bool,
        data: bool,
        media: Media,
    ) -> Result<(), SessionError> {
        let Some(socket) = peer.socket.take() else { return Ok(()) };
        let (clock, now) = (self.shared.clock, self.shared.clock.now());
        remote.candidates.append(&mut peer.candidates);
        remote.candidates.retain(|candidate| candidate.is_ipv4() == self.shared.local.is_ipv4());
        let dice = SmallRng::seed_from_u64(self.dice.random());
        let agent = Agent::new(peer.local.ice.clone(), remote.ice.clone(), controls, now, dice);
        let transport = Transport::new(clock.epoch(), now, &self.shared.identity, agent, &remote, data);
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let endpoint = Endpoint::new(id, self.participant, socket, transport, media)?;
        self.worker().order(Order::Add(Box::new(endpoint)));
        (peer.id, peer.remote) = (Some(id), Some(remote));
        Ok(())
    }

    fn trickled(&mut self, trickle: &proto::TrickleRequest) -> Result<(), SessionError> {
        let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
        let line = init["candidate"].as_str().unwrap_or_default();
        let Some(address) = line.strip_prefix("candidate:").and_then(sdp::candidate) else { return Ok(()) };
        if address.is_ipv4() != self.shared.local.is_ipv4() {
            return Ok(());
        }
        // Candidates may come before the offer that they belong to.
        if trickle.target() == SignalTarget::Subscriber && self.subscriber.is_none() {
            self.subscriber = Some(self.peer()?);
        }
        let peer = match trickle.target() {
            SignalTarget::Publisher => &mut self.publisher,
            SignalTarget::Subscriber => &mut self.subscriber,
        };
        match peer {
            Some(Peer { id: Some(id), .. }) => {
                let order = Order::Candidate(*id, address);
                self.worker().order(order);
            }
            Some(peer) => peer.candidates.push(address),
            None => {}
        }
        Ok(())
    }

    /// Subscribes to what the layout shows, where the server does not do it by itself.
    async fn choose(&mut self, signal: &mut Signal, people: &[proto::ParticipantInfo]) -> Result<(), SessionError> {
        let scenario = self.shared.scenario.clone();
        let Layout::Tiles(tiles) = &scenario.layout else { return Ok(()) };
        if !self.roles.receives {
            return Ok(());
        }
        let publishers = scenario.publishers + scenario.both;
        let mut wanted = Vec::new();
        for person in people {
            let Some(other) = index_of(&person.identity).filter(|other| *other != self.index) else { continue };
            let tile = tiles.get(place(self.index, other, publishers));
            for track in &person.tracks {
                let layer = match track.r#type() {
                    proto::TrackType::Audio => None,
                    proto::TrackType::Video if tile.is_some() => tile,
                    _ => continue,
                };
                if self.subscribed.insert(track.sid.clone()) {
                    wanted.push((track.sid.clone(), layer));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let track_sids = wanted.iter().map(|(sid, _)| sid.clone()).collect();
        let request = proto::UpdateSubscription { track_sids, subscribe: true, ..Default::default() };
        signal.send(Request::Subscription(request)).await?;
        for (sid, layer) in wanted {
            let Some(&layer) = layer else { continue };
            let settings =
                proto::UpdateTrackSettings { track_sids: vec![sid], quality: layer as i32, ..Default::default() };
            signal.send(Request::TrackSetting(settings)).await?;
        }
        Ok(())
    }

    fn peer(&mut self) -> Result<Peer, SessionError> {
        let socket = UdpSocket::bind((self.shared.local, 0))?;
        socket.set_nonblocking(true)?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        let address = socket.local_addr()?;
        let local = Local {
            ice: credentials(&mut self.dice),
            fingerprint: self.shared.identity.fingerprint(),
            address,
            session: self.dice.random(),
        };
        Ok(Peer { local, socket: Some(socket), id: None, remote: None, candidates: Vec::new() })
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could stop us being gone is as good as being stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Identity of the `index`-th participant of a room.
fn identity(index: usize) -> String {
    format!("p{index:05}")
}

fn index_of(identity: &str) -> Option<usize> {
    identity.strip_prefix('p')?.parse().ok()
}

/// Which tile of participant `own` shows `other`: everybody begins with the next one, so that all are shown equally often.
fn place(own: usize, other: usize, publishers: usize) -> usize {
    let publishers = publishers.max(1);
    (other % publishers + publishers - own % publishers + publishers - 1) % publishers
}

fn credentials(dice: &mut SmallRng) -> IceCredentials {
    let mut text = |length: usize| (0..length).map(|_| char::from(dice.sample(Alphanumeric))).collect();
    IceCredentials { ufrag: text(8), pwd: text(24) }
}

fn description(kind: &str, sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: kind.into(), sdp, id, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_shown_equally_often() {
        let (publishers, tiles) = (10, 3);
        for other in 0..publishers {
            let viewers = (0..publishers).filter(|&own| own != other && place(own, other, publishers) < tiles).count();
            assert_eq!(viewers, tiles, "of {other}");
        }
        // A receiver that does not publish has all tiles filled as well.
        let shown = (0..publishers).filter(|&other| place(25, other, publishers) < tiles).count();
        assert_eq!(shown, tiles);
    }

    #[test]
    fn identities_are_read_back() {
        assert_eq!(index_of(&identity(42)), Some(42));
        assert_eq!(index_of("somebody"), None);
    }
}
