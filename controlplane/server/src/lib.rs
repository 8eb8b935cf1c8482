//! The control plane as a process: HTTP, WebSocket, Twirp, the link to the nodes, the store, and the embedded page around
//! the pure [`sluice_rooms`].
//!
//! One task owns the rooms ([`actor`]); sockets, API calls and links are tasks that talk to it through bounded queues.

#![forbid(unsafe_code)]

mod actor;
pub mod certs;
mod http;
pub mod link;
mod request;
mod socket;
pub mod store;
pub mod tls;
pub mod token;
mod twirp;
mod web;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use sluice_rooms::Rooms;
pub use sluice_rooms::RoomsConfig;
pub use token::Keys;
use tokio::{net::TcpListener, sync::mpsc, sync::oneshot, task::JoinHandle};

use crate::actor::{Inbox, Input};

/// Events of all links waiting for the rooms task. Full means that links wait: QUIC slows the nodes down.
const LINK_EVENTS_MAX: usize = 4096;

/// Everything a control process needs to know.
pub struct ServerConfig {
    /// Addresses of the page, the signalling socket and the API.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key (PEM) of the page.
    pub tls: Option<(String, String)>,
    pub keys: Keys,
    /// Tokens for everybody who asks at `/dev/token`.
    pub development: bool,
    /// Where nodes dial (UDP).
    pub link: SocketAddr,
    /// How soon a node is taken for dead.
    pub watch: link::Watch,
    /// Certificates of the link.
    pub certs: certs::Paths,
    /// Folder of the embedded store.
    pub store: PathBuf,
    pub rooms: RoomsConfig,
}

/// A control process that cannot start. The operator's fault: the message names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// an address cannot be listened on
    #[error("cannot listen on {address}/tcp: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    /// no address given
    #[error("no address to listen on is given")]
    NoAddress,
    /// link
    #[error(transparent)]
    Link(#[from] link::LinkStartError),
    /// TLS
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// store
    #[error("{error} ({path})", path = path.display())]
    Store { error: store::StoreError, path: PathBuf },
}

/// A running control process.
pub struct Server {
    inbox: Inbox,
    endpoint: quinn::Endpoint,
    link_address: SocketAddr,
    addresses: Vec<SocketAddr>,
    secure: bool,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts everything on the current tokio runtime. Clients are refused with 503 until a node is linked.
    pub async fn start(config: ServerConfig) -> Result<Server, StartError> {
        let tls = match &config.tls {
            Some((certificates, key)) => Some(tls::settings(certificates, key)?),
            None => None,
        };
        let mut listeners = Vec::new();
        for &address in &config.listen {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                // Containers often have no IPv6: one loopback address out of two is enough.
                Err(error) if address.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                    tracing::warn!(%address, %error, "not listening there");
                }
                Err(error) => return Err(StartError::Listen { address, error }),
            }
        }
        let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        if addresses.is_empty() {
            return Err(StartError::NoAddress);
        }
        let endpoint = link::listen(config.link, &config.certs)?;
        let link_address =
            endpoint.local_addr().map_err(|error| link::LinkStartError::Bind { address: config.link, error })?;
        let store = store::Sled::open(&config.store)
            .map_err(|error| StartError::Store { error, path: config.store.clone() })?;

        let auto_create = config.rooms.auto_create;
        let inbox =
            actor::start(Rooms::new(config.rooms, rand::random::<[u8; 32]>()), Box::new(store), config.keys.clone());
        let (events, mut links) = mpsc::channel(LINK_EVENTS_MAX);
        let mut tasks = vec![tokio::spawn(link::serve(endpoint.clone(), config.watch, events))];
        let rooms = inbox.clone();
        tasks.push(tokio::spawn(async move {
            while let Some(event) = links.recv().await {
                if rooms.send(Input::Link(event)).await.is_err() {
                    return;
                }
            }
        }));

        let state = Arc::new(request::State {
            inbox: inbox.clone(),
            keys: config.keys,
            development: config.development,
            auto_create,
            next_socket: AtomicU64::new(1),
            metrics: http::recorder(),
        });
        for listener in listeners {
            let service = http::service(state.clone());
            let tls = tls.clone();
            tasks.push(tokio::spawn(async move {
                let served = match tls {
                    Some(settings) => match tls::Listener::new(listener, settings) {
                        Ok(listener) => axum::serve(listener, service).await,
                        Err(error) => Err(error),
                    },
                    None => axum::serve(listener, service).await,
                };
                if let Err(error) = served {
                    tracing::error!(%error, "HTTP is not served any more");
                }
            }));
        }
        Ok(Server { inbox, endpoint, link_address, addresses, secure: config.tls.is_some(), tasks })
    }

    /// Where nodes dial.
    pub fn link_address(&self) -> SocketAddr {
        self.link_address
    }

    /// Address of the page for a person at this machine.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let address = self.addresses[0];
        let port = address.port();
        match address.ip() {
            ip if ip.is_loopback() || ip.is_unspecified() => format!("{scheme}://localhost:{port}/"),
            _ => format!("{scheme}://{address}/"),
        }
    }

    /// Waits until a node is linked and clients can be served.
    pub async fn ready(&self) {
        loop {
            let (answer, ready) = oneshot::channel();
            if self.inbox.send(Input::Ready(answer)).await.is_err() || ready.await.unwrap_or(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends all tasks. Nodes keep forwarding; clients see their sockets close and come back to a new process.
    pub async fn stop(self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"control stops");
        for task in self.tasks {
            task.abort();
        }
        self.endpoint.wait_idle().await;
    }
}
