//! Compares the backends: CPU time of this thread per datagram on loopback, sending alone and sending plus receiving.
//!
//! `cargo run --release -p sluice-io --example backends`; an argument gives the number of datagrams per figure.

use std::{net::UdpSocket, time::Duration};

use sluice_frames::{Backend, Pool, Route, Tx};
use sluice_io::{AnyBackend, BackendKind, Config, Probe};

const DATAGRAM_BYTES: usize = 1200;

fn main() {
    let datagrams = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(300_000);
    let probe = Probe::new();
    print!("{probe}");
    for kind in [BackendKind::Uring, BackendKind::Mmsg] {
        if let (BackendKind::Uring, Err(_)) = (kind, &probe.uring) {
            continue;
        }
        for batch in [1, 8, 64, 256] {
            let (send, both) = (run(kind, batch, datagrams, false), run(kind, batch, datagrams, true));
            println!(
                "{kind:>5}, {batch:>3} per turn: send {send:>5.0} ns, send and receive {both:>5.0} ns per datagram"
            );
        }
    }
}

/// Nanoseconds per datagram, in batches of `batch`.
fn run(kind: BackendKind, batch: usize, datagrams: usize, receive: bool) -> f64 {
    let config = Config { receive_frames: 1024, transmit_slots: 256, ..Config::default() };
    let mut pool = Pool::new(2048).expect("memory");
    let start = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        (AnyBackend::new(kind, vec![socket], &config).expect("a backend"), address)
    };
    let ((mut sender, _), (mut receiver, peer)) = (start(), start());
    // Without a receiver, datagrams end in a socket buffer that is full from the start: the path costs what it costs.
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let peer = if receive { peer } else { sink.local_addr().expect("an address") };
    let mut pools = (Pool::new(2048).expect("memory"), &mut pool);
    let before = cpu();
    let (mut sent, mut received) = (0, 0);
    while sent < datagrams {
        for _ in 0..batch {
            let slot = sender.slot().expect("a turn frees all slots");
            slot[..DATAGRAM_BYTES].fill(sent as u8);
            sender.commit(DATAGRAM_BYTES, Route { socket: 0, peer });
        }
        let turn = sender.turn(&mut pools.0, Duration::ZERO, &mut |_, _| {}).expect("a turn");
        sent += turn.sent + turn.send_errors;
        // What the socket buffer could not hold does not come.
        let mut idle = false;
        while receive && received < sent && !idle {
            let wait = Duration::from_millis(1);
            let turn =
                receiver.turn(pools.1, wait, &mut |pool, datagram| pool.release(datagram.frame)).expect("a turn");
            received += turn.received;
            idle = turn.received == 0;
        }
    }
    (cpu() - before).as_nanos() as f64 / sent as f64
}

/// CPU time this thread has used.
fn cpu() -> Duration {
    // SAFETY: needed to read a clock that the standard library does not offer. All-zero is a valid value, which is then
    // written to by the call.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
