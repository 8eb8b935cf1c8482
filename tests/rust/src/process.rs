//! The `sluice` binary as a child process.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Instant,
};

use anyhow::{Context, bail};
use serde_json::json;
use sluice_server::Keys;

use crate::PATIENCE;

/// The binary under test: next to the test's own in the target folder.
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("SLUICE") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its path");
    let folder = test.ancestors().nth(2).expect("tests lie two folders below the binary");
    folder.join("sluice")
}

/// A TCP port that was free a moment ago.
pub fn free_tcp() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free TCP port")
}

/// A UDP port that was free a moment ago.
pub fn free_udp() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free UDP port")
}

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty one under the system's temporary folder.
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-test-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Folder(path)
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts the binary.
    pub fn start<A: AsRef<std::ffi::OsStr>>(args: &[A], env: &[(&str, &str)]) -> Process {
        let mut child = Command::new(binary())
            .args(args)
            .env_remove("SLUICE_KEYS")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts: build it with `cargo build --bin sluice`");
        let (sender, lines) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let (sender, log) = (sender.clone(), log.clone());
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().expect("no test panics while logging").push(line.clone());
                    // The test may not read any more.
                    let _ = sender.send(line);
                }
            });
        }
        Process { child, lines, log }
    }

    /// Waits for a line that contains `text`.
    pub fn line(&mut self, text: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(_) => bail!("no line with {text:?} came:\n{}", self.log()),
            }
        }
    }

    /// Everything printed so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no test panics while logging").join("\n")
    }

    /// Waits for the end.
    pub fn exit(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU time used so far in seconds, and resident memory in bytes.
    pub fn usage(&self) -> anyhow::Result<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("stat has a name")?.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let pages: u64 = fields[21].parse()?;
        Ok((ticks as f64 / 100.0, pages * 4096))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `sluice up` in development mode on free ports.
pub struct Server {
    pub process: Process,
    pub http: SocketAddr,
    pub media: SocketAddr,
    _data: Folder,
}

impl Server {
    /// Starts it and waits until it serves.
    pub fn up(options: &[&str]) -> anyhow::Result<Server> {
        let (http, media) = (free_tcp(), free_udp());
        let data = Folder::new();
        let mut args = vec!["up".to_owned(), "--listen".into(), http.to_string(), "--media".into(), media.to_string()];
        args.extend(["--data".to_owned(), path(&data.0)]);
        args.extend(options.iter().map(|option| (*option).to_owned()));
        let mut process = Process::start(&args, &[]);
        process.line("Page:")?;
        Ok(Server { process, http, media, _data: data })
    }

    /// A counter of the server, from its metrics page; 0 where it is not there yet. Node counters appear every 10 s.
    pub async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let page = reqwest::get(format!("http://{}/metrics", self.http)).await?.text().await?;
        let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A token of the development key to join a room; `more` is merged into the video grant.
pub fn token(room: &str, identity: &str, more: serde_json::Value) -> String {
    let mut video = json!({ "room": room, "roomJoin": true });
    if let (Some(video), Some(more)) = (video.as_object_mut(), more.as_object()) {
        video.extend(more.clone());
    }
    sign(&json!({ "iss": "devkey", "sub": identity, "name": identity, "exp": now_s() + 3600, "video": video }))
}

/// Signs claims with the development secret.
pub fn sign(claims: &serde_json::Value) -> String {
    let keys = Keys::new([("devkey".to_owned(), "secret".to_owned())]);
    keys.sign("devkey", claims).expect("the development key signs")
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}
