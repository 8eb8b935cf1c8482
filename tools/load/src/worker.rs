//! A thread that carries the media of its share of the clients: one socket for each transport, batches from each, timers.

mod endpoint;
mod timers;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, Waker};
use sluice_wire::Micros;

use crate::{
    clock::Clock,
    measure::{Phase, Snapshot, Tally},
    receive::{Negotiated, StreamInfo},
};
use endpoint::{Batch, Told};
pub use endpoint::{Endpoint, Media, Role};
use timers::Timers;

/// Events of a turn. More are there at the next one.
const EVENTS_MAX: usize = 1024;

/// Between two snapshots.
const SNAPSHOT: Duration = Duration::from_secs(1);

/// Turns end after so long to look at orders and the phase.
const TURN_MAX: Duration = Duration::from_millis(100);

const WAKER: Token = Token(usize::MAX);

/// What a thread is asked to do. Order numbers are those of endpoints.
pub enum Order {
    Add(Box<Endpoint>),
    /// Another candidate of the server.
    Candidate(u64, std::net::SocketAddr),
    /// A new description of what is received.
    Describe(u64, Vec<StreamInfo>, Negotiated),
    /// The server restarts ICE.
    Restart(u64, sluice_messages::IceCredentials, sluice_messages::IceCredentials),
    Remove(u64),
    Stop,
}

/// What a thread has to tell.
pub enum News {
    /// A transport has keys.
    Connected {
        participant: u32,
        role: Role,
        at: Micros,
    },
    /// A transport is gone.
    Failed {
        participant: u32,
        error: String,
    },
    /// The first audio or video.
    First {
        participant: u32,
        first: crate::receive::First,
        at: Micros,
    },
    Counted(Box<Snapshot>),
}

/// A running thread.
pub struct Worker {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Worker {
    /// Starts a thread. It tells `news` what happens, and counts into the phase that `phase` shows.
    pub fn start<N: From<News> + Send + 'static>(
        number: usize,
        clock: Clock,
        phase: Arc<AtomicU8>,
        news: SyncSender<N>,
    ) -> io::Result<Worker> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (orders, queue) = channel();
        let mut carrier = Carrier {
            clock,
            phase,
            poll,
            queue,
            tell: Box::new(move |told| news.send(N::from(told)).is_ok()),
            endpoints: Vec::new(),
            free: Vec::new(),
            timers: Timers::default(),
            batch: Batch::new(),
            again: Vec::new(),
            tally: Tally::default(),
            busy_us: 0,
        };
        let thread = std::thread::Builder::new().name(format!("media {number}")).spawn(move || carrier.run())?;
        Ok(Worker { orders, waker, thread: Some(thread) })
    }

    /// Gives an order; a thread that has ended takes none.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            // A waker fails only with its poll, and then the thread ends by itself.
            let _ = self.waker.wake();
        }
    }

    /// Ends the thread after a last snapshot.
    pub fn stop(mut self) -> io::Result<()> {
        self.order(Order::Stop);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("a media thread panicked")),
            None => Ok(()),
        }
    }
}

struct Carrier {
    clock: Clock,
    phase: Arc<AtomicU8>,
    poll: Poll,
    queue: Receiver<Order>,
    tell: Box<dyn Fn(News) -> bool + Send>,
    endpoints: Vec<Option<Box<Endpoint>>>,
    free: Vec<usize>,
    timers: Timers,
    batch: Batch,
    /// Endpoints whose sockets have more than one batch.
    again: Vec<usize>,
    tally: Tally,
    /// CPU time of this thread at the last snapshot.
    busy_us: u64,
}

impl Carrier {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut phase = Phase::Joining;
        let mut snapshot = self.clock.now() + SNAPSHOT;
        loop {
            let now = self.clock.now();
            let due = self.timers.next().min(snapshot).since(now).min(TURN_MAX);
            let wait = if self.again.is_empty() { due } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let current = Phase::of(self.phase.load(Ordering::Relaxed));
            let now = self.clock.now();
            if current != phase || now >= snapshot {
                self.snapshot(phase, now);
                phase = current;
                snapshot = now + SNAPSHOT;
            }
            if !self.orders()? {
                self.snapshot(phase, self.clock.now());
                return Ok(());
            }
            for index in std::mem::take(&mut self.again) {
                self.receive(index, phase);
            }
            for event in &events {
                if event.token() != WAKER {
                    self.receive(event.token().0, phase);
                }
            }
            let now = self.clock.now();
            while let Some(index) = self.timers.due(now) {
                self.tick(index, now);
            }
        }
    }

    /// Takes orders; false when it is told to stop.
    fn orders(&mut self) -> io::Result<bool> {
        while let Ok(order) = self.queue.try_recv() {
            let now = self.clock.now();
            match order {
                Order::Add(endpoint) => self.add(endpoint, now)?,
                Order::Candidate(id, address) => {
                    self.with(id, |endpoint, _| endpoint.transport.ice.add(address, now));
                }
                Order::Describe(id, streams, negotiated) => self.with(id, |endpoint, tally| {
                    if let Media::Receive(subscriber) = &mut endpoint.media {
                        subscriber.describe(&streams, negotiated, tally);
                    }
                }),
                Order::Restart(id, local, remote) => {
                    self.with(id, |endpoint, _| endpoint.transport.ice.restart(local, remote, now));
                }
                Order::Remove(id) => {
                    if let Some(index) = self.find(id) {
                        self.remove(index);
                    }
                }
                Order::Stop => return Ok(false),
            }
        }
        Ok(true)
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.as_ref().is_some_and(|endpoint| endpoint.id == id))
    }

    fn with(&mut self, id: u64, change: impl FnOnce(&mut Endpoint, &mut Tally)) {
        let Some(index) = self.find(id) else { return };
        if let Some(endpoint) = &mut self.endpoints[index] {
            change(endpoint, &mut self.tally);
        }
        self.schedule(index);
    }

    fn add(&mut self, mut endpoint: Box<Endpoint>, now: Micros) -> io::Result<()> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.endpoints.push(None);
            self.endpoints.len() - 1
        });
        self.poll.registry().register(&mut endpoint.socket, Token(index), Interest::READABLE)?;
        self.endpoints[index] = Some(endpoint);
        self.timers.set(index, now);
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        let Some(mut endpoint) = self.endpoints.get_mut(index).and_then(Option::take) else { return };
        // Closing the socket takes it out of the poll as well.
        let _ = self.poll.registry().deregister(&mut endpoint.socket);
        endpoint.settle_into(&mut self.tally);
        self.timers.clear(index);
        self.free.push(index);
    }

    fn receive(&mut self, index: usize, phase: Phase) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_mut) else { return };
        let told = endpoint.receive(self.clock, phase, &mut self.batch, &mut self.tally);
        if told.more {
            self.again.push(index);
        }
        self.report(index, told);
    }

    fn tick(&mut self, index: usize, now: Micros) {
        let Some(endpoint) = self.endpoints.get_mut(index).and_then(Option::as_mut) else { return };
        let told = endpoint.tick(self.clock, now, &mut self.tally);
        self.report(index, told);
    }

    /// Passes on what an endpoint has to tell, and lets one go that has failed.
    fn report(&mut self, index: usize, told: Told) {
        let Some(endpoint) = self.endpoints.get(index).and_then(Option::as_ref) else { return };
        let (participant, role, at) = (endpoint.participant, endpoint.role(), self.clock.now());
        if told.connected {
            (self.tell)(News::Connected { participant, role, at });
        }
        for first in told.firsts {
            (self.tell)(News::First { participant, first, at });
        }
        match told.failed {
            Some(error) => {
                (self.tell)(News::Failed { participant, error: error.to_string() });
                self.remove(index);
            }
            None => self.schedule(index),
        }
    }

    fn schedule(&mut self, index: usize) {
        if let Some(endpoint) = self.endpoints.get(index).and_then(Option::as_ref) {
            self.timers.set(index, endpoint.wake());
        }
    }

    fn snapshot(&mut self, phase: Phase, at: Micros) {
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.settle_into(&mut self.tally);
        }
        let busy_us = busy_us();
        self.tally.counters.busy_us += busy_us.saturating_sub(std::mem::replace(&mut self.busy_us, busy_us));
        let tally = std::mem::take(&mut self.tally);
        (self.tell)(News::Counted(Box::new(Snapshot { phase, at, tally })));
    }
}

/// CPU time of the calling thread; 0 where the system does not tell.
fn busy_us() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1000
}
