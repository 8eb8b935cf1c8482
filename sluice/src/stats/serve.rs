//! The node's side: a socket that only its own user may open.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, fchmod};
use sluice_node::Watch;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::Semaphore,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::line::{Line, Sample};

/// Readers at a time. Each costs the node a copy of its counters a second; more are told to come back.
const READERS_MAX: usize = 8;

/// Between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// A reader that does not take a line within this is dropped.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, as when the process has no file descriptor left.
const RETRY: Duration = Duration::from_millis(100);

/// A served socket; gone when dropped.
pub struct Served {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves a node's counters in its data folder. A node that cannot be watched forwards all the same: the operator reads why.
pub fn serve(data: &Path, watch: Watch) -> Option<Served> {
    let path = super::socket(data);
    match std::fs::create_dir_all(data).and_then(|()| listen(&path)) {
        Ok(listener) => Some(Served { task: tokio::spawn(accept(listener, watch)), path }),
        Err(error) => {
            tracing::warn!("`sluice stats` will not work: {}: {error}", path.display());
            None
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(error.kind(), "another node has this data folder"));
            }
            // Left behind by a process that was killed.
            std::fs::remove_file(path)?;
            bind(path)
        }
        done => done,
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file this mode at once: at no time may others open it.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(READERS_MAX as i32)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(std::os::fd::OwnedFd::from(socket).into())
}

async fn accept(listener: UnixListener, watch: Watch) {
    let places = Arc::new(Semaphore::new(READERS_MAX));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let watch = watch.clone();
                tokio::spawn(async move {
                    let _place = place;
                    tell(stream, &watch).await;
                });
            }
            Err(_) => {
                let refusal = Line::Refused(format!("{READERS_MAX} others watch this node already"));
                // It fits the buffer of a new socket, or the reader is gone.
                let _ = timeout(PATIENCE, stream.write_all(&encode(&refusal))).await;
            }
        }
    }
}

/// Tells one reader until it goes or falls behind.
async fn tell(stream: tokio::net::UnixStream, watch: &Watch) {
    let (mut reader, mut writer) = stream.into_split();
    let mut heard = [0; 64];
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // It has nothing to say, but its end frees the place at once.
            said = reader.read(&mut heard) => match said {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
        }
        let line = encode(&Line::Sample(sample(watch)));
        if !matches!(timeout(PATIENCE, writer.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn sample(watch: &Watch) -> Sample {
    let named = |counters: Vec<(&'static str, u64)>| counters.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    Sample {
        node: watch.node.clone(),
        backend: watch.backend.clone(),
        reason: watch.reason.clone(),
        at_us: watch.now_us(),
        workers: watch.workers().map(named).collect(),
    }
}

fn encode(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("names and numbers are always JSON");
    bytes.push(b'\n');
    bytes
}
