//! Where a test runs: a backend, a server, a cluster's name.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use sluice_servers::{Proxy, Server};
use sluice_store::{
    Change, Collection, Expect, Life, OpenError, Record, Session, SessionState, Settings, Store, Watch, WriteError,
    open,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell, watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sled,
    ZooKeeper,
    Etcd,
}

/// Longest that a test may take on a busy machine; reached only by one that hangs.
const BOUND: Duration = Duration::from_secs(90);

pub async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(BOUND, test).await.expect("the test ends in time");
}

/// The identity that all stores of these tests give.
pub const IDENTITY: &str = "test";

/// A test's own cluster within one backend.
pub struct Bed {
    pub kind: Kind,
    pub cluster: String,
    folder: TempDir,
    /// The embedded store is one client, which all share.
    embedded: Mutex<Option<Arc<dyn Store>>>,
}

impl Bed {
    pub fn new(kind: Kind) -> Bed {
        // Shown for a test that fails, and where RUST_LOG asks for it.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let cluster = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Bed { kind, cluster, folder, embedded: Mutex::new(None) }
    }

    /// The address of the store at a server, of the bed's own folder where there is none.
    pub fn url(&self, server: Option<SocketAddr>) -> String {
        match (self.kind, server) {
            (Kind::Sled, _) => format!("sled:{}", self.folder.path().join("store").display()),
            (Kind::ZooKeeper, Some(server)) => format!("zookeeper://{server}"),
            (Kind::Etcd, Some(server)) => format!("etcd://{server}"),
            (_, None) => panic!("{:?} needs a server", self.kind),
        }
    }

    /// The server that all tests of a kind share.
    pub async fn server(&self) -> Option<SocketAddr> {
        static ZOOKEEPER: OnceCell<Server> = OnceCell::const_new();
        static ETCD: OnceCell<Server> = OnceCell::const_new();
        let cell = match self.kind {
            Kind::Sled => return None,
            Kind::ZooKeeper => &ZOOKEEPER,
            Kind::Etcd => &ETCD,
        };
        Some(cell.get_or_init(|| start(self.kind)).await.address())
    }

    /// A server of the test's own.
    pub async fn own_server(&self) -> Server {
        start(self.kind).await
    }

    /// A client of the shared server, with a session of its own; of the embedded store, the one there is.
    pub async fn store(&self) -> Arc<dyn Store> {
        let server = self.server().await;
        if self.kind != Kind::Sled {
            return self.store_at(server, calm()).await;
        }
        let mut embedded = self.embedded.lock().await;
        match &*embedded {
            Some(store) => store.clone(),
            None => embedded.insert(self.store_at(None, calm()).await).clone(),
        }
    }

    pub async fn store_at(&self, server: Option<SocketAddr>, settings: Settings) -> Arc<dyn Store> {
        self.try_store(server, settings).await.expect("the store opens")
    }

    pub async fn try_store(&self, server: Option<SocketAddr>, settings: Settings) -> Result<Arc<dyn Store>, OpenError> {
        open(&self.url(server), &self.cluster, IDENTITY, settings).await
    }

    /// A proxy before the shared server.
    pub async fn proxy(&self) -> Proxy {
        let server = self.server().await.expect("there is a server");
        Proxy::start(server).await.expect("a proxy starts")
    }

    /// Forgets the embedded store, so that it can be opened again.
    pub async fn close(&self) {
        self.embedded.lock().await.take();
    }
}

async fn start(kind: Kind) -> Server {
    Server::start(match kind {
        Kind::ZooKeeper => sluice_servers::Kind::ZooKeeper,
        Kind::Etcd => sluice_servers::Kind::Etcd,
        Kind::Sled => panic!("the embedded store has no server"),
    })
    .await
}

/// Times that a busy machine does not exceed by itself.
pub fn calm() -> Settings {
    Settings {
        session_ttl: Duration::from_secs(10),
        operation: Duration::from_secs(10),
        opening: Duration::from_secs(60),
        ..Settings::default()
    }
}

/// Times for tests that wait for a session to end.
pub fn brisk() -> Settings {
    Settings { session_ttl: Duration::from_secs(2), operation: Duration::from_secs(1), ..calm() }
}

pub const CALLS: Collection = Collection::Calls;
pub const NODES: Collection = Collection::Nodes;

pub async fn put(store: &dyn Store, name: &str, value: &str) -> u64 {
    write(store, name, value, Expect::Any).await.expect("the record is written")
}

pub async fn write(store: &dyn Store, name: &str, value: &str, expect: Expect) -> Result<u64, WriteError> {
    store.write(CALLS, name, Bytes::copy_from_slice(value.as_bytes()), expect, Life::Durable).await
}

/// Writes a record of the session into the nodes.
pub async fn put_session(store: &dyn Store, name: &str) -> u64 {
    store.write(NODES, name, name.to_owned().into(), Expect::Any, Life::Session).await.expect("the record is written")
}

pub async fn get(store: &dyn Store, name: &str) -> Option<(String, u64)> {
    let record = store.read(CALLS, name).await.expect("the record is read")?;
    Some((String::from_utf8(record.value.to_vec()).expect("it is text"), record.revision))
}

/// The first word of a watch, by name.
pub async fn whole(watch: &mut Watch) -> Vec<(String, Record)> {
    match watch.next().await {
        Some(Change::Reset(mut records)) => {
            records.sort_by(|(one, _), (other, _)| one.cmp(other));
            records
        }
        other => panic!("a watch begins with the whole: {other:?}"),
    }
}

/// Follows a watch until a name is gone, by word or by its absence in the whole.
pub async fn gone(watch: &mut Watch, gone: &str) {
    loop {
        match watch.next().await.expect("the watch goes on") {
            Change::Gone(name) if name == gone => return,
            Change::Reset(records) if records.iter().all(|(name, _)| name != gone) => return,
            _ => {}
        }
    }
}

/// Waits for a state of the session, of a number of at least `number`.
pub async fn reach(session: &mut watch::Receiver<Session>, state: SessionState, number: u64) -> Session {
    let reached = session.wait_for(|session| session.state == state && session.number >= number).await;
    *reached.expect("the store is there")
}
