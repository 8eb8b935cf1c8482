//! A network in one thread with an invented clock: the same seed and the same calls give the same datagrams at the same
//! times. No socket, no waiting.

mod rx;
mod sys;
mod tx;

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use sluice_frames::{Backend, Datagram, Pool, Route, Turn, Tx};

use crate::Waker;

/// What happens to datagrams from one address to another. The default is a perfect link: all arrive, at once, in order.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Link {
    /// Share of datagrams lost at random, 0 to 1.
    pub loss: f64,
    /// Share of datagrams that arrive a second time, 0 to 1.
    pub duplicate: f64,
    /// Time on the way.
    pub delay: Duration,
    /// Up to this much more time, at random, without overtaking.
    pub jitter: Duration,
    /// Share of datagrams held back for `hold` while later ones pass, 0 to 1.
    pub reorder: f64,
    pub hold: Duration,
    /// How fast datagrams (their payload) leave, in bits per second, one after the other; none is at once.
    pub capacity_bps: Option<u64>,
    /// Bytes that may wait for capacity; a datagram that does not fit is lost.
    pub queue_bytes: usize,
}

/// What became of the datagrams sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub sent: u64,
    /// Handed over, duplicates included.
    pub delivered: u64,
    pub lost: u64,
    /// Lost because they did not fit the queue for capacity, or too many were under way.
    pub overflowed: u64,
    pub duplicated: u64,
    pub held: u64,
    /// Lost because nobody has that address.
    pub unreachable: u64,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Rc<RefCell<sys::World>>);

impl Network {
    /// An empty network of perfect links, at time 0.
    pub fn new(seed: u64) -> Network {
        Network(Rc::new(RefCell::new(sys::World::new(seed))))
    }

    /// Attaches an endpoint with one socket per address, in order of [`Route::socket`]. Panics if somebody has one of them.
    pub fn endpoint(&self, addresses: &[SocketAddr]) -> Endpoint {
        assert!(addresses.len() <= usize::from(u8::MAX), "a route names one of 255 sockets");
        let index = self.0.borrow_mut().attach(addresses);
        Endpoint {
            network: self.clone(),
            receive: rx::Receive::new(index),
            transmit: tx::Transmit::new(addresses.to_vec()),
            waker: Waker::silent(),
        }
    }

    /// Sets the link that all use which have none of their own, from now on.
    pub fn set_default_link(&self, link: Link) {
        self.0.borrow_mut().set_default_link(link);
    }

    /// Sets the link in one direction, from now on: what is under way is not touched.
    pub fn set_link(&self, from: SocketAddr, to: SocketAddr, link: Link) {
        self.0.borrow_mut().set_link(from, to, link);
    }

    /// Time since the network was made.
    pub fn now(&self) -> Duration {
        self.0.borrow().now()
    }

    /// Moves the clock to `to`; never back.
    pub fn advance(&self, to: Duration) {
        self.0.borrow_mut().advance(to);
    }

    /// When the next datagram arrives at any endpoint (not later than now if one waits to be received); none if none is
    /// under way.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.0.borrow().next_arrival()
    }

    /// What became of all datagrams.
    pub fn counts(&self) -> Counts {
        self.0.borrow().counts()
    }

    /// What became of datagrams in one direction.
    pub fn counts_between(&self, from: SocketAddr, to: SocketAddr) -> Counts {
        self.0.borrow().counts_between(from, to)
    }
}

/// A backend on a simulated network.
///
/// Its turn waits in invented time: if nothing is there, the clock moves on to this endpoint's next arrival, at most by
/// `wait`, or not at all if the waker was rung. Where several endpoints live in one thread, give a `wait` of zero and move
/// the clock with [`Network::advance`], so that none sleeps through what is due for another.
pub struct Endpoint {
    network: Network,
    receive: rx::Receive,
    transmit: tx::Transmit,
    waker: Waker,
}

impl Endpoint {
    /// A handle that ends this endpoint's next wait.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// When the next datagram arrives here; none if none is under way.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.receive.next_arrival(&self.network.0.borrow())
    }
}

impl Tx for Endpoint {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.transmit.slot()
    }

    fn room(&self) -> usize {
        self.transmit.room()
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        self.transmit.commit(bytes, to);
    }
}

impl Backend for Endpoint {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        let mut turn = Turn::default();
        self.transmit.flush(&mut self.network.0.borrow_mut(), &mut turn);
        turn.woken = self.waker.heard();
        let starved = pool.free() == 0;
        if !turn.woken {
            let mut world = self.network.0.borrow_mut();
            let deadline = world.now() + wait;
            let arrival = self.receive.next_arrival(&world).filter(|_| !starved);
            world.advance(arrival.map_or(deadline, |arrival| arrival.min(deadline)));
        }
        self.receive.batch(&self.network.0, pool, &mut turn, sink);
        Ok(turn)
    }
}

#[cfg(test)]
mod tests;
