//! ZooKeeper and etcd as processes of a test.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Once, OnceLock, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's `zookeeper`, standalone, with a tick of 200 ms: sessions live 400 ms or longer
    ZooKeeper,
    /// Debian's `etcd-server`, one member, with an election timeout of 200 ms: leases live 1 s or longer
    Etcd,
}

/// How long a server may take to answer after its start, a JVM on a busy machine included.
const START: Duration = Duration::from_secs(60);

/// How often a starting server is asked.
const ASK: Duration = Duration::from_millis(50);

/// How the folders of servers begin; the number of the process follows.
const PREFIX: &str = "sluice-server-";

/// A running server with its own folder. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    folder: TempDir,
    /// for clients, for etcd's peers, and for asking etcd how it is
    ports: [u16; 3],
    tls: Option<Tls>,
    child: Option<Child>,
}

/// Files of certificates for a server that takes TLS only, and only from clients that the authority signed.
#[derive(Clone, Debug)]
pub struct Tls {
    /// the authority's certificate
    pub ca: PathBuf,
    /// the server's certificate
    pub cert: PathBuf,
    /// its key
    pub key: PathBuf,
}

impl Server {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it cannot be started: a test cannot go on without.
    pub async fn start(kind: Kind) -> Server {
        Server::begin(kind, None).await
    }

    /// Starts an etcd that speaks TLS, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub async fn start_etcd_tls(tls: Tls) -> Server {
        Server::begin(Kind::Etcd, Some(tls)).await
    }

    async fn begin(kind: Kind, tls: Option<Tls>) -> Server {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let mut server = Server { kind, folder, ports: free_ports(), tls, child: None };
        server.restart().await;
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[0]).into()
    }

    /// Starts it again in the same folder and on the same ports, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let command = match self.kind {
            Kind::ZooKeeper => self.zookeeper(),
            Kind::Etcd => self.etcd(),
        };
        let command = command.unwrap_or_else(|error| panic!("the {:?} server's folder: {error}", self.kind));
        let child = spawn(command).unwrap_or_else(|error| {
            panic!("the {:?} server does not start (`make test-setup` installs it): {error}", self.kind)
        });
        self.child = Some(child);
        let answers = time::timeout(START, async {
            while !self.answers().await {
                let child = self.child.as_mut().expect("it was started above");
                if let Ok(Some(status)) = child.try_wait() {
                    panic!("the {:?} server ended with {status}:\n{}", self.kind, self.log());
                }
                time::sleep(ASK).await;
            }
        });
        if answers.await.is_err() {
            panic!("the {:?} server does not answer:\n{}", self.kind, self.log());
        }
    }

    /// Stops it where it stands (SIGSTOP): connections stay, nothing is answered. Returns when it stands.
    pub fn pause(&self) {
        let pid = self.signal(Signal::STOP);
        let status = waitpid(Some(pid), WaitOptions::UNTRACED).expect("an own child can be waited for");
        assert!(status.is_some_and(|(_, status)| status.stopped()), "the {:?} server ended", self.kind);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) -> Pid {
        let child = self.child.as_ref().expect("the server runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a positive number");
        kill_process(pid, signal).expect("an own process can be signalled");
        pid
    }

    fn log_file(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log"))
    }

    fn zookeeper(&self) -> io::Result<Command> {
        let folder = self.folder.path();
        let settings = format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=200\nadmin.enableServer=false\n\
             maxClientCnxns=0\n4lw.commands.whitelist=ruok\n",
            folder.join("data").display(),
            self.ports[0]
        );
        fs::write(folder.join("zoo.cfg"), settings)?;
        fs::write(
            folder.join("log4j.properties"),
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n\n",
        )?;
        let mut command = until_death("java");
        // Starts fast and small; nothing here runs long enough for the second compiler.
        command.args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xmx256m",
            "-Dzookeeper.preAllocSize=1024",
            "-cp",
        ]);
        command.arg(format!("{}:/usr/share/java/zookeeper.jar", folder.display()));
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(folder.join("zoo.cfg"));
        command.stdout(self.log_file()?).stderr(self.log_file()?);
        Ok(command)
    }

    fn etcd(&self) -> io::Result<Command> {
        let [client, peer, health] = self.ports;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{client}");
        let (peer, health) = (format!("http://127.0.0.1:{peer}"), format!("http://127.0.0.1:{health}"));
        let mut command = until_death("etcd");
        // The machine's own etcd may have settings in the environment.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
            command.env_remove(name);
        }
        command.arg("--data-dir").arg(self.folder.path().join("data"));
        command.args(["--name", "one", "--initial-cluster", &format!("one={peer}")]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-metrics-urls", &health]);
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
        }
        command.args(["--heartbeat-interval", "20", "--election-timeout", "200", "--log-level", "warn"]);
        command.stdout(self.log_file()?).stderr(self.log_file()?);
        Ok(command)
    }

    async fn answers(&self) -> bool {
        let (port, question, answer) = match self.kind {
            Kind::ZooKeeper => (self.ports[0], "ruok", "imok"),
            Kind::Etcd => (self.ports[2], "GET /health HTTP/1.0\r\n\r\n", r#""health":"true""#),
        };
        let ask = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_all(question.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            io::Result::Ok(text.contains(answer))
        };
        matches!(time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Removes the folders of servers whose process has ended without dropping them, as it does with statics.
fn sweep() {
    let Ok(folders) = fs::read_dir(std::env::temp_dir()) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let ended =
            process.is_some_and(|process| process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists());
        if ended {
            // Another may sweep at the same time.
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports"));
    listeners.map(|listener| listener.local_addr().expect("a listener has an address").port())
}

/// A command that is killed when the thread that spawned it ends.
fn until_death(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null());
    command
}

/// Spawns from a thread that lives as long as the process, so that servers that are never dropped (statics, an aborted test) end
/// with the process and not with the thread of the test that happened to start them.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                // Whoever asked may have panicked meanwhile; then the child is dropped, and ends with the process.
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    let gone = |_| io::Error::other("the spawning thread has ended");
    spawner.send((command, answer)).map_err(|_| gone(()))?;
    child.recv().map_err(|_| gone(()))?
}
