//! [etcd](https://etcd.io), from 3.4 on: a key per record, a lease per session, `mod_revision` as revision.

mod follow;
mod session;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, Identity, KeyValue, PutOptions,
    TlsOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};
use tonic::Code;

use crate::{
    Collection, Expect, Life, OpenError, ReadError, Record, Session, Settings, Store, Watch, WriteError,
    address::{Servers, Tls},
    counts::Counts,
    limits,
    line::{Change, Line, Trouble},
    name,
    store::{check_name, check_record},
};

/// Records of one answer when a collection is listed; with [`limits::VALUE_LEN`] bytes each they must stay under [`ANSWER_LEN`].
/// Raising it takes fewer answers, lowering it makes each shorter.
const PAGE: i64 = 256;

/// Longest answer in bytes; a page of the longest records and their keys.
const ANSWER_LEN: usize = 128 * 1024 * 1024;

pub(crate) struct Etcd {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

struct Inner {
    hosts: Vec<String>,
    options: ConnectOptions,
    prefix: String,
    settings: Settings,
    line: Line<Link>,
    counts: Counts,
}

/// A client of one member, and the lease of the session.
#[derive(Clone)]
struct Link {
    client: Client,
    lease: i64,
}

impl Etcd {
    pub(crate) async fn open(
        servers: &Servers,
        tls: Option<&Tls>,
        cluster: &str,
        settings: Settings,
    ) -> Result<Etcd, OpenError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let inner = Arc::new(Inner {
            hosts: servers.hosts.iter().map(|host| format!("{scheme}://{host}")).collect(),
            options: options(servers, tls, &settings)?,
            prefix: format!("/sluice/{cluster}/"),
            line: Line::new(settings.operation),
            counts: Counts::new(settings.collection_len),
            settings,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(session::keep(inner.clone()));
        inner.line.opened(inner.settings.opening).await?;
        Ok(Etcd { inner, tasks: Mutex::new(tasks) })
    }
}

fn options(servers: &Servers, tls: Option<&Tls>, settings: &Settings) -> Result<ConnectOptions, OpenError> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(settings.operation)
        // Finds a connection whose other end is gone without a word.
        .with_keep_alive(settings.session_ttl / 2, settings.operation)
        .with_keep_alive_while_idle(true)
        // A member that was cut off from the others says so, instead of waiting for them.
        .with_require_leader(true);
    if let Some((name, password)) = &servers.user {
        options = options.with_user(name, password).with_auto_token_refresh(true);
    }
    if let Some(tls) = tls {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| OpenError::Address {
                url: format!("etcds://{servers:?}"),
                reason: format!("{}: {error}", path.display()),
            })
        };
        let mut tls_options = match &tls.ca {
            Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => TlsOptions::new().with_native_roots(),
        };
        if let Some((cert, key)) = &tls.own {
            tls_options = tls_options.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        options = options.with_tls(tls_options);
    }
    Ok(options)
}

impl Drop for Etcd {
    /// Ends the session, so that its records are gone at once and not after its time to live.
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        let inner = self.inner.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = time::timeout(inner.settings.operation, async {
                    let mut link = inner.line.client().await;
                    // Where it fails the lease ends by itself.
                    let _ = link.client.lease_revoke(link.lease).await;
                })
                .await;
            });
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn read(&self, collection: Collection, name: &str) -> Result<Option<Record>, ReadError> {
        check_name(name)?;
        let key = &self.inner.key(collection, name);
        self.inner
            .line
            .read(|mut link| async move {
                let mut answer = link.client.get(key.as_str(), None).await.map_err(trouble)?;
                Ok(answer.take_kvs().into_iter().next().map(record))
            })
            .await
    }

    async fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, ReadError> {
        self.inner.list(collection).await.map(|(records, _)| records)
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
        let (inner, key) = (&*self.inner, self.inner.key(collection, name));
        let write = async |mut link: Link, sent: &AtomicBool| {
            if !matches!(expect, Expect::Revision(_)) {
                inner.room_for(&mut link, collection, &key).await?;
            }
            let lease = (life == Life::Session).then(|| PutOptions::new().with_lease(link.lease));
            let put = TxnOp::put(key.as_str(), value, lease);
            sent.store(true, Ordering::Relaxed);
            match link.client.txn(compare(&key, expect, put)).await {
                Ok(answer) if answer.succeeded() => revision_of(answer.header()),
                Ok(answer) => Err(conflict(&answer.op_responses())),
                Err(Error::GRpcStatus(status)) if status.code() == Code::NotFound => {
                    Err(WriteError::SessionLost.into())
                }
                Err(error) => Err(trouble(error).into()),
            }
        };
        self.inner.line.write(write).await
    }

    async fn remove(&self, collection: Collection, name: &str, expect: Expect) -> Result<bool, WriteError> {
        check_name(name)?;
        let key = self.inner.key(collection, name);
        let remove = async |mut link: Link, sent: &AtomicBool| {
            let delete = TxnOp::delete(key.as_str(), None);
            sent.store(true, Ordering::Relaxed);
            let answer = link.client.txn(compare(&key, expect, delete)).await.map_err(trouble)?;
            match answer.op_responses().first() {
                Some(TxnOpResponse::Delete(deleted)) => Ok(deleted.deleted() > 0),
                _ => Err(conflict(&answer.op_responses())),
            }
        };
        self.inner.line.write(remove).await
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
        format!("{}{collection}/", self.prefix)
    }

    fn key(&self, collection: Collection, name: &str) -> String {
        format!("{}{}", self.folder(collection), name::encode(name))
    }

    /// The name that a key of a collection stands for.
    fn name(&self, collection: Collection, key: &[u8]) -> Option<String> {
        let folder = self.folder(collection);
        name::decode_found(collection, &String::from_utf8_lossy(key.get(folder.len()..)?))
    }

    /// All records, and the store's revision at which they stood so. Each page has the time of one operation.
    async fn list(&self, collection: Collection) -> Result<(Vec<(String, Record)>, i64), ReadError> {
        let folder = self.folder(collection);
        // The sign after the slash in ASCII.
        let end = &format!("{}{}0", self.prefix, collection);
        let (mut records, mut revision, mut start) = (Vec::new(), 0, folder.into_bytes());
        loop {
            let from = &start;
            let ask = |link: Link| async move {
                let page = GetOptions::new().with_range(end.as_str()).with_limit(PAGE).with_revision(revision);
                let mut client = link.client.kv_client().max_decoding_message_size(ANSWER_LEN);
                client.get(from.as_slice(), Some(page)).await.map_err(trouble)
            };
            let mut page = self.line.read(ask).await?;
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision());
            }
            let more = page.more();
            for pair in page.take_kvs() {
                start = [pair.key(), b"\0"].concat();
                if let Some(name) = self.name(collection, pair.key()) {
                    records.push((name, record(pair)));
                }
            }
            if !more {
                return Ok((records, revision));
            }
        }
    }

    /// Refuses a record that is new to a full collection.
    async fn room_for(&self, link: &mut Link, collection: Collection, key: &str) -> Result<(), Change> {
        let mut client = link.client.clone();
        let folder = self.folder(collection);
        let count = async {
            let options = GetOptions::new().with_prefix().with_count_only();
            let answer = client.get(folder, Some(options)).await.map_err(trouble)?;
            Ok(usize::try_from(answer.count()).unwrap_or_default())
        };
        let full = match self.counts.check(collection, count).await {
            Err(full @ Change::Failed(_)) => full,
            other => return other,
        };
        let options = GetOptions::new().with_count_only();
        let there = link.client.get(key, Some(options)).await.map_err(trouble)?.count() > 0;
        if there { Ok(()) } else { Err(full) }
    }
}

/// A transaction that makes a change where the key is as expected, and reads it where it is not.
fn compare(key: &str, expect: Expect, change: TxnOp) -> Txn {
    let compares = match expect {
        Expect::Any => Vec::new(),
        Expect::Absent => vec![Compare::create_revision(key, CompareOp::Equal, 0)],
        // No revision of etcd's is beyond its type; one that is stands for none.
        Expect::Revision(revision) => {
            vec![Compare::mod_revision(key, CompareOp::Equal, i64::try_from(revision).unwrap_or(i64::MAX))]
        }
    };
    Txn::new().when(compares).and_then([change]).or_else([TxnOp::get(key, None)])
}

fn conflict(answers: &[TxnOpResponse]) -> Change {
    let current = answers.iter().find_map(|answer| match answer {
        TxnOpResponse::Get(found) => found.kvs().first().map(|pair| revision(pair.mod_revision())),
        _ => None,
    });
    WriteError::Conflict { current }.into()
}

/// Revisions count from 1.
fn revision(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> Result<u64, Change> {
    let header = header.ok_or_else(|| Trouble::Refused("it answers without a header".into()))?;
    Ok(revision(header.revision()))
}

fn record(pair: KeyValue) -> Record {
    let revision = revision(pair.mod_revision());
    let (_, value) = pair.into_key_value();
    Record { value: value.into(), revision }
}

/// What an error of the client's means.
fn trouble(error: Error) -> Trouble {
    match error {
        Error::GRpcStatus(status) => {
            let text = format!("{} ({:?})", status.message(), status.code());
            match status.code() {
                Code::PermissionDenied
                | Code::Unauthenticated
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented
                | Code::DataLoss
                | Code::OutOfRange => Trouble::Refused(text),
                // The disk's quota is for the operator to mend, a rush of requests passes.
                Code::ResourceExhausted if status.message().contains("space") => Trouble::Refused(text),
                _ => Trouble::Away(text),
            }
        }
        Error::InvalidArgs(text) => Trouble::Refused(text),
        Error::InvalidUri(error) => Trouble::Refused(error.to_string()),
        other => Trouble::Away(other.to_string()),
    }
}
