//! AF_XDP: datagrams past the kernel's UDP and IP layers, in frames of memory that is shared with it.
//!
//! A program at the interface ([`program`]) gives the node's datagrams to an AF_XDP socket, one per worker and queue. The
//! ordinary sockets stay open and are served by the `mmsg` backend, as this one cannot do without: they receive what the
//! program passes (fragments, tunnels, other interfaces, other queues, this machine itself) and send to whoever is not known.
//!
//! Known is a route whose sender proved itself ([`Backend::validated`]) by a datagram that came through here: answers go to
//! where its frame came from. So no route or neighbour table is needed, a stranger gets nothing in, and what came another
//! way goes back another way. That includes datagrams of a worker that come to another worker's queue: with [`Steering`], the
//! program passes them, and the stack gives them to their owner's socket; without, workers hand them over. Firewall, traffic control and address translation of this machine do not see what goes
//! through here. Where a device takes VLAN tags off (`ethtool -k`: rx-vlan-offload), the program cannot see that there was
//! one, and answers have none.
//!
//! # Frames or segments
//!
//! In copy mode each frame costs the kernel a packet buffer and a pass through the driver. A run of datagrams that a socket
//! sends at once (UDP_SEGMENT) pays for most of the way once, so longer runs go that way: all of a route in that turn, so that
//! its order is kept. What has no runs, audio above all, goes past the kernel. With zero-copy everything does.
//!
//! # What is copied
//!
//! Sending: nothing by us, the slots lent are inside the shared memory, behind room for headers. The kernel copies in copy
//! mode, which works with every driver; it does not with a zero-copy driver, which is used where there is one. Receiving:
//! once, into the pool. To receive straight into the pool it would have to be the shared memory: frames of 4 KiB (256 bytes
//! of each are the kernel's, and aligned chunks are 2 or 4 KiB), lent to the fill ring like those of `uring`, and the slots
//! elsewhere in the same mapping. It would save some 40 ns for each received datagram of 1,200 bytes, of which a forwarder
//! has few for each that it sends.

mod header;
mod interface;
mod program;
mod ring;
mod rx;
mod sys;
mod tx;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use header::Answer;
use sluice_frames::{Backend, Datagram, FrameId, Pool, Route, Turn, Tx};

use crate::{Config, Mmsg, Waker, steer::Steering};

pub use header::Checksum;

/// Routes that are sent to through here, per worker; those beyond it are served by sockets. Each costs about 150 bytes.
const ROUTES_MAX: usize = 16_384;

/// Frames to receive into for each that the configuration lends to the kernel otherwise: they stand in for the socket's
/// buffer too.
const RECEIVE_DEPTH: usize = 4;

/// Fewest and most of them, 4 KiB each.
const RECEIVE_MIN: usize = 256;
const RECEIVE_MAX: usize = 16_384;

/// The backend.
pub struct Xdp {
    sockets: Mmsg,
    /// None for a worker without a queue.
    port: Option<Port>,
    answers: tx::Answers,
}

/// A worker's way past the kernel.
pub(crate) struct Port {
    xsk: sys::Xsk,
    receive: rx::Receive,
    transmit: tx::Transmit,
    _program: Arc<program::Attached>,
}

/// What went past the kernel, in datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub received: u64,
    pub sent: u64,
}

impl Xdp {
    /// Takes the sockets of an only worker; their order gives [`Route::socket`]. Fails where AF_XDP is not to be had, in
    /// words that say why.
    pub fn new(sockets: Vec<UdpSocket>, config: &Config) -> io::Result<Xdp> {
        crate::address::families(&sockets)?;
        config.check()?;
        let sockets = [sockets];
        let (ports, _) = open(&sockets, config, None).map_err(io::Error::other)?;
        let [sockets] = sockets;
        Xdp::with(sockets, ports.into_iter().next().flatten(), config)
    }

    /// Takes a worker's sockets and its port.
    pub(crate) fn with(sockets: Vec<UdpSocket>, port: Option<Port>, config: &Config) -> io::Result<Xdp> {
        let other = port.as_ref().map(|port| port.xsk.fd().as_raw_fd());
        let routes = if port.is_some() { ROUTES_MAX } else { 0 };
        Ok(Xdp { sockets: Mmsg::beside(sockets, config, other)?, port, answers: HashMap::with_capacity(routes) })
    }

    /// A handle with which any thread ends this backend's wait.
    pub fn waker(&self) -> Waker {
        self.sockets.waker()
    }

    /// What went past the kernel since the start; the rest went through sockets.
    pub fn counts(&self) -> Counts {
        self.port
            .as_ref()
            .map_or(Counts::default(), |port| Counts { received: port.receive.received, sent: port.transmit.sent })
    }

    /// Who fills in UDP checksums from now on. Asking to leave it to the device has no effect where that is not to be had.
    pub fn set_checksum(&mut self, checksum: Checksum) {
        if let Some(Port { xsk, transmit, .. }) = &mut self.port {
            transmit.set_checksum(xsk, checksum);
        }
    }
}

impl Tx for Xdp {
    fn slot(&mut self) -> Option<&mut [u8]> {
        match &mut self.port {
            Some(port) => port.transmit.slot(&mut port.xsk),
            None => self.sockets.slot(),
        }
    }

    fn room(&self) -> usize {
        self.port.as_ref().map_or_else(|| self.sockets.room(), |port| port.transmit.room())
    }

    fn commit(&mut self, bytes: usize, to: Route) {
        match &mut self.port {
            Some(port) => port.transmit.commit(bytes, to),
            None => self.sockets.commit(bytes, to),
        }
    }
}

impl Backend for Xdp {
    fn turn(&mut self, pool: &mut Pool, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> io::Result<Turn> {
        let Some(Port { xsk, receive, transmit, .. }) = &mut self.port else {
            return self.sockets.turn(pool, wait, sink);
        };
        let mut own = Turn::default();
        transmit.flush(xsk, &mut self.answers, &mut self.sockets, &mut own);
        let mut turn = self.sockets.turn(pool, wait, sink)?;
        receive.batch(xsk, pool, &mut own, sink);
        turn.received += own.received;
        turn.dropped += own.dropped;
        turn.starved += own.starved;
        turn.sent += own.sent;
        turn.sends += own.sends;
        turn.sent_direct += own.sent_direct;
        turn.unsegmented += own.unsegmented;
        turn.send_errors += own.send_errors;
        turn.send_too_long += own.send_too_long;
        Ok(turn)
    }

    fn validated(&mut self, pool: &Pool, frame: FrameId, from: Route) {
        if self.port.is_none() {
            return;
        }
        let room = pool.headroom(frame);
        let header_bytes = if from.peer.is_ipv4() { header::V4_BYTES } else { header::V6_BYTES };
        // A datagram that came through a socket has no headers in front.
        let headers = room.len().checked_sub(header_bytes).map(|start| &room[start..]);
        match headers.and_then(Answer::to) {
            Some(answer) if self.answers.len() < ROUTES_MAX || self.answers.contains_key(&from) => {
                self.answers.insert(from, answer.into());
            }
            Some(_) => {}
            None => self.forget(&from),
        }
    }

    fn forget(&mut self, route: &Route) {
        self.answers.remove(route);
    }
}

/// A port for each worker that there is a queue for, in order of the workers, and how they run. Otherwise why not.
pub(crate) fn open(
    workers: &[Vec<UdpSocket>],
    config: &Config,
    steering: Option<&Steering>,
) -> Result<(Vec<Option<Port>>, String), String> {
    let locals = |sockets: &[UdpSocket]| sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>();
    let locals = locals(workers.first().map_or(&[], Vec::as_slice)).map_err(|error| error.to_string())?;
    let (interface, targets) = interface::find(&locals)?;
    let sizes = sizes(config);
    let fault = |error: io::Error| format!("{}: {}", interface.name, explain(&error));
    let mtu_bytes = interface.mtu_bytes().map_err(fault)?;
    let mut bound = Vec::new();
    for queue in 0..workers.len() as u32 {
        match sys::Xsk::bind(interface.index, queue, sizes) {
            Ok(xsk) => bound.push(xsk),
            // There is no such queue.
            Err(error) if queue > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(fault(error)),
        }
    }
    let fds: Vec<_> = bound.iter().map(sys::Xsk::fd).collect();
    let program = program::Attached::new(&interface, &targets, &fds, steering).map_err(fault)?;
    let how = describe(&interface, &program, &bound, workers.len());
    let program = Arc::new(program);
    let ports = bound.into_iter().map(|xsk| {
        let transmit =
            tx::Transmit::new(&xsk, sizes.receive as usize, config.transmit_slots, config.segments_max, mtu_bytes);
        Some(Port { xsk, receive: rx::Receive::new(targets.clone()), transmit, _program: program.clone() })
    });
    let mut ports: Vec<Option<Port>> = ports.collect();
    ports.resize_with(workers.len(), || None);
    Ok((ports, how))
}

fn describe(
    interface: &interface::Interface,
    program: &program::Attached,
    bound: &[sys::Xsk],
    workers: usize,
) -> String {
    let name = &interface.name;
    let mode = if bound.iter().all(|xsk| xsk.zero_copy) { "zero-copy" } else { "copy mode" };
    let place = if program.native { "in the driver" } else { "at the stack's entrance" };
    let sum = if bound.iter().all(|xsk| xsk.offload) { "left to the device" } else { "computed here" };
    let (queues, all) = (bound.len(), interface.queues());
    let spread = match queues {
        _ if queues < workers => format!(
            "; only {queues} of {workers} workers have a queue, the others use sockets (ethtool -L {name} combined \
             {workers}, if it can)"
        ),
        _ if queues < all => format!(
            "; {} of {all} queues have no worker and use sockets (ethtool -L {name} combined {workers})",
            all - queues
        ),
        _ => String::new(),
    };
    format!("AF_XDP on {name}, {mode}, program {place}, checksums {sum}{spread}")
}

/// Whether this process may use AF_XDP at all: nothing is attached to any interface.
pub(crate) fn permitted() -> Result<(), String> {
    let nobody = interface::Target { address: SocketAddr::from(([192, 0, 2, 1], 9)), socket: 0 };
    sys::open().and_then(|_| program::try_load(&[nobody])).map_err(|error| explain(&error))
}

/// Memory that a worker with a queue sets aside, in bytes.
pub fn memory_bytes(config: &Config) -> usize {
    let sizes = sizes(config);
    (sizes.receive + sizes.transmit) as usize * sys::CHUNK_BYTES
}

fn sizes(config: &Config) -> sys::Sizes {
    sys::Sizes {
        receive: (config.receive_frames * RECEIVE_DEPTH).clamp(RECEIVE_MIN, RECEIVE_MAX) as u32,
        transmit: tx::Transmit::chunks(config.transmit_slots) as u32,
    }
}

/// Which interface would be used for these media addresses, and its queues.
pub fn interface_for(media: &[SocketAddr]) -> Result<String, String> {
    let (interface, _) = interface::find(media)?;
    Ok(format!("{}, {} receive queues", interface.name, interface.queues()))
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "this process may not: grant CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, or run as root".to_owned()
        }
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned(),
        Some(libc::ENOBUFS) => {
            "the memory it needs may not be locked: raise RLIMIT_MEMLOCK (ulimit -l), or grant CAP_IPC_LOCK".to_owned()
        }
        Some(libc::EBUSY) => "another program or socket has the interface or its queue".to_owned(),
        _ => error.to_string(),
    }
}
