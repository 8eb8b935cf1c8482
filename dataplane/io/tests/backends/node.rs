//! A backend with its packet memory, and where its sockets and those of its peers are.

use std::{
    cell::RefCell,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use sluice_frames::{Backend, Datagram, FRAME_BYTES, Pool, Route, Turn, Tx};
use sluice_io::{AnyBackend, BackendKind, Config, Probe};

use crate::support::Pair;

/// Long enough for anything on this machine; only failing tests wait that long.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub const SMALL: Config = Config { receive_frames: 64, transmit_slots: 32, segments_max: 64 };

thread_local! {
    /// Where this thread's test has its sockets, if not on loopback.
    static PLACE: RefCell<Option<Pair>> = const { RefCell::new(None) };
}

/// Runs a test with its sockets at the ends of a veth pair whose MTU no datagram exceeds that is received.
pub fn with_xdp(test: impl FnOnce()) {
    if let Err(reason) = Probe::new().xdp {
        return println!("skipped: {reason}");
    }
    let Some(pair) = Pair::new(1, 3000) else { return };
    PLACE.set(Some(pair));
    test();
    PLACE.set(None);
}

/// Does something where the node is.
pub fn near<T>(what: impl FnOnce() -> T) -> T {
    PLACE.with_borrow(|place| match place {
        Some(pair) => pair.near(what),
        None => what(),
    })
}

/// Does something where its peers are.
pub fn far<T>(what: impl FnOnce() -> T) -> T {
    PLACE.with_borrow(|place| match place {
        Some(pair) => pair.far(what),
        None => what(),
    })
}

/// Addresses of node and peers with any port.
pub fn addresses(v6: bool) -> [String; 2] {
    let is_loopback = PLACE.with_borrow(|place| place.is_none());
    match (is_loopback, v6) {
        (true, false) => ["127.0.0.1:0"; 2].map(str::to_owned),
        (true, true) => ["[::1]:0"; 2].map(str::to_owned),
        (false, false) => [Pair::NEAR_V4, Pair::FAR_V4].map(|ip| format!("{ip}:0")),
        (false, true) => [Pair::NEAR_V6, Pair::FAR_V6].map(|ip| format!("[{ip}]:0")),
    }
}

/// A socket for a node.
pub fn own() -> UdpSocket {
    near(|| udp(&addresses(false)[0]))
}

/// A peer of a node.
pub fn peer() -> UdpSocket {
    far(|| udp(&addresses(false)[1]))
}

pub struct Node {
    pub backend: AnyBackend,
    pub pool: Pool,
    pub addresses: Vec<SocketAddr>,
}

impl Node {
    pub fn new(kind: BackendKind, sockets: Vec<UdpSocket>, frames: usize, config: Config) -> Node {
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let backend = near(|| AnyBackend::new(kind, sockets, &config)).unwrap();
        Node { backend, pool: Pool::new(frames).unwrap(), addresses }
    }

    pub fn start(kind: BackendKind) -> Node {
        Node::new(kind, vec![own()], 256, SMALL)
    }

    /// A peer that is a node: there is but one that has the interface.
    pub fn distant(kind: BackendKind) -> Node {
        match kind {
            BackendKind::Xdp => Node::new(BackendKind::Mmsg, vec![peer()], 256, SMALL),
            kind => Node::start(kind),
        }
    }

    pub fn send(&mut self, bytes: &[u8], to: Route) {
        let slot = self.backend.slot().expect("a slot is free");
        assert!(slot.len() >= FRAME_BYTES);
        slot[..bytes.len()].copy_from_slice(bytes);
        self.backend.commit(bytes.len(), to);
    }

    pub fn turn(&mut self, wait: Duration, sink: &mut dyn FnMut(&mut Pool, Datagram)) -> Turn {
        self.backend.turn(&mut self.pool, wait, sink).unwrap()
    }

    /// One turn; what came, with the frames released. Whoever sent it is believed.
    pub fn receive(&mut self, wait: Duration) -> (Turn, Vec<(Vec<u8>, Route)>) {
        let mut datagrams = Vec::new();
        let turn = self.turn(wait, &mut |_, datagram| datagrams.push(datagram));
        assert_eq!(turn.received, datagrams.len());
        let heard = datagrams.into_iter().map(|Datagram { frame, from }| {
            self.backend.validated(&self.pool, frame, from);
            let bytes = self.pool.bytes(frame).to_vec();
            self.pool.release(frame);
            (bytes, from)
        });
        let heard = heard.collect();
        (turn, heard)
    }

    /// Turns until `count` datagrams came.
    pub fn receive_all(&mut self, count: usize) -> Vec<(Vec<u8>, Route)> {
        let start = Instant::now();
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.extend(self.receive(PATIENCE).1);
            assert!(start.elapsed() < PATIENCE, "{} of {count} datagrams came", heard.len());
        }
        heard
    }

    /// Closes the backend: every frame that was not kept is back.
    pub fn close(mut self, kept: usize) {
        self.backend.close(&mut self.pool);
        assert_eq!(self.pool.free() + kept, self.pool.capacity(), "no frame is lost");
        drop(self.backend);
        assert_eq!(self.pool.free() + kept, self.pool.capacity());
    }
}

pub fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn route(peer: &UdpSocket) -> Route {
    Route { socket: 0, peer: peer.local_addr().unwrap() }
}

pub fn hear(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; FRAME_BYTES];
    let count = peer.recv(&mut bytes).expect("a datagram comes");
    bytes[..count].to_vec()
}
