//! The substrate's limit: seals and sends packets like a server's, and does nothing else. No packet is received, parsed,
//! routed or rewritten, so nothing that forwards can cost less per packet on this machine with this backend.
//!
//! How much CPU that takes is measured from outside, as for a server: `benches/rig/measure` starts this in the server's
//! place, with packet sizes, rates, lengths of runs and wake-ups as it measured them of the server just before.
//!
//! `limit --to 10.99.0.2 --receivers 200 --traffic 1200:34000:5.7 --wakes 60`

#![forbid(unsafe_code)]

mod traffic;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use sluice_frames::{Backend, Pool, Route, Tx};
use sluice_io::{AnyBackend, BackendKind, Config, socket};
use sluice_srtp::{KeyMaterial, MasterKey, Profile, Sender};

use traffic::{Class, Stream};

/// As the node's.
const SOCKET_BYTES: usize = 4 << 20;

/// Nothing is expected to arrive; io_uring wants frames nevertheless.
const FRAMES: usize = 2048;

/// Receivers are ports of one address, as those of a load generator are.
const FIRST_PORT: u16 = 2000;

/// How long receivers have time to say something.
const GREETINGS_MAX: Duration = Duration::from_secs(20);

/// A pause of the machine is not made up for: a server's publishers would not have sent either.
const LATE_MAX: Duration = Duration::from_millis(100);

/// Seals and sends packets, and does nothing else.
#[derive(Parser)]
struct Options {
    /// Where to; something there must count and drop. Receivers are its ports from 2000 on
    #[arg(long)]
    to: IpAddr,
    /// Where from
    #[arg(long, default_value = "0.0.0.0:0")]
    bind: SocketAddr,
    /// Wait until every receiver has sent a datagram: AF_XDP learns from those where they are
    #[arg(long)]
    greeted: bool,
    /// Receivers, each with a key of its own
    #[arg(long, default_value_t = 200)]
    receivers: u16,
    /// Packets: UDP payload bytes, packets/s of all receivers together, packets per run (repeatable)
    #[arg(long, value_name = "BYTES:RATE:RUN", required = true)]
    traffic: Vec<Class>,
    /// How often a second the loop wakes up to send
    #[arg(long, default_value_t = 100.0)]
    wakes: f64,
    /// Bytes of header extensions, with their own header
    #[arg(long, default_value_t = 16)]
    extension_bytes: usize,
    #[arg(long, value_enum, default_value = "aes128-gcm")]
    profile: Cipher,
    #[arg(long, value_enum, default_value = "uring")]
    backend: Via,
    /// Send all the time, in the proportions of the rates
    #[arg(long)]
    saturate: bool,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cipher {
    #[value(name = "aes128-gcm")]
    Gcm128,
    #[value(name = "aes256-gcm")]
    Gcm256,
    #[value(name = "aes-cm")]
    Counter,
}

impl From<Cipher> for Profile {
    fn from(cipher: Cipher) -> Profile {
        match cipher {
            Cipher::Gcm128 => Profile::AeadAes128Gcm,
            Cipher::Gcm256 => Profile::AeadAes256Gcm,
            Cipher::Counter => Profile::Aes128CmSha1_80,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Via {
    Uring,
    Mmsg,
    Xdp,
}

impl From<Via> for BackendKind {
    fn from(via: Via) -> BackendKind {
        match via {
            Via::Uring => BackendKind::Uring,
            Via::Mmsg => BackendKind::Mmsg,
            Via::Xdp => BackendKind::Xdp,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    anyhow::ensure!(options.wakes > 0.0, "--wakes must be more than 0");
    anyhow::ensure!(options.receivers > 0, "--receivers must be more than 0");
    let senders = senders(options.profile.into(), options.receivers)?;
    let mut backend = backend(&options)?;
    let mut pool = Pool::new(FRAMES).context("memory")?;
    let mut streams = Vec::new();
    for (index, &class) in options.traffic.iter().enumerate() {
        streams.push(Stream::new(class, index, &senders, options.extension_bytes)?);
    }

    if options.greeted {
        greet(&mut backend, &mut pool, options.receivers)?;
    }

    let period = Duration::from_secs_f64(1.0 / options.wakes);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let mut next = start;
    let (mut sent, mut refused) = (0, 0);
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let wait = if options.saturate { Duration::ZERO } else { next.saturating_duration_since(now) };
        let turn = backend.turn(&mut pool, wait, &mut |pool, datagram| pool.release(datagram.frame))?;
        (sent, refused) = (sent + turn.sent, refused + turn.send_errors);
        let now = Instant::now();
        if !options.saturate && now < next {
            continue;
        }
        next = (next + period).max(now.checked_sub(LATE_MAX).unwrap_or(now));
        for stream in &mut streams {
            stream.accrue(period);
            while let Some((receiver, run)) = stream.due(senders.len()) {
                for _ in 0..run {
                    loop {
                        if let Some(slot) = backend.slot() {
                            let bytes = stream.seal(receiver, &senders[receiver], slot)?;
                            backend.commit(bytes, route(options.to, receiver));
                            break;
                        }
                        let turn = backend.turn(&mut pool, Duration::ZERO, &mut |pool, datagram| {
                            pool.release(datagram.frame);
                        })?;
                        (sent, refused) = (sent + turn.sent, refused + turn.send_errors);
                    }
                }
            }
        }
    }
    backend.close(&mut pool);
    println!("{sent} packets sent, {refused} refused, {:.0} packets/s", sent as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// One key per receiver.
fn senders(profile: Profile, receivers: u16) -> anyhow::Result<Vec<Sender>> {
    (0..receivers)
        .map(|receiver| {
            let [high, low] = receiver.to_be_bytes();
            let key: Vec<u8> = (0..profile.key_len() as u8).map(|n| n ^ if n % 2 == 0 { high } else { low }).collect();
            let key = MasterKey::new(profile, &key, &vec![0x5a; profile.salt_len()])?;
            Ok(Sender::new(&KeyMaterial { profile, outbound: key.clone(), inbound: key })?)
        })
        .collect()
}

fn backend(options: &Options) -> anyhow::Result<AnyBackend> {
    let plan = socket::Plan {
        addresses: vec![options.bind.ip()],
        port: options.bind.port(),
        workers: 1,
        receive_bytes: SOCKET_BYTES,
        send_bytes: SOCKET_BYTES,
    };
    let sockets = socket::bind(&plan)?.workers.pop().context("one worker")?;
    let kind = BackendKind::from(options.backend);
    AnyBackend::new(kind, sockets, &Config::default()).with_context(|| format!("backend {kind}"))
}

/// Waits for a datagram from each receiver, and tells the backend that they are who they say.
fn greet(backend: &mut AnyBackend, pool: &mut Pool, receivers: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + GREETINGS_MAX;
    let (mut known, mut arrived) = (HashSet::new(), Vec::new());
    while known.len() < usize::from(receivers) {
        anyhow::ensure!(Instant::now() < deadline, "{} of {receivers} receivers have said something", known.len());
        backend.turn(pool, Duration::from_millis(100), &mut |_, datagram| arrived.push(datagram))?;
        for datagram in arrived.drain(..) {
            backend.validated(pool, datagram.frame, datagram.from);
            pool.release(datagram.frame);
            known.insert(datagram.from);
        }
    }
    println!("greeted");
    Ok(())
}

fn route(to: IpAddr, receiver: usize) -> Route {
    Route { socket: 0, peer: SocketAddr::new(to, FIRST_PORT + receiver as u16) }
}
