//! A full ICE agent (RFC 8445) with one host candidate: what a browser behind no NAT is. Against an ICE-lite server it
//! controls; against a full one whose offer it answers, it is controlled.

use std::{collections::VecDeque, net::SocketAddr};

use rand::{Rng, rngs::SmallRng};
use sluice_messages::IceCredentials;
use sluice_wire::{
    Micros,
    stun::{self, Class, Message, Role, TransactionId},
};
use std::time::Duration;

/// Remote candidates that are tried. Servers have one for each address; more would only delay the good one.
const CANDIDATES_MAX: usize = 16;

/// Of a check: it doubles up to the maximum. The first one often comes before the server has applied the description, as
/// with browsers, which repeat it after some 50 ms. Lowering it loads a busy server with repetitions while many join.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Between two consent checks; RFC 7675 section 5.1 has 5 s, varied by a fifth.
const CONSENT: Duration = Duration::from_secs(5);

/// Consent is gone (RFC 7675 section 5.1), or nothing was ever heard.
const EXPIRY: Duration = Duration::from_secs(30);

/// Of our only candidate, as a check must state it (RFC 8445 section 7.1.1): peer reflexive, local preference 65,535.
const PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

/// One agent.
pub struct Agent {
    local: IceCredentials,
    remote: IceCredentials,
    controls: bool,
    tie_breaker: u64,
    candidates: Vec<Candidate>,
    /// The candidate that answered first: the one that we name, where naming is ours. Naming every one (aggressive
    /// nomination) lets a server with several addresses settle on another than we do.
    choice: Option<SocketAddr>,
    selected: Option<SocketAddr>,
    /// The server has named the pair, or we have.
    is_nominated: bool,
    heard: Micros,
    dice: SmallRng,
}

struct Candidate {
    address: SocketAddr,
    /// The same until it is answered: what a busy server answers late is an answer all the same.
    transaction: TransactionId,
    next: Micros,
    pause: Duration,
}

/// Datagrams to send.
pub type Outbox = VecDeque<(SocketAddr, Vec<u8>)>;

impl Agent {
    /// `controls` says whether we nominate.
    pub fn new(
        local: IceCredentials,
        remote: IceCredentials,
        controls: bool,
        now: Micros,
        mut dice: SmallRng,
    ) -> Agent {
        let tie_breaker = dice.random();
        Agent {
            local,
            remote,
            controls,
            tie_breaker,
            candidates: Vec::new(),
            choice: None,
            selected: None,
            is_nominated: false,
            heard: now,
            dice,
        }
    }

    /// Another address of the server.
    pub fn add(&mut self, address: SocketAddr, now: Micros) {
        let is_known = self.candidates.iter().any(|candidate| candidate.address == address);
        if !is_known && self.candidates.len() < CANDIDATES_MAX {
            let transaction = TransactionId(self.dice.random());
            self.candidates.push(Candidate { address, transaction, next: now, pause: RETRY });
        }
    }

    /// New credentials of the server: it restarts ICE. The selected pair stays in use until another is found.
    pub fn restart(&mut self, local: IceCredentials, remote: IceCredentials, now: Micros) {
        (self.local, self.remote) = (local, remote);
        (self.choice, self.is_nominated) = (None, false);
        for candidate in &mut self.candidates {
            (candidate.next, candidate.pause) = (now, RETRY);
        }
    }

    /// Where everything goes.
    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Nothing came from the server for too long.
    pub fn is_expired(&self, now: Micros) -> bool {
        now.since(self.heard) > EXPIRY
    }

    /// When [`Agent::tick`] is due.
    pub fn wake(&self) -> Micros {
        self.candidates.iter().map(|candidate| candidate.next).min().unwrap_or(Micros::NEVER)
    }

    /// Sends the checks that are due.
    pub fn tick(&mut self, now: Micros, out: &mut Outbox) {
        let settled = self.selected.filter(|_| self.is_nominated);
        if let Some(selected) = settled {
            self.candidates.retain(|candidate| candidate.address == selected);
        }
        for candidate in &mut self.candidates {
            if candidate.next > now {
                continue;
            }
            let pause =
                if settled.is_some() { CONSENT.mul_f64(self.dice.random_range(0.8..1.2)) } else { candidate.pause };
            candidate.pause = (candidate.pause * 2).min(RETRY_MAX);
            candidate.next = now + pause;
            let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
            let request = stun::Request {
                transaction_id: candidate.transaction,
                username: username.as_bytes(),
                password: self.remote.pwd.as_bytes(),
                priority: PRIORITY,
                use_candidate: self.controls && self.choice == Some(candidate.address),
                role: if self.controls {
                    Role::Controlling(self.tie_breaker)
                } else {
                    Role::Controlled(self.tie_breaker)
                },
            };
            let mut bytes = vec![0; stun::MAX_WRITTEN_BYTES];
            if let Some(len) = stun::write_request(&mut bytes, &request) {
                bytes.truncate(len);
                out.push_back((candidate.address, bytes));
            }
        }
    }

    /// A STUN message from `from`; whatever is not authenticated is ignored.
    pub fn datagram(&mut self, now: Micros, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        let Ok(message) = Message::parse(datagram) else { return };
        match message.class {
            Class::Request => self.requested(now, from, &message, out),
            Class::Success => {
                let ours = self.candidates.iter_mut().find(|c| c.transaction == message.transaction_id);
                let Some(candidate) = ours.filter(|_| message.verify_integrity(self.remote.pwd.as_bytes())) else {
                    return;
                };
                self.heard = now;
                candidate.transaction = TransactionId(self.dice.random());
                let address = candidate.address;
                // Who does not control waits for the pair to be named: before, the other side listens for checks alone.
                if !self.controls || self.is_nominated {
                    return;
                }
                if self.choice == Some(address) {
                    self.is_nominated = true;
                    self.selected = Some(address);
                    candidate.next = now + CONSENT;
                } else if self.choice.is_none() {
                    self.choice = Some(address);
                    candidate.next = now;
                    self.tick(now, out);
                }
            }
            Class::Error | Class::Indication => {}
        }
    }

    fn requested(&mut self, now: Micros, from: SocketAddr, message: &Message<'_>, out: &mut Outbox) {
        if !message.is_binding || !message.verify_integrity(self.local.pwd.as_bytes()) {
            return;
        }
        self.heard = now;
        let mut bytes = vec![0; stun::MAX_WRITTEN_BYTES];
        if let Some(len) = stun::write_success(&mut bytes, message.transaction_id, from, self.local.pwd.as_bytes()) {
            bytes.truncate(len);
            out.push_back((from, bytes));
        }
        // Its address may be one that it did not tell (RFC 8445 section 7.3.1.3).
        if !self.is_nominated {
            self.add(from, now);
        }
        if message.use_candidate && !self.controls {
            self.selected = Some(from);
            self.is_nominated = true;
            self.add(from, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials { ufrag: name.into(), pwd: format!("{name}-password-of-22-characters") }
    }

    fn agent(name: &str, other: &str, controls: bool) -> Agent {
        Agent::new(credentials(name), credentials(other), controls, Micros(0), SmallRng::seed_from_u64(controls.into()))
    }

    #[test]
    fn only_the_first_to_answer_is_named() {
        let mut ours = agent("ours", "server", true);
        let mut server = agent("server", "ours", false);
        let (near, far, us) =
            ("10.0.0.2:2".parse().unwrap(), "10.0.0.3:2".parse().unwrap(), "10.0.0.1:1".parse().unwrap());
        ours.add(near, Micros(0));
        ours.add(far, Micros(0));
        let (mut checks, mut answers) = (Outbox::new(), Outbox::new());
        ours.tick(Micros(0), &mut checks);
        for (to, check) in std::mem::take(&mut checks) {
            assert!(!Message::parse(&check).unwrap().use_candidate);
            if to == far {
                server.datagram(Micros(0), us, &check, &mut answers);
            }
        }
        ours.datagram(Micros(0), far, &answers.pop_front().unwrap().1, &mut checks);
        assert_eq!(ours.selected(), None, "it is not named yet");
        let (to, check) = checks.pop_front().unwrap();
        assert!(to == far && Message::parse(&check).unwrap().use_candidate);
        server.datagram(Micros(0), us, &check, &mut answers);
        ours.datagram(Micros(0), far, &answers.pop_front().unwrap().1, &mut checks);
        assert_eq!(ours.selected(), Some(far));
    }

    fn exchange(a: &mut Agent, b: &mut Agent, now: Micros) {
        let (at_a, at_b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let (mut from_a, mut from_b) = (Outbox::new(), Outbox::new());
        a.tick(now, &mut from_a);
        b.tick(now, &mut from_b);
        for _ in 0..4 {
            for (_, datagram) in std::mem::take(&mut from_a) {
                b.datagram(now, at_a, &datagram, &mut from_b);
            }
            for (_, datagram) in std::mem::take(&mut from_b) {
                a.datagram(now, at_b, &datagram, &mut from_a);
            }
        }
    }

    #[test]
    fn both_sides_settle_on_one_pair() {
        let (mut ours, mut server) = (agent("ours", "server", true), agent("server", "ours", false));
        ours.add("10.0.0.2:2".parse().unwrap(), Micros(0));
        exchange(&mut ours, &mut server, Micros(0));
        assert_eq!(ours.selected(), Some("10.0.0.2:2".parse().unwrap()));
        assert_eq!(server.selected(), Some("10.0.0.1:1".parse().unwrap()), "learnt from our check");
        assert!(ours.is_nominated && server.is_nominated);
    }

    #[test]
    fn a_late_answer_counts() {
        let (mut ours, mut server) = (agent("ours", "server", true), agent("server", "ours", false));
        ours.add("10.0.0.2:2".parse().unwrap(), Micros(0));
        let (mut first, mut later, mut answers) = (Outbox::new(), Outbox::new(), Outbox::new());
        ours.tick(Micros(0), &mut first);
        ours.tick(Micros(3_000_000), &mut later);
        assert_eq!((first.len(), later.len()), (1, 1), "it was repeated");
        server.datagram(Micros(0), "10.0.0.1:1".parse().unwrap(), &first[0].1, &mut answers);
        ours.datagram(Micros(3_500_000), "10.0.0.2:2".parse().unwrap(), &answers[0].1, &mut later);
        assert_eq!(ours.choice, Some("10.0.0.2:2".parse().unwrap()));
    }

    #[test]
    fn consent_goes_when_nothing_is_heard() {
        let (mut ours, mut server) = (agent("ours", "server", true), agent("server", "ours", false));
        ours.add("10.0.0.2:2".parse().unwrap(), Micros(0));
        exchange(&mut ours, &mut server, Micros(0));
        let later = Micros(0) + Duration::from_secs(29);
        assert!(!ours.is_expired(later));
        exchange(&mut ours, &mut server, later);
        assert!(!ours.is_expired(later + Duration::from_secs(20)));
        assert!(ours.is_expired(later + EXPIRY + Duration::from_secs(1)));
    }

    #[test]
    fn strangers_are_not_heard() {
        let (mut ours, mut stranger) = (agent("ours", "server", true), agent("strange", "ours", false));
        ours.add("10.0.0.2:2".parse().unwrap(), Micros(0));
        exchange(&mut ours, &mut stranger, Micros(0));
        assert_eq!(ours.selected(), None);
    }
}
