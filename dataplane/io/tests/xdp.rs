//! What only the AF_XDP backend does, on a veth pair between namespaces.

mod support;

use std::{
    ffi::CString,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use sluice_frames::{Backend, DATAGRAM_BYTES, Datagram, Pool, Route, Turn, Tx};
use sluice_io::{
    AnyBackend, BackendKind, Config, Preference, Probe, Started, Steering, socket,
    xdp::{Checksum, Counts},
};
use support::{FAR, NEAR, Pair, ip};

/// Long enough for anything on this machine; only failing tests wait that long.
const PATIENCE: Duration = Duration::from_secs(5);

const SMALL: Config = Config { receive_frames: 64, transmit_slots: 32, segments_max: 64 };

/// A namespace pair, or none where this process may not.
fn pair(queues: usize) -> Option<Pair> {
    match Probe::new().xdp {
        Ok(()) => Pair::new(queues, 1500),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

/// Workers on one IPv4 and one IPv6 address.
struct Nodes {
    workers: Vec<Worker>,
    addresses: Vec<SocketAddr>,
    steering: Option<Steering>,
    started: (BackendKind, String),
}

struct Worker {
    backend: AnyBackend,
    pool: Pool,
}

impl Nodes {
    fn start(pair: &Pair, workers: usize) -> Nodes {
        pair.near(|| {
            let addresses = [Pair::NEAR_V4, Pair::NEAR_V6].map(|ip| ip.parse().unwrap()).to_vec();
            let plan = socket::Plan { addresses, port: 0, workers, receive_bytes: 1 << 18, send_bytes: 1 << 18 };
            let bound = socket::bind(&plan).unwrap();
            let steering = Steering::new(&bound.workers).ok();
            let probe = Probe::new();
            let started = Started::new(&probe, Preference::Xdp, bound.workers, &SMALL, steering.as_ref());
            let Started { backends, kind, reason } = started.map_err(|(_, error)| error).unwrap();
            println!("{kind}: {reason}");
            let worker = |backend| Worker { backend, pool: Pool::new(256).unwrap() };
            let workers = backends.into_iter().map(worker).collect();
            Nodes { workers, addresses: bound.addresses, steering, started: (kind, reason) }
        })
    }
}

impl Worker {
    /// A turn; what came. Whoever sent it is believed if `believe` says so.
    fn turn(&mut self, wait: Duration, believe: bool) -> (Turn, Vec<(Vec<u8>, Route)>) {
        let mut datagrams = Vec::new();
        let turn = self.backend.turn(&mut self.pool, wait, &mut |_, datagram| datagrams.push(datagram)).unwrap();
        let heard = datagrams.into_iter().map(|Datagram { frame, from }| {
            if believe {
                self.backend.validated(&self.pool, frame, from);
            }
            let bytes = self.pool.bytes(frame).to_vec();
            self.pool.release(frame);
            (bytes, from)
        });
        let heard = heard.collect();
        (turn, heard)
    }

    /// The next datagram.
    fn hear(&mut self, believe: bool) -> (Vec<u8>, Route) {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "a datagram comes");
            let (_, mut heard) = self.turn(PATIENCE, believe);
            if !heard.is_empty() {
                assert_eq!(heard.len(), 1);
                return heard.remove(0);
            }
        }
    }

    fn say(&mut self, bytes: &[u8], to: Route) -> Turn {
        self.backend.slot().unwrap()[..bytes.len()].copy_from_slice(bytes);
        self.backend.commit(bytes.len(), to);
        self.turn(Duration::ZERO, false).0
    }

    fn counts(&self) -> Counts {
        match &self.backend {
            AnyBackend::Xdp(xdp) => xdp.counts(),
            _ => panic!("another backend runs"),
        }
    }
}

fn peer(pair: &Pair, address: &str) -> UdpSocket {
    let socket = pair.far(|| UdpSocket::bind((address, 0))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn hear(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 4096];
    let count = peer.recv(&mut bytes).expect("a datagram comes");
    bytes[..count].to_vec()
}

#[test]
fn who_proved_itself_is_answered_past_the_kernel_and_others_are_not() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let mut expected = Counts::default();
    for (socket, address) in [Pair::FAR_V4, Pair::FAR_V6].into_iter().enumerate() {
        let peer = peer(&pair, address);
        let exchange = |worker: &mut Worker, believe: bool, expected: &Counts| {
            peer.send_to(b"ping", nodes.addresses[socket]).unwrap();
            let (bytes, from) = worker.hear(believe);
            assert_eq!(
                (bytes.as_slice(), from),
                (&b"ping"[..], Route { socket: socket as u8, peer: peer.local_addr().unwrap() })
            );
            assert_eq!(worker.say(b"pong", from).sent, 1);
            assert_eq!(hear(&peer), b"pong");
            assert_eq!(worker.counts(), *expected);
            from
        };
        // Received past the kernel, but answered through the socket: anybody can write a sender's address.
        expected.received += 1;
        exchange(worker, false, &expected);
        (expected.received, expected.sent) = (expected.received + 1, expected.sent + 1);
        let from = exchange(worker, true, &expected);
        // It stays known.
        (expected.received, expected.sent) = (expected.received + 1, expected.sent + 1);
        exchange(worker, false, &expected);
        worker.backend.forget(&from);
        expected.received += 1;
        exchange(worker, false, &expected);
    }
}

#[test]
fn checksums_are_right_whoever_computes_them() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    for (socket, address) in [Pair::FAR_V4, Pair::FAR_V6].into_iter().enumerate() {
        let peer = peer(&pair, address);
        peer.send_to(b"hello", nodes.addresses[socket]).unwrap();
        let (_, from) = worker.hear(true);
        for checksum in [Checksum::Offload, Checksum::Full, Checksum::Zero] {
            let AnyBackend::Xdp(xdp) = &mut worker.backend else { panic!("another backend runs") };
            xdp.set_checksum(checksum);
            for length in [0, 1, 2, 3, 100, 1199, 1200, 1452] {
                let datagram: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
                let before = worker.counts().sent;
                worker.say(&datagram, from);
                // The peer's kernel verifies what is not marked as verified, and drops what is wrong.
                assert_eq!(hear(&peer), datagram, "{checksum:?}");
                assert_eq!(worker.counts().sent, before + 1);
            }
        }
    }
}

#[test]
fn what_the_program_passes_arrives_all_the_same() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let peer = peer(&pair, Pair::FAR_V4);
    peer.send_to(b"hello", nodes.addresses[0]).unwrap();
    let (_, from) = worker.hear(true);
    assert_eq!(worker.counts().received, 1);

    // Longer than the MTU: received in fragments, and refused to be sent.
    let long = [7; DATAGRAM_BYTES];
    peer.send_to(&long, nodes.addresses[0]).unwrap();
    assert_eq!(worker.hear(false), (long.to_vec(), from));
    let turn = worker.say(&long[..1600], from);
    assert_eq!((turn.sent, turn.send_errors, turn.send_too_long), (0, 1, 1));
    assert_eq!(worker.counts(), Counts { received: 1, sent: 0 });

    // IPv4 with an option (router alert, RFC 2113).
    let option = [0x94u8, 4, 0, 0];
    // SAFETY: needed for an option that the library does not offer. The descriptor is open and the option as long as said.
    let set = unsafe {
        libc::setsockopt(
            peer.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            option.as_ptr().cast(),
            option.len() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    peer.send_to(b"options", nodes.addresses[0]).unwrap();
    assert_eq!(worker.hear(false), (b"options".to_vec(), from));
    assert_eq!(worker.counts().received, 1);

    // Another port of this machine is none of our business.
    let other = pair.near(|| UdpSocket::bind((Pair::NEAR_V4, 0))).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send_to(b"other", other.local_addr().unwrap()).unwrap();
    assert_eq!(hear(&other), b"other");

    // This machine itself.
    let local = pair.near(|| UdpSocket::bind((Pair::NEAR_V4, 0))).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    local.send_to(b"local", nodes.addresses[0]).unwrap();
    let (bytes, from) = worker.hear(true);
    assert_eq!(bytes, b"local");
    worker.say(b"answer", from);
    assert_eq!(hear(&local), b"answer");
    assert_eq!(worker.counts(), Counts { received: 1, sent: 0 });
}

#[test]
fn runs_leave_as_segments_and_the_rest_as_frames_in_order() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let peers = [peer(&pair, Pair::FAR_V4), peer(&pair, Pair::FAR_V4)];
    let routes = peers.each_ref().map(|peer| {
        peer.send_to(b"hello", nodes.addresses[0]).unwrap();
        worker.hear(true).1
    });
    /// Lengths of what the two peers are sent in one turn; how many sends that takes, and how many go past the kernel.
    type Case<'a> = (&'a [(usize, usize)], usize, u64);
    let turns: [Case<'_>; 5] = [
        (&[(0, 100), (1, 100), (0, 100), (1, 100)], 4, 4),
        (&[(0, 100), (0, 100), (0, 100)], 3, 3),
        (&[(0, 100), (0, 100), (0, 100), (0, 50)], 1, 0),
        // All of the first peer's in their order, through the socket; the second peer's are no run.
        (&[(0, 20), (1, 20), (0, 100), (0, 100), (0, 100), (0, 100), (0, 20)], 3, 1),
        (&[(0, 20), (1, 20)], 2, 2),
    ];
    for (number, (datagrams, sends, past)) in turns.into_iter().enumerate() {
        let before = worker.counts().sent;
        for (at, &(peer, length)) in datagrams.iter().enumerate() {
            worker.backend.slot().unwrap()[..length].fill(at as u8);
            worker.backend.commit(length, routes[peer]);
        }
        let (turn, _) = worker.turn(Duration::ZERO, false);
        assert_eq!((turn.sent, turn.sends), (datagrams.len(), sends), "turn {number}");
        assert_eq!(worker.counts().sent - before, past, "turn {number}");
        for (at, &(peer, length)) in datagrams.iter().enumerate() {
            assert_eq!(hear(&peers[peer]), vec![at as u8; length], "turn {number}");
        }
    }
}

#[test]
fn a_peer_that_comes_another_way_is_answered_that_way() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let peer = peer(&pair, Pair::FAR_V4);
    peer.send_to(b"hello", nodes.addresses[0]).unwrap();
    let (_, from) = worker.hear(true);
    peer.send_to(&[7; 1600], nodes.addresses[0]).unwrap();
    assert_eq!(worker.hear(true).1, from);
    worker.say(b"answer", from);
    assert_eq!(hear(&peer), b"answer");
    assert_eq!(worker.counts().sent, 0, "its last valid datagram came in fragments, through the socket");
}

#[test]
fn the_program_goes_with_the_last_worker() {
    let Some(pair) = pair(2) else { return };
    let mut nodes = Nodes::start(&pair, 2);
    assert!(pair.near_link().contains("xdp"), "{}", pair.near_link());
    nodes.workers.pop();
    assert!(pair.near_link().contains("xdp"));

    // While it is there, nobody else gets the interface, and is told.
    let second = Nodes::start(&pair, 1);
    assert_ne!(second.started.0, BackendKind::Xdp);
    assert!(second.started.1.contains("another program or socket has the interface"), "{}", second.started.1);

    nodes.workers.pop();
    assert!(!pair.near_link().contains("prog/xdp"), "{}", pair.near_link());
    assert_eq!(Nodes::start(&pair, 1).started.0, BackendKind::Xdp, "and it can be had again");
}

#[test]
fn an_interface_that_goes_down_loses_datagrams_and_nothing_else() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let peer = peer(&pair, Pair::FAR_V4);
    peer.send_to(b"hello", nodes.addresses[0]).unwrap();
    let (_, from) = worker.hear(true);
    pair.near(|| ip(&format!("link set {NEAR} down")));
    // Many more than there is memory for.
    for _ in 0..100 {
        let mut committed = 0;
        while let Some(slot) = worker.backend.slot() {
            slot[0] = 1;
            worker.backend.commit(1, from);
            committed += 1;
        }
        assert_eq!(committed, SMALL.transmit_slots);
        let (turn, _) = worker.turn(Duration::ZERO, false);
        assert_eq!((turn.sent, turn.send_errors), (0, SMALL.transmit_slots));
    }
    pair.near(|| ip(&format!("link set {NEAR} up")));
    let start = Instant::now();
    while worker.say(b"back", from).sent == 0 {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(hear(&peer), b"back");
}

#[test]
fn a_peer_that_takes_nothing_costs_nothing() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let gone = peer(&pair, Pair::FAR_V4);
    gone.send_to(b"hello", nodes.addresses[0]).unwrap();
    let (_, from) = worker.hear(true);
    drop(gone);
    for _ in 0..100 {
        while let Some(slot) = worker.backend.slot() {
            slot[0] = 1;
            worker.backend.commit(1, from);
        }
        let (turn, _) = worker.turn(Duration::ZERO, false);
        assert_eq!(turn.sent, SMALL.transmit_slots, "sent into the void, without an error that hinders others");
    }
    pair.far(|| ip(&format!("link show {FAR}")));
}

#[test]
fn a_device_that_runs_no_programs_has_them_run_by_the_stack() {
    let Some(pair) = pair(1) else { return };
    pair.near(|| {
        ip("link add sx-bridge type bridge");
        ip(&format!("address flush dev {NEAR}"));
        ip(&format!("link set {NEAR} master sx-bridge"));
        ip("link set sx-bridge up");
        ip(&format!("address add {}/24 dev sx-bridge", Pair::NEAR_V4));
        ip(&format!("address add {}/64 dev sx-bridge nodad", Pair::NEAR_V6));
    });
    let mut nodes = Nodes::start(&pair, 1);
    assert!(nodes.started.1.contains("AF_XDP on sx-bridge, copy mode, program at the stack's"), "{}", nodes.started.1);
    let worker = &mut nodes.workers[0];
    for (socket, address) in [Pair::FAR_V4, Pair::FAR_V6].into_iter().enumerate() {
        let peer = peer(&pair, address);
        peer.send_to(b"ping", nodes.addresses[socket]).unwrap();
        let (bytes, from) = worker.hear(true);
        assert_eq!(bytes, b"ping");
        worker.say(b"pong", from);
        assert_eq!(hear(&peer), b"pong");
    }
    assert_eq!(worker.counts(), Counts { received: 2, sent: 2 });
}

/// Puts frames on the wire as they are.
struct Wire {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Wire {
    /// At the peers' end.
    fn new(pair: &Pair) -> Wire {
        pair.far(|| {
            // SAFETY: needed to send frames; no memory is involved, the result is checked.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let name = CString::new(FAR).unwrap();
            // SAFETY: the descriptor was just made and belongs to nobody else; the name is a C string; all-zero is valid for an
            // address, which is plain numbers.
            let (socket, index, mut address) = unsafe {
                (OwnedFd::from_raw_fd(fd), libc::if_nametoindex(name.as_ptr()), std::mem::zeroed::<libc::sockaddr_ll>())
            };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = index as i32;
            Wire { socket, address }
        })
    }

    fn send(&self, frame: &[u8]) {
        // SAFETY: needed to send to a link-layer address. Both pointers are to live values as long as said.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const self.address).cast(),
                size_of_val(&self.address) as libc::socklen_t,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
    }
}

/// A frame with a UDP datagram over IPv4.
fn frame(to: [u8; 6], node: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(node) = node else { panic!("an IPv4 address") };
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0]);
    frame.extend((28 + datagram.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(Pair::FAR_V4.parse::<std::net::Ipv4Addr>().unwrap().octets());
    frame.extend(node.ip().octets());
    let sum: u32 = frame[14..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(999u16.to_be_bytes());
    frame.extend(node.port().to_be_bytes());
    frame.extend((8 + datagram.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(datagram);
    frame
}

#[test]
fn frames_that_lie_are_counted_and_harm_nobody() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 1);
    let worker = &mut nodes.workers[0];
    let hardware = pair.near(|| ip(&format!("-brief link show {NEAR}")));
    let hardware = hardware.split_whitespace().nth(2).unwrap().split(':');
    let hardware: Vec<u8> = hardware.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let good = frame(hardware.try_into().unwrap(), nodes.addresses[0], b"good");
    let wire = Wire::new(&pair);
    wire.send(&good);
    assert_eq!(worker.hear(false).0, b"good");
    assert_eq!(worker.counts().received, 1);

    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    // Redirected, and dropped when they are looked at.
    let lies = [
        changed(38, &[0xff, 0xff]),
        changed(38, &[0, 7]),
        changed(38, &[0, 0]),
        changed(16, &[0, 20]),
        changed(16, &[0, 0]),
        changed(26, &[127, 0, 0, 1]),
        changed(26, &[224, 0, 0, 1]),
        changed(26, &[0, 0, 0, 0]),
        changed(0, &[0xff; 6]),
    ];
    let mut dropped = 0;
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        lies.iter().for_each(|lie| wire.send(lie));
        let (turn, heard) = worker.turn(Duration::ZERO, true);
        assert!(heard.is_empty());
        dropped += turn.dropped;
    }
    let start = Instant::now();
    while dropped < ROUNDS * lies.len() {
        dropped += worker.turn(Duration::from_millis(10), true).0.dropped;
        assert!(start.elapsed() < PATIENCE, "{dropped} of {} are counted", ROUNDS * lies.len());
    }
    // Passed, and the stack's to drop: cut short, a tag, a first fragment, another protocol.
    let tagged = [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat();
    for other in [&good[..30], &good[..14], &tagged, &changed(20, &[0x20, 0]), &changed(23, &[6])] {
        wire.send(other);
    }
    wire.send(&good);
    assert_eq!(worker.hear(false).0, b"good");
    assert_eq!(worker.counts().received, 2, "none of them came past the kernel");
    assert_eq!(worker.pool.free(), worker.pool.capacity(), "no frame is lost");
}

/// Waits until one of the workers has a datagram: which, and from where.
fn whoever_hears(nodes: &mut Nodes, believe: bool) -> (usize, Route) {
    let start = Instant::now();
    loop {
        for (index, worker) in nodes.workers.iter_mut().enumerate() {
            let (_, heard) = worker.turn(Duration::from_millis(1), believe);
            if let Some((_, from)) = heard.first() {
                return (index, *from);
            }
        }
        assert!(start.elapsed() < PATIENCE, "somebody hears");
    }
}

#[test]
fn a_worker_without_a_queue_gets_its_own_through_its_socket() {
    let Some(pair) = pair(1) else { return };
    let mut nodes = Nodes::start(&pair, 2);
    assert!(nodes.started.1.contains("only 1 of 2 workers have a queue"), "{}", nodes.started.1);
    if nodes.steering.is_none() {
        return println!("skipped: no steering");
    }
    for (socket, address) in [Pair::FAR_V4, Pair::FAR_V6].into_iter().enumerate() {
        for round in 0..8 {
            let peer = peer(&pair, address);
            let say = || peer.send_to(b"x", nodes.addresses[socket]).unwrap();
            say();
            let (worker, from) = whoever_hears(&mut nodes, false);
            assert_eq!(worker, 0, "strangers arrive at the queue, which one worker has");
            let owner = round % 2;
            nodes.steering.as_ref().unwrap().own(&from, owner).unwrap();
            let before = nodes.workers[0].counts().received;
            peer.send_to(b"x", nodes.addresses[socket]).unwrap();
            assert_eq!(whoever_hears(&mut nodes, true), (owner.into(), from));
            let past = nodes.workers[0].counts().received - before;
            assert_eq!(past, u64::from(owner == 0), "past the kernel to whom has a queue, by the stack to the other");
            nodes.workers[usize::from(owner)].say(b"answer", from);
            assert_eq!(hear(&peer), b"answer");
        }
    }
}

#[test]
fn each_worker_has_its_queue() {
    let Some(pair) = pair(2) else { return };
    let mut nodes = Nodes::start(&pair, 2);
    assert!(!nodes.started.1.contains("ethtool"), "{}", nodes.started.1);
    let mut heard = [0, 0];
    for _ in 0..16 {
        let peer = peer(&pair, Pair::FAR_V4);
        peer.send_to(b"x", nodes.addresses[0]).unwrap();
        let (worker, from) = whoever_hears(&mut nodes, true);
        heard[worker] += 1;
        nodes.workers[worker].say(b"answer", from);
        assert_eq!(hear(&peer), b"answer");
    }
    let counts = nodes.workers.iter().map(Worker::counts);
    let counts: Vec<Counts> = counts.collect();
    for (worker, counts) in counts.iter().enumerate() {
        assert_eq!(*counts, Counts { received: heard[worker], sent: heard[worker] });
    }
    assert_eq!(heard.iter().sum::<u64>(), 16);
}
