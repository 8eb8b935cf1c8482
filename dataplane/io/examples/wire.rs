//! Compares the backends where there is a wire: CPU time per datagram sent to 64 destinations over a veth pair, whose other
//! end drops what arrives (at tc ingress). What ksoftirqd does for it on the same core is counted too. Needs root.
//!
//! `cargo run --release -p sluice-io --example wire`; an argument gives the number of datagrams per figure, a second one the
//! core.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use sluice_frames::{Backend, Pool, Route, Tx};
use sluice_io::{
    AnyBackend, BackendKind, Config, Probe,
    bpf::{self, Assembler, AttachType, ProgramType, When, Width},
    xdp::Checksum,
};
use support::{FAR, Pair};

const DESTINATIONS: usize = 64;
const ROUNDS: usize = 7;

/// What is compared.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    kind: BackendKind,
    checksum: Checksum,
}

const WAYS: [Way; 5] = [
    Way { name: "mmsg", kind: BackendKind::Mmsg, checksum: Checksum::Offload },
    Way { name: "uring", kind: BackendKind::Uring, checksum: Checksum::Offload },
    Way { name: "xdp, checksum left to the device", kind: BackendKind::Xdp, checksum: Checksum::Offload },
    Way { name: "xdp, checksum computed", kind: BackendKind::Xdp, checksum: Checksum::Full },
    Way { name: "xdp, no checksum", kind: BackendKind::Xdp, checksum: Checksum::Zero },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let datagrams = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let core = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    print!("{}", Probe::new());
    pin(core);
    let softirq = ksoftirqd(core);
    for (bytes, run) in [(100, 1), (1200, 1), (1200, 2), (1200, 3), (1200, 4), (1200, 16)] {
        let mut figures = [const { Vec::new() }; WAYS.len()];
        for _ in 0..ROUNDS {
            for (way, figures) in WAYS.iter().zip(&mut figures) {
                figures.push(measure(*way, bytes, run, datagrams, &softirq));
            }
        }
        println!(
            "{bytes} bytes, {run} in a row to one of {DESTINATIONS} destinations: ns per datagram, median (range)"
        );
        let baseline = median(&mut figures[0]);
        for (way, figures) in WAYS.iter().zip(&mut figures) {
            let middle = median(figures);
            let (least, most) = (figures[0], figures[figures.len() - 1]);
            let ratio = middle / baseline;
            println!("  {:<34} {middle:>5.0} ({least:.0} to {most:.0}), {ratio:.2} of mmsg", way.name);
        }
    }
}

/// Nanoseconds per datagram.
fn measure(way: Way, bytes: usize, run: usize, datagrams: usize, softirq: &str) -> f64 {
    let pair = Pair::new(1, 1500).expect("root");
    let config = Config { receive_frames: 64, transmit_slots: 256, ..Config::default() };
    let socket = pair.near(|| UdpSocket::bind((Pair::NEAR_V4, 0))).expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut backend = pair.near(|| AnyBackend::new(way.kind, vec![socket], &config)).expect("a backend");
    if let AnyBackend::Xdp(xdp) = &mut backend {
        xdp.set_checksum(way.checksum);
    }
    let mut pool = Pool::new(256).expect("memory");
    let peers: Vec<UdpSocket> =
        (0..DESTINATIONS).map(|_| pair.far(|| UdpSocket::bind((Pair::FAR_V4, 0))).expect("a port")).collect();
    let routes = introduce(&mut backend, &mut pool, &peers, address);
    let _sink = pair.far(sink);
    let before = spent(softirq);
    let mut sent = 0;
    let mut to = routes.iter().cycle();
    while sent < datagrams {
        for _ in 0..DESTINATIONS.div_ceil(run) {
            let &route = to.next().expect("it goes round");
            for _ in 0..run {
                let slot = backend.slot().expect("a turn frees all slots");
                // As if it were sealed there.
                slot[..bytes].fill(sent as u8);
                backend.commit(bytes, route);
            }
        }
        let turn = backend.turn(&mut pool, Duration::ZERO, &mut |pool, got| pool.release(got.frame)).expect("a turn");
        assert_eq!(turn.send_errors, 0, "{turn:?}");
        sent += turn.sent;
    }
    let spent = (spent(softirq) - before).as_nanos() as f64;
    if let AnyBackend::Xdp(xdp) = &backend
        && run == 1
    {
        assert_eq!(xdp.counts().sent, sent as u64, "all of it past the kernel");
    }
    spent / sent as f64
}

/// Each peer says hello and is believed.
fn introduce(backend: &mut AnyBackend, pool: &mut Pool, peers: &[UdpSocket], node: SocketAddr) -> Vec<Route> {
    let mut routes = Vec::new();
    for peer in peers {
        peer.send_to(b"hello", node).expect("a way to the node");
        let mut got = None;
        while got.is_none() {
            backend.turn(pool, Duration::from_secs(1), &mut |_, datagram| got = Some(datagram)).expect("a turn");
        }
        let got = got.expect("looked at above");
        backend.validated(pool, got.frame, got.from);
        pool.release(got.frame);
        routes.push(got.from);
    }
    // The kernel learns the peer's hardware address as well.
    backend.slot().expect("a slot")[0] = 0;
    let stranger = Route { peer: SocketAddr::new(routes[0].peer.ip(), 9), ..routes[0] };
    backend.commit(1, stranger);
    backend.turn(pool, Duration::from_millis(20), &mut |pool, got| pool.release(got.frame)).expect("a turn");
    routes
}

/// Drops all IPv4 at the far end, as long as the result lives.
fn sink() -> OwnedFd {
    const PASS: i32 = 0;
    const DROP: i32 = 2;
    /// Offset of `protocol` in `struct __sk_buff`.
    const PROTOCOL: i16 = 16;
    let mut program = Assembler::new();
    let other = program.label();
    program.load(Width::Word, 2, 1, PROTOCOL);
    program.set(0, PASS);
    program.jump32(When::NotEqual, 2, u16::from_ne_bytes([0x08, 0x00]).into(), other);
    program.set(0, DROP);
    program.place(other);
    program.exit();
    let program = bpf::load(ProgramType::Classifier, &program.finish()).expect("eBPF");
    let name = std::ffi::CString::new(FAR).expect("a name");
    // SAFETY: needed to learn the interface's number; the name is a C string.
    let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
    bpf::attach(program.as_fd(), interface, AttachType::TcxIngress, 0).expect("Linux 6.6")
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// CPU time of this thread and of ksoftirqd.
fn spent(softirq: &str) -> Duration {
    let text = fs::read_to_string(softirq).expect("schedstat");
    let softirq_ns = text.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
    // SAFETY: needed to read a clock that the standard library does not offer. All-zero is a valid value, which is then
    // written to by the call.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
        time
    };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32) + Duration::from_nanos(softirq_ns)
}

/// Where the kernel tells how long its softirq thread of a core ran.
fn ksoftirqd(core: usize) -> String {
    let name = format!("ksoftirqd/{core}\n");
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let found = processes
        .map(|process| process.path())
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name));
    found.expect("each core has one").join("schedstat").display().to_string()
}

fn pin(core: usize) {
    // SAFETY: needed to stay on one core. All-zero is a valid set, and the call reads it.
    let result = unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        libc::sched_setaffinity(0, size_of_val(&cores), &cores)
    };
    assert_eq!(result, 0, "core {core}: {}", std::io::Error::last_os_error());
}
