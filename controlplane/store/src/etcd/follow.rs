//! Following a collection: a watch from the revision of the whole on.

use std::sync::Arc;

use etcd_client::{EventType, WatchOptions};
use tokio::{sync::mpsc, time};

use super::{ANSWER_LEN, Inner, record, trouble};
use crate::{
    Change, Collection, ReadError,
    line::{Pauses, Trouble},
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
    let link = inner.line.client().await;
    let (records, revision) = inner.list(collection).await?;
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1).with_fragment();
    let mut client = link.client.watch_client().max_decoding_message_size(ANSWER_LEN);
    let asked = time::timeout(inner.settings.operation, client.watch(inner.folder(collection), Some(options)));
    let mut events = match asked.await {
        Ok(events) => events.map_err(trouble)?,
        Err(_) => return Err(ReadError::Unavailable("no watch in time".into())),
    };
    // A reader that is gone ends `follow`, so what cannot be sent needs no care here and below.
    let _ = reader.send(Change::Reset(records)).await;
    pauses.reset();
    loop {
        let answer = tokio::select! {
            answer = events.message() => answer.map_err(trouble)?,
            () = inner.line.broken() => return Ok(()),
        };
        let answer = answer.ok_or_else(|| Trouble::Away("the server ended the watch".into()))?;
        if answer.canceled() {
            return Err(ReadError::Unavailable(format!("the server ended the watch: {}", answer.cancel_reason())));
        }
        for event in answer.events() {
            let Some(pair) = event.kv() else { continue };
            let Some(name) = inner.name(collection, pair.key()) else { continue };
            let change = match event.event_type() {
                EventType::Put => Change::Put(name, record(pair.clone())),
                EventType::Delete => Change::Gone(name),
            };
            let _ = reader.send(change).await;
        }
    }
}
