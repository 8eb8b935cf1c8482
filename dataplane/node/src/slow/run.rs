//! The slow thread's loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rtrb::{Consumer, Producer};
use sluice_messages::TransportId;

use super::{Order, Said, Verdict, hub::Hub, pass::Ways};
use crate::{
    clock::{Clock, thread_cpu},
    counters::Counted,
    lane::LaneOut,
    queue::{Bell, Knock},
};

/// Pause before a full queue to the worker is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// Longest sleep: bounds how late a stop is noticed should its knock be missed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How old published counters may be.
const PUBLISH_PERIOD: Duration = Duration::from_millis(500);

/// What a slow thread owns.
pub(crate) struct SlowThread {
    pub(crate) clock: Clock,
    pub(crate) hub: Hub,
    pub(crate) orders: Consumer<Order>,
    pub(crate) datagrams: LaneOut<TransportId>,
    pub(crate) verdicts: Producer<Verdict>,
    /// To and from the other slow threads.
    pub(crate) ways: Ways,
    pub(crate) bell: Arc<Bell>,
    pub(crate) knock: Arc<Knock>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl SlowThread {
    pub(crate) fn run(mut self) {
        self.knock.listen();
        let mut publish = self.clock.now();
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.now();
            // Counted before the orders are read: the order that made a transport known was pushed before the worker
            // could accept a datagram for it, so it is obeyed before.
            let arrived = self.datagrams.len();
            while let Ok(order) = self.orders.pop() {
                self.hub.order(now, order);
            }
            for _ in 0..arrived {
                self.datagrams.pop(|transport, datagram| self.hub.datagram(now, transport, datagram));
            }
            for _ in 0..self.ways.waiting() {
                let Some(passed) = self.ways.take() else { break };
                self.hub.passed(now, &passed);
            }
            self.hub.timers(now);
            let is_blocked = self.tell();
            if now >= publish {
                publish = now + PUBLISH_PERIOD;
                self.counted.slow_published.publish(self.hub.peer_counters().into_iter());
                let counters = &self.counted.slow;
                counters.cpu_us.set(thread_cpu().as_micros() as u64);
                counters.orders_waiting.set(self.orders.slots() as u64);
                counters.datagrams_waiting.set(self.datagrams.len() as u64);
            }
            let wait = if is_blocked { RETRY } else { self.hub.wake().since(self.clock.now()).min(SLEEP_MAX) };
            // A knock since the queues were looked into ends this at once.
            std::thread::park_timeout(wait);
        }
    }

    /// Hands results to the worker, and data to siblings. True: a queue is full, and the rest waits in the peers. Siblings
    /// read theirs whether or not they can speak themselves, so this ends.
    fn tell(&mut self) -> bool {
        let now = self.clock.now();
        let mut is_blocked = false;
        let mut told = false;
        loop {
            if self.verdicts.is_full() || self.ways.is_full() {
                is_blocked = true;
                break;
            }
            match self.hub.poll(now) {
                Some(Said::Verdict(verdict)) => {
                    // There is room, as nobody else pushes.
                    let _ = self.verdicts.push(verdict);
                    told = true;
                }
                Some(Said::Pass { to, passed }) => self.ways.push(to, &passed),
                None => break,
            }
        }
        self.ways.knock();
        if told {
            self.bell.ring();
        }
        is_blocked
    }
}
