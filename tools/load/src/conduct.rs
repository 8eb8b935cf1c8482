//! A run from the first join to the report: who is where, which phase it is, when it has to end.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_wire::Micros;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    dtls::{Identity, IdentityError},
    live::Live,
    measure::{Phase, Tally},
    receive::First,
    report::{Report, Series},
    scenario::Scenario,
    session::{self, SessionError, Shared, Told},
    signal::{Door, SignalError},
    worker::{News, Role, Worker},
};

/// Messages on their way to the conductor. A full queue would hold up media threads; it takes less than a millisecond to
/// empty, and a thousand participants say less than ten thousand things.
const TOLD_MAX: usize = 1 << 16;

/// Descriptors besides those of participants: polls, wakers, files.
const DESCRIPTORS_SPARE: u64 = 100;

/// After the last one has begun to join. Who is not there then is counted as failed.
const JOIN_MAX: Duration = Duration::from_secs(60);

/// Between two looks at the clock.
const TURN: Duration = Duration::from_millis(50);

/// Leaving rooms at the end.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// Why a run gave no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server cannot be reached or refuses
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The first participant failed
    #[error("the first participant could not join: {0}")]
    First(SessionError),
    /// The host has no address
    #[error("{address}: {error}")]
    Resolve { address: String, error: io::Error },
    /// Too few file descriptors
    #[error(
        "{needed} file descriptors are needed, {limit} are allowed: raise the limit (ulimit -Hn) or take fewer participants"
    )]
    Descriptors { needed: u64, limit: u64 },
    /// No certificate
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A thread could not be started, or failed
    #[error("a thread failed: {0}")]
    Thread(#[from] io::Error),
    /// Nobody got in
    #[error("nobody could join{}", reason(.0))]
    Nobody(Errors),
    /// No media came
    #[error("{joined} joined, but no media arrived{}", reason(.errors))]
    Silent { joined: usize, errors: Errors },
    /// Everybody was thrown out
    #[error("the server went away{}", reason(.0))]
    Gone(Errors),
}

/// What went wrong, and how often.
pub type Errors = BTreeMap<String, usize>;

fn reason(errors: &Errors) -> String {
    let most = errors.iter().max_by_key(|(_, count)| **count);
    most.map_or(String::new(), |(error, count)| format!(" ({count} times: {error})"))
}

/// How a participant fares.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub began: Option<Micros>,
    pub connected: Option<Micros>,
    pub first_audio: Option<Micros>,
    pub first_video: Option<Micros>,
    /// It failed before it was connected, or later.
    pub ended: bool,
}

/// Runs a scenario. Progress goes to `live`. An error comes with the report where there is something to report.
pub fn run(
    scenario: Scenario,
    door: Door,
    address: &str,
    live: Live,
) -> Result<(Report, Option<LoadError>), LoadError> {
    let people = scenario.rooms * scenario.people();
    let descriptors = (0..scenario.people()).map(|index| scenario.roles(index));
    let descriptors: usize =
        descriptors.map(|roles| 1 + usize::from(roles.publishes) + usize::from(roles.receives)).sum();
    raise_descriptors((descriptors * scenario.rooms) as u64)?;
    let local = local_address(address)?;
    let clock = Clock::start();
    let (tell, told) = sync_channel(TOLD_MAX);
    let phase = Arc::new(AtomicU8::new(Phase::Joining as u8));
    let workers = (0..scenario.threads)
        .map(|number| Worker::start(number, clock, phase.clone(), tell.clone()))
        .collect::<io::Result<Vec<_>>>()?;
    let server = door.base.clone();
    let scenario = Arc::new(scenario);
    let shared = Arc::new(Shared {
        clock,
        identity: Identity::new(scenario.profile)?,
        scenario: scenario.clone(),
        door,
        local,
        workers,
        tell,
        ids: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let tasks = runtime.spawn(join_all(shared.clone(), people, stopped));
    let interrupt = shared.tell.clone();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = interrupt.send(Told::Interrupted);
        }
    });
    let mut conductor = Conductor {
        clock,
        scenario,
        phase,
        people: vec![Status::default(); people],
        errors: Errors::new(),
        total: Tally::default(),
        series: Series::default(),
        live,
        is_interrupted: false,
        first_error: None,
    };
    let ended = conductor.conduct(&told);
    conductor.enter(Phase::Done);
    // Nobody listens any more where all have ended.
    let _ = stop.send(true);
    // Who cannot say good-bye in time does not.
    let _ = runtime.block_on(async { tokio::time::timeout(LEAVE_MAX, tasks).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(shared) = Arc::into_inner(shared) {
        for worker in shared.workers {
            worker.stop()?;
        }
    }
    while let Ok(message) = told.try_recv() {
        if let Told::News(News::Counted(snapshot)) = message {
            conductor.counted(&snapshot);
        }
    }
    conductor.live.finish();
    let measured = ended?;
    Ok(conductor.finish(server, measured))
}

/// Lets participants join one by one, publishers first, and waits for all of them to end.
async fn join_all(shared: Arc<Shared>, people: usize, stopped: watch::Receiver<bool>) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / shared.scenario.join_rate));
    for participant in 0..people {
        pace.tick().await;
        if *stopped.borrow() {
            break;
        }
        tasks.spawn(session::run(shared.clone(), participant as u32, stopped.clone()));
    }
    drop(shared);
    tasks.join_all().await;
}

struct Conductor {
    clock: Clock,
    scenario: Arc<Scenario>,
    phase: Arc<AtomicU8>,
    people: Vec<Status>,
    errors: Errors,
    total: Tally,
    series: Series,
    live: Live,
    is_interrupted: bool,
    first_error: Option<SessionError>,
}

impl Conductor {
    /// From the first join to the end of the measurement; returns how long was measured.
    fn conduct(&mut self, told: &Receiver<Told>) -> Result<Duration, LoadError> {
        let last = Duration::from_secs_f64(self.people.len() as f64 / self.scenario.join_rate);
        let deadline = Micros(0) + last + JOIN_MAX;
        self.live.joining(self.people.len());
        loop {
            self.listen(told);
            if let Some(error) = self.first_error.take() {
                return Err(LoadError::First(error));
            }
            let settled = self.people.iter().filter(|status| status.connected.is_some() || status.ended).count();
            if settled == self.people.len() || self.clock.now() >= deadline || self.is_interrupted {
                break;
            }
        }
        if self.joined() == 0 {
            return Err(LoadError::Nobody(self.errors.clone()));
        }
        self.live.warming();
        self.last(told, self.scenario.warm_up)?;
        self.enter(Phase::Measuring);
        self.live.measuring(self.scenario.duration);
        let began = self.clock.now();
        let ended = self.last(told, self.scenario.duration);
        let measured = self.clock.now().since(began);
        self.live.measured();
        ended.map(|()| measured)
    }

    /// Listens for so long, unless everybody is gone.
    fn last(&mut self, told: &Receiver<Told>, duration: Duration) -> Result<(), LoadError> {
        let end = self.clock.now() + duration;
        while self.clock.now() < end && !self.is_interrupted {
            self.listen(told);
            if self.people.iter().all(|status| status.ended || status.connected.is_none()) {
                return Err(LoadError::Gone(self.errors.clone()));
            }
        }
        Ok(())
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn joined(&self) -> usize {
        self.people.iter().filter(|status| status.connected.is_some()).count()
    }

    /// Takes what is told within a turn.
    fn listen(&mut self, told: &Receiver<Told>) {
        let end = self.clock.now() + TURN;
        loop {
            let left = end.since(self.clock.now());
            match told.recv_timeout(left) {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
            if left.is_zero() {
                break;
            }
        }
        let ended = self.people.iter().filter(|status| status.ended).count();
        self.live.show(self.clock.now(), self.joined(), ended, &self.series);
    }

    fn hear(&mut self, message: Told) {
        match message {
            Told::Interrupted => self.is_interrupted = true,
            Told::Began { participant, at } => self.status(participant).began = Some(at),
            Told::Ended { participant, error } => {
                let is_first = self.joined() == 0 && self.errors.is_empty();
                *self.errors.entry(error.to_string()).or_default() += 1;
                self.status(participant).ended = true;
                // What hits the first one hits all, and waiting for all would only take longer.
                if is_first && participant == 0 {
                    self.first_error = Some(error);
                }
            }
            Told::News(News::Connected { participant, role, at }) => {
                let roles = self.scenario.roles(participant as usize / self.scenario.rooms);
                // Who receives has joined when it can receive.
                if (role == Role::Subscriber) == roles.receives {
                    self.status(participant).connected.get_or_insert(at);
                }
            }
            Told::News(News::Failed { participant, error }) => {
                *self.errors.entry(error).or_default() += 1;
                self.status(participant).ended = true;
            }
            Told::News(News::First { participant, first, at }) => {
                let status = self.status(participant);
                let place = match first {
                    First::Audio => &mut status.first_audio,
                    First::Video => &mut status.first_video,
                };
                place.get_or_insert(at);
            }
            Told::News(News::Counted(snapshot)) => self.counted(&snapshot),
        }
    }

    fn counted(&mut self, snapshot: &crate::measure::Snapshot) {
        self.series.add(snapshot);
        if snapshot.phase == Phase::Measuring {
            self.total.counters += &snapshot.tally.counters;
            self.total.latency.merge(&snapshot.tally.latency);
            self.total.jitter.merge(&snapshot.tally.jitter);
            self.total.late.merge(&snapshot.tally.late);
        }
    }

    fn status(&mut self, participant: u32) -> &mut Status {
        &mut self.people[participant as usize]
    }

    /// The report, and what is wrong with it.
    fn finish(self, server: String, measured: Duration) -> (Report, Option<LoadError>) {
        let joined = self.joined();
        let counters = self.total.counters;
        let errors = self.errors.clone();
        let report = Report::new(server, &self.scenario, measured, &self.people, self.errors, &self.total, self.series);
        let silent = (counters.received_packets == 0).then_some(LoadError::Silent { joined, errors });
        (report, silent)
    }
}

/// Raises the soft limit of descriptors to the hard one where that is needed, and checks that it suffices.
fn raise_descriptors(participants: u64) -> Result<(), LoadError> {
    let needed = participants + DESCRIPTORS_SPARE;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if enough(current) {
        return Ok(());
    }
    if !enough(maximum) {
        // Root may raise the hard limit as well.
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(needed) });
        let limit = maximum.unwrap_or(u64::MAX);
        return raised.map_err(|_| LoadError::Descriptors { needed, limit });
    }
    let limit = maximum.or(Some(needed));
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum })
        .map_err(|_| LoadError::Descriptors { needed, limit: current.unwrap_or(u64::MAX) })
}

/// The address that this machine uses towards the server.
fn local_address(address: &str) -> Result<IpAddr, LoadError> {
    let error = |error| LoadError::Resolve { address: address.to_owned(), error };
    let server: SocketAddr = address
        .to_socket_addrs()
        .map_err(error)?
        .next()
        .ok_or_else(|| error(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).map_err(error)?;
    socket.connect(server).map_err(error)?;
    Ok(socket.local_addr().map_err(error)?.ip())
}
