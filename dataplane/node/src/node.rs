//! Starting and stopping: sockets, memory and queues are made here, once, and handed to the threads that own them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rtrb::RingBuffer;
use sluice_frames::Pool;
use sluice_io::{BackendKind, Probe, Started, socket};
use sluice_messages::Fingerprint;
use sluice_slowpath::Certificate;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    config::{NodeConfig, advertised},
    counters::{self, Counted},
    lane,
    link::{self, Dialer, Link, Port, Router},
    queue::{Bell, Knock},
    slow::{self, Hub, SlowThread},
    worker::{self, Parts, Worker},
};

/// Socket buffers to ask for, in bytes: 16 ms of 300,000 packets/s. Raising it delays rather than drops in longer pauses.
const SOCKET_BYTES: usize = 8 << 20;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// {0}
    #[error("{0}")]
    Config(String),
    /// certificate or key {0}: {1}
    #[error("certificate or key {0}: {1}")]
    Credential(String, String),
    /// {0}
    #[error(transparent)]
    Bind(#[from] socket::BindError),
    /// packet memory: {0}
    #[error("packet memory: {0}")]
    Memory(std::io::Error),
    /// the {0} backend does not start: {1}
    #[error("the {0} backend does not start: {1}")]
    Backend(BackendKind, std::io::Error),
    /// DTLS certificate: {0}
    #[error("DTLS certificate: {0}")]
    Certificate(#[from] sluice_slowpath::certificate::CertificateError),
    /// a thread does not start: {0}
    #[error("a thread does not start: {0}")]
    Thread(std::io::Error),
}

/// A view of a node's counters. They stand still once the node has stopped.
#[derive(Clone)]
pub struct Watch {
    /// The node's name.
    pub node: String,
    /// The backend that runs, and why that one.
    pub backend: String,
    pub reason: String,
    clock: Clock,
    counted: Arc<[Arc<Counted>]>,
}

impl Watch {
    /// Microseconds since the node was started.
    pub fn now_us(&self) -> u64 {
        self.clock.now().0
    }

    /// Counters since the start and present levels (`..._waiting`, `worker_frames_free`) by name, for each worker with its
    /// slow thread. Those of the forwarder and ICE are up to a second old.
    pub fn workers(&self) -> impl Iterator<Item = Vec<(&'static str, u64)>> + '_ {
        self.counted.iter().map(|counted| counted.read().collect())
    }
}

/// A running media node. Dropping it stops it.
pub struct Node {
    name: String,
    clock: Clock,
    bound: Vec<SocketAddr>,
    addresses: Vec<SocketAddr>,
    fingerprint: Fingerprint,
    backend: (BackendKind, String),
    memory: Vec<(&'static str, usize)>,
    counted: Arc<[Arc<Counted>]>,
    stop: Arc<AtomicBool>,
    link_stop: Arc<Notify>,
    bells: Vec<Arc<Bell>>,
    knocks: Vec<Arc<Knock>>,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    /// Binds, allocates, and starts all threads. Returns as soon as datagrams are received; the link to control comes up
    /// in the background and is dialled for ever.
    pub fn start(config: NodeConfig) -> Result<Node, StartError> {
        config.check()?;
        let dialer = Dialer::new(&config.link)?;
        let certificate = Arc::new(match &config.certificate {
            Some(given) => Certificate::from_der(given.certificate.clone(), given.key.clone())?,
            None => Certificate::generate()?,
        });
        let fingerprint = certificate.fingerprint();
        let workers = config.worker_count();
        let sockets = bind(&config.bind, workers)?;
        let addresses = advertised(&sockets.addresses, &config.external);
        let probe = Probe::new();
        let steering = worker::steering(&config, &sockets.workers);
        let clock = Clock::start();
        let stop = Arc::new(AtomicBool::new(false));
        let link_stop = Arc::new(Notify::new());
        let reported = Arc::new(Notify::new());
        let counted: Arc<[Arc<Counted>]> = (0..workers).map(|_| Arc::default()).collect();

        let receive_frames = (config.pool_frames / 4).clamp(64, 1024).next_power_of_two();
        let mut io = sluice_io::Config { receive_frames, ..sluice_io::Config::default() };
        if let Err(reason) = &probe.segment {
            tracing::warn!("datagrams are sent one by one, at several times the cost: {reason}");
            io.segments_max = 1;
        }
        let started = Started::new(&probe, config.backend, sockets.workers, &io, steering.as_deref());
        let Started { backends, kind, reason } = started.map_err(|(kind, error)| StartError::Backend(kind, error))?;
        let pool = || Pool::new(config.pool_frames).map_err(StartError::Memory);
        let backends = backends.into_iter().map(|backend| Ok((pool()?, backend)));
        let backends = backends.collect::<Result<Vec<_>, StartError>>()?;
        let bells: Vec<Arc<Bell>> = backends.iter().map(|(_, backend)| Arc::new(Bell::new(backend.waker()))).collect();
        let knocks: Vec<Arc<Knock>> = (0..workers).map(|_| Arc::default()).collect();
        let memory = memory(&config, &io, kind, workers);

        let mut node = Node {
            name: config.name.clone(),
            clock,
            bound: sockets.addresses,
            addresses: addresses.clone(),
            fingerprint,
            backend: (kind, reason),
            memory,
            counted: counted.clone(),
            stop: stop.clone(),
            link_stop: link_stop.clone(),
            bells: bells.clone(),
            knocks: knocks.clone(),
            threads: Vec::new(),
        };
        let forwarder = sluice_forwarder::Config { ntp_offset: clock.ntp(), ..forwarder(&config, workers) };
        let (mut ports, mut events) = (Vec::new(), Vec::new());
        let ways = worker::connect(&bells).into_iter().zip(slow::connect(&knocks));
        for (index, ((pool, backend), (lanes, ways))) in backends.into_iter().zip(ways).enumerate() {
            let (siblings, from_siblings) = lanes;
            let (commands, commands_out) = RingBuffer::new(worker::COMMANDS_MAX);
            let (orders, orders_out) = RingBuffer::new(slow::ORDERS_MAX);
            let (verdicts, verdicts_out) = RingBuffer::new(slow::RESULTS_MAX);
            let (events_in, events_out) = RingBuffer::new(link::EVENTS_MAX);
            let (to_slow, datagrams) = lane::lane(slow::DATAGRAMS_MAX, sluice_messages::TransportId(0));
            let (bell, knock) = (bells[index].clone(), knocks[index].clone());
            let slow = SlowThread {
                clock,
                hub: Hub::new(certificate.clone(), clock.epoch(), counted[index].clone()),
                orders: orders_out,
                datagrams,
                verdicts,
                ways,
                bell: bell.clone(),
                knock: knock.clone(),
                counted: counted[index].clone(),
                stop: stop.clone(),
            };
            let parts = Parts {
                clock,
                stop: stop.clone(),
                counted: counted[index].clone(),
                backend,
                pool,
                forwarder: forwarder.clone(),
                seed: rand::random(),
                workers,
                steer: worker::Steer::new(steering.clone(), index),
                nodes: worker::Nodes::new(node.bound.clone(), index),
                siblings,
                from_siblings,
                commands: commands_out,
                verdicts: verdicts_out,
                to_slow,
                knock: knock.clone(),
                bell: bell.clone(),
                events: events_in,
                reported: reported.clone(),
            };
            node.spawn(format!("slow-{index}"), move || slow.run())?;
            node.spawn(format!("worker-{index}"), move || {
                if !worker::pin(index) {
                    tracing::debug!(worker = index, "not pinned to a core");
                }
                if let Err(error) = Worker::new(parts).run() {
                    fail(&format!("worker {index} cannot go on: {error}"));
                }
            })?;
            ports.push(Port { commands, orders, bell, knock });
            events.push(events_out);
        }
        let identity = link::Identity { name: config.name.clone(), fingerprint, addresses };
        let link = Link::new(identity, dialer, Router::new(ports, config.spread), events, reported, counted);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        node.spawn("link".into(), move || runtime.block_on(link.run(link_stop)))?;
        node.announce(&config, workers);
        Ok(node)
    }

    /// Where datagrams are received.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// Host candidates that clients are given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Certificate shown in DTLS.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The backend that runs, and why that one.
    pub fn backend(&self) -> (BackendKind, &str) {
        (self.backend.0, &self.backend.1)
    }

    /// Memory that is set aside for all workers together, item by item, in bytes.
    pub fn memory(&self) -> &[(&'static str, usize)] {
        &self.memory
    }

    /// Counters since the start by name, summed over the workers; those of the forwarder and ICE are up to a second old.
    pub fn counters(&self) -> Vec<(String, u64)> {
        counters::merge(self.counted.iter().map(|counted| &**counted))
    }

    /// A view of what the node counts, for as long as somebody wants to look.
    pub fn watch(&self) -> Watch {
        let (kind, reason) = &self.backend;
        Watch {
            node: self.name.clone(),
            backend: kind.to_string(),
            reason: reason.clone(),
            clock: self.clock,
            counted: self.counted.clone(),
        }
    }

    /// Stops all threads and waits for them. Clients and control notice by silence.
    pub fn stop(self) {
        drop(self);
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        self.threads.push(guarded(name, body).map_err(StartError::Thread)?);
        Ok(())
    }

    fn announce(&self, config: &NodeConfig, workers: usize) {
        let (kind, reason) = &self.backend;
        tracing::info!(node = %config.name, workers, bound = ?self.bound, candidates = ?self.addresses, "media node started");
        tracing::info!("backend {kind}: {reason}");
        let items: Vec<String> =
            self.memory.iter().map(|(name, bytes)| format!("{name} {:.1}", *bytes as f64 / (1 << 20) as f64)).collect();
        let sum: usize = self.memory.iter().map(|(_, bytes)| bytes).sum();
        tracing::info!("memory at most {} MiB: {} (MiB)", sum >> 20, items.join(", "));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.link_stop.notify_one();
        self.bells.iter().for_each(|bell| bell.ring());
        self.knocks.iter().for_each(|knock| knock.knock());
        for thread in self.threads.drain(..) {
            // A thread that panicked has ended the process before.
            let _ = thread.join();
        }
    }
}

/// A thread whose panic ends the process.
fn guarded(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(move || {
        let _whole = Whole;
        body();
    })
}

/// A node with a dead thread would keep its port and serve nobody, which is worse than none: another node takes over.
struct Whole;

impl Drop for Whole {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fail(&format!("thread {} panicked", std::thread::current().name().unwrap_or("without a name")));
        }
    }
}

fn fail(reason: &str) -> ! {
    tracing::error!("{reason}; the node ends");
    std::process::abort()
}

/// Sockets of all workers; addresses with one port are bound together.
fn bind(wanted: &[SocketAddr], workers: usize) -> Result<socket::Bound, StartError> {
    let mut all = socket::Bound {
        workers: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        receive_bytes: usize::MAX,
        send_bytes: usize::MAX,
    };
    let mut ports: Vec<u16> = wanted.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    for port in ports {
        let addresses: Vec<_> = wanted.iter().filter(|a| a.port() == port).map(SocketAddr::ip).collect();
        let mut plan = socket::Plan { addresses, port, workers, receive_bytes: SOCKET_BYTES, send_bytes: SOCKET_BYTES };
        let bound = socket::bind(&plan).or_else(|error| {
            // A host without IPv6 serves IPv4, if that was asked for too.
            plan.addresses.retain(|ip| ip.is_ipv4());
            if plan.addresses.is_empty() || !is_without_ipv6(&error) {
                return Err(error);
            }
            tracing::warn!("this host has no IPv6: {error}");
            socket::bind(&plan)
        })?;
        all.workers.iter_mut().zip(bound.workers).for_each(|(all, own)| all.extend(own));
        all.addresses.extend(bound.addresses);
        all.receive_bytes = all.receive_bytes.min(bound.receive_bytes);
        all.send_bytes = all.send_bytes.min(bound.send_bytes);
    }
    Ok(all)
}

fn is_without_ipv6(error: &socket::BindError) -> bool {
    match error {
        socket::BindError::AddressNotHere(ip) => ip.is_ipv6() && (ip.is_loopback() || ip.is_unspecified()),
        socket::BindError::Other { address, source } => {
            address.is_ipv6() && source.raw_os_error() == Some(libc::EAFNOSUPPORT)
        }
        _ => false,
    }
}

/// Bounds of each worker's forwarder.
fn forwarder(config: &NodeConfig, workers: usize) -> sluice_forwarder::Config {
    let relays_max = if workers > 1 { config.forwarder.relays_max } else { 0 };
    sluice_forwarder::Config { relays_max, ..config.forwarder.clone() }
}

/// Everything that is set aside at start, for all workers together.
fn memory(
    config: &NodeConfig,
    io: &sluice_io::Config,
    kind: BackendKind,
    workers: usize,
) -> Vec<(&'static str, usize)> {
    let lanes =
        worker::lanes_bytes(workers) + slow::DATAGRAMS_MAX * lane::place_bytes::<sluice_messages::TransportId>();
    let mut items = vec![
        ("packets", config.pool_frames * sluice_frames::FRAME_BYTES),
        ("transmit slots", io.transmit_slots * sluice_frames::FRAME_BYTES),
        ("lanes", lanes),
        ("socket buffers", 2 * config.bind.len() * SOCKET_BYTES),
    ];
    if kind == BackendKind::Xdp {
        items.push(("AF_XDP frames", sluice_io::xdp::memory_bytes(io)));
    }
    items.extend(forwarder(config, workers).memory());
    items.into_iter().map(|(name, bytes)| (name, bytes * workers)).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };

    use super::*;

    /// Set in the process that is to end.
    const VICTIM: &str = "SLUICE_TEST_VICTIM";

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        if std::env::var_os(VICTIM).is_some() {
            let bystander = guarded("worker-1".into(), || {
                loop {
                    std::thread::park();
                }
            });
            let fellow = guarded("worker-0".into(), || panic!("as if a worker had a bug"));
            // Where the guard fails, this one ends in peace, which the parent sees.
            drop((fellow.unwrap().join(), bystander));
            return;
        }
        let name = std::thread::current().name().expect("tests run in threads of their name").to_owned();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(VICTIM, "yes")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(libc::SIGABRT), "{:?}: {said}", child.status);
        assert!(said.contains("as if a worker had a bug"), "{said}");
    }
}
