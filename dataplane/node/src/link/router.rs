//! From the table to the threads: which worker a row is for, and how it gets there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rtrb::{Producer, PushError};
use sluice_messages::{CallId, Entry, Key, Op, SendData, TransportId};

use super::table::Step;
use crate::{
    queue::{Bell, Knock},
    slow::Order,
    worker::Command,
};

/// Pause before a full queue is tried again. Rows are never dropped: the link waits, and control with it.
const RETRY: Duration = Duration::from_millis(1);

/// The worker of a call. Ids are drawn at random by control; mixing guards against one that counts.
pub(crate) fn worker_of(call: CallId, workers: usize) -> usize {
    let mixed = call.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(mixed) * workers as u128) >> 64) as usize
}

/// Ways to one worker and its slow thread.
pub(crate) struct Port {
    pub(crate) commands: Producer<Command>,
    pub(crate) orders: Producer<Order>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) knock: Arc<Knock>,
}

/// Sends rows to the threads that need them.
pub(crate) struct Router {
    ports: Vec<Port>,
    /// User names that were told to the siblings of each transport's worker.
    ufrags: HashMap<TransportId, Vec<String>>,
}

impl Router {
    pub(crate) fn new(ports: Vec<Port>) -> Router {
        Router { ports, ufrags: HashMap::new() }
    }

    /// Hands one change over. The slow thread gets it first: a client's DTLS reaches it through the worker, so that it
    /// never sees a datagram of a transport it does not know yet.
    pub(crate) fn step(&mut self, step: Step) {
        let worker = worker_of(step.call, self.ports.len());
        match step.op {
            // Data tracks are the slow thread's alone.
            Op::Put(Entry::DataTrack(track)) => self.order(worker, Order::PutTrack(track)),
            Op::Put(Entry::DataSubscription(subscription)) => self.order(worker, Order::Subscribe(subscription)),
            Op::Remove(Key::DataTrack(track)) => self.order(worker, Order::RemoveTrack(track)),
            Op::Remove(Key::DataSubscription { receiver, track }) => {
                self.order(worker, Order::Unsubscribe { receiver, track });
            }
            Op::Put(entry) => {
                let mut announced = None;
                if let Entry::Transport(transport) = &entry {
                    self.order(worker, Order::Put(Box::new(transport.clone())));
                    let ice = &transport.ice;
                    let names = [Some(&ice.local), ice.previous_local.as_ref()];
                    let names: Vec<String> = names.into_iter().flatten().map(|c| c.ufrag.clone()).collect();
                    announced = Some((transport.id, names));
                }
                self.command(worker, Command::Put(Box::new(entry)));
                // Siblings hear of it last: what they hand over finds the transport there.
                if let Some((transport, names)) = announced {
                    self.announce(worker, transport, names);
                }
            }
            Op::Remove(key) => {
                if let Key::Transport(transport) = key {
                    self.order(worker, Order::Remove(transport));
                    self.announce(worker, transport, Vec::new());
                }
                self.command(worker, Command::Remove(key));
            }
        }
    }

    /// Hands data to the slow threads of these calls; each picks the receivers it has.
    pub(crate) fn send(&mut self, calls: &[CallId], data: SendData) {
        let mut workers: Vec<usize> = calls.iter().map(|call| worker_of(*call, self.ports.len())).collect();
        workers.sort_unstable();
        workers.dedup();
        for worker in workers {
            self.order(worker, Order::Send(data.clone()));
        }
        self.ring();
    }

    /// Wakes everybody who may have got something.
    pub(crate) fn ring(&self) {
        for port in &self.ports {
            port.bell.ring();
            port.knock.knock();
        }
    }

    /// Tells the siblings of `worker` by which user names checks for the transport come.
    fn announce(&mut self, worker: usize, transport: TransportId, names: Vec<String>) {
        let old = match names.is_empty() {
            true => self.ufrags.remove(&transport),
            false => self.ufrags.insert(transport, names.clone()),
        }
        .unwrap_or_default();
        for sibling in (0..self.ports.len()).filter(|&w| w != worker) {
            for ufrag in old.iter().filter(|n| !names.contains(n)) {
                self.command(sibling, Command::Forget { ufrag: ufrag.clone(), owner: worker });
            }
            for ufrag in names.iter().filter(|n| !old.contains(n)) {
                self.command(sibling, Command::Foreign { ufrag: ufrag.clone(), owner: worker });
            }
        }
    }

    fn command(&mut self, worker: usize, command: Command) {
        let port = &mut self.ports[worker];
        push(&mut port.commands, command, || port.bell.ring());
    }

    fn order(&mut self, worker: usize, order: Order) {
        let port = &mut self.ports[worker];
        push(&mut port.orders, order, || port.knock.knock());
    }
}

/// Waits for room by blocking: the link's thread has nothing else to do that may overtake a row, and a link that breaks
/// meanwhile must not lose it. The consumers never wait for the link, so this ends.
fn push<T>(queue: &mut Producer<T>, mut item: T, wake: impl Fn()) {
    while let Err(PushError::Full(back)) = queue.push(item) {
        if queue.is_abandoned() {
            return;
        }
        wake();
        std::thread::sleep(RETRY);
        item = back;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_spread_over_workers() {
        let mut counts = [0; 4];
        for id in 1..=4000 {
            counts[worker_of(CallId(id), 4)] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1100).contains(&count)), "{counts:?}");
    }
}
