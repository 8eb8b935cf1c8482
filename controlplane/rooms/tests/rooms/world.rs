//! Rooms, one node that keeps its table, and clients that answer like a browser.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use livekit_protocol::{
    AddTrackRequest, JoinResponse, ParticipantInfo, SessionDescription, TrackInfo, TrackSource, TrackType, VideoLayer,
    signal_request::Message as Request, signal_response::Message as Response,
};
use sluice_messages::{
    Entry, Event, Fingerprint, Hello, IceCredentials, Key, Op, SendData, Subscription, Track, Transport, TransportId,
    TransportState,
};
use sluice_rooms::{
    ApiAnswer, ApiCall, ApiError, CloseReason, Command, Effect, NodeId, NodeState, Notice, Now, ReplyId, Rooms,
    RoomsConfig, SocketClosed, SocketId,
};
use sluice_signal::{
    Claims, ConnectParams, Reconnect, VideoGrant,
    sdp::{Description, Direction, Setup},
};

pub const NODE: &str = "node-1";
pub const NODE_2: &str = "node-2";

pub struct World {
    pub rooms: Rooms,
    pub now: Duration,
    /// What the first node holds.
    pub table: BTreeMap<Key, Entry>,
    /// What the second one holds.
    pub table_2: BTreeMap<Key, Entry>,
    /// The two have changed places.
    is_second: bool,
    pub inbox: HashMap<SocketId, Vec<Response>>,
    pub closed: HashMap<SocketId, CloseReason>,
    pub tokens: HashMap<SocketId, Claims>,
    pub data: Vec<SendData>,
    pub notices: Vec<Notice>,
    /// Node effects and what kind of messages went out, in order.
    pub ops: usize,
    last_socket: u64,
}

pub fn data(name: &str) -> String {
    let path = format!("{}/../signal/tests/data/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn claims(identity: &str) -> Claims {
    let video = VideoGrant { room: "r".into(), room_join: true, ..Default::default() };
    Claims { sub: identity.into(), name: identity.to_uppercase(), video: Some(video), ..Default::default() }
}

pub fn params() -> ConnectParams {
    let mut params = ConnectParams { auto_subscribe: true, ..Default::default() };
    params.client.protocol = 17;
    params
}

/// Another node than [`hello`]'s.
pub fn hello_2(entries: u64) -> Hello {
    Hello {
        node: NODE_2.into(),
        fingerprint: Fingerprint { sha256: [0xb6; 32] },
        addresses: vec!["192.0.2.8:7882".parse().unwrap()],
        ..hello(entries)
    }
}

pub fn hello(entries: u64) -> Hello {
    Hello {
        version: sluice_messages::VERSION,
        node: NODE.into(),
        fingerprint: Fingerprint { sha256: [0xa5; 32] },
        addresses: vec!["192.0.2.7:7882".parse().unwrap(), "[2001:db8::7]:7882".parse().unwrap()],
        workers: 1,
        epoch: 0,
        entries,
    }
}

impl World {
    pub fn new() -> World {
        World::with(RoomsConfig::default())
    }

    pub fn with(config: RoomsConfig) -> World {
        let mut world = World {
            rooms: Rooms::new(config, 7),
            now: Duration::from_secs(1),
            table: BTreeMap::new(),
            table_2: BTreeMap::new(),
            is_second: false,
            inbox: HashMap::new(),
            closed: HashMap::new(),
            tokens: HashMap::new(),
            data: Vec::new(),
            notices: Vec::new(),
            ops: 0,
            last_socket: 0,
        };
        world.run(Command::NodeUp { hello: hello(0), state: None });
        world
    }

    pub fn run(&mut self, command: Command) {
        self.replies(command);
    }

    fn replies(&mut self, command: Command) -> Option<Result<ApiAnswer, ApiError>> {
        let now = Now { monotonic: self.now, unix_ms: 1_800_000_000_000 + self.now.as_millis() as i64 };
        let mut answer = None;
        for effect in self.rooms.handle(now, command) {
            match effect {
                Effect::Send { socket, message } => {
                    assert!(!self.closed.contains_key(&socket), "sent on a closed socket: {message:?}");
                    self.inbox.entry(socket).or_default().push(message);
                }
                Effect::Tell { sockets, message } => {
                    for socket in sockets {
                        assert!(!self.closed.contains_key(&socket), "told on a closed socket: {message:?}");
                        self.inbox.entry(socket).or_default().push(message.clone());
                    }
                }
                Effect::Close { socket, reason } => drop(self.closed.insert(socket, reason)),
                Effect::RefreshToken { socket, claims } => drop(self.tokens.insert(socket, *claims)),
                Effect::Reply { result, .. } => answer = Some(result),
                Effect::Node { node, ops } => {
                    self.ops += ops.len();
                    let table = self.table_of(&node);
                    ops.into_iter().for_each(|op| apply(table, op));
                }
                Effect::NodeSnapshot { node, entries } => {
                    *self.table_of(&node) = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
                }
                Effect::NodeSend { data, .. } => self.data.push(data),
                Effect::Notice(notice) => self.notices.push(notice),
            }
        }
        answer
    }

    fn table_of(&mut self, node: &NodeId) -> &mut BTreeMap<Key, Entry> {
        if (node.0 == NODE) != self.is_second { &mut self.table } else { &mut self.table_2 }
    }

    /// The second node's table takes the place of the first one's, for what looks there, or the other way round.
    pub fn look_at_second(&mut self) {
        std::mem::swap(&mut self.table, &mut self.table_2);
        self.is_second = !self.is_second;
    }

    pub fn api(&mut self, call: ApiCall) -> Result<ApiAnswer, ApiError> {
        self.replies(Command::Api { reply: ReplyId(1), call: Box::new(call) }).expect("each call is answered")
    }

    /// Lets time pass, waking the rooms when they ask for it. Clients in `alive` are heard all the time.
    pub fn pass(&mut self, time: Duration, alive: &[SocketId]) {
        let end = self.now + time;
        while self.now < end {
            let step = self.rooms.wake().map_or(end, |at| at.max(self.now + Duration::from_millis(1)));
            self.now = step.min(end).min(self.now + Duration::from_secs(5));
            for &socket in alive {
                self.run(Command::Alive { socket });
            }
            self.run(Command::Tick);
        }
    }

    pub fn connect(&mut self, claims: Claims, params: ConnectParams) -> SocketId {
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        let (claims, params) = (Box::new(claims), Box::new(params));
        self.run(Command::Connect { socket, room: "r".into(), claims, params });
        socket
    }

    /// Joins and answers; its media is not connected yet.
    pub fn join(&mut self, identity: &str) -> Client {
        self.join_with(claims(identity), params())
    }

    pub fn join_with(&mut self, claims: Claims, params: ConnectParams) -> Client {
        let identity = claims.sub.clone();
        let socket = self.connect(claims, params);
        let messages = self.take(socket);
        let Some(Response::Join(join)) = messages.first() else { panic!("join is first: {messages:?}") };
        let client =
            Client { socket, sid: join.participant.as_ref().unwrap().sid.clone(), identity, join: join.clone() };
        self.react(&client, messages);
        client
    }

    /// Joins, answers, and connects both peer connections.
    pub fn join_up(&mut self, identity: &str) -> Client {
        let client = self.join(identity);
        self.offer(&client, "chromium-data", 1);
        self.connect_media(&client);
        client
    }

    pub fn resume(&mut self, client: &Client) -> (Client, Vec<Response>) {
        let reconnect = Reconnect { sid: client.sid.clone(), reason: Default::default() };
        let socket = self.connect(claims(&client.identity), ConnectParams { reconnect: Some(reconnect), ..params() });
        (Client { socket, ..client.clone() }, self.take(socket))
    }

    pub fn say(&mut self, client: &Client, message: Request) {
        self.run(Command::Signal { socket: client.socket, message });
    }

    pub fn close(&mut self, client: &Client) {
        self.run(Command::SocketClosed { socket: client.socket, reason: SocketClosed::Gone });
    }

    /// Messages since the last time; offers among them are answered.
    pub fn hear(&mut self, client: &Client) -> Vec<Response> {
        let messages = self.take(client.socket);
        self.react(client, messages.clone());
        messages
    }

    pub fn take(&mut self, socket: SocketId) -> Vec<Response> {
        self.inbox.remove(&socket).unwrap_or_default()
    }

    fn react(&mut self, client: &Client, messages: Vec<Response>) {
        for message in messages {
            if let Response::Offer(offer) = message {
                let answer = answer(&offer, |_| true);
                self.say(client, Request::Answer(answer));
            }
        }
    }

    /// Everybody answers until nobody has anything to answer.
    pub fn settle(&mut self, clients: &[&Client]) {
        while clients.iter().any(|client| {
            self.inbox.get(&client.socket).is_some_and(|m| m.iter().any(|m| matches!(m, Response::Offer(_))))
        }) {
            for client in clients {
                self.hear(client);
            }
        }
    }

    pub fn offer(&mut self, client: &Client, name: &str, id: u32) {
        let offer = SessionDescription { r#type: "offer".into(), sdp: data(name), id, ..Default::default() };
        self.say(client, Request::Offer(offer));
    }

    /// The camera's sender is removed.
    pub fn unpublish_camera(&mut self, client: &Client, id: u32) {
        let (before, video) =
            data("chromium-simulcast").split_once("m=video").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let sdp = format!("{before}m=video{}", video.replace("a=sendonly", "a=inactive"));
        self.say(client, Request::Offer(SessionDescription { r#type: "offer".into(), sdp, id, ..Default::default() }));
    }

    pub fn connect_media(&mut self, client: &Client) {
        for transport in self.transports(&client.sid) {
            self.event(Event::Transport { transport: transport.id, state: TransportState::Connected });
        }
    }

    pub fn event(&mut self, event: Event) {
        self.run(Command::NodeEvent { node: NodeId(NODE.into()), event });
    }

    /// Announces and offers the microphone and the simulcast camera of the captured description.
    pub fn publish(&mut self, client: &Client) -> (TrackInfo, TrackInfo) {
        self.say(client, Request::AddTrack(microphone()));
        self.say(client, Request::AddTrack(camera()));
        let sids: Vec<TrackInfo> = self
            .take(client.socket)
            .into_iter()
            .filter_map(|message| match message {
                Response::TrackPublished(published) => published.track,
                _ => None,
            })
            .collect();
        self.offer(client, "chromium-simulcast", 2);
        let [microphone, camera] = sids.try_into().expect("two tracks are announced");
        (microphone, camera)
    }

    pub fn transports(&self, sid: &str) -> Vec<Transport> {
        let of = |entry: &Entry| match entry {
            Entry::Transport(transport) if transport.participant.sid == sid => Some(transport.clone()),
            _ => None,
        };
        self.table.values().filter_map(of).collect()
    }

    pub fn subscriber(&self, client: &Client) -> Transport {
        let transports = self.transports(&client.sid);
        transports.into_iter().find(|t| t.data.is_some_and(|data| data.opened_by_us)).expect("a subscriber transport")
    }

    pub fn tracks(&self) -> Vec<Track> {
        rows(&self.table).cloned().collect()
    }

    pub fn subscriptions(&self, receiver: TransportId) -> Vec<Subscription> {
        let of = |entry: &Entry| match entry {
            Entry::Subscription(subscription) if subscription.receiver == receiver => Some(subscription.clone()),
            _ => None,
        };
        self.table.values().filter_map(of).collect()
    }

    /// Control dies and comes back; the node kept its table.
    pub fn restart_control(&mut self) {
        self.rooms = Rooms::new(RoomsConfig::default(), 99);
        let events = self.table.values().filter_map(|entry| match entry {
            Entry::Transport(t) => Some(Event::Transport { transport: t.id, state: TransportState::Connected }),
            _ => None,
        });
        let state = NodeState { entries: self.table.values().cloned().collect(), events: events.collect() };
        let hello = hello(state.entries.len() as u64);
        self.run(Command::NodeUp { hello, state: Some(state) });
    }
}

/// As the node does: what belongs to something goes with it.
fn apply(table: &mut BTreeMap<Key, Entry>, op: Op) {
    match op {
        Op::Put(Entry::Subscription(row)) => {
            assert!(table.contains_key(&Key::Transport(row.receiver)), "a subscription without its transport");
            assert!(table.contains_key(&Key::Track(row.track)), "a subscription without its track");
            table.insert(Entry::Subscription(row.clone()).key(), Entry::Subscription(row));
        }
        Op::Put(entry) => {
            let (transport, track) = match &entry {
                Entry::DataTrack(row) => (Some(row.publisher), None),
                Entry::DataSubscription(row) => (Some(row.receiver), Some(row.track)),
                _ => (None, None),
            };
            assert!(transport.is_none_or(|id| table.contains_key(&Key::Transport(id))), "{entry:?}");
            assert!(track.is_none_or(|id| table.contains_key(&Key::DataTrack(id))), "{entry:?}");
            table.insert(entry.key(), entry);
        }
        Op::Remove(key) => {
            table.remove(&key);
            if let Key::Transport(id) = key {
                table.retain(|_, entry| match entry {
                    Entry::Track(track) => track.publisher != id,
                    Entry::Subscription(subscription) => subscription.receiver != id,
                    Entry::DataTrack(track) => track.publisher != id,
                    Entry::DataSubscription(subscription) => subscription.receiver != id,
                    _ => true,
                });
            }
            let tracks: Vec<_> = rows(table).map(|track| track.id).collect();
            table.retain(|_, entry| !matches!(entry, Entry::Subscription(s) if !tracks.contains(&s.track)));
            let data: BTreeSet<Key> = table.keys().cloned().collect();
            table.retain(|_, entry| match entry {
                Entry::DataSubscription(s) => data.contains(&Key::DataTrack(s.track)),
                _ => true,
            });
        }
    }
}

fn rows(table: &BTreeMap<Key, Entry>) -> impl Iterator<Item = &Track> {
    table.values().filter_map(|entry| if let Entry::Track(track) = entry { Some(track) } else { None })
}

#[derive(Clone)]
pub struct Client {
    pub socket: SocketId,
    pub sid: String,
    pub identity: String,
    pub join: JoinResponse,
}

/// What a browser answers: it receives what is offered, where `takes` says so.
pub fn answer(offer: &SessionDescription, takes: impl Fn(&str) -> bool) -> SessionDescription {
    let mut description = Description::parse(&offer.sdp).unwrap();
    description.ice_lite = false;
    for media in &mut description.media {
        media.direction = match media.direction {
            Direction::SendOnly => Direction::RecvOnly,
            other => other,
        };
        if !takes(&media.mid) {
            media.port = 0;
        }
        media.setup = Some(Setup::Active);
        media.ice = Some(IceCredentials { ufrag: "clnt".into(), pwd: "client-password-client-password".into() });
        media.fingerprint = Some(Fingerprint { sha256: [7; 32] });
        media.candidates.clear();
        media.msid = None;
        media.ssrcs.clear();
        media.groups.clear();
    }
    let taken = |mid: &String| description.media.iter().any(|media| media.mid == *mid && media.port != 0);
    description.bundle = description.bundle.iter().filter(|mid| taken(mid)).cloned().collect();
    SessionDescription { r#type: "answer".into(), sdp: description.to_string(), id: offer.id, ..Default::default() }
}

pub fn microphone() -> AddTrackRequest {
    AddTrackRequest {
        cid: "e0bf3ed2-e2fc-4937-bf28-6acfaf25192a".into(),
        name: "mic".into(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..Default::default()
    }
}

pub fn camera() -> AddTrackRequest {
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

/// All participants in updates, in their order.
pub fn updated(messages: &[Response]) -> Vec<&ParticipantInfo> {
    let infos = messages
        .iter()
        .filter_map(|m| if let Response::Update(update) = m { Some(&update.participants) } else { None });
    infos.flatten().collect()
}

/// Position of the first message that fits.
pub fn position(messages: &[Response], fits: impl Fn(&Response) -> bool) -> usize {
    messages.iter().position(fits).unwrap_or_else(|| panic!("not there: {messages:?}"))
}
