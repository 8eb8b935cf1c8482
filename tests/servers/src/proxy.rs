//! A TCP proxy on loopback that a test can cut or hang.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What a proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// passes on what comes
    Pass,
    /// keeps connections, takes new ones, and passes on nothing
    Hang,
    /// closes connections, old and new
    Cut,
}

/// Stands between a client and one server. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free loopback port for connections to `server`.
    pub async fn start(server: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mode = watch::Sender::new(Mode::Pass);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, mode.subscribe()));
        Ok(Proxy { address, mode, _tasks: tasks })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to all connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *mode.borrow() != Mode::Cut {
            connections.spawn(connect(client, server, mode.clone()));
        }
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode != Mode::Hang).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Small requests and answers alternate; waiting for more would only slow the tests.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(from_client, to_server, mode.clone()) => {}
        () = pass(from_server, to_client, mode) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        tokio::select! {
            changed = mode.changed() => {
                if changed.is_err() || *mode.borrow() == Mode::Cut {
                    return;
                }
            }
            read = from.read(&mut buffer), if now == Mode::Pass => match read {
                Ok(len) if len > 0 && to.write_all(&buffer[..len]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
