//! The one task that owns the rooms: it feeds them what happens and carries out what they want.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use livekit_protocol::signal_response;
use sluice_messages::{Down, Event, Hello, Op, SendData, Up};
use sluice_rooms::{
    ApiAnswer, ApiCall, ApiError, Command, Effect, NodeId, NodeState, Notice, Now, ReplyId, Rooms, SocketId,
};
use sluice_signal::frame;
use tokio::sync::{mpsc, oneshot};

use crate::{
    link::{LinkEvent, LinkId},
    store::Store,
    token::Keys,
};

/// Inputs waiting for the rooms. Full means that senders (sockets, API calls, links) wait, each for itself.
const INPUTS_MAX: usize = 4096;

/// Messages waiting for one client. Raising it costs memory behind clients that do not read, lowering it closes slow
/// clients' sockets earlier; a join into a room of 100 takes a few dozen.
const OUTGOING_MAX: usize = 1024;

/// What the rooms task is told.
pub(crate) enum Input {
    /// A new socket, with the way to its client, and the command that goes with it.
    Open {
        socket: SocketId,
        outgoing: mpsc::Sender<Outgoing>,
        connect: Box<Command>,
    },
    Command(Box<Command>),
    Api {
        call: Box<ApiCall>,
        answer: oneshot::Sender<Result<ApiAnswer, ApiError>>,
    },
    Link(LinkEvent),
    /// Whether clients can be served.
    Ready(oneshot::Sender<bool>),
}

/// What a socket's task is told.
pub(crate) enum Outgoing {
    Message(Box<signal_response::Message>),
    /// One that others get, too.
    Common(Arc<Common>),
    Close {
        code: u16,
        reason: String,
    },
}

/// A message for several clients, encoded once for nearly all of them.
pub(crate) struct Common {
    pub(crate) binary: Bytes,
    /// For those who write text frames.
    pub(crate) message: signal_response::Message,
}

/// Makes the queue for a socket.
pub(crate) fn outgoing() -> (mpsc::Sender<Outgoing>, mpsc::Receiver<Outgoing>) {
    mpsc::channel(OUTGOING_MAX)
}

/// Hands inputs to the rooms task.
pub(crate) type Inbox = mpsc::Sender<Input>;

/// Starts the rooms task on the current runtime.
pub(crate) fn start(rooms: Rooms, store: Box<dyn Store>, keys: Keys) -> Inbox {
    let (inbox, inputs) = mpsc::channel(INPUTS_MAX);
    let actor = Actor {
        rooms,
        store,
        keys,
        started: Instant::now(),
        epoch: 0,
        sockets: HashMap::new(),
        replies: HashMap::new(),
        next_reply: 0,
        links: HashMap::new(),
        nodes: HashMap::new(),
        known: HashSet::new(),
    };
    tokio::spawn(actor.run(inputs));
    inbox
}

struct Actor {
    rooms: Rooms,
    store: Box<dyn Store>,
    keys: Keys,
    started: Instant,
    /// Of this process, drawn when the first node comes; 0 before.
    epoch: u64,
    sockets: HashMap<SocketId, mpsc::Sender<Outgoing>>,
    replies: HashMap<ReplyId, oneshot::Sender<Result<ApiAnswer, ApiError>>>,
    next_reply: u64,
    links: HashMap<LinkId, NodeLink>,
    /// The newest link of each node.
    nodes: HashMap<NodeId, LinkId>,
    /// Nodes whose table comes from this process: they are sent a snapshot when they return, others are asked for theirs.
    known: HashSet<NodeId>,
}

struct NodeLink {
    node: NodeId,
    /// None once the link is cut from this side: it ends, and the node dials again.
    down: Option<mpsc::Sender<Down>>,
    sequence: u64,
    /// Waiting for the answer to [`Down::Dump`] before the rooms are told.
    hello: Option<Hello>,
}

impl Actor {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        if let Err(error) = self.restore_rooms() {
            tracing::error!(%error, "rooms made through the API before the restart are forgotten");
        }
        loop {
            let wake = self.rooms.wake().map(|at| self.started + at);
            let input = tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => input,
                    None => return,
                },
                () = sleep_until(wake) => Input::Command(Box::new(Command::Tick)),
            };
            self.input(input);
        }
    }

    fn restore_rooms(&mut self) -> Result<(), crate::store::StoreError> {
        for room in self.store.rooms()? {
            self.command(Command::Api { reply: ReplyId(0), call: Box::new(ApiCall::CreateRoom(room)) });
        }
        Ok(())
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Open { socket, outgoing, connect } => {
                self.sockets.insert(socket, outgoing);
                self.command(*connect);
            }
            Input::Command(command) => {
                if let Command::SocketClosed { socket, .. } = *command {
                    self.sockets.remove(&socket);
                }
                self.command(*command);
            }
            Input::Api { call, answer } => self.api(call, answer),
            Input::Link(event) => self.link(event),
            // The asker may have gone.
            Input::Ready(answer) => drop(answer.send(self.rooms.ready())),
        }
    }

    fn api(&mut self, call: Box<ApiCall>, answer: oneshot::Sender<Result<ApiAnswer, ApiError>>) {
        let stored = match &*call {
            ApiCall::CreateRoom(room) => self.store.put_room(room),
            ApiCall::DeleteRoom(room) => self.store.remove_room(&room.room),
            _ => Ok(()),
        };
        if let Err(error) = stored {
            tracing::error!(%error, "a room will not survive a restart of this process");
        }
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        self.replies.insert(reply, answer);
        self.command(Command::Api { reply, call });
    }

    fn command(&mut self, command: Command) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = Now { monotonic: self.started.elapsed(), unix_ms: unix.as_millis() as i64 };
        for effect in self.rooms.handle(now, command) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { socket, message } => self.send(socket, message),
            Effect::Tell { sockets, message } => self.tell(&sockets, message),
            Effect::Close { socket, reason } => {
                if let Some(outgoing) = self.sockets.remove(&socket) {
                    // A full queue means a client that does not read: dropping the queue closes its socket.
                    let _ =
                        outgoing.try_send(Outgoing::Close { code: reason.code(), reason: reason.text().to_owned() });
                }
            }
            Effect::RefreshToken { socket, claims } => {
                let key = self.keys.first().map(|(key, _)| key.to_owned());
                if let Some(token) = key.and_then(|key| self.keys.sign(&key, &*claims)) {
                    self.send(socket, signal_response::Message::RefreshToken(token));
                }
            }
            Effect::Reply { reply, result } => {
                if let Some(answer) = self.replies.remove(&reply) {
                    // The caller may have gone.
                    drop(answer.send(result));
                }
            }
            Effect::Node { node, ops } => self.delta(&node, ops),
            Effect::NodeSnapshot { node, entries } => {
                let epoch = self.epoch;
                self.down(&node, |sequence| Down::Snapshot { epoch, sequence, entries });
            }
            Effect::NodeSend { node, data } => self.send_data(&node, data),
            Effect::Notice(notice) => self.notice(notice),
        }
    }

    fn send(&mut self, socket: SocketId, message: signal_response::Message) {
        self.queue(socket, Outgoing::Message(Box::new(message)));
    }

    fn tell(&mut self, sockets: &[SocketId], message: signal_response::Message) {
        let common = Arc::new(Common { binary: frame::binary(message.clone()).into(), message });
        for &socket in sockets {
            self.queue(socket, Outgoing::Common(common.clone()));
        }
    }

    fn queue(&mut self, socket: SocketId, message: Outgoing) {
        let Some(outgoing) = self.sockets.get(&socket) else { return };
        if outgoing.try_send(message).is_err() {
            // The socket's task sees its queue closed, closes the connection and reports it.
            metrics::counter!("sluice_sockets_slow_total").increment(1);
            self.sockets.remove(&socket);
        }
    }

    fn delta(&mut self, node: &NodeId, ops: Vec<Op>) {
        let epoch = self.epoch;
        self.down(node, |sequence| Down::Delta { epoch, sequence, ops });
    }

    fn send_data(&mut self, node: &NodeId, data: SendData) {
        let epoch = self.epoch;
        let Some(link) = self.nodes.get(node).and_then(|link| self.links.get(link)) else { return };
        if let Some(down) = &link.down {
            // A full queue is cut by the next delta; data has no guarantee towards a node that does not read.
            let _ = down.try_send(Down::Send { epoch, data });
        }
    }

    /// Sends a numbered message to a node. A node that is away or does not read gets a snapshot when it is back.
    fn down(&mut self, node: &NodeId, message: impl FnOnce(u64) -> Down) {
        let Some(link) = self.nodes.get(node).and_then(|link| self.links.get_mut(link)) else { return };
        let Some(down) = &link.down else { return };
        link.sequence += 1;
        if down.try_send(message(link.sequence)).is_err() {
            tracing::warn!(node = node.0, "the link is cut: the node does not read");
            link.down = None;
            metrics::counter!("sluice_links_cut_total").increment(1);
        }
    }

    fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, hello, down } => self.link_up(link, hello, down),
            LinkEvent::Message { link, up } => self.up(link, up),
            LinkEvent::Down { link } => {
                let Some(gone) = self.links.remove(&link) else { return };
                tracing::warn!(node = gone.node.0, "the link to a node is gone");
                if self.nodes.get(&gone.node) == Some(&link) {
                    self.nodes.remove(&gone.node);
                    self.command(Command::NodeDown { node: gone.node.clone() });
                    self.command(Command::NodeLost { node: gone.node });
                }
            }
        }
    }

    fn link_up(&mut self, id: LinkId, hello: Hello, down: mpsc::Sender<Down>) {
        if self.epoch <= hello.epoch {
            if self.epoch != 0 {
                tracing::error!(ours = self.epoch, nodes = hello.epoch, "another control has commanded this node");
            }
            match self.store.next_epoch(hello.epoch) {
                Ok(epoch) => self.epoch = epoch,
                Err(error) => {
                    tracing::error!(%error, "no epoch can be drawn: the node is not used");
                    return;
                }
            }
        }
        let node = NodeId(hello.node.clone());
        tracing::info!(node = node.0, workers = hello.workers, entries = hello.entries, "a node is linked");
        let ask = hello.entries > 0 && !self.known.contains(&node);
        if ask && down.try_send(Down::Dump).is_err() {
            return;
        }
        let waiting = ask.then(|| hello.clone());
        self.links.insert(id, NodeLink { node: node.clone(), down: Some(down), sequence: 0, hello: waiting });
        if let Some(old) = self.nodes.insert(node.clone(), id) {
            self.links.remove(&old);
        }
        if !ask {
            self.known.insert(node);
            self.command(Command::NodeUp { hello, state: None });
        }
    }

    fn up(&mut self, id: LinkId, up: Up) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let node = link.node.clone();
        match up {
            Up::Event(Event::Counters { worker, counters }) => {
                let mut labels = vec![metrics::Label::new("node", node.0.clone())];
                labels.extend(worker.map(|worker| metrics::Label::new("worker", worker.to_string())));
                for (name, value) in counters {
                    metrics::gauge!(format!("sluice_node_{name}"), labels.iter()).set(value as f64);
                }
            }
            Up::Event(event) => self.command(Command::NodeEvent { node, event }),
            Up::State { entries, events, .. } => {
                if let Some(hello) = link.hello.take() {
                    self.known.insert(node);
                    self.command(Command::NodeUp { hello, state: Some(NodeState { entries, events }) });
                }
            }
            Up::Refused { epoch, sequence, refusal } => {
                tracing::error!(
                    node = node.0,
                    epoch,
                    sequence,
                    ?refusal,
                    "a node refused a command: its link is renewed"
                );
                link.down = None;
            }
            Up::Applied { .. } | Up::Pong { .. } => {}
            Up::Hello(_) => tracing::warn!(node = node.0, "a node said hello twice"),
        }
    }

    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::RoomFinished { room, .. } => {
                if let Err(error) = self.store.remove_room(room) {
                    tracing::error!(%error, "a finished room stays in the store");
                }
            }
            Notice::BadRequest { unsaid, .. } => {
                metrics::counter!("sluice_bad_requests_total").increment(1 + u64::from(*unsaid));
            }
            Notice::Refused { .. } => metrics::counter!("sluice_sessions_refused_total").increment(1),
            _ => {}
        }
        match notice {
            Notice::BadRequest { .. } | Notice::Refused { .. } => tracing::warn!(?notice),
            _ => tracing::info!(?notice),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
