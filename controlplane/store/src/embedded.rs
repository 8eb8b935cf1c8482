//! The embedded store: [sled](https://docs.rs/sled) in a folder, for one process.
//!
//! Its session is the process: session records are swept away when the folder is opened again.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
    time,
};

use crate::{
    Change, Collection, Expect, Life, OpenError, ReadError, Record, Session, SessionState, Settings, Store, Watch,
    WriteError, limits, name,
    store::{check_name, check_record},
};

/// Key of the last revision, beside `sluice/<cluster>/`.
const REVISION: &str = "revision";

/// How long a folder may stay in use: sled frees it a moment after it was dropped, and a restarted process may meet the end of the
/// former. Raising it makes a second process by mistake wait longer for its error, lowering it makes a restart fail.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Embedded {
    inner: Arc<Inner>,
    operation: Duration,
    session: watch::Sender<Session>,
    watches: Mutex<JoinSet<()>>,
}

struct Inner {
    database: sled::Db,
    prefix: String,
    collection_len: usize,
    /// Held over each change, so that changes are told in the order in which they are made.
    changes: Mutex<Changes>,
}

struct Changes {
    revision: u64,
    counts: HashMap<Collection, usize>,
    told: broadcast::Sender<(Collection, Change)>,
}

impl Embedded {
    /// Opens or makes the database in `folder`, which one process at a time may use.
    pub(crate) async fn open(folder: &Path, cluster: &str, settings: Settings) -> Result<Embedded, OpenError> {
        let folder = folder.to_owned();
        let prefix = format!("sluice/{cluster}/");
        let began = Instant::now();
        let inner = loop {
            let (folder, prefix) = (folder.clone(), prefix.clone());
            match blocking(move || Inner::open(&folder, prefix, settings.collection_len)).await? {
                Err(Failure::InUse) if began.elapsed() < GRACE.min(settings.opening) => {
                    time::sleep(limits::PAUSE_MIN).await;
                }
                opened => break opened?,
            }
        };
        let session = Session { state: SessionState::Connected, number: 1, held_until: None };
        Ok(Embedded {
            inner: Arc::new(inner),
            operation: settings.operation,
            session: watch::Sender::new(session),
            watches: Mutex::default(),
        })
    }

    /// Runs `work` on a thread that may wait for the disk. A change whose time runs out is still made.
    async fn work<T: Send + 'static, E: Send + 'static + From<Failure>>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let inner = self.inner.clone();
        match time::timeout(self.operation, blocking(move || work(&inner))).await {
            Ok(done) => done?,
            Err(_) => Err(Failure::Slow.into()),
        }
    }
}

/// Why the database did not do something.
enum Failure {
    Slow,
    InUse,
    Database(String),
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Failure {
        // A folder locked by another process comes as an I/O error whose text is a debug dump.
        match error {
            sled::Error::Io(error) if error.kind() == io::ErrorKind::Other || error.raw_os_error() == Some(11) => {
                Failure::InUse
            }
            other => Failure::Database(other.to_string()),
        }
    }
}

const SLOW: &str = "the disk is too slow";
const IN_USE: &str = "its folder is in use by another process";

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> ReadError {
        match failure {
            Failure::Slow => ReadError::Unavailable(SLOW.into()),
            Failure::InUse => ReadError::Refused(IN_USE.into()),
            Failure::Database(reason) => ReadError::Refused(reason),
        }
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> WriteError {
        match failure {
            Failure::Slow => WriteError::Unanswered(SLOW.into()),
            Failure::InUse => WriteError::Refused(IN_USE.into()),
            Failure::Database(reason) => WriteError::Refused(reason),
        }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> OpenError {
        match failure {
            Failure::Slow => OpenError::Unavailable(SLOW.into()),
            Failure::InUse => OpenError::Refused(IN_USE.into()),
            Failure::Database(reason) => OpenError::Refused(reason),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::Database(error.to_string()))
}

#[async_trait]
impl Store for Embedded {
    async fn read(&self, collection: Collection, name: &str) -> Result<Option<Record>, ReadError> {
        check_name(name)?;
        let name = name.to_owned();
        self.work(move |inner| Ok(inner.get(&inner.key(collection, &name))?)).await
    }

    async fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, ReadError> {
        self.work(move |inner| Ok(inner.list(collection)?)).await
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
        let name = name.to_owned();
        self.work(move |inner| inner.write(collection, &name, value, expect, life)).await
    }

    async fn remove(&self, collection: Collection, name: &str, expect: Expect) -> Result<bool, WriteError> {
        check_name(name)?;
        let name = name.to_owned();
        self.work(move |inner| inner.remove(collection, &name, expect)).await
    }

    fn watch(&self, collection: Collection) -> Watch {
        let (sender, receiver) = mpsc::channel(limits::WATCH_LEN);
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        while watches.try_join_next().is_some() {}
        watches.spawn(follow(Arc::downgrade(&self.inner), collection, sender));
        Watch::new(receiver)
    }

    fn session(&self) -> watch::Receiver<Session> {
        self.session.subscribe()
    }
}

/// Tells a reader the whole collection and then its changes, and starts over when the reader falls behind. Holds nothing while it
/// waits, so that the folder is free as soon as the store is dropped.
async fn follow(inner: Weak<Inner>, collection: Collection, reader: mpsc::Sender<Change>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let whole = blocking(move || {
            let changes = inner.lock();
            inner.list(collection).map(|records| (records, changes.told.subscribe()))
        });
        let mut told = match whole.await.and_then(|whole| whole) {
            Ok((records, told)) => {
                if reader.send(Change::Reset(records)).await.is_err() {
                    return;
                }
                told
            }
            Err(_) => {
                time::sleep(limits::PAUSE_MAX).await;
                continue;
            }
        };
        loop {
            let change = tokio::select! {
                change = told.recv() => change,
                () = reader.closed() => return,
            };
            match change {
                Ok((of, change)) if of == collection => {
                    if reader.send(change).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// A record as it stands in the database: revision, life, value.
const REVISION_LEN: usize = 8;
const HEADER_LEN: usize = REVISION_LEN + 1;
const DURABLE: u8 = 0;
const SESSION: u8 = 1;

fn unpack(bytes: &[u8]) -> Option<(u8, Record)> {
    let revision = u64::from_be_bytes(bytes.get(..REVISION_LEN)?.try_into().ok()?);
    let life = *bytes.get(REVISION_LEN)?;
    Some((life, Record { value: Bytes::copy_from_slice(&bytes[HEADER_LEN..]), revision }))
}

impl Inner {
    fn open(folder: &Path, prefix: String, collection_len: usize) -> Result<Inner, Failure> {
        let database = sled::open(folder)?;
        let revision = match database.get(REVISION)? {
            Some(bytes) => u64::from_be_bytes(
                bytes.as_ref().try_into().map_err(|_| Failure::Database("its last revision is unreadable".into()))?,
            ),
            None => 0,
        };
        let (told, _) = broadcast::channel(limits::WATCH_LEN);
        let inner = Inner {
            database,
            prefix,
            collection_len,
            changes: Mutex::new(Changes { revision, counts: HashMap::new(), told }),
        };
        for row in inner.database.scan_prefix(&inner.prefix) {
            let (key, bytes) = row?;
            if unpack(&bytes).is_some_and(|(life, _)| life == SESSION) {
                inner.database.remove(key)?;
            }
        }
        inner.database.flush()?;
        for collection in Collection::ALL {
            let count = inner.database.scan_prefix(inner.folder(collection)).count();
            inner.lock().counts.insert(collection, count);
        }
        Ok(inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Changes> {
        // What a panic may have left undone is one change that was not told; the next reading of the whole shows it.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, collection: Collection) -> String {
        format!("{}{collection}/", self.prefix)
    }

    fn key(&self, collection: Collection, name: &str) -> String {
        format!("{}{}", self.folder(collection), name::encode(name))
    }

    fn get(&self, key: &str) -> Result<Option<Record>, Failure> {
        match self.database.get(key)? {
            None => Ok(None),
            Some(bytes) => match unpack(&bytes) {
                Some((_, record)) => Ok(Some(record)),
                None => Err(Failure::Database(format!("what stands under {key:?} is no record"))),
            },
        }
    }

    fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, Failure> {
        let folder = self.folder(collection);
        let mut records = Vec::new();
        for row in self.database.scan_prefix(&folder) {
            let (key, bytes) = row?;
            let part = String::from_utf8_lossy(&key[folder.len()..]);
            if let Some(name) = name::decode_found(collection, &part)
                && let Some((_, record)) = unpack(&bytes)
            {
                records.push((name, record));
            }
        }
        Ok(records)
    }

    /// Compares what stands under a key; returns whether something does.
    fn compare(&self, key: &str, expect: Expect) -> Result<bool, WriteError> {
        let current = self.get(key)?.map(|record| record.revision);
        match expect {
            Expect::Any => Ok(current.is_some()),
            Expect::Absent if current.is_none() => Ok(false),
            Expect::Revision(revision) if current == Some(revision) => Ok(true),
            _ => Err(WriteError::Conflict { current }),
        }
    }

    fn write(
        &self,
        collection: Collection,
        name: &str,
        value: Bytes,
        expect: Expect,
        life: Life,
    ) -> Result<u64, WriteError> {
        let key = self.key(collection, name);
        let mut changes = self.lock();
        let new = !self.compare(&key, expect)?;
        if new && changes.counts.get(&collection).is_some_and(|count| *count >= self.collection_len) {
            return Err(WriteError::TooMany { collection, max: self.collection_len });
        }
        let revision = changes.revision + 1;
        let mut bytes = Vec::with_capacity(HEADER_LEN + value.len());
        bytes.extend_from_slice(&revision.to_be_bytes());
        bytes.push(if life == Life::Durable { DURABLE } else { SESSION });
        bytes.extend_from_slice(&value);
        let mut batch = sled::Batch::default();
        batch.insert(key.as_bytes(), bytes);
        batch.insert(REVISION, &revision.to_be_bytes());
        self.apply(batch)?;
        changes.revision = revision;
        *changes.counts.entry(collection).or_default() += usize::from(new);
        // Nobody may be listening.
        let _ = changes.told.send((collection, Change::Put(name.into(), Record { value, revision })));
        Ok(revision)
    }

    fn remove(&self, collection: Collection, name: &str, expect: Expect) -> Result<bool, WriteError> {
        let key = self.key(collection, name);
        let mut changes = self.lock();
        if !self.compare(&key, expect)? {
            return Ok(false);
        }
        let mut batch = sled::Batch::default();
        batch.remove(key.as_bytes());
        self.apply(batch)?;
        *changes.counts.entry(collection).or_insert(1) -= 1;
        let _ = changes.told.send((collection, Change::Gone(name.into())));
        Ok(true)
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), Failure> {
        self.database.apply_batch(batch)?;
        self.database.flush()?;
        Ok(())
    }
}
