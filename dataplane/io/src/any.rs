//! The backend a worker was started with, picked once.

use std::{fmt, io, net::UdpSocket, time::Duration};

use sluice_frames::{Backend, Datagram, FrameId, Pool, Route, Turn, Tx};

use crate::{Mmsg, Preference, Probe, Steering, Uring, Waker, Xdp, xdp};

/// The backends that reach a real network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendKind {
    Uring,
    Mmsg,
    Xdp,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BackendKind::Uring => "uring",
            BackendKind::Mmsg => "mmsg",
            BackendKind::Xdp => "xdp",
        })
    }
}

/// What a backend sets aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Frames lent to the kernel for receiving, a power of two up to 32,768: with io_uring they come out of the pool, AF_XDP
    /// has four times as many of its own.
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

/// More slots than anybody has use for: 16 MiB of them.
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
    Xdp(Xdp),
}

/// The backends of a node's workers, all of one kind.
pub struct Started {
    pub backends: Vec<AnyBackend>,
    pub kind: BackendKind,
    /// Why that kind, and how it runs.
    pub reason: String,
}

impl Started {
    /// Starts what is preferred, or the next best where that cannot run. Takes each worker's sockets; their order gives
    /// [`Route::socket`]. Fails, with the kind that does, where nothing is left to fall back to.
    pub fn new(
        probe: &Probe,
        preference: Preference,
        workers: Vec<Vec<UdpSocket>>,
        config: &Config,
        steering: Option<&Steering>,
    ) -> Result<Started, (BackendKind, io::Error)> {
        let (mut kind, mut reason) = probe.choose(preference);
        let mut ports: Vec<Option<xdp::Port>> = Vec::new();
        if kind == BackendKind::Xdp {
            config.check().map_err(|error| (kind, error))?;
            match xdp::open(&workers, config, steering) {
                Ok((opened, how)) => (ports, reason) = (opened, format!("{reason}; {how}")),
                Err(fault) => (kind, reason) = probe.without_xdp(&fault),
            }
        }
        ports.resize_with(workers.len(), || None);
        let backends = workers.into_iter().zip(ports).map(|(sockets, port)| match kind {
            BackendKind::Xdp => Xdp::with(sockets, port, config).map(AnyBackend::Xdp),
            kind => AnyBackend::new(kind, sockets, config),
        });
        let backends = backends.collect::<io::Result<_>>().map_err(|error| (kind, error))?;
        Ok(Started { backends, kind, reason })
    }
}

impl AnyBackend {
    /// Takes an only worker's sockets; their order gives [`Route::socket`]. May be called on another thread than the worker's.
    pub fn new(kind: BackendKind, sockets: Vec<UdpSocket>, config: &Config) -> io::Result<AnyBackend> {
        Ok(match kind {
            BackendKind::Uring => AnyBackend::Uring(Uring::new(sockets, config)?),
            BackendKind::Mmsg => AnyBackend::Mmsg(Mmsg::new(sockets, config)?),
            BackendKind::Xdp => AnyBackend::Xdp(Xdp::new(sockets, config)?),
        })
    }

    pub fn kind(&self) -> BackendKind {
        match self {
            AnyBackend::Uring(_) => BackendKind::Uring,
            AnyBackend::Mmsg(_) => BackendKind::Mmsg,
            AnyBackend::Xdp(_) => BackendKind::Xdp,
        }
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        match self {
            AnyBackend::Uring(uring) => uring.waker(),
            AnyBackend::Mmsg(mmsg) => mmsg.waker(),
            AnyBackend::Xdp(xdp) => xdp.waker(),
        }
    }
}

impl Tx for AnyBackend {
    fn slot(&mut self) -> Option<&mut [u8]> {
        match self {
            AnyBackend::Uring(uring) => uring.slot(),
            AnyBackend::Mmsg(mmsg) => mmsg.slot(),
            AnyBackend::Xdp(xdp) => xdp.slot(),
        }
    }

    fn room(&self) -> usize {
        match self {
            AnyBackend::Uring(uring) => uring.room(),
            AnyBackend::Mmsg(mmsg) => mmsg.room(),
            AnyBackend::Xdp(xdp) => xdp.room(),
        }
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        match self {
            AnyBackend::Uring(uring) => uring.commit(bytes, to),
            AnyBackend::Mmsg(mmsg) => mmsg.commit(bytes, to),
            AnyBackend::Xdp(xdp) => xdp.commit(bytes, to),
        }
    }
}

impl Backend for AnyBackend {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        match self {
            AnyBackend::Uring(uring) => uring.turn(pool, wait, sink),
            AnyBackend::Mmsg(mmsg) => mmsg.turn(pool, wait, sink),
            AnyBackend::Xdp(xdp) => xdp.turn(pool, wait, sink),
        }
    }

    fn validated(&mut self, pool: &Pool, frame: FrameId, from: Route) {
        if let AnyBackend::Xdp(xdp) = self {
            xdp.validated(pool, frame, from);
        }
    }

    fn forget(&mut self, route: &Route) {
        if let AnyBackend::Xdp(xdp) = self {
            xdp.forget(route);
        }
    }

    fn close(&mut self, pool: &mut Pool) {
        match self {
            AnyBackend::Uring(uring) => uring.close(pool),
            AnyBackend::Mmsg(mmsg) => mmsg.close(pool),
            AnyBackend::Xdp(xdp) => xdp.close(pool),
        }
    }
}
