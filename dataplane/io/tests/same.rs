//! The same seeded traffic through every backend gives the same datagrams: a node reflects what its peers send, and each peer
//! gets on its route what the simulated network would have brought it, byte for byte and in that order.

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use sluice_frames::{Backend, Datagram, Pool, Route, Tx};
use sluice_io::{AnyBackend, BackendKind, Config, Probe, sim::Network};
use support::Pair;

const PEERS: usize = 5;
const ROUNDS: usize = 400;

/// Datagrams of a round at most: fewer than a turn has slots for.
const BURST: usize = 12;

/// Only failing tests wait that long.
const PATIENCE: Duration = Duration::from_secs(10);

const CONFIG: Config = Config { receive_frames: 64, transmit_slots: 64, segments_max: 64 };

/// SplitMix64, so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Who sends what, in rounds. The first byte names the sender. Lengths come in the runs that make segmented sends as well as one by one.
fn trace(seed: u64) -> Vec<Vec<(usize, Vec<u8>)>> {
    let mut random = Random(seed);
    let mut round = || {
        let mut datagrams = Vec::new();
        while datagrams.len() < BURST {
            let (peer, run) = (random.below(PEERS), 1 + random.below(5));
            let length = [1, 20, 100, 160, 700, 1199, 1200][random.below(7)];
            for _ in 0..run.min(BURST - datagrams.len()) {
                let mut datagram: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
                datagram[0] = peer as u8;
                datagrams.push((peer, datagram));
            }
        }
        datagrams
    };
    (0..ROUNDS).map(|_| round()).collect()
}

/// How peers reach the node and what comes back to them.
trait Peers {
    fn send(&mut self, peer: usize, datagram: &[u8]);
    /// The next datagram of a peer; none if nothing comes.
    fn receive(&mut self, peer: usize) -> Option<Vec<u8>>;
}

/// What each peer got back for a trace. Each datagram is answered by itself, and each third of a peer by its first half too.
fn play(backend: &mut impl Backend, peers: &mut impl Peers, seed: u64) -> Vec<Vec<Vec<u8>>> {
    let mut pool = Pool::new(256).unwrap();
    let mut got = vec![Vec::new(); PEERS];
    let mut counts = [0; PEERS];
    for (number, round) in trace(seed).into_iter().enumerate() {
        for (peer, datagram) in &round {
            peers.send(*peer, datagram);
        }
        let mut arrived: Vec<Datagram> = Vec::new();
        let start = Instant::now();
        while arrived.len() < round.len() {
            backend.turn(&mut pool, Duration::from_millis(10), &mut |_, datagram| arrived.push(datagram)).unwrap();
            assert!(start.elapsed() < PATIENCE, "round {number}: {} of {} came", arrived.len(), round.len());
        }
        let mut expected = [0; PEERS];
        for Datagram { frame, from } in arrived {
            backend.validated(&pool, frame, from);
            let bytes = pool.bytes(frame);
            let peer = usize::from(bytes[0]);
            let answers = 1 + usize::from(counts[peer] % 3 == 0);
            for answer in [bytes, &bytes[..bytes.len() / 2]].into_iter().take(answers) {
                backend.slot().expect("a slot is free")[..answer.len()].copy_from_slice(answer);
                backend.commit(answer.len(), from);
            }
            counts[peer] += 1;
            expected[peer] += answers;
            pool.release(frame);
        }
        backend.turn(&mut pool, Duration::ZERO, &mut |_, _| panic!("nobody sends")).unwrap();
        for (peer, count) in expected.into_iter().enumerate() {
            got[peer].extend((0..count).map(|_| peers.receive(peer).expect("an answer comes")));
        }
    }
    got
}

/// Peers on sockets.
struct Sockets {
    sockets: Vec<UdpSocket>,
    node: SocketAddr,
}

impl Sockets {
    fn new(bind: impl Fn() -> UdpSocket, node: SocketAddr) -> Sockets {
        let sockets: Vec<UdpSocket> = (0..PEERS).map(|_| bind()).collect();
        sockets.iter().for_each(|socket| socket.set_read_timeout(Some(PATIENCE)).unwrap());
        Sockets { sockets, node }
    }
}

impl Peers for Sockets {
    fn send(&mut self, peer: usize, datagram: &[u8]) {
        self.sockets[peer].send_to(datagram, self.node).unwrap();
    }

    fn receive(&mut self, peer: usize) -> Option<Vec<u8>> {
        let mut bytes = [0; 2048];
        let count = self.sockets[peer].recv(&mut bytes).ok()?;
        Some(bytes[..count].to_vec())
    }
}

/// Peers on a simulated network.
struct Simulated {
    ends: Vec<(sluice_io::sim::Endpoint, Pool)>,
    node: SocketAddr,
}

impl Peers for Simulated {
    fn send(&mut self, peer: usize, datagram: &[u8]) {
        let (end, pool) = &mut self.ends[peer];
        end.slot().unwrap()[..datagram.len()].copy_from_slice(datagram);
        end.commit(datagram.len(), Route { socket: 0, peer: self.node });
        end.turn(pool, Duration::ZERO, &mut |_, _| panic!("nobody answers yet")).unwrap();
    }

    fn receive(&mut self, peer: usize) -> Option<Vec<u8>> {
        // The pool has one frame, so that one datagram comes at a time.
        let (end, pool) = &mut self.ends[peer];
        let mut frame = None;
        end.turn(pool, Duration::ZERO, &mut |_, datagram| frame = Some(datagram.frame)).unwrap();
        let bytes = frame.map(|frame| pool.bytes(frame).to_vec());
        frame.into_iter().for_each(|frame| pool.release(frame));
        bytes
    }
}

fn simulated(seed: u64) -> Vec<Vec<Vec<u8>>> {
    let network = Network::new(seed);
    let node: SocketAddr = "192.0.2.1:7882".parse().unwrap();
    let end = |peer: u16| (network.endpoint(&[([192, 0, 2, 2], 1000 + peer).into()]), Pool::new(1).unwrap());
    let mut peers = Simulated { ends: (0..PEERS as u16).map(end).collect(), node };
    play(&mut network.endpoint(&[node]), &mut peers, seed)
}

fn on_loopback(kind: BackendKind, seed: u64) -> Vec<Vec<Vec<u8>>> {
    let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = bind();
    let mut peers = Sockets::new(bind, socket.local_addr().unwrap());
    play(&mut AnyBackend::new(kind, vec![socket], &CONFIG).unwrap(), &mut peers, seed)
}

#[test]
fn every_backend_brings_the_same_datagrams() {
    let probe = Probe::new();
    for seed in [1, 2] {
        let expected = simulated(seed);
        assert!(expected.iter().all(|peer| peer.len() > ROUNDS), "everybody takes part");
        assert!(simulated(seed) == expected, "seed {seed}: the simulation replays");
        assert!(on_loopback(BackendKind::Mmsg, seed) == expected, "seed {seed}: mmsg");
        match &probe.uring {
            Ok(_) => assert!(on_loopback(BackendKind::Uring, seed) == expected, "seed {seed}: uring"),
            Err(reason) => println!("uring skipped: {reason}"),
        }
        let pair = match &probe.xdp {
            Ok(()) => Pair::new(1, 1500),
            Err(reason) => {
                println!("xdp skipped: {reason}");
                None
            }
        };
        let Some(pair) = pair else { continue };
        let socket = pair.near(|| UdpSocket::bind((Pair::NEAR_V4, 0))).unwrap();
        let mut peers =
            Sockets::new(|| pair.far(|| UdpSocket::bind((Pair::FAR_V4, 0))).unwrap(), socket.local_addr().unwrap());
        let mut backend = pair.near(|| AnyBackend::new(BackendKind::Xdp, vec![socket], &CONFIG)).unwrap();
        assert!(play(&mut backend, &mut peers, seed) == expected, "seed {seed}: xdp");
        let AnyBackend::Xdp(xdp) = &backend else { unreachable!("it was made above") };
        let sent: usize = expected.iter().map(Vec::len).sum();
        assert!((1..sent as u64).contains(&xdp.counts().sent), "frames and segments: {:?} of {sent}", xdp.counts());
    }
}
