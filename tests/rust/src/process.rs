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
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::PATIENCE;

/// Lines of a process that are shown with a failed test.
const LOG_LINES_SHOWN: usize = 40;

/// The binary under test: in the target folder of the test or tool that runs.
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("SLUICE") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a test knows its path");
    // Tools lie beside it, tests a folder deeper.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("sluice")).find(|path| path.exists());
    found.expect("the binary is there: build it with `cargo build --bin sluice`")
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
    readers: Vec<std::thread::JoinHandle<()>>,
    log: Arc<Mutex<Vec<String>>>,
    /// Print the end of the log when this goes; test harnesses show that for failed tests alone.
    pub shows_log: bool,
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
        let mut readers = Vec::new();
        for stream in streams {
            let (sender, log) = (sender.clone(), log.clone());
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().expect("no test panics while logging").push(line.clone());
                    // The test may not read any more.
                    let _ = sender.send(line);
                }
            }));
        }
        Process { child, lines, readers, log, shows_log: true }
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

    /// Everything that a process printed which has ended.
    pub fn all(&mut self) -> String {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader only reads");
        }
        self.log()
    }

    /// Waits for the end.
    pub fn exit(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything printed so far; an error where the process has ended or any of its threads panicked.
    pub fn healthy(&mut self) -> anyhow::Result<String> {
        let alive = self.alive();
        let log = self.log();
        anyhow::ensure!(alive, "the process has ended:\n{log}");
        anyhow::ensure!(!log.contains("panicked"), "something panicked:\n{log}");
        Ok(log)
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
        if !self.shows_log {
            return;
        }
        let log = self.log.lock().map(|log| log.clone()).unwrap_or_default();
        for line in &log[log.len().saturating_sub(LOG_LINES_SHOWN)..] {
            eprintln!("| {line}");
        }
    }
}

/// `sluice up` in development mode on free ports.
pub struct Server {
    pub process: Process,
    pub http: SocketAddr,
    pub media: SocketAddr,
    data: PathBuf,
    _folder: Option<Folder>,
}

impl Server {
    /// Starts it and waits until it serves.
    pub fn up(options: &[&str]) -> anyhow::Result<Server> {
        let folder = Folder::new();
        let mut server = Server::up_in(&folder.0, options)?;
        server._folder = Some(folder);
        Ok(server)
    }

    /// The same with a data folder that stays.
    pub fn up_in(data: &Path, options: &[&str]) -> anyhow::Result<Server> {
        let (http, media) = (free_tcp(), free_udp());
        let mut args = vec!["up".to_owned(), "--listen".into(), http.to_string(), "--media".into(), media.to_string()];
        args.extend(["--data".to_owned(), path(data)]);
        args.extend(options.iter().map(|option| (*option).to_owned()));
        let mut process = Process::start(&args, &[]);
        process.line("Page:")?;
        Ok(Server { process, http, media, data: data.to_owned(), _folder: None })
    }

    /// Folder of what it keeps.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Everything the server printed; an error where it has ended or any thread panicked.
    pub fn healthy(&mut self) -> anyhow::Result<String> {
        self.process.healthy()
    }
}

/// `sluice control` and `sluice node` as processes of their own, in development mode.
pub struct Apart {
    pub control: Process,
    pub node: Process,
    pub http: SocketAddr,
    pub media: SocketAddr,
    link: SocketAddr,
    folder: Folder,
}

impl Apart {
    /// Makes certificates and starts both.
    pub fn start() -> anyhow::Result<Apart> {
        let folder = Folder::new();
        certificates(&folder.join("certs"))?;
        let (http, media, link) = (free_tcp(), free_udp(), free_udp());
        let control = control(http, link, &folder)?;
        let node = node(link, media, &folder, &folder.join("certs"));
        let mut apart = Apart { control, node, http, media, link, folder };
        apart.control.line("a node is linked")?;
        Ok(apart)
    }

    /// A control after the first one has ended: same addresses, same store.
    pub fn start_control(&mut self) -> anyhow::Result<()> {
        self.control = control(self.http, self.link, &self.folder)?;
        Ok(())
    }
}

/// `sluice certs`.
pub fn certificates(folder: &Path) -> anyhow::Result<()> {
    let mut made = Process::start(&["certs", &path(folder)], &[]);
    anyhow::ensure!(made.exit().success(), "{}", made.log());
    Ok(())
}

/// `sluice control`; `folder` holds its data, and its certificates in `certs`.
pub fn control(http: SocketAddr, link: SocketAddr, folder: &Folder) -> anyhow::Result<Process> {
    let (http, link, data) = (http.to_string(), link.to_string(), path(&folder.join("control")));
    let certs = path(&folder.join("certs"));
    let args = ["control", "--listen", &http, "--link", &link, "--data", &data, "--certs", &certs];
    let mut process = Process::start(&args, &[]);
    process.line("Page:")?;
    Ok(process)
}

/// `sluice node`.
pub fn node(link: SocketAddr, media: SocketAddr, folder: &Folder, certs: &Path) -> Process {
    let (link, media, data, certs) = (link.to_string(), media.to_string(), path(&folder.join("node")), path(certs));
    let args = ["node", "--control", &link, "--media", &media, "--data", &data, "--certs", &certs];
    Process::start(&args, &[])
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
    sign_with("secret", claims)
}

/// Signs claims with a secret.
pub fn sign_with(secret: &str, claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("claims can be signed")
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock is past 1970").as_secs()
}
