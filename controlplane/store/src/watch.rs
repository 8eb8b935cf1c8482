//! Following a collection.

use tokio::sync::mpsc;

use crate::Record;

/// What happened to a collection.
///
/// Changes of one name come in the order of their revisions. A value that is overwritten at once, or a record that is removed and
/// made again at once, may show only its last state; the last state of each name always comes. When the connection was lost or the
/// reader fell too far behind, the whole collection comes again, so nothing can be missed unseen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The whole collection: whatever the reader knew that is not in it is gone. Comes first, and after each interruption.
    Reset(Vec<(String, Record)>),
    /// a record was made or changed
    Put(String, Record),
    /// a record is gone: removed, or its session ended
    Gone(String),
}

/// A reader of a collection's changes. It costs the store something until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    pub(crate) fn new(changes: mpsc::Receiver<Change>) -> Watch {
        Watch { changes }
    }

    /// The next change; waits for as long as there is none. `None` when the store was dropped. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}
