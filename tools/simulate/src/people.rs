//! What one call costs control: the real room code, with clients that answer like a browser, in a world of one call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use livekit_protocol::{
    AddTrackRequest, SessionDescription, TrackSource, TrackType, VideoLayer, signal_request::Message as Request,
    signal_response::Message as Response,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use sluice_messages::{Entry, Event, Fingerprint, Hello, IceCredentials, Op, TransportId, TransportState};
use sluice_rooms::{Command, Effect, NodeId, Now, Rooms, RoomsConfig, SocketClosed, SocketId};
use sluice_signal::{
    Claims, ConnectParams, Reconnect, VideoGrant,
    sdp::{Description, Direction, Setup},
};

use crate::mix;

/// Offers of a browser that publishes nothing, and of one that publishes a microphone and a simulcast camera.
const DATA_OFFER: &str = include_str!("../data/data.sdp");
const PUBLISH_OFFER: &str = include_str!("../data/publish.sdp");

/// Calls of one size are repeated until so many people took part: more makes the CPU times of small calls steadier.
const PEOPLE_MEASURED: usize = 60;

/// Between two people who join or leave a call, in simulated time.
const PERSON_GAP: Duration = Duration::from_millis(5);

/// What control did for something that happened to a call.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize)]
pub struct Work {
    /// Changes of a node's table.
    pub ops: f64,
    /// Messages to clients.
    pub messages: f64,
    /// Messages from clients, joins included.
    pub requests: f64,
    /// CPU time of the room code. Measured: it differs from run to run.
    #[serde(skip)]
    pub cpu_us: f64,
}

impl Work {
    pub fn add(&mut self, other: Work, share: f64) {
        self.ops += other.ops * share;
        self.messages += other.messages * share;
        self.requests += other.requests * share;
        self.cpu_us += other.cpu_us * share;
    }
}

/// What a call of one size costs: to fill, to move to another node with all people, and to end.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Costs {
    pub people: usize,
    pub publishers: usize,
    pub start: Work,
    pub moved: Work,
    pub end: Work,
}

/// Runs calls of this size.
pub fn measure(people: usize) -> Costs {
    let rounds = PEOPLE_MEASURED.div_ceil(people);
    let mut costs = Costs { people, publishers: mix::publishers(people), ..Costs::default() };
    for round in 0..rounds {
        let mut call = OneCall::new(round as u64);
        let share = 1.0 / rounds as f64;
        call.fill(people);
        costs.start.add(call.take(), share);
        call.move_to("second");
        costs.moved.add(call.take(), share);
        call.end();
        costs.end.add(call.take(), share);
    }
    costs
}

/// CPU time of this thread.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct OneCall {
    rooms: Rooms,
    now: Duration,
    node: String,
    work: Work,
    last_socket: u64,
    people: Vec<SocketId>,
    /// Which of them publish.
    published: BTreeSet<usize>,
    /// Messages that clients react to.
    inbox: VecDeque<(SocketId, Response)>,
    /// Sid of the participant whose transport it is.
    transports: BTreeMap<TransportId, String>,
    sids: BTreeMap<SocketId, String>,
}

impl OneCall {
    fn new(seed: u64) -> OneCall {
        // Nobody falls silent here; the clock is moved in large steps.
        let long = Duration::from_secs(3_600);
        let config = RoomsConfig { ping_timeout: long, connect_timeout: long, ..RoomsConfig::default() };
        let mut call = OneCall {
            rooms: Rooms::new(config, seed),
            now: Duration::from_secs(1),
            node: "first".to_owned(),
            work: Work::default(),
            last_socket: 0,
            people: Vec::new(),
            published: BTreeSet::new(),
            inbox: VecDeque::new(),
            transports: BTreeMap::new(),
            sids: BTreeMap::new(),
        };
        call.handle(Command::NodeUp { hello: hello("first"), state: None });
        call.work = Work::default();
        call
    }

    fn take(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Everybody joins; those who publish first.
    fn fill(&mut self, people: usize) {
        for i in 0..people {
            self.join(&format!("person-{i}"), i < mix::publishers(people));
        }
        // The last news of a large room take their time.
        self.pass(Duration::from_secs(5));
    }

    fn join(&mut self, identity: &str, publishes: bool) {
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        self.connect(socket, identity, params());
        if publishes {
            self.published.insert(self.people.len() - 1);
            self.say(socket, Request::AddTrack(microphone()));
            self.say(socket, Request::AddTrack(camera()));
        }
        self.offer(socket, publishes, 1);
        self.connected(socket);
        self.pass(PERSON_GAP);
    }

    fn connect(&mut self, socket: SocketId, identity: &str, params: ConnectParams) {
        let video = VideoGrant { room: "call".into(), room_join: true, ..VideoGrant::default() };
        let claims = Claims { sub: identity.to_owned(), video: Some(video), ..Claims::default() };
        self.work.requests += 1.0;
        self.people.push(socket);
        self.handle(Command::Connect {
            socket,
            room: "call".into(),
            claims: Box::new(claims),
            params: Box::new(params),
        });
        self.settle();
    }

    fn offer(&mut self, socket: SocketId, publishes: bool, id: u32) {
        let sdp = if publishes { PUBLISH_OFFER } else { DATA_OFFER };
        let offer = SessionDescription { r#type: "offer".into(), sdp: sdp.into(), id, ..Default::default() };
        self.say(socket, Request::Offer(offer));
        self.settle();
    }

    /// The node says that somebody's connections are up.
    fn connected(&mut self, socket: SocketId) {
        let sid = self.sids.get(&socket).cloned().unwrap_or_default();
        let of = |(id, owner): (&TransportId, &String)| (*owner == sid).then_some(*id);
        for transport in self.transports.iter().filter_map(of).collect::<Vec<_>>() {
            let event = Event::Transport { transport, state: TransportState::Connected };
            self.handle(Command::NodeEvent { node: NodeId(self.node.clone()), event });
        }
        self.settle();
    }

    /// Another node comes, the call's dies, and everybody goes on there: they answer the offer, and those who have a connection
    /// of their own resume and offer it again.
    fn move_to(&mut self, node: &str) {
        let old = NodeId(std::mem::replace(&mut self.node, node.to_owned()));
        self.handle(Command::NodeUp { hello: hello(node), state: None });
        self.handle(Command::NodeDown { node: old.clone() });
        self.handle(Command::NodeLost { node: old });
        self.settle();
        for (index, before) in std::mem::take(&mut self.people).into_iter().enumerate() {
            let sid = self.sids.remove(&before).unwrap_or_default();
            self.last_socket += 1;
            let socket = SocketId(self.last_socket);
            let identity = format!("person-{index}");
            let reconnect = Some(Reconnect { sid: sid.clone(), reason: Default::default() });
            self.connect(socket, &identity, ConnectParams { reconnect, ..params() });
            self.sids.insert(socket, sid);
            let publishes = self.published.contains(&index);
            self.offer(socket, publishes, 2);
            self.connected(socket);
        }
        self.pass(Duration::from_secs(5));
    }

    /// Everybody leaves.
    fn end(&mut self) {
        for socket in std::mem::take(&mut self.people) {
            self.say(socket, Request::Leave(Default::default()));
            self.handle(Command::SocketClosed { socket, reason: SocketClosed::Gone });
            self.settle();
            self.pass(PERSON_GAP);
        }
        self.pass(Duration::from_secs(60));
    }

    fn say(&mut self, socket: SocketId, message: Request) {
        self.work.requests += 1.0;
        self.handle(Command::Signal { socket, message });
    }

    /// Everybody answers until nobody has anything to answer.
    fn settle(&mut self) {
        while let Some((socket, message)) = self.inbox.pop_front() {
            match message {
                Response::Join(join) => {
                    self.sids.insert(socket, join.participant.map(|participant| participant.sid).unwrap_or_default());
                }
                Response::Offer(offer) => {
                    if let Some(answer) = answer(&offer) {
                        self.say(socket, Request::Answer(answer));
                    }
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.rooms.wake().filter(|at| *at <= end) {
            self.now = at.max(self.now + Duration::from_micros(100));
            self.handle(Command::Tick);
            self.settle();
        }
        self.now = self.now.max(end);
    }

    fn handle(&mut self, command: Command) {
        let now = Now { monotonic: self.now, unix_ms: 1_800_000_000_000 + self.now.as_millis() as i64 };
        let before = cpu();
        let effects = self.rooms.handle(now, command);
        self.work.cpu_us += (cpu() - before).as_secs_f64() * 1e6;
        for effect in effects {
            match effect {
                Effect::Send { socket, message } => {
                    self.work.messages += 1.0;
                    if matches!(message, Response::Join(_) | Response::Offer(_)) {
                        self.inbox.push_back((socket, message));
                    }
                }
                Effect::Tell { sockets, .. } => self.work.messages += sockets.len() as f64,
                Effect::Node { node, ops } if node.0 == self.node => {
                    self.work.ops += ops.len() as f64;
                    for op in ops {
                        if let Op::Put(Entry::Transport(row)) = op {
                            self.transports.insert(row.id, row.participant.sid);
                        }
                    }
                }
                Effect::NodeSnapshot { node, entries } if node.0 == self.node => {
                    self.work.ops += entries.len() as f64;
                }
                _ => {}
            }
        }
    }
}

fn params() -> ConnectParams {
    let mut params = ConnectParams { auto_subscribe: true, ..ConnectParams::default() };
    params.client.protocol = 17;
    params
}

fn hello(node: &str) -> Hello {
    Hello {
        version: sluice_messages::VERSION,
        node: node.to_owned(),
        fingerprint: Fingerprint { sha256: [0xa5; 32] },
        addresses: vec![std::net::SocketAddr::from(([192, 0, 2, 7], 7882))],
        workers: 1,
        epoch: 0,
        entries: 0,
    }
}

/// What a browser answers that takes all it is offered. None to what is no description.
fn answer(offer: &SessionDescription) -> Option<SessionDescription> {
    let mut description = Description::parse(&offer.sdp).ok()?;
    description.ice_lite = false;
    for media in &mut description.media {
        media.direction = match media.direction {
            Direction::SendOnly => Direction::RecvOnly,
            other => other,
        };
        media.setup = Some(Setup::Active);
        media.ice = Some(IceCredentials { ufrag: "clnt".into(), pwd: "client-password-client-password".into() });
        media.fingerprint = Some(Fingerprint { sha256: [7; 32] });
        media.candidates.clear();
        media.msid = None;
        media.ssrcs.clear();
        media.groups.clear();
    }
    let sdp = description.to_string();
    Some(SessionDescription { r#type: "answer".into(), sdp, id: offer.id, ..Default::default() })
}

fn microphone() -> AddTrackRequest {
    AddTrackRequest {
        cid: "e0bf3ed2-e2fc-4937-bf28-6acfaf25192a".into(),
        name: "mic".into(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..Default::default()
    }
}

fn camera() -> AddTrackRequest {
    let layer = |quality, width, height, rid: &str| VideoLayer {
        quality,
        width,
        height,
        rid: rid.into(),
        ..Default::default()
    };
    AddTrackRequest {
        cid: "c2ccc4c3-7f5b-4d45-8bcd-3a0dbff9ad11".into(),
        name: "cam".into(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        width: 1280,
        height: 720,
        layers: vec![layer(0, 320, 180, "q"), layer(1, 640, 360, "h"), layer(2, 1280, 720, "f")],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room code does for a call what it should, so that what is counted means something.
    #[test]
    fn a_call_is_filled_moved_and_ended() {
        let costs = measure(3);
        let Costs { start, moved, end, .. } = costs;
        // Each has two transports, publishes four layers or tracks, and receives two tracks of each of the two others.
        assert!(start.ops >= 3.0 * (2.0 + 2.0 + 4.0), "{costs:?}");
        assert!(start.messages >= 3.0 * 4.0 && end.messages > 0.0 && end.ops > 0.0, "{costs:?}");
        // Everybody is told of the new node, answers its offer, resumes and offers its own connection.
        assert!(moved.ops >= 3.0 * (2.0 + 2.0 + 4.0) && moved.messages >= 3.0 * 4.0, "{costs:?}");
        assert!(moved.requests >= 3.0 * 3.0 && moved.requests < start.requests, "{costs:?}");
    }
}
