//! What is written under which collection: JSON, so that an operator can read it with the store's own tools.
//!
//! Readers ignore fields they do not know and fill in those that are missing, so that neighbouring versions work together. What is no
//! record of its kind is an error for that record only.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{Collection, Expect, Life, ReadError, Record, Retry, Store, WriteError};

/// A kind of record.
pub trait Kind: Serialize + DeserializeOwned + Send + Sync {
    /// where its records are
    const COLLECTION: Collection;
    /// how long they live
    const LIFE: Life;
}

/// A media node, by its id; written by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// where clients send media to, `address:port`
    pub addresses: Vec<String>,
    /// what it can carry, in packets per second sent; a weight where it was not measured
    pub capacity: u64,
    /// what it carries, in the unit of `capacity`
    pub load: u64,
    /// version of its software
    pub version: String,
    /// where it stands, empty where nobody said
    pub region: String,
    /// SHA-256 of its link certificate in hexadecimal digits
    pub certificate: String,
    /// it is about to end and takes no new calls
    pub leaving: bool,
    /// when it started, in milliseconds since 1970 by its own clock
    pub since_ms: u64,
}

/// That an operator drained a node, by the node's id; stays when the node restarts.
///
/// Apart from [`NodeRecord`], because a session's record belongs to the one who wrote it last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainRecord {
    /// when, in milliseconds since 1970 by the clock of the control that was asked
    pub since_ms: u64,
}

/// A control process, by its id; written by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlRecord {
    /// where nodes dial it, `address:port`
    pub link: String,
    /// where its HTTP API and WebSockets are reached by the other controls, `address:port`
    pub http: String,
    /// SHA-256 of its link certificate in hexadecimal digits
    pub certificate: String,
    /// version of its software
    pub version: String,
    /// when it started, in milliseconds since 1970 by its own clock
    pub since_ms: u64,
}

/// Which nodes carry a call, by its room's name; written by the active control. Its revision is the call's fencing epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallRecord {
    /// ids of its nodes, the home first
    pub nodes: Vec<String>,
    /// ids of the nodes that stand in for a dead one, in order
    pub backups: Vec<String>,
    /// term of the control that decided so
    pub term: u64,
    /// when the call began, in milliseconds since 1970
    pub since_ms: u64,
}

/// A room made through the API, by its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// the encoded `CreateRoomRequest`; base64 in JSON
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub request: Bytes,
}

impl Kind for NodeRecord {
    const COLLECTION: Collection = Collection::Nodes;
    const LIFE: Life = Life::Session;
}

impl Kind for DrainRecord {
    const COLLECTION: Collection = Collection::Drains;
    const LIFE: Life = Life::Durable;
}

impl Kind for ControlRecord {
    const COLLECTION: Collection = Collection::Controls;
    const LIFE: Life = Life::Session;
}

impl Kind for CallRecord {
    const COLLECTION: Collection = Collection::Calls;
    const LIFE: Life = Life::Durable;
}

impl Kind for RoomRecord {
    const COLLECTION: Collection = Collection::Rooms;
    const LIFE: Life = Life::Durable;
}

/// A record that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    /// what it says
    pub value: T,
    /// see [`Record::revision`]
    pub revision: u64,
}

/// What stands under a key is no record of its kind; the operator's to remove, or a newer version's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store holds something unreadable under {collection}/{name:?}: {reason}")]
pub struct Unreadable {
    /// where
    pub collection: Collection,
    /// under which name
    pub name: String,
    /// what is wrong with it
    pub reason: String,
    /// its revision, with which it can be replaced
    pub revision: u64,
}

/// A record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// see [`ReadError`]
    #[error(transparent)]
    Store(#[from] ReadError),
    /// see [`Unreadable`]
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl RecordError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            RecordError::Store(error) => error.retry(),
            RecordError::Unreadable(_) => Retry::Never,
        }
    }
}

/// Understands a record, as it comes from a [`Watch`](crate::Watch) too. What cannot be understood is counted.
pub fn decode<T: Kind>(name: &str, record: &Record) -> Result<Entry<T>, Unreadable> {
    match serde_json::from_slice(&record.value) {
        Ok(value) => Ok(Entry { value, revision: record.revision }),
        Err(error) => {
            metrics::counter!("sluice_store_garbage_total", "collection" => T::COLLECTION.as_str()).increment(1);
            Err(Unreadable {
                collection: T::COLLECTION,
                name: name.into(),
                reason: error.to_string(),
                revision: record.revision,
            })
        }
    }
}

/// The record under a name, if there is one.
pub async fn read<T: Kind>(store: &dyn Store, name: &str) -> Result<Option<Entry<T>>, RecordError> {
    Ok(match store.read(T::COLLECTION, name).await? {
        Some(record) => Some(decode(name, &record)?),
        None => None,
    })
}

/// All records of a kind with their names, each understood or not.
pub async fn list<T: Kind>(store: &dyn Store) -> Result<Vec<(String, Result<Entry<T>, Unreadable>)>, ReadError> {
    let records = store.list(T::COLLECTION).await?;
    Ok(records
        .into_iter()
        .map(|(name, record)| {
            let entry = decode(&name, &record);
            (name, entry)
        })
        .collect())
}

/// Writes a record if what stands there is as expected, and returns its new revision.
pub async fn write<T: Kind>(store: &dyn Store, name: &str, value: &T, expect: Expect) -> Result<u64, WriteError> {
    // Cannot fail for these types; where it does, nothing of it can be stored.
    let json = serde_json::to_vec(value).map_err(|error| WriteError::Refused(error.to_string()))?;
    store.write(T::COLLECTION, name, json.into(), expect, T::LIFE).await
}

/// Removes a record if what stands there is as expected; `false` where nothing stood and that was as expected.
pub async fn remove<T: Kind>(store: &dyn Store, name: &str, expect: Expect) -> Result<bool, WriteError> {
    store.remove(T::COLLECTION, name, expect).await
}

fn to_base64<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        Record { value: Bytes::copy_from_slice(json.as_bytes()), revision: 7 }
    }

    #[test]
    fn fields_of_other_versions_are_ignored_and_filled_in() {
        let entry: Entry<NodeRecord> = decode("n", &record(r#"{"region":"eu","colour":"red","capacity":5}"#)).unwrap();
        assert_eq!(entry.value, NodeRecord { region: "eu".into(), capacity: 5, ..Default::default() });
        assert_eq!(entry.revision, 7);
    }

    #[test]
    fn garbage_names_its_key() {
        for json in ["", "{", "7", r#"{"nodes":5}"#, "\u{0}"] {
            let error = decode::<CallRecord>("a/b", &record(json)).unwrap_err();
            assert!(error.to_string().contains(r#"calls/"a/b""#), "{error}");
        }
        assert!(decode::<RoomRecord>("r", &record(r#"{"request":"***"}"#)).is_err());
    }

    #[test]
    fn a_room_comes_back() {
        let room = RoomRecord { request: Bytes::from_static(b"\x0a\x05daily") };
        let json = serde_json::to_string(&room).unwrap();
        assert_eq!(json, r#"{"request":"CgVkYWlseQ=="}"#);
        assert_eq!(decode::<RoomRecord>("daily", &record(&json)).unwrap().value, room);
    }
}
