//! The trait that all backends fulfil.

use std::{fmt, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Watch,
    error::{ReadError, WriteError},
    limits,
};

/// First part of a key: what kind of thing a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Collection {
    /// the cluster as a whole: identity, leader
    Cluster,
    /// media nodes, by id
    Nodes,
    /// nodes that an operator drained, by id
    Drains,
    /// control processes, by id
    Controls,
    /// calls and the nodes that carry them, by room name
    Calls,
    /// rooms made through the API, by name
    Rooms,
}

impl Collection {
    /// All there are.
    pub const ALL: [Collection; 6] = [
        Collection::Cluster,
        Collection::Nodes,
        Collection::Drains,
        Collection::Controls,
        Collection::Calls,
        Collection::Rooms,
    ];

    /// Its part of the key.
    pub fn as_str(self) -> &'static str {
        match self {
            Collection::Cluster => "cluster",
            Collection::Nodes => "nodes",
            Collection::Drains => "drains",
            Collection::Controls => "controls",
            Collection::Calls => "calls",
            Collection::Rooms => "rooms",
        }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// at most [`limits::VALUE_LEN`] bytes
    pub value: Bytes,
    /// Grows with each change of this key, also when it is removed and made again, so that it can fence: whoever acts under a
    /// lower revision acts on what is no longer true. Not consecutive; not comparable between keys of one store.
    pub revision: u64,
}

/// What must stand under a key for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// whatever it is
    Any,
    /// nothing
    Absent,
    /// the record of this revision
    Revision(u64),
}

/// How long a record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// until it is removed
    Durable,
    /// until it is removed or the session of its writer ends
    Session,
}

/// How it stands with the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// the store answers, the session's records stand
    Connected,
    /// the store does not answer; whether the session's records stand is not known
    Suspended,
    /// the store said that the session is over; its records are gone, and a new session is being made
    Lost,
}

/// A session with the store, which makes a new one by itself when one is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// how it stands
    pub state: SessionState,
    /// Grows by one with each new session. Whoever sees another number than the one under which it wrote its records writes them
    /// again: a quick `Lost` can go unseen, the number cannot.
    pub number: u64,
    /// The store keeps the session's records at least until then, whatever happens to the connection: the time at which the last
    /// answered sign of life was sent, and the session's time to live. `None` where a session ends with the process only. It moves
    /// on without waking those who wait for a change. By a clock that may stand still while the machine sleeps: what must be safe
    /// even then is fenced by revisions.
    pub held_until: Option<Instant>,
}

impl Session {
    /// Whether the session's records surely stand at `now`.
    pub fn holds(&self, now: Instant) -> bool {
        self.state != SessionState::Lost && self.held_until.is_none_or(|until| now < until)
    }
}

/// Where a cluster keeps what all of its processes must agree on: small records, changed rarely, by compare-and-set.
///
/// Every operation ends within the time of the [`Settings`](limits::Settings), whatever the store does. Reads see every write that
/// was answered before, by whomever it was made.
#[async_trait]
pub trait Store: Send + Sync {
    /// The record under a name, if there is one.
    async fn read(&self, collection: Collection, name: &str) -> Result<Option<Record>, ReadError>;

    /// All records of a collection with their names, in no order. Records that change meanwhile may be old or new.
    async fn list(&self, collection: Collection) -> Result<Vec<(String, Record)>, ReadError>;

    /// Writes a record if what stands there is as expected, and returns its new revision.
    ///
    /// A record becomes what `life` says, whatever it was before: with [`Life::Session`] it belongs to this store's session.
    async fn write(
        &self,
        collection: Collection,
        name: &str,
        value: Bytes,
        expect: Expect,
        life: Life,
    ) -> Result<u64, WriteError>;

    /// Removes a record if what stands there is as expected; `false` where nothing stood and that was as expected.
    async fn remove(&self, collection: Collection, name: &str, expect: Expect) -> Result<bool, WriteError>;

    /// Follows a collection, from its whole on. See [`Change`](crate::Change) for what is promised.
    fn watch(&self, collection: Collection) -> Watch;

    /// Follows the session.
    fn session(&self) -> watch::Receiver<Session>;
}

/// Refuses a name that is too long.
pub(crate) fn check_name(name: &str) -> Result<(), ReadError> {
    let (len, max) = (name.len(), limits::NAME_LEN);
    if len > max { Err(ReadError::TooLong { len, max }) } else { Ok(()) }
}

/// Refuses a name or value that is too long.
pub(crate) fn check_record(name: &str, value: &[u8]) -> Result<(), WriteError> {
    check_name(name)?;
    let (len, max) = (value.len(), limits::VALUE_LEN);
    if len > max { Err(WriteError::TooLong { what: "value", len, max }) } else { Ok(()) }
}
