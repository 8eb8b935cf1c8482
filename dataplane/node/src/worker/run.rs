//! The worker's loop, which is the life of a packet: wait, receive, see what others want, forward, send.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rtrb::{Consumer, Producer};
use sluice_forwarder::{Forwarder, Input, Output};
use sluice_frames::{Backend, Datagram, Pool};
use sluice_io::AnyBackend;
use sluice_messages::{Event, TransportId};
use sluice_slowpath::{Agent, ice};
use sluice_wire::Micros;
use tokio::sync::Notify;

use super::{
    Command, Directory, Nodes, Steer,
    handoff::{FromSiblings, Siblings},
    load::Load,
    status::Status,
};
use crate::{
    clock::{Clock, thread_cpu},
    counters::Counted,
    lane::LaneIn,
    queue::{Bell, Knock},
    slow::Verdict,
};

/// Longest sleep: bounds how late a stop is noticed should its bell be missed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How old published counters may be.
const PUBLISH_PERIOD: Duration = Duration::from_millis(200);

/// What a worker is made of, besides what it makes itself.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) backend: AnyBackend,
    pub(crate) pool: Pool,
    pub(crate) forwarder: sluice_forwarder::Config,
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) steer: Steer,
    pub(crate) nodes: Nodes,
    pub(crate) siblings: Siblings,
    pub(crate) from_siblings: FromSiblings,
    pub(crate) commands: Consumer<Command>,
    pub(crate) verdicts: Consumer<Verdict>,
    pub(crate) to_slow: LaneIn<TransportId>,
    pub(crate) knock: Arc<Knock>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) events: Producer<Event>,
    pub(crate) reported: Arc<Notify>,
}

/// A running worker.
pub(crate) struct Worker {
    pub(super) clock: Clock,
    stop: Arc<AtomicBool>,
    pub(super) counted: Arc<Counted>,
    pub(super) backend: AnyBackend,
    pub(super) pool: Pool,
    pub(super) forwarder: Forwarder,
    pub(super) ice: Agent,
    pub(super) statuses: HashMap<TransportId, Status>,
    pub(super) directory: Directory,
    pub(super) steer: Steer,
    pub(super) nodes: Nodes,
    pub(super) siblings: Siblings,
    pub(super) from_siblings: FromSiblings,
    pub(super) commands: Consumer<Command>,
    pub(super) verdicts: Consumer<Verdict>,
    pub(super) to_slow: LaneIn<TransportId>,
    pub(super) knock: Arc<Knock>,
    pub(super) is_slow_owed: bool,
    bell: Arc<Bell>,
    events: Producer<Event>,
    reported: Arc<Notify>,
    is_report_owed: bool,
    /// Received in this turn and not looked at yet. Never longer than the pool has frames.
    arrivals: Vec<Datagram>,
    publish: Micros,
    /// How busy this worker is.
    pub(super) load: Load,
}

impl Worker {
    /// Made on the thread that it runs on.
    pub(crate) fn new(parts: Parts) -> Worker {
        let transports_max = parts.forwarder.peers_max;
        let ice = ice::Config { transports_max, seed: parts.seed, ..ice::Config::default() };
        Worker {
            load: Load::new(parts.clock.now(), thread_cpu()),
            clock: parts.clock,
            stop: parts.stop,
            counted: parts.counted,
            backend: parts.backend,
            arrivals: Vec::with_capacity(parts.pool.capacity()),
            pool: parts.pool,
            forwarder: Forwarder::new(parts.forwarder, parts.seed),
            ice: Agent::new(ice),
            statuses: HashMap::with_capacity(transports_max),
            directory: Directory::new(parts.workers),
            steer: parts.steer,
            nodes: parts.nodes,
            siblings: parts.siblings,
            from_siblings: parts.from_siblings,
            commands: parts.commands,
            verdicts: parts.verdicts,
            to_slow: parts.to_slow,
            knock: parts.knock,
            is_slow_owed: false,
            bell: parts.bell,
            events: parts.events,
            reported: parts.reported,
            is_report_owed: false,
            publish: Micros(0),
        }
    }

    /// Runs until told to stop. Fails where the backend cannot go on.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut wait = Duration::ZERO;
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(wait)?;
            let now = self.clock.now();
            self.load.woke(now, wait);
            // Before the datagrams: a sibling tells of a 5-tuple before it answers the check, so that whatever the client
            // sends next finds it known.
            self.inbox(now);
            self.receive(now);
            self.consent(now);
            self.forward(now);
            self.pay_calls();
            wait = self.wait();
        }
        self.backend.close(&mut self.pool);
        Ok(())
    }

    /// What time did to 5-tuples.
    fn consent(&mut self, now: Micros) {
        while let Some(event) = self.ice.poll(now) {
            self.consent_changed(now, event);
        }
    }

    /// Packets to siblings and into transmit slots, events to the link.
    fn forward(&mut self, now: Micros) {
        while let Some(output) = self.forwarder.poll(now, &mut self.pool, &mut self.backend) {
            match output {
                Output::Event(event) => self.report(event),
                Output::Relay(relay) => self.relay(relay),
            }
        }
    }

    /// Wakes whoever got something in this turn, each once.
    fn pay_calls(&mut self) {
        self.siblings.ring();
        if std::mem::take(&mut self.is_slow_owed) {
            self.knock.knock();
        }
        if std::mem::take(&mut self.is_report_owed) {
            self.reported.notify_one();
        }
    }

    /// How long nothing needs to happen, unless somebody rings the bell.
    fn wait(&mut self) -> Duration {
        let now = self.clock.now();
        self.load.rests(now, thread_cpu);
        if now >= self.publish {
            self.publish = now + PUBLISH_PERIOD;
            self.publish();
            let permille = (self.load.busy() * 1000.0) as u16;
            self.forwarder.input(now, Input::Busy { permille }, &mut self.pool);
        }
        self.bell.doze();
        if self.is_spoken_to() {
            return Duration::ZERO;
        }
        self.forwarder.wake().min(self.ice.wake()).since(now).min(SLEEP_MAX)
    }

    fn publish(&self) {
        let ice = self.ice.counters().named();
        self.counted.published.publish(self.forwarder.counters().iter().chain(ice));
        let counters = &self.counted.worker;
        counters.busy_us.set(self.load.total().as_micros() as u64);
        counters.busy_permille.set((self.load.busy() * 1000.0) as u64);
        counters.cpu_us.set(thread_cpu().as_micros() as u64);
        counters.frames.set(self.pool.capacity() as u64);
        counters.frames_free.set(self.pool.free() as u64);
        counters.commands_waiting.set(self.commands.slots() as u64);
        counters.verdicts_waiting.set(self.verdicts.slots() as u64);
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let Worker { backend, pool, arrivals, .. } = self;
        let turn = backend.turn(pool, wait, &mut |_, datagram| arrivals.push(datagram))?;
        self.bell.rise();
        let counters = &self.counted.worker;
        counters.received.add(turn.received as u64);
        counters.drop_backend.add(turn.dropped as u64);
        counters.starved.add(turn.starved as u64);
        counters.sent.add(turn.sent as u64);
        counters.sends.add(turn.sends as u64);
        counters.sent_direct.add(turn.sent_direct as u64);
        counters.unsegmented.add(turn.unsegmented as u64);
        counters.send_errors.add(turn.send_errors as u64);
        counters.send_too_long.add(turn.send_too_long as u64);
        Ok(())
    }

    fn receive(&mut self, now: Micros) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for Datagram { frame, from } in arrivals.drain(..) {
            self.datagram(now, frame, from, None);
        }
        self.arrivals = arrivals;
    }

    /// Tells control, through the link.
    pub(super) fn report(&mut self, event: Event) {
        match self.events.push(event) {
            Ok(()) => self.is_report_owed = true,
            Err(_) => self.counted.worker.drop_events.add(1),
        }
    }
}
