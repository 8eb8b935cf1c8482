//! The agent itself: who a check is for, whether it is authentic, what it changes, and what time does.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use sluice_frames::Route;
use sluice_messages::{Ice, IceCredentials, TransportId};
use sluice_wire::{
    Micros,
    stun::{self, Class, ErrorCode, Message, Role},
};

use super::{
    Accepted, Answer, Config, Counters, Dropped, Event, Outcome, PutError, RESPONDER_BYTES_V4, RESPONDER_BYTES_V6,
    routes::Routes,
};

/// How often time is looked at. Raising it makes events late by as much, lowering it costs a walk over all transports.
const TICK: Duration = Duration::from_millis(500);

/// ICE-lite agent of one worker.
pub struct Agent {
    config: Config,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_id: HashMap<TransportId, usize>,
    by_ufrag: HashMap<String, usize>,
    by_route: HashMap<Route, usize, Seeded>,
    /// Slot to look at next in the walk that is under way, if one is.
    walk: Option<usize>,
    tick: Micros,
    responder: Bucket,
    counters: Counters,
}

struct Slot {
    id: TransportId,
    local: IceCredentials,
    /// Accepted until a check with `local` has passed.
    previous: Option<IceCredentials>,
    /// A check with `local` has passed.
    confirmed: bool,
    routes: Routes,
    life: Life,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    New,
    Connected,
    Disconnected,
    Expired,
}

impl Agent {
    /// An agent with room for `config.transports_max` transports. A check allocates nothing, unless transports have more
    /// than two routes each on average: then the table of routes grows once.
    pub fn new(config: Config) -> Agent {
        let max = config.transports_max;
        Agent {
            config,
            slots: Vec::with_capacity(max),
            free: Vec::with_capacity(max),
            by_id: HashMap::with_capacity(max),
            by_ufrag: HashMap::with_capacity(max * 2),
            by_route: HashMap::with_capacity_and_hasher(max * 2, Seeded(config.seed)),
            walk: None,
            tick: Micros(0),
            responder: Bucket { tokens: config.responder_per_s, refilled: Micros(0) },
            counters: Counters::default(),
        }
    }

    /// Takes a transport in, or gives one that is there its credentials as they are now. Routes stay: after an ICE restart
    /// media goes on over the old pair until the new one is there.
    pub fn put(&mut self, transport: TransportId, ice: &Ice) -> Result<(), PutError> {
        for credentials in [Some(&ice.local), ice.previous_local.as_ref()].into_iter().flatten() {
            if !(4..=256).contains(&credentials.ufrag.len()) || !(22..=256).contains(&credentials.pwd.len()) {
                return Err(PutError::Credentials);
            }
            if self
                .by_ufrag
                .get(&credentials.ufrag)
                .is_some_and(|&i| self.slots[i].as_ref().is_some_and(|s| s.id != transport))
            {
                return Err(PutError::UfragTaken);
            }
        }
        let index = match self.by_id.get(&transport) {
            Some(&index) => index,
            None => self.place(transport, ice)?,
        };
        let Some(slot) = self.slots[index].as_mut() else {
            return Err(PutError::Full);
        };
        if slot.local != ice.local {
            slot.confirmed = false;
        }
        let previous = ice.previous_local.clone().filter(|p| !slot.confirmed && p.ufrag != ice.local.ufrag);
        self.by_ufrag.remove(&slot.local.ufrag);
        if let Some(old) = &slot.previous {
            self.by_ufrag.remove(&old.ufrag);
        }
        slot.local = ice.local.clone();
        slot.previous = previous;
        if let Some(old) = &slot.previous {
            self.by_ufrag.insert(old.ufrag.clone(), index);
        }
        self.by_ufrag.insert(slot.local.ufrag.clone(), index);
        Ok(())
    }

    /// Forgets a transport and its routes. Removing what is not there is not an error.
    pub fn remove(&mut self, transport: TransportId) {
        let Some(index) = self.by_id.remove(&transport) else {
            return;
        };
        let Some(slot) = self.slots[index].take() else {
            return;
        };
        self.free.push(index);
        self.by_ufrag.remove(&slot.local.ufrag);
        if let Some(previous) = &slot.previous {
            self.by_ufrag.remove(&previous.ufrag);
        }
        for entry in slot.routes.iter() {
            self.by_route.remove(&entry.route);
        }
    }

    /// The transport whose route this is. What is not STUN and comes from no route is to be dropped.
    pub fn by_route(&self, route: &Route) -> Option<TransportId> {
        self.by_route.get(route).and_then(|&i| self.slots[i].as_ref()).map(|s| s.id)
    }

    /// Where to send to for a transport: what the client nominated, or provisionally what was validated last.
    pub fn selected(&self, transport: TransportId) -> Option<Route> {
        self.slot(transport)?.routes.selected()
    }

    /// All routes of a transport; the node forgets them with it.
    pub fn routes(&self, transport: TransportId) -> impl Iterator<Item = Route> + '_ {
        self.slot(transport).into_iter().flat_map(|s| s.routes.iter().map(|e| e.route))
    }

    /// Number of transports.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// No transport is here.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What was counted since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A STUN datagram. An answer is written to `out`, which should have [`super::REPLY_BYTES_MAX`] bytes.
    pub fn input(&mut self, now: Micros, datagram: &[u8], from: Route, out: &mut [u8]) -> Answer {
        let answer = self.answer(now, datagram, from, out);
        match answer.outcome {
            Outcome::Accepted(accepted) => {
                self.counters.accepted += 1;
                self.counters.evicted += u64::from(accepted.evicted.is_some());
            }
            Outcome::Foreign => self.counters.foreign += 1,
            Outcome::Responded => self.counters.responded += 1,
            Outcome::Dropped(reason) => self.counters.dropped(reason),
        }
        answer
    }

    /// The next change that came with time; call until none after [`Agent::wake`] has passed.
    pub fn poll(&mut self, now: Micros) -> Option<Event> {
        if self.walk.is_none() {
            if now < self.tick {
                return None;
            }
            self.tick = now + TICK;
            self.walk = Some(0);
        }
        while let Some(index) = self.walk.filter(|&i| i < self.slots.len()) {
            if let Some(event) = self.look(now, index) {
                return Some(event);
            }
            self.walk = Some(index + 1);
        }
        self.walk = None;
        None
    }

    /// When to call [`Agent::poll`] next.
    pub fn wake(&self) -> Micros {
        match self.walk {
            Some(_) => Micros(0),
            None if self.by_id.is_empty() => Micros::NEVER,
            None => self.tick,
        }
    }

    /// One change of one transport, if time brought one.
    fn look(&mut self, now: Micros, index: usize) -> Option<Event> {
        let slot = self.slots[index].as_mut()?;
        let transport = slot.id;
        let lost = slot.routes.iter().find(|e| now.since(e.checked) > self.config.consent).map(|e| e.route);
        if let Some(route) = lost {
            slot.routes.remove(route);
            self.by_route.remove(&route);
            return Some(Event::Unrouted { transport, route });
        }
        match slot.routes.checked() {
            None if matches!(slot.life, Life::Connected | Life::Disconnected) => {
                slot.life = Life::Expired;
                self.counters.expired += 1;
                Some(Event::Expired { transport })
            }
            Some(checked) if slot.life == Life::Connected && now.since(checked) > self.config.disconnected => {
                slot.life = Life::Disconnected;
                Some(Event::Disconnected { transport })
            }
            _ => None,
        }
    }

    fn slot(&self, transport: TransportId) -> Option<&Slot> {
        self.slots[*self.by_id.get(&transport)?].as_ref()
    }

    fn place(&mut self, transport: TransportId, ice: &Ice) -> Result<usize, PutError> {
        let slot = Some(Slot {
            id: transport,
            local: ice.local.clone(),
            previous: None,
            confirmed: false,
            routes: Routes::new(),
            life: Life::New,
        });
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.config.transports_max => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(PutError::Full),
        };
        self.slots[index] = slot;
        self.by_id.insert(transport, index);
        Ok(index)
    }

    fn answer(&mut self, now: Micros, datagram: &[u8], from: Route, out: &mut [u8]) -> Answer {
        let dropped = |reason| Answer { reply: None, outcome: Outcome::Dropped(reason) };
        let Ok(message) = Message::parse(datagram) else {
            return dropped(Dropped::Malformed);
        };
        if !message.is_binding || message.class != Class::Request {
            return dropped(Dropped::Method);
        }
        if message.has_fingerprint() && !message.verify_fingerprint() {
            return dropped(Dropped::Fingerprint);
        }
        let Some(username) = message.username else {
            return self.respond(now, &message, datagram.len(), from, out);
        };
        let Some(ufrag) = local_part(username) else {
            return dropped(Dropped::Username);
        };
        let Some(&index) = self.by_ufrag.get(ufrag) else {
            return Answer { reply: None, outcome: Outcome::Foreign };
        };
        if !message.has_integrity() {
            return dropped(Dropped::IntegrityMissing);
        }
        let Some(slot) = self.slots[index].as_ref() else {
            return dropped(Dropped::Username);
        };
        let is_current = slot.local.ufrag == ufrag;
        let Some(credentials) = (if is_current { Some(&slot.local) } else { slot.previous.as_ref() }) else {
            return dropped(Dropped::Username);
        };
        let password = credentials.pwd.as_bytes();
        if !message.verify_integrity(password) {
            return dropped(Dropped::IntegrityWrong);
        }
        let id = message.transaction_id;
        if !message.unknown.is_empty() {
            let reply = stun::write_error(out, id, ErrorCode::UnknownAttribute, &message.unknown, Some(password));
            return Answer { reply, outcome: Outcome::Dropped(Dropped::UnknownAttribute) };
        }
        // A lite agent is always controlled, whatever the tie-breakers: the other side has to switch.
        if matches!(message.role, Some(Role::Controlled(_))) {
            let reply = stun::write_error(out, id, ErrorCode::RoleConflict, &[], Some(password));
            return Answer { reply, outcome: Outcome::Dropped(Dropped::RoleConflict) };
        }
        let Some(reply) = stun::write_success(out, id, from.peer, password) else {
            return dropped(Dropped::NoRoom);
        };
        if is_current {
            self.confirm(index);
        }
        match self.validated(now, index, from, message.use_candidate, message.priority.unwrap_or(0)) {
            Some(accepted) => Answer { reply: Some(reply), outcome: Outcome::Accepted(accepted) },
            None => dropped(Dropped::Username),
        }
    }

    /// A Binding request of nobody in particular.
    fn respond(&mut self, now: Micros, message: &Message, request_bytes: usize, from: Route, out: &mut [u8]) -> Answer {
        let response_bytes = if from.peer.is_ipv4() { RESPONDER_BYTES_V4 } else { RESPONDER_BYTES_V6 };
        let refusal = if request_bytes < response_bytes {
            Dropped::Amplifying
        } else if !message.unknown.is_empty() {
            Dropped::UnknownAttribute
        } else if !self.responder.take(now, self.config.responder_per_s) {
            Dropped::RateLimited
        } else {
            match stun::write_plain_success(out, message.transaction_id, from.peer) {
                Some(bytes) => return Answer { reply: Some(bytes), outcome: Outcome::Responded },
                None => Dropped::NoRoom,
            }
        };
        Answer { reply: None, outcome: Outcome::Dropped(refusal) }
    }

    /// A check with the newest credentials passed: the ones before it are not needed any more.
    fn confirm(&mut self, index: usize) {
        let Some(slot) = self.slots[index].as_mut() else {
            return;
        };
        slot.confirmed = true;
        if let Some(previous) = slot.previous.take() {
            self.by_ufrag.remove(&previous.ufrag);
        }
    }

    /// A check passed on `from`: the route is valid, consent is fresh.
    fn validated(
        &mut self,
        now: Micros,
        index: usize,
        from: Route,
        use_candidate: bool,
        priority: u32,
    ) -> Option<Accepted> {
        let taken_from = self.release(index, from);
        let slot = self.slots[index].as_mut()?;
        let change = slot.routes.check(now, from, use_candidate, priority);
        if let Some(evicted) = change.evicted {
            self.by_route.remove(&evicted);
        }
        if change.new {
            self.by_route.insert(from, index);
        }
        let connected = slot.life != Life::Connected;
        slot.life = Life::Connected;
        Some(Accepted {
            transport: slot.id,
            new_route: change.new,
            selected: change.selected,
            evicted: change.evicted,
            taken_from,
            connected,
        })
    }

    /// Takes a route from another transport that had it.
    fn release(&mut self, index: usize, route: Route) -> Option<TransportId> {
        let owner = *self.by_route.get(&route).filter(|&&owner| owner != index)?;
        self.by_route.remove(&route);
        let slot = self.slots[owner].as_mut()?;
        slot.routes.remove(route);
        Some(slot.id)
    }
}

/// The receiver's user name fragment in the USERNAME of a check, if `datagram` is one. It tells whose check it is where
/// several workers share a port, without authenticating anything.
pub fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    local_part(Message::parse(datagram).ok()?.username?)
}

/// The receiver's part of `local:remote`.
fn local_part(username: &[u8]) -> Option<&str> {
    let (local, remote) = std::str::from_utf8(username).ok()?.split_once(':')?;
    (!local.is_empty() && !remote.is_empty()).then_some(local)
}

/// Tokens for plain Binding responses; a full second's worth at most.
struct Bucket {
    tokens: u32,
    refilled: Micros,
}

impl Bucket {
    fn take(&mut self, now: Micros, per_s: u32) -> bool {
        if now.since(self.refilled) >= Duration::from_secs(1) {
            self.tokens = per_s;
            self.refilled = now;
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

/// Hashes routes: cheaper than the default, as it is done for every datagram. Only authenticated routes are in the table
/// and at most [`super::ROUTES_MAX`] of one transport, so collisions cannot be piled up by strangers.
#[derive(Clone, Copy)]
struct Seeded(u64);

struct Folded(u64);

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0 ^ 0x9e37_79b9_7f4a_7c15)
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (wide as u64) ^ ((wide >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
