//! What a user of a backend relies on, the same for all that reach a real network: through loopback, or where the backend
//! needs an interface, through a veth pair between namespaces.

mod node;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use node::*;
use sluice_frames::{Backend, DATAGRAM_BYTES, FRAME_BYTES, FrameId, Pool, Route, Tx};
use sluice_io::{AnyBackend, BackendKind, Config, Preference, Probe, Started};

/// A test for each behaviour and backend.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        mod uring {
            $(#[test]
            fn $name() {
                match sluice_io::Probe::new().uring {
                    Ok(_) => super::$name(super::BackendKind::Uring),
                    Err(reason) => println!("skipped: {reason}"),
                }
            })*
        }
        mod mmsg {
            $(#[test]
            fn $name() {
                super::$name(super::BackendKind::Mmsg);
            })*
        }
        mod xdp {
            $(#[test]
            fn $name() {
                super::with_xdp(|| super::$name(super::BackendKind::Xdp));
            })*
        }
    };
}

behaviours!(
    datagrams_are_answered,
    a_burst_arrives_complete_and_in_order,
    ipv4_and_ipv6_sockets_are_told_apart,
    an_ipv4_peer_of_a_dual_stack_socket_has_an_ipv4_route,
    lengths_from_none_to_too_much,
    an_empty_pool_recovers_and_loses_no_frame,
    a_refused_send_is_counted_and_the_next_one_leaves,
    runs_arrive_as_the_datagrams_that_were_committed,
    a_refused_segmentation_loses_nothing,
    slots_run_out_and_return,
    a_turn_takes_as_long_as_it_may,
    a_turn_ends_with_the_datagram,
    the_waker_wakes,
    frames_can_be_kept,
    a_backend_moves_to_its_thread,
    a_closed_backend_touches_no_frame,
    memory_outlives_requests,
    useless_sizes_are_refused,
    a_port_is_free_after_the_backend,
);

fn datagrams_are_answered(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    for round in 0..3u8 {
        peer.send_to(&[round; 100], node.addresses[0]).unwrap();
        for (bytes, from) in node.receive_all(1) {
            assert_eq!((bytes.as_slice(), from), (&[round; 100][..], route(&peer)));
            node.send(&[&bytes[..], b"!"].concat(), from);
        }
        let (turn, _) = node.receive(Duration::ZERO);
        assert_eq!((turn.sent, turn.send_errors, turn.rearmed), (1, 0, 0));
        assert_eq!(hear(&peer), [&[round; 100][..], b"!"].concat());
    }
    node.close(0);
}

/// 10,000 datagrams to each of two peers, interleaved, sent in batches that the receiver's socket buffer holds.
fn a_burst_arrives_complete_and_in_order(kind: BackendKind) {
    const DATAGRAMS: u32 = 10_000;
    let mut sender = Node::start(kind);
    let mut receivers = [Node::distant(kind), Node::distant(kind)];
    let to = Route { socket: 0, peer: sender.addresses[0] };
    for receiver in &mut receivers {
        receiver.send(b"hello", to);
        receiver.receive(Duration::ZERO);
    }
    sender.receive_all(receivers.len());
    let mut heard: [Vec<u32>; 2] = Default::default();
    for number in 0..DATAGRAMS {
        for receiver in &receivers {
            let to = Route { socket: 0, peer: receiver.addresses[0] };
            if sender.backend.slot().is_none() {
                sender.backend.turn(&mut sender.pool, Duration::ZERO, &mut |_, _| {}).unwrap();
            }
            let slot = sender.backend.slot().expect("a turn frees slots");
            slot[..1200].fill(number as u8);
            slot[..4].copy_from_slice(&number.to_be_bytes());
            sender.backend.commit(1200, to);
        }
        if number % 16 == 15 {
            sender.receive(Duration::ZERO);
            for (receiver, heard) in receivers.iter_mut().zip(&mut heard) {
                let missing = number as usize + 1 - heard.len();
                for (bytes, from) in receiver.receive_all(missing) {
                    let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                    assert_eq!((bytes.len(), bytes[1199]), (1200, number as u8), "what was sent, whole");
                    assert_eq!(from.peer, sender.addresses[0]);
                    heard.push(number);
                }
            }
        }
    }
    for heard in &heard {
        assert!(heard.iter().copied().eq(0..DATAGRAMS), "order is kept per route");
    }
    if let AnyBackend::Xdp(xdp) = &sender.backend {
        assert_eq!(xdp.counts().sent, 2 * u64::from(DATAGRAMS), "past the kernel");
    }
    receivers.into_iter().for_each(|receiver| receiver.close(0));
}

fn ipv4_and_ipv6_sockets_are_told_apart(kind: BackendKind) {
    let [near_v6, far_v6] = addresses(true);
    let Ok(v6) = near(|| UdpSocket::bind(near_v6)) else { return println!("skipped: no IPv6 here") };
    let mut node = Node::new(kind, vec![own(), v6], 128, SMALL);
    let peers = [peer(), far(|| udp(&far_v6))];
    for (socket, peer) in peers.iter().enumerate() {
        peer.send_to(b"ping", node.addresses[socket]).unwrap();
    }
    let mut heard = node.receive_all(2);
    heard.sort_by_key(|(_, from)| from.socket);
    for (socket, (bytes, from)) in heard.into_iter().enumerate() {
        assert_eq!(bytes, b"ping");
        assert_eq!(from, Route { socket: socket as u8, peer: peers[socket].local_addr().unwrap() });
        node.send(b"pong", from);
    }
    node.receive(Duration::ZERO);
    for peer in &peers {
        assert_eq!(hear(peer), b"pong");
    }
    node.close(0);
}

fn an_ipv4_peer_of_a_dual_stack_socket_has_an_ipv4_route(kind: BackendKind) {
    let Ok(dual) = near(|| UdpSocket::bind("[::]:0")) else { return println!("skipped: no IPv6 here") };
    let mut node = Node::new(kind, vec![dual], 128, SMALL);
    let peer = peer();
    let ip: SocketAddr = addresses(false)[0].parse().unwrap();
    peer.send_to(b"ping", (ip.ip(), node.addresses[0].port())).unwrap();
    for (_, from) in node.receive_all(1) {
        assert_eq!(from, route(&peer));
        node.send(b"pong", from);
    }
    node.receive(Duration::ZERO);
    assert_eq!(hear(&peer), b"pong");
}

fn lengths_from_none_to_too_much(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    let big = vec![7; 65_000];
    let (mut dropped, mut lengths) = (0, Vec::new());
    let sent = [0, 1, 0, DATAGRAM_BYTES, DATAGRAM_BYTES + 1, FRAME_BYTES, big.len(), 1200];
    for length in sent {
        peer.send_to(&big[..length], node.addresses[0]).unwrap();
    }
    while dropped + lengths.len() < sent.len() {
        let (turn, heard) = node.receive(PATIENCE);
        assert!(turn.received + turn.dropped > 0, "{dropped} dropped, {lengths:?} came");
        dropped += turn.dropped;
        lengths.extend(heard.iter().map(|(bytes, _)| bytes.len()));
        assert!(heard.iter().all(|(bytes, _)| bytes.iter().all(|&byte| byte == 7)));
    }
    assert_eq!((dropped, lengths), (3, vec![0, 1, 0, DATAGRAM_BYTES, 1200]));
    node.close(0);
}

fn an_empty_pool_recovers_and_loses_no_frame(kind: BackendKind) {
    const FRAMES: usize = 8;
    let config = Config { receive_frames: 4, ..SMALL };
    let mut node = Node::new(kind, vec![own()], FRAMES, config);
    let peer = peer();
    const SENT: usize = 5 * FRAMES;
    for number in 0..SENT {
        peer.send_to(&[number as u8], node.addresses[0]).unwrap();
    }
    let mut numbers = Vec::new();
    let mut kept: VecDeque<FrameId> = VecDeque::new();
    while numbers.len() < SENT {
        let start = Instant::now();
        let mut starved = 0;
        while kept.len() < FRAMES.min(SENT - numbers.len()) {
            starved += node.turn(PATIENCE, &mut |_, datagram| kept.push_back(datagram.frame)).starved;
            assert!(start.elapsed() < PATIENCE);
        }
        if SENT - numbers.len() > FRAMES {
            // The pool is empty and datagrams wait: the turn waits for the waker instead of ending over and over.
            starved += node.turn(Duration::ZERO, &mut |_, _| panic!("no frame is left")).starved;
            assert!(starved > 0);
            let start = Instant::now();
            node.turn(Duration::from_millis(20), &mut |_, _| panic!("no frame is left"));
            assert!(start.elapsed() >= Duration::from_millis(20));
        }
        for frame in kept.drain(..) {
            numbers.push(node.pool.bytes(frame)[0]);
            node.pool.release(frame);
        }
    }
    assert!(numbers.iter().copied().eq(0..SENT as u8), "datagrams waited in order: {numbers:?}");
    node.close(0);
}

fn a_refused_send_is_counted_and_the_next_one_leaves(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    let nowhere = Route { socket: 0, peer: "127.0.0.1:0".parse().unwrap() };
    for (bytes, to) in [(b"1", route(&peer)), (b"x", nowhere), (b"x", nowhere), (b"2", route(&peer))] {
        node.send(bytes, to);
    }
    let (turn, _) = node.receive(Duration::ZERO);
    assert_eq!((turn.sent, turn.send_errors), (2, 2));
    assert_eq!((hear(&peer), hear(&peer)), (b"1".to_vec(), b"2".to_vec()));
}

/// Datagrams of two peers with lengths that make runs of 5, 1, 4 and 1.
fn send_runs(node: &mut Node, peers: &[UdpSocket; 2]) -> Vec<(usize, Vec<u8>)> {
    let lengths =
        [(0, 900), (0, 900), (0, 900), (0, 900), (0, 300), (0, 300), (1, 50), (1, 50), (1, 50), (1, 50), (0, 50)];
    let sent = lengths.iter().enumerate().map(|(n, &(peer, bytes))| (peer, vec![n as u8 + 1; bytes]));
    let sent: Vec<_> = sent.collect();
    for (peer, bytes) in &sent {
        node.send(bytes, route(&peers[*peer]));
    }
    sent
}

fn runs_arrive_as_the_datagrams_that_were_committed(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peers = [peer(), peer()];
    for _ in 0..3 {
        let sent = send_runs(&mut node, &peers);
        let (turn, _) = node.receive(Duration::ZERO);
        assert_eq!((turn.sent, turn.sends, turn.send_errors, turn.unsegmented), (sent.len(), 4, 0, 0));
        for (peer, bytes) in &sent {
            assert_eq!(&hear(&peers[*peer]), bytes);
        }
    }
}

/// Without checksums the kernel does not segment: as on a device that cannot, from one send to the next.
fn a_refused_segmentation_loses_nothing(kind: BackendKind) {
    let socket = own();
    let switch = socket.try_clone().unwrap();
    let mut node = Node::new(kind, vec![socket], 256, SMALL);
    let peers = [peer(), peer()];
    send_runs(&mut node, &peers);
    assert_eq!(node.receive(Duration::ZERO).0.sends, 4);
    peers.iter().for_each(drain);
    without_checksums(&switch);
    for (sends, unsegmented) in [(11, 2), (11, 0)] {
        let sent = send_runs(&mut node, &peers);
        let (turn, _) = node.receive(Duration::ZERO);
        assert_eq!((turn.sent, turn.sends, turn.send_errors, turn.unsegmented), (sent.len(), sends, 0, unsegmented));
        let heard: Vec<_> = sent.iter().map(|(peer, _)| (*peer, hear(&peers[*peer]))).collect();
        assert_eq!(heard, sent);
    }
}

fn drain(peer: &UdpSocket) {
    peer.set_nonblocking(true).unwrap();
    while peer.recv(&mut [0; FRAME_BYTES]).is_ok() {}
    peer.set_nonblocking(false).unwrap();
}

fn without_checksums(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: needed for an option that the library does not offer. The descriptor is open and `on` is as long as said.
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn slots_run_out_and_return(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peers = [peer(), peer()];
    for round in 0..3 {
        // To another peer each time, so that each is a send of its own.
        for number in 0..SMALL.transmit_slots {
            node.send(&[round, number as u8], route(&peers[number % 2]));
        }
        assert!(node.backend.slot().is_none());
        assert_eq!(node.receive(Duration::ZERO).0.sent, SMALL.transmit_slots);
        for number in 0..SMALL.transmit_slots {
            assert_eq!(hear(&peers[number % 2]), [round, number as u8]);
        }
    }
    // A slot that was lent but not committed is lent again.
    node.backend.slot().unwrap()[0] = 42;
    assert_eq!(node.backend.slot().unwrap()[0], 42);
}

fn a_turn_takes_as_long_as_it_may(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    for (wait_ms, sends) in [(0, 0), (20, 0), (20, 3), (1, 0)] {
        for _ in 0..sends {
            node.send(b"x", route(&peer));
        }
        let (start, wait) = (Instant::now(), Duration::from_millis(wait_ms));
        let (turn, heard) = node.receive(wait);
        assert!(heard.is_empty() && !turn.woken);
        assert_eq!(turn.sent, sends, "sends leave with the turn and do not end it");
        assert!(start.elapsed() >= wait && start.elapsed() < wait + PATIENCE / 2, "{wait:?}: {:?}", start.elapsed());
    }
}

fn a_turn_ends_with_the_datagram(kind: BackendKind) {
    let mut node = Node::start(kind);
    let (peer, to) = (peer(), node.addresses[0]);
    let (waiting, waits) = mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        waits.recv().unwrap();
        peer.send_to(b"now", to).unwrap();
    });
    waiting.send(()).unwrap();
    let start = Instant::now();
    assert_eq!(node.receive(PATIENCE).1.len(), 1);
    assert!(start.elapsed() < PATIENCE);
    sender.join().unwrap();
}

fn the_waker_wakes(kind: BackendKind) {
    let mut node = Node::start(kind);
    let waker = node.backend.waker();
    // Rung before the turn, three times: heard once, at once.
    for _ in 0..3 {
        waker.wake();
    }
    let start = Instant::now();
    assert!(node.receive(PATIENCE).0.woken && start.elapsed() < PATIENCE);
    assert!(!node.receive(Duration::from_millis(5)).0.woken);

    // Rung by another thread for each of many queued values: all are seen, although rings merge.
    let (values, queue) = mpsc::channel();
    let ringer = thread::spawn(move || {
        for value in 0..1000 {
            values.send(value).unwrap();
            waker.clone().wake();
        }
    });
    let mut seen = 0;
    while seen < 1000 {
        assert!(start.elapsed() < PATIENCE, "{seen} of 1,000 values were seen");
        if node.receive(PATIENCE).0.woken {
            seen += queue.try_iter().count();
        }
    }
    ringer.join().unwrap();
    node.close(0);
}

fn frames_can_be_kept(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    peer.send_to(b"keep me", node.addresses[0]).unwrap();
    let mut kept = None;
    node.turn(PATIENCE, &mut |pool, datagram| {
        pool.retain(datagram.frame);
        pool.bytes_mut(datagram.frame)[0] = b'K';
        kept = Some(datagram.frame);
    });
    let kept = kept.expect("a datagram came");
    for number in 0..300u32 {
        peer.send_to(&number.to_be_bytes(), node.addresses[0]).unwrap();
        node.receive_all(1);
    }
    assert_eq!(node.pool.bytes(kept), b"Keep me", "nobody writes to a frame in use");
    node.pool.release(kept);
    assert_eq!(node.pool.users(kept), 1);
    node.close(1);
}

fn a_backend_moves_to_its_thread(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    peer.send_to(b"early", node.addresses[0]).unwrap();
    let worker = thread::spawn(move || {
        let heard = node.receive_all(1);
        (node, heard)
    });
    let (node, heard) = worker.join().unwrap();
    assert_eq!(heard[0].0, b"early");
    // Dropped on a thread that is not the worker's: nothing breaks.
    drop(node);

    // The same while the worker's thread still runs.
    let mut node = Node::start(kind);
    thread::scope(|scope| {
        let (ran, runs) = mpsc::channel();
        let (dropped, drops) = mpsc::channel();
        scope.spawn(move || {
            node.receive(Duration::ZERO);
            ran.send(node).unwrap();
            drops.recv().unwrap();
        });
        drop(runs.recv().unwrap());
        dropped.send(()).unwrap();
    });
}

/// After the end, the kernel writes to no frame, although the socket still receives.
fn a_closed_backend_touches_no_frame(kind: BackendKind) {
    let mut node = Node::start(kind);
    let peer = peer();
    for _ in 0..10 {
        peer.send_to(&[1; 1200], node.addresses[0]).unwrap();
    }
    let (_, heard) = node.receive(PATIENCE);
    assert!(!heard.is_empty());
    peer.send_to(&[1; 1200], node.addresses[0]).unwrap();
    node.backend.close(&mut node.pool);
    let frames: Vec<FrameId> = std::iter::from_fn(|| node.pool.take()).collect();
    assert_eq!(frames.len(), node.pool.capacity());
    for &frame in &frames {
        node.pool.buffer_mut(frame).fill(2);
        node.pool.set_len(frame, FRAME_BYTES);
    }
    for _ in 0..1000 {
        peer.send_to(&[1; 1200], node.addresses[0]).unwrap();
    }
    assert!(frames.iter().all(|&frame| node.pool.bytes(frame) == [2; FRAME_BYTES]));
}

/// Dropping in the wrong order, with receives under way and datagrams arriving, breaks nothing.
fn memory_outlives_requests(kind: BackendKind) {
    for _ in 0..20 {
        let Node { mut backend, mut pool, addresses } = Node::start(kind);
        let peer = peer();
        backend.turn(&mut pool, Duration::ZERO, &mut |_, _| {}).unwrap();
        drop(pool);
        for _ in 0..10 {
            peer.send_to(&[0xff; 1200], addresses[0]).unwrap();
        }
        let slot = backend.slot().unwrap();
        slot[0] = 1;
        backend.commit(1, route(&peer));
        drop(backend);
        peer.send_to(&[0xff; 1200], addresses[0]).unwrap();
    }
}

fn a_port_is_free_after_the_backend(kind: BackendKind) {
    let mut node = Node::start(kind);
    node.receive(Duration::ZERO);
    let address = node.addresses[0];
    drop(node);
    near(|| UdpSocket::bind(address)).expect("the port is free again at once");
}

fn useless_sizes_are_refused(kind: BackendKind) {
    let check = |config: Config, sockets: usize| {
        let sockets = (0..sockets).map(|_| own()).collect();
        let Err(error) = near(|| AnyBackend::new(kind, sockets, &config)) else { panic!("{config:?} is accepted") };
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{config:?}: {error}");
    };
    check(Config { transmit_slots: 0, ..SMALL }, 1);
    check(Config { transmit_slots: 8193, ..SMALL }, 1);
    check(Config { receive_frames: 0, ..SMALL }, 1);
    check(Config { receive_frames: 1000, ..SMALL }, 1);
    check(Config { receive_frames: 65_536, ..SMALL }, 1);
    check(SMALL, 0);
    check(SMALL, 256);
    let largest = Config { receive_frames: 32_768, transmit_slots: 8192, ..SMALL };
    assert!(near(|| AnyBackend::new(kind, vec![own()], &largest)).is_ok());
}

#[test]
fn the_chosen_backend_starts() {
    let probe = Probe::new();
    for preference in [Preference::Auto, Preference::Uring, Preference::Mmsg, Preference::Xdp] {
        let started = Started::new(&probe, preference, vec![vec![own()], vec![own()]], &SMALL, None).unwrap();
        println!("{preference:?}: {}, {}", started.kind, started.reason);
        assert_ne!(started.kind, BackendKind::Xdp, "there is no interface to take over");
        assert_eq!(
            started.reason.contains("asks for AF_XDP, but"),
            preference == Preference::Xdp,
            "{}",
            started.reason
        );
        assert_eq!(started.backends.len(), 2);
        for mut backend in started.backends {
            assert_eq!(backend.kind(), started.kind);
            backend.turn(&mut Pool::new(64).unwrap(), Duration::ZERO, &mut |_, _| {}).unwrap();
        }
    }
}

#[test]
fn a_pool_cannot_be_exchanged_under_uring() {
    if let Err(reason) = Probe::new().uring {
        return println!("skipped: {reason}");
    }
    let mut node = Node::start(BackendKind::Uring);
    node.receive(Duration::ZERO);
    let mut other = Pool::new(64).unwrap();
    let result = node.backend.turn(&mut other, Duration::ZERO, &mut |_, _| {});
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(other.free(), 64);
}
