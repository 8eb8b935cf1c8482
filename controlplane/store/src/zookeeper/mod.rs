//! [ZooKeeper](https://zookeeper.apache.org), from 3.6 on: a node per record, an ephemeral one for a session's, `mzxid` as revision.
//!
//! ZooKeeper compares a node's `version`, which begins anew when the node is made anew, and not its `mzxid`. So each change that makes
//! or removes a record also writes a *guard*, a node that many names share, and each comparison checks the guard's version as well:
//! it fails when a record was made anew between reading its `mzxid` and changing it, and is then done again. (A session's end removes
//! records without touching a guard, but to be made anew they need a change that does.)

mod follow;
mod session;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriteResult, MultiWriter, Stat,
};

use crate::{
    Collection, Expect, Life, OpenError, ReadError, Record, Session, Settings, Store, Watch, WriteError,
    address::Servers,
    counts::Counts,
    limits,
    line::{Change, Line, Trouble},
    name,
    store::{check_name, check_record},
};

/// Guards of a cluster. Raising it makes comparisons fail less often on account of other names, lowering it leaves fewer nodes.
const GUARDS: u32 = 64;

pub(crate) struct ZooKeeper {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

struct Inner {
    servers: Servers,
    prefix: String,
    settings: Settings,
    line: Line<Client>,
    counts: Counts,
}

impl ZooKeeper {
    pub(crate) async fn open(servers: &Servers, cluster: &str, settings: Settings) -> Result<ZooKeeper, OpenError> {
        let inner = Arc::new(Inner {
            servers: servers.clone(),
            prefix: format!("/sluice/{cluster}/"),
            line: Line::new(settings.operation),
            counts: Counts::new(settings.collection_len),
            settings,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(session::keep(inner.clone()));
        inner.line.opened(inner.settings.opening).await?;
        let client = inner.line.client().await;
        match time::timeout(inner.settings.opening, inner.make_folders(&client)).await {
            Ok(Ok(())) => Ok(ZooKeeper { inner, tasks: Mutex::new(tasks) }),
            Ok(Err(Trouble::Refused(reason))) => Err(OpenError::Refused(reason)),
            Ok(Err(Trouble::Away(reason))) => Err(OpenError::Unavailable(reason)),
            Err(_) => Err(OpenError::Unavailable("no answer in time".into())),
        }
    }
}

impl Drop for ZooKeeper {
    /// The session ends when its last client is dropped, and the tasks hold the others.
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[async_trait]
impl Store for ZooKeeper {
    async fn read(&self, collection: Collection, name: &str) -> Result<Option<Record>, ReadError> {
        check_name(name)?;
        let path = &self.inner.path(collection, name);
        self.inner.line.read(|client| async move { read(&client, path).await.map_err(trouble) }).await
    }

    async fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, ReadError> {
        self.inner.list(collection).await
    }

    async fn write(
        &self,
        collection: Collection,
        name: &str,
        value: Bytes,
        expect: Expect,
        life: Life,
    ) -> Result<u64, WriteError> {
        check_record(name, &value)?;
        let inner = &*self.inner;
        let write = async |client: Client, sent: &AtomicBool| {
            let (path, guard) = (inner.path(collection, name), inner.guard(collection, name));
            let owner = if life == Life::Session { client.session_id().0 } else { 0 };
            let node =
                inner.options(if life == Life::Session { CreateMode::Ephemeral } else { CreateMode::Persistent });
            loop {
                let (guarded, stat) = inner.look(&client, &guard, &path).await?;
                compare(expect, stat)?;
                let mut change = client.new_multi_writer();
                match stat {
                    Some(stat) if stat.ephemeral_owner == owner => {
                        change.add_check_version(&guard, guarded.version).map_err(trouble)?;
                        change.add_set_data(&path, &value, Some(stat.version)).map_err(trouble)?;
                    }
                    Some(stat) => {
                        // Whose a node is cannot be changed, so it is made anew.
                        change.add_delete(&path, Some(stat.version)).map_err(trouble)?;
                        change.add_create(&path, &value, &node).map_err(trouble)?;
                        change.add_set_data(&guard, b"", Some(guarded.version)).map_err(trouble)?;
                    }
                    None => {
                        inner.counts.check(collection, inner.count(&client, collection)).await?;
                        change.add_create(&path, &value, &node).map_err(trouble)?;
                        change.add_set_data(&guard, b"", None).map_err(trouble)?;
                    }
                }
                if let Some(revision) = inner.commit(change, sent).await? {
                    return Ok(revision);
                }
                if stat.is_none() {
                    // Another was faster, or a stranger has removed the folder.
                    inner.make_folders(&client).await?;
                }
            }
        };
        inner.line.write(write).await
    }

    async fn remove(&self, collection: Collection, name: &str, expect: Expect) -> Result<bool, WriteError> {
        check_name(name)?;
        let inner = &*self.inner;
        let remove = async |client: Client, sent: &AtomicBool| {
            let (path, guard) = (inner.path(collection, name), inner.guard(collection, name));
            loop {
                let (guarded, stat) = inner.look(&client, &guard, &path).await?;
                compare(expect, stat)?;
                let Some(stat) = stat else { return Ok(false) };
                let mut change = client.new_multi_writer();
                change.add_delete(&path, Some(stat.version)).map_err(trouble)?;
                change.add_set_data(&guard, b"", Some(guarded.version)).map_err(trouble)?;
                if inner.commit(change, sent).await?.is_some() {
                    return Ok(true);
                }
            }
        };
        inner.line.write(remove).await
    }

    fn watch(&self, collection: Collection) -> Watch {
        let (sender, receiver) = mpsc::channel(limits::WATCH_LEN);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(follow::follow(self.inner.clone(), collection, sender));
        Watch::new(receiver)
    }

    fn session(&self) -> watch::Receiver<Session> {
        self.inner.line.session()
    }
}

impl Inner {
    fn folder(&self, collection: Collection) -> String {
        format!("{}{collection}", self.prefix)
    }

    fn path(&self, collection: Collection, name: &str) -> String {
        format!("{}{collection}/{}", self.prefix, name::encode(name))
    }

    fn guard(&self, collection: Collection, name: &str) -> String {
        let hash = crc32fast::hash(format!("{collection}/{name}").as_bytes());
        format!("{}guards/{}", self.prefix, hash % GUARDS)
    }

    fn options(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(if self.servers.user.is_some() { Acls::creator_all() } else { Acls::anyone_all() })
    }

    /// Makes the nodes above the records, and the guards.
    async fn make_folders(&self, client: &Client) -> Result<(), Trouble> {
        let mut nodes: Vec<_> = Collection::ALL.into_iter().map(|collection| self.folder(collection)).collect();
        // In order, so that the last one stands for all.
        nodes.extend((0..GUARDS).map(|number| format!("{}guards/{number}", self.prefix)));
        let look = nodes.iter().take(Collection::ALL.len()).chain(nodes.last()).map(|node| client.check_stat(node));
        let found = futures_util::future::try_join_all(look).await.map_err(trouble)?;
        if found.iter().all(Option::is_some) {
            return Ok(());
        }
        // Above all clusters, so it is nobody's own.
        let open = &CreateMode::Persistent.with_acls(Acls::anyone_all());
        client.mkdir("/sluice", open).await.map_err(trouble)?;
        let options = &self.options(CreateMode::Persistent);
        for node in nodes {
            client.mkdir(&node, options).await.map_err(trouble)?;
        }
        Ok(())
    }

    /// How a guard and a record stand. Sent together after a `sync`, they are read in this order and no older than now.
    async fn look(&self, client: &Client, guard: &str, path: &str) -> Result<(Stat, Option<Stat>), Change> {
        let (synced, guarded, stat) = (client.sync(guard), client.check_stat(guard), client.check_stat(path));
        let answers = futures_util::future::try_join3(synced, guarded, stat).await;
        let ((), guarded, stat) = answers.map_err(session_trouble)?;
        match guarded {
            Some(guarded) => Ok((guarded, stat)),
            None => {
                // A stranger has removed them.
                self.make_folders(client).await?;
                Err(Trouble::Away("the nodes above the records had to be made again".into()).into())
            }
        }
    }

    /// Makes a change; `None` where something stands otherwise than it did a moment ago.
    async fn commit(&self, mut change: MultiWriter<'_>, sent: &AtomicBool) -> Result<Option<u64>, Change> {
        sent.store(true, Ordering::Relaxed);
        let error = match change.commit().await {
            // All of a change is made under one number. That of a node made within a change is not told by all versions
            // (ZOOKEEPER-4667), that of the data written beside it is.
            Ok(results) => {
                return Ok(results.iter().find_map(|result| match result {
                    MultiWriteResult::SetData { stat } => Some(revision(stat)),
                    _ => None,
                }));
            }
            Err(MultiWriteError::OperationFailed {
                source: Error::BadVersion | Error::NoNode | Error::NodeExists | Error::RuntimeInconsistent,
                ..
            }) => {
                sent.store(false, Ordering::Relaxed);
                return Ok(None);
            }
            Err(error) => error,
        };
        Err(session_trouble(error.into()))
    }

    async fn count(&self, client: &Client, collection: Collection) -> Result<usize, Trouble> {
        let stat = client.check_stat(&self.folder(collection)).await.map_err(trouble)?;
        Ok(stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or_default()))
    }

    /// All records. Each answer has the time of one operation.
    async fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, ReadError> {
        let folder = &self.folder(collection);
        let parts = self.line.read(|client| async move {
            let (synced, parts) = (client.sync(folder), client.list_children(folder));
            match futures_util::future::try_join(synced, parts).await {
                Ok(((), parts)) => Ok(parts),
                Err(Error::NoNode) => Ok(Vec::new()),
                Err(error) => Err(trouble(error)),
            }
        });
        let named = parts.await?.into_iter().filter_map(|part| Some((name::decode_found(collection, &part)?, part)));
        let records = stream::iter(named).map(|(name, part)| async move {
            let path = &format!("{folder}/{part}");
            let found = self.line.read(|client| async move { data(&client, path).await.map_err(trouble) }).await?;
            Ok::<_, ReadError>(found.map(|record| (name, record)))
        });
        let records: Vec<_> = records.buffer_unordered(limits::READS_AT_ONCE).try_collect().await?;
        Ok(records.into_iter().flatten().collect())
    }
}

/// A record as all who were answered know it.
async fn read(client: &Client, path: &str) -> Result<Option<Record>, Error> {
    let (synced, found) = (client.sync(path), data(client, path));
    Ok(futures_util::future::try_join(synced, found).await?.1)
}

/// A record as this server knows it.
fn data(client: &Client, path: &str) -> impl Future<Output = Result<Option<Record>, Error>> + use<> {
    // Sent now, not when it is waited for.
    let found = client.get_data(path);
    async move {
        match found.await {
            Ok((value, stat)) => Ok(Some(Record { value: value.into(), revision: revision(&stat) })),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn revision(stat: &Stat) -> u64 {
    u64::try_from(stat.mzxid).unwrap_or_default()
}

fn compare(expect: Expect, stat: Option<Stat>) -> Result<(), WriteError> {
    let current = stat.as_ref().map(revision);
    match expect {
        Expect::Any => Ok(()),
        Expect::Absent if current.is_none() => Ok(()),
        Expect::Revision(revision) if current == Some(revision) => Ok(()),
        _ => Err(WriteError::Conflict { current }),
    }
}

/// What an error within a change means.
fn session_trouble(error: Error) -> Change {
    match error {
        Error::SessionExpired => WriteError::SessionLost.into(),
        other => trouble(other).into(),
    }
}

/// What an error of the client's means.
fn trouble(error: Error) -> Trouble {
    match error {
        Error::NoAuth
        | Error::AuthFailed
        | Error::InvalidAcl
        | Error::QuotaExceeded
        | Error::BadArguments(_)
        | Error::Unimplemented
        | Error::NoChildrenForEphemerals
        | Error::UnmarshalError { .. } => Trouble::Refused(error.to_string()),
        other => Trouble::Away(other.to_string()),
    }
}
