//! The peers of one worker and the data packets between them. Knows no thread: orders, datagrams and what siblings pass on
//! come in; verdicts, and what is passed on to siblings, go out.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_messages::{CallId, DataKind, DataTrackId, Failure, SendData, Transport, TransportId};
use sluice_slowpath::{
    Certificate, Peer,
    peer::{Counters, Input, Output, PeerConfig, SendError},
};
use sluice_wire::Micros;

use super::{
    Order, Passed, Said, Verdict,
    data::{DataError, Stamped, stamp},
    tracks::{TrackError, Tracks, set_handle},
};
use crate::counters::Counted;

/// Datagrams of a transport kept until its fingerprint is known: a client may begin DTLS before control has seen its
/// description, and would otherwise wait for its retransmission timer. A first flight is one or two.
const HELD_MAX: usize = 4;

/// A reliable channel that takes nothing for this long belongs to a client that reads nothing: its transport is closed.
/// Raising it forgives longer freezes of a browser, lowering it frees the memory sooner.
const UNREAD_MAX: Duration = Duration::from_secs(5);

/// All associations of one worker.
pub(crate) struct Hub {
    certificate: Arc<Certificate>,
    /// The instant of `Micros(0)`.
    epoch: Instant,
    seats: HashMap<TransportId, Seat>,
    calls: HashMap<CallId, BTreeSet<TransportId>>,
    /// Bits of the siblings on which a call lives as well.
    others: HashMap<CallId, u64>,
    tracks: Tracks,
    timers: BTreeSet<(Micros, TransportId)>,
    /// Peers that may have something to say.
    dirty: VecDeque<TransportId>,
    /// Associations ended by us, not told yet.
    ended: VecDeque<TransportId>,
    counted: Arc<Counted>,
    /// Counters of peers that are gone.
    retired: Vec<(&'static str, u64)>,
}

/// One transport.
struct Seat {
    transport: Transport,
    peer: Option<Peer>,
    held: Vec<Box<[u8]>>,
    wake: Micros,
    is_dirty: bool,
    /// Since when the reliable channel takes nothing.
    full_since: Option<Micros>,
}

impl Hub {
    pub(crate) fn new(certificate: Arc<Certificate>, epoch: Instant, counted: Arc<Counted>) -> Hub {
        Hub {
            certificate,
            epoch,
            seats: HashMap::new(),
            calls: HashMap::new(),
            others: HashMap::new(),
            tracks: Tracks::default(),
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            ended: VecDeque::new(),
            counted,
            retired: Counters::default().named().to_vec(),
        }
    }

    /// Obeys the link.
    pub(crate) fn order(&mut self, now: Micros, order: Order) {
        match order {
            Order::Put(transport) => self.put(now, *transport),
            Order::Remove(transport) => self.remove(transport),
            Order::Others { call, workers: 0 } => drop(self.others.remove(&call)),
            Order::Others { call, workers } => drop(self.others.insert(call, workers)),
            Order::PutTrack(track) => self.tracks.put(&track),
            Order::RemoveTrack(track) => self.tracks.remove(track),
            Order::Subscribe(subscription) => self.tracks.subscribe(&subscription),
            Order::Unsubscribe { receiver, track } => self.tracks.unsubscribe(receiver, track),
            Order::Send(data) => self.send_data(now, data),
        }
    }

    /// Takes a DTLS datagram from a validated route.
    pub(crate) fn datagram(&mut self, now: Micros, transport: TransportId, datagram: &[u8]) {
        match self.seats.get_mut(&transport) {
            Some(Seat { peer: Some(_), .. }) => self.input(now, transport, Input::Datagram(datagram)),
            Some(seat) if seat.held.len() < HELD_MAX => seat.held.push(datagram.into()),
            _ => self.counted.slow.drop_early.add(1),
        }
    }

    /// Gives peers their time.
    pub(crate) fn timers(&mut self, now: Micros) {
        while let Some(&(wake, transport)) = self.timers.first()
            && wake <= now
        {
            self.timers.remove(&(wake, transport));
            if let Some(seat) = self.seats.get_mut(&transport) {
                seat.wake = Micros::NEVER;
            }
            self.input(now, transport, Input::Timeout);
        }
    }

    /// Delivers what a sibling passed on.
    pub(crate) fn passed(&mut self, now: Micros, passed: &Passed) {
        match passed {
            Passed::Message { call, sid, kind, stamped } => self.deliver(now, *call, sid, *kind, stamped),
            Passed::Track { track, packet } => self.deliver_frame(now, *track, &mut packet.to_vec()),
        }
    }

    /// The next result; none when there is nothing more to say. Data packets are routed on the way.
    pub(crate) fn poll(&mut self, now: Micros) -> Option<Said> {
        while let Some(&transport) = self.dirty.front() {
            while let Some(output) = self.seats.get_mut(&transport).and_then(|s| s.peer.as_mut()).and_then(Peer::poll) {
                if let Some(said) = self.output(now, transport, output) {
                    return Some(said);
                }
            }
            self.dirty.pop_front();
            if let Some(seat) = self.seats.get_mut(&transport) {
                seat.is_dirty = false;
            }
        }
        let ended = self.ended.pop_front()?;
        Some(Said::Verdict(Verdict::Closed { transport: ended, failure: Failure::Dtls }))
    }

    /// When [`Hub::timers`] is due.
    pub(crate) fn wake(&self) -> Micros {
        self.timers.first().map_or(Micros::NEVER, |(wake, _)| *wake)
    }

    /// Sums over all peers that are and were.
    pub(crate) fn peer_counters(&self) -> Vec<(&'static str, u64)> {
        let mut sums = self.retired.clone();
        for peer in self.seats.values().filter_map(|seat| seat.peer.as_ref()) {
            add(&mut sums, peer.counters().named());
        }
        sums
    }

    fn put(&mut self, now: Micros, transport: Transport) {
        let id = transport.id;
        if let Some(seat) = self.seats.get_mut(&id) {
            let is_new_association = seat.transport.fingerprint != transport.fingerprint;
            let is_new_data = seat.transport.data != transport.data;
            seat.transport = transport;
            if is_new_association {
                self.associate(now, id);
            } else if is_new_data {
                let wanted = self.seats.get(&id).and_then(|seat| seat.transport.data);
                self.input(now, id, Input::Data(wanted));
            }
            return;
        }
        self.calls.entry(transport.call).or_default().insert(id);
        let seat =
            Seat { transport, peer: None, held: Vec::new(), wake: Micros::NEVER, is_dirty: false, full_since: None };
        self.seats.insert(id, seat);
        self.associate(now, id);
    }

    /// A new certificate is a new association. Without one DTLS does not begin.
    fn associate(&mut self, now: Micros, id: TransportId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if let Some(old) = seat.peer.take() {
            add(&mut self.retired, old.counters().named());
        }
        seat.full_since = None;
        let Some(remote_fingerprint) = seat.transport.fingerprint else { return };
        seat.peer = Some(Peer::new(PeerConfig {
            certificate: &self.certificate,
            remote_fingerprint,
            data: seat.transport.data,
            epoch: self.epoch,
            now,
        }));
        for datagram in std::mem::take(&mut seat.held) {
            self.input(now, id, Input::Datagram(&datagram));
        }
    }

    fn remove(&mut self, id: TransportId) {
        let Some(seat) = self.seats.remove(&id) else { return };
        self.timers.remove(&(seat.wake, id));
        if let Some(peer) = &seat.peer {
            add(&mut self.retired, peer.counters().named());
        }
        if let Some(call) = self.calls.get_mut(&seat.transport.call) {
            call.remove(&id);
            if call.is_empty() {
                self.calls.remove(&seat.transport.call);
            }
        }
    }

    /// Everything but data, which may be refused.
    fn input(&mut self, now: Micros, id: TransportId, input: Input<'_>) {
        let Some(Seat { peer: Some(peer), .. }) = self.seats.get_mut(&id) else { return };
        // Only sends are refused.
        let _ = peer.input(now, input);
        self.touched(id);
    }

    /// A peer got an input: it may have outputs, and another deadline.
    fn touched(&mut self, id: TransportId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let wake = seat.peer.as_ref().map_or(Micros::NEVER, Peer::wake);
        if wake != seat.wake {
            self.timers.remove(&(seat.wake, id));
            seat.wake = wake;
            if wake != Micros::NEVER {
                self.timers.insert((wake, id));
            }
        }
        if !std::mem::replace(&mut seat.is_dirty, true) {
            self.dirty.push_back(id);
        }
    }

    fn output(&mut self, now: Micros, id: TransportId, output: Output) -> Option<Said> {
        match output {
            Output::Datagram(bytes) => Some(Said::Verdict(Verdict::Datagram { transport: id, bytes })),
            Output::Connected(keys) => {
                self.counted.slow.connected.add(1);
                Some(Said::Verdict(Verdict::Keys { transport: id, keys }))
            }
            Output::Closed(failure) => {
                self.counted.slow.closed.add(1);
                Some(Said::Verdict(Verdict::Closed { transport: id, failure }))
            }
            Output::Message { kind: DataKind::Track, payload } => self.forward(now, id, payload),
            Output::Message { kind, payload } => self.message(now, id, kind, &payload),
            Output::ChannelOpen(kind, stream) => {
                Some(Said::Verdict(Verdict::Channel { transport: id, kind, stream: Some(stream) }))
            }
            Output::ChannelClosed(kind) => Some(Said::Verdict(Verdict::Channel { transport: id, kind, stream: None })),
        }
    }

    /// Routes a message of a participant, who may send, to everybody it is for.
    fn message(&mut self, now: Micros, from: TransportId, kind: DataKind, payload: &[u8]) -> Option<Said> {
        let counters = &self.counted.slow;
        let sender = &self.seats.get(&from)?.transport;
        let stamped = match stamp(payload, &sender.participant) {
            Ok(stamped) => stamped,
            Err(error) => {
                match error {
                    DataError::TooLong => counters.drop_data_long.add(1),
                    DataError::Malformed | DataError::Forged => counters.drop_data_malformed.add(1),
                }
                return None;
            }
        };
        counters.data_received.add(1);
        let (call, sid) = (sender.call, Arc::<str>::from(&*sender.participant.sid));
        self.deliver(now, call, &sid, kind, &stamped);
        let to = *self.others.get(&call)?;
        Some(Said::Pass { to, passed: Passed::Message { call, sid, kind, stamped: Arc::new(stamped) } })
    }

    /// Delivers a message of the participant `sid` to everybody here whom it is for.
    fn deliver(&mut self, now: Micros, call: CallId, sid: &str, kind: DataKind, stamped: &Stamped) {
        let receives = |id: &TransportId| {
            let Some(Seat { transport, .. }) = self.seats.get(id) else { return false };
            transport.data.is_some_and(|data| data.delivers)
                && transport.participant.sid != sid
                && stamped.destinations.include(&transport.participant)
        };
        let Some(call) = self.calls.get(&call) else { return };
        let receivers: Vec<TransportId> = call.iter().copied().filter(receives).collect();
        for receiver in receivers {
            self.send(now, receiver, kind, &stamped.bytes);
        }
    }

    /// Forwards a packet of a data track to its subscribers.
    fn forward(&mut self, now: Micros, from: TransportId, mut packet: Vec<u8>) -> Option<Said> {
        let counters = &self.counted.slow;
        let track = match self.tracks.find(from, &packet) {
            Ok(track) => track,
            Err(error) => {
                match error {
                    TrackError::Malformed => counters.drop_data_malformed.add(1),
                    TrackError::Unknown => counters.drop_data_track.add(1),
                }
                return None;
            }
        };
        counters.data_received.add(1);
        self.deliver_frame(now, track, &mut packet);
        let call = self.seats.get(&from)?.transport.call;
        let to = *self.others.get(&call)?;
        Some(Said::Pass { to, passed: Passed::Track { track, packet: packet.into() } })
    }

    /// Delivers a packet of a data track to those who get it here, each with its handle in it.
    fn deliver_frame(&mut self, now: Micros, track: DataTrackId, packet: &mut [u8]) {
        let receivers: Vec<(TransportId, u16)> = self.tracks.receivers(track).collect();
        for (receiver, handle) in receivers {
            set_handle(packet, handle);
            self.send(now, receiver, DataKind::Track, packet);
        }
    }

    /// Delivers what control says. It names transports on which data is not delivered only by mistake; those are left out.
    fn send_data(&mut self, now: Micros, data: SendData) {
        for receiver in data.to {
            let delivers = |seat: &Seat| seat.transport.data.is_some_and(|data| data.delivers);
            if self.seats.get(&receiver).is_some_and(delivers) {
                self.send(now, receiver, data.kind, &data.payload);
            }
        }
    }

    fn send(&mut self, now: Micros, receiver: TransportId, kind: DataKind, payload: &[u8]) {
        let counters = &self.counted.slow;
        let Some(seat) = self.seats.get_mut(&receiver) else { return };
        let Some(peer) = &mut seat.peer else {
            counters.drop_data_unopened.add(1);
            return;
        };
        match peer.input(now, Input::Send { kind, payload }) {
            Ok(()) => {
                counters.data_sent.add(1);
                counters.data_sent_bytes.add(payload.len() as u64);
                if kind == DataKind::Reliable {
                    seat.full_since = None;
                }
            }
            Err(SendError::NotOpen) => counters.drop_data_unopened.add(1),
            Err(SendError::TooLong(_)) => counters.drop_data_long.add(1),
            Err(SendError::Full(_)) => {
                counters.drop_data_full.add(1);
                if kind == DataKind::Reliable && now.since(*seat.full_since.get_or_insert(now)) > UNREAD_MAX {
                    counters.closed_unread.add(1);
                    seat.full_since = None;
                    self.give_up(now, receiver);
                    return;
                }
            }
        }
        self.touched(receiver);
    }

    /// Closes the association of a client that does not read.
    fn give_up(&mut self, now: Micros, id: TransportId) {
        tracing::info!(transport = id.0, "closed: the client does not read its reliable data channel");
        self.input(now, id, Input::Close);
        self.ended.push_back(id);
    }
}

fn add(sums: &mut Vec<(&'static str, u64)>, counters: impl IntoIterator<Item = (&'static str, u64)>) {
    for (name, value) in counters {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}
