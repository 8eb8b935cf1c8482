//! Opening a store, and whose it is.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Collection, Expect, Life, OpenError, ReadError, Settings, Store, WriteError, address::Address, embedded::Embedded,
    etcd::Etcd, zookeeper::ZooKeeper,
};

/// Name of the record in [`Collection::Cluster`] that says whose the keys are.
const IDENTITY: &str = "identity";

/// Longest name of a cluster in bytes.
const CLUSTER_LEN: usize = 64;

/// Opens the store at `url` for the cluster `cluster` (ASCII letters, digits, `-`, `_`, `.`).
///
/// - `sled:<folder>`: embedded, for one process.
/// - `zookeeper://[user:password@]host[:2181],…`: a ZooKeeper ensemble, from 3.6 on. With a user, all is readable and writable by
///   that user only (scheme `digest`).
/// - `etcd://[user:password@]host[:2379],…`: an etcd cluster, from 3.4 on; `etcds://…[?ca=<file>&cert=<file>&key=<file>]` over TLS.
///
/// `identity` says whose cluster it is. Who opens a name first writes it, and others must bring the same, so that two clusters that
/// are pointed at one store by mistake do not mix. Must be called within a tokio runtime; the store's own tasks end when it is dropped.
pub async fn open(url: &str, cluster: &str, identity: &str, settings: Settings) -> Result<Arc<dyn Store>, OpenError> {
    check_cluster(cluster)?;
    let address = Address::parse(url)?;
    let store: Arc<dyn Store> = match &address {
        Address::Sled(folder) => Arc::new(Embedded::open(folder, cluster, settings).await?),
        Address::Etcd(servers, tls) => Arc::new(Etcd::open(servers, tls.as_ref(), cluster, settings).await?),
        Address::ZooKeeper(servers) => Arc::new(ZooKeeper::open(servers, cluster, settings).await?),
    };
    claim(&*store, cluster, identity).await?;
    tracing::info!("the store is {address:?}, the cluster {cluster}");
    Ok(store)
}

fn check_cluster(name: &str) -> Result<(), OpenError> {
    let error = |reason| Err(OpenError::Name { name: name.chars().take(CLUSTER_LEN).collect(), reason });
    if name.is_empty() || name.len() > CLUSTER_LEN {
        return error("it has 1 to 64 characters");
    }
    if name.starts_with('.') || !name.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign)) {
        return error("it consists of ASCII letters, digits, '-', '_' and '.', and does not begin with '.'");
    }
    Ok(())
}

/// Makes the cluster's name ours, or finds that it is.
async fn claim(store: &dyn Store, cluster: &str, identity: &str) -> Result<(), OpenError> {
    loop {
        let found = store.read(Collection::Cluster, IDENTITY).await.map_err(|error| match error {
            ReadError::Unavailable(reason) => OpenError::Unavailable(reason),
            other => OpenError::Refused(other.to_string()),
        })?;
        if let Some(record) = found {
            if record.value == identity.as_bytes() {
                return Ok(());
            }
            let theirs = String::from_utf8_lossy(&record.value).chars().take(128).collect();
            return Err(OpenError::Foreign { cluster: cluster.into(), theirs, ours: identity.into() });
        }
        let value = Bytes::copy_from_slice(identity.as_bytes());
        match store.write(Collection::Cluster, IDENTITY, value, Expect::Absent, Life::Durable).await {
            // Read again in any case: another may have been first.
            Ok(_) | Err(WriteError::Conflict { .. }) => {}
            Err(error) if error.is_away() => return Err(OpenError::Unavailable(error.to_string())),
            Err(error) => return Err(OpenError::Refused(error.to_string())),
        }
    }
}
