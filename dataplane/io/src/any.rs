//! The backend a worker was started with, picked once.

use std::{fmt, io, net::UdpSocket, time::Duration};

use sluice_frames::{Backend, Datagram, Pool, Route, Turn, Tx};

use crate::{Mmsg, Uring, Waker};

/// The backends that reach a real network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendKind {
    Uring,
    Mmsg,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BackendKind::Uring => "uring",
            BackendKind::Mmsg => "mmsg",
        })
    }
}

/// What a backend sets aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Frames lent to the kernel for receiving (io_uring only), a power of two up to 32,768; they come out of the pool.
    /// More ride out longer turns before datagrams queue in the socket buffer; each costs a frame. 1,024 hold 3 ms of
    /// 300,000 packets/s.
    pub receive_frames: usize,
    /// Datagrams committed per turn at most, up to 8,192. More make larger batches; each costs a frame of memory, and
    /// all of them are sent before the next receive.
    pub transmit_slots: usize,
    /// Datagrams that leave as one send at most, up to 64; 1 where the kernel has no UDP_SEGMENT. Fewer only cost more
    /// sends.
    pub segments_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { receive_frames: 1024, transmit_slots: 256, segments_max: crate::runs::SEGMENTS_MAX }
    }
}

/// More slots than anybody has use for; with it, every request fits io_uring's largest queue.
const TRANSMIT_SLOTS_MAX: usize = 8192;

/// More would not fit io_uring's buffer numbers.
const RECEIVE_FRAMES_MAX: usize = 32_768;

impl Config {
    /// Refuses what a backend could not work with.
    pub(crate) fn check(&self) -> io::Result<()> {
        let refuse = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        if !(1..=TRANSMIT_SLOTS_MAX).contains(&self.transmit_slots) {
            return refuse("transmit slots number between 1 and 8,192");
        }
        if !self.receive_frames.is_power_of_two() || self.receive_frames > RECEIVE_FRAMES_MAX {
            return refuse("receive frames number a power of two up to 32,768");
        }
        Ok(())
    }
}

/// One of the backends, dispatched by `match`.
#[allow(clippy::large_enum_variant, reason = "there is one per worker, made once; a box would cost a step per packet")]
pub enum AnyBackend {
    Uring(Uring),
    Mmsg(Mmsg),
}

impl AnyBackend {
    /// Takes the worker's sockets; their order gives [`Route::socket`]. May be called on another thread than the worker's.
    pub fn new(kind: BackendKind, sockets: Vec<UdpSocket>, config: &Config) -> io::Result<AnyBackend> {
        Ok(match kind {
            BackendKind::Uring => AnyBackend::Uring(Uring::new(sockets, config)?),
            BackendKind::Mmsg => AnyBackend::Mmsg(Mmsg::new(sockets, config)?),
        })
    }

    pub fn kind(&self) -> BackendKind {
        match self {
            AnyBackend::Uring(_) => BackendKind::Uring,
            AnyBackend::Mmsg(_) => BackendKind::Mmsg,
        }
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        match self {
            AnyBackend::Uring(uring) => uring.waker(),
            AnyBackend::Mmsg(mmsg) => mmsg.waker(),
        }
    }
}

impl Tx for AnyBackend {
    fn slot(&mut self) -> Option<&mut [u8]> {
        match self {
            AnyBackend::Uring(uring) => uring.slot(),
            AnyBackend::Mmsg(mmsg) => mmsg.slot(),
        }
    }

    fn room(&self) -> usize {
        match self {
            AnyBackend::Uring(uring) => uring.room(),
            AnyBackend::Mmsg(mmsg) => mmsg.room(),
        }
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        match self {
            AnyBackend::Uring(uring) => uring.commit(bytes, to),
            AnyBackend::Mmsg(mmsg) => mmsg.commit(bytes, to),
        }
    }
}

impl Backend for AnyBackend {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        match self {
            AnyBackend::Uring(uring) => uring.turn(pool, wait, sink),
            AnyBackend::Mmsg(mmsg) => mmsg.turn(pool, wait, sink),
        }
    }

    fn close(&mut self, pool: &mut Pool) {
        match self {
            AnyBackend::Uring(uring) => uring.close(pool),
            AnyBackend::Mmsg(mmsg) => mmsg.close(pool),
        }
    }
}
