//! recvmmsg and sendmmsg around ppoll: works everywhere, also where io_uring is forbidden, and is the baseline that
//! io_uring is compared with.

mod rx;
mod sys;
pub(crate) mod tx;

use std::{io, net::UdpSocket, os::fd::RawFd, time::Duration};

use sluice_frames::{Backend, Datagram, Pool, Route, Turn, Tx};

use crate::{Config, Waker, address};

/// The backend. Every system call is over when it returns, so nothing is in flight between turns.
pub struct Mmsg {
    sockets: Vec<UdpSocket>,
    waker: Waker,
    wait: sys::Wait,
    receive: rx::Receive,
    transmit: tx::Transmit,
}

impl Mmsg {
    /// Takes the worker's sockets; their order gives [`Route::socket`]. Of `config`, `receive_frames` does not matter here:
    /// frames are taken when datagrams are there.
    pub fn new(sockets: Vec<UdpSocket>, config: &Config) -> io::Result<Mmsg> {
        Mmsg::beside(sockets, config, None)
    }

    /// The same, with one more descriptor that ends a turn's wait when it becomes readable.
    pub(crate) fn beside(sockets: Vec<UdpSocket>, config: &Config, other: Option<RawFd>) -> io::Result<Mmsg> {
        config.check()?;
        let families = address::families(&sockets)?;
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        let waker = Waker::new()?;
        Ok(Mmsg {
            wait: sys::Wait::new(&sockets, &waker, other),
            receive: rx::Receive::new(),
            transmit: tx::Transmit::new(&families, config.transmit_slots, config.segments_max)?,
            sockets,
            waker,
        })
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sends what was committed; a turn begins with this.
    pub(crate) fn flush(&mut self, turn: &mut Turn) {
        self.transmit.flush(&self.sockets, turn);
    }
}

impl Tx for Mmsg {
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

impl Backend for Mmsg {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        let mut turn = Turn::default();
        self.flush(&mut turn);
        // Without a frame to receive into, waiting for datagrams would end at once and for nothing.
        let receive = pool.free() > 0;
        self.wait.until(wait, receive)?;
        if self.wait.rung() {
            sys::drain(&self.waker);
            turn.woken = self.waker.heard();
        }
        if !receive {
            turn.starved += 1;
            return Ok(turn);
        }
        for (index, socket) in self.sockets.iter().enumerate() {
            if self.wait.readable(index) {
                self.receive.batch(socket, index as u8, pool, &mut turn, sink)?;
            }
        }
        Ok(turn)
    }
}
