//! Following a collection: a persistent recursive watch says which names changed, and each is read when its turn comes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::{sync::mpsc, time};
use zookeeper_client::{AddWatchMode, Client, EventType, WatchedEvent};

use super::{Inner, read, trouble};
use crate::{
    Change, Collection, ReadError, Record,
    line::{Pauses, Trouble},
    name,
};

/// Tells a reader the whole collection and then its changes; starts over whenever the line breaks. Ends with its reader.
pub(super) async fn follow(inner: Arc<Inner>, collection: Collection, reader: mpsc::Sender<Change>) {
    let mut pauses = Pauses::new();
    loop {
        let followed = tokio::select! {
            followed = once(&inner, collection, &reader, &mut pauses) => followed,
            () = reader.closed() => return,
        };
        if let Err(error) = followed {
            tracing::debug!("the watch of {collection} starts over: {error}");
        }
        pauses.wait().await;
    }
}

/// Follows until the line breaks (that is `Ok`) or the server does not go on.
async fn once(
    inner: &Inner,
    collection: Collection,
    reader: &mpsc::Sender<Change>,
    pauses: &mut Pauses,
) -> Result<(), ReadError> {
    let client = inner.line.client().await;
    let folder = inner.folder(collection);
    let within = inner.settings.operation;
    // First the watch and then the whole: what changes in between is in both.
    let mut events = match time::timeout(within, client.watch(&folder, AddWatchMode::PersistentRecursive)).await {
        Ok(events) => events.map_err(trouble)?,
        Err(_) => return Err(ReadError::Unavailable("no watch in time".into())),
    };
    let records = inner.list(collection).await?;
    let mut known: HashMap<String, u64> =
        records.iter().map(|(name, record)| (name.clone(), record.revision)).collect();
    // A reader that is gone ends `follow`, so what cannot be sent needs no care here and below.
    let _ = reader.send(Change::Reset(records)).await;
    pauses.reset();
    let mut changed = Names::default();
    loop {
        tokio::select! {
            biased;
            event = events.changed() => match part(&folder, &event) {
                Some(part) => if let Some(name) = name::decode_found(collection, part) {
                    changed.push(name);
                },
                // The connection or the folder is gone.
                None => return Ok(()),
            },
            Ok(place) = reader.reserve(), if !changed.is_empty() => {
                let Some(name) = changed.pop() else { continue };
                let found = now(inner, &client, collection, &name).await?;
                if let Some(change) = compare(&mut known, name, found) {
                    place.send(change);
                }
            }
        }
    }
}

async fn now(inner: &Inner, client: &Client, collection: Collection, name: &str) -> Result<Option<Record>, ReadError> {
    match time::timeout(inner.settings.operation, read(client, &inner.path(collection, name))).await {
        Ok(found) => Ok(found.map_err(trouble)?),
        Err(_) => Err(Trouble::Away("no answer in time".into()).into()),
    }
}

/// The part of a record's path that is its name, if an event is about a record.
fn part<'a>(folder: &str, event: &'a WatchedEvent) -> Option<&'a str> {
    match event.event_type {
        EventType::Session => None,
        _ => event.path.strip_prefix(folder)?.strip_prefix('/'),
    }
}

/// What the reader has not been told of a name yet. An event only says that there was a change, and what is read may be newer.
fn compare(known: &mut HashMap<String, u64>, name: String, found: Option<Record>) -> Option<Change> {
    match found {
        Some(record) if known.get(&name).is_none_or(|last| *last < record.revision) => {
            known.insert(name.clone(), record.revision);
            Some(Change::Put(name, record))
        }
        Some(_) => None,
        None => known.remove(&name).map(|_| Change::Gone(name)),
    }
}

/// Names that wait for their turn, each once, so that a slow reader costs no more than the collection's names.
#[derive(Default)]
struct Names {
    order: VecDeque<String>,
    waiting: HashSet<String>,
}

impl Names {
    fn push(&mut self, name: String) {
        if self.waiting.insert(name.clone()) {
            self.order.push_back(name);
        }
    }

    fn pop(&mut self) -> Option<String> {
        let name = self.order.pop_front()?;
        self.waiting.remove(&name);
        Some(name)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
