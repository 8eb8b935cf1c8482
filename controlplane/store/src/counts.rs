//! How full collections are, counted now and then.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{Collection, WriteError, line::Change, line::Trouble};

/// How long a count is good for. Raising it lets a collection grow further past its maximum, lowering it costs a counting per
/// new record.
const FRESH: Duration = Duration::from_secs(1);

/// The last count of each collection.
pub(crate) struct Counts {
    max: usize,
    last: Mutex<HashMap<Collection, (Instant, usize)>>,
}

impl Counts {
    pub(crate) fn new(max: usize) -> Counts {
        Counts { max, last: Mutex::default() }
    }

    /// Refuses a new record where the collection is full; `count` counts it.
    pub(crate) async fn check(
        &self,
        collection: Collection,
        count: impl Future<Output = Result<usize, Trouble>>,
    ) -> Result<(), Change> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&collection).copied();
        let records = match last {
            // A full collection is counted each time: something may have been removed.
            Some((at, records)) if at.elapsed() < FRESH && records < self.max => records,
            _ => {
                let records = count.await?;
                let now = (Instant::now(), records);
                self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(collection, now);
                records
            }
        };
        if records >= self.max { Err(WriteError::TooMany { collection, max: self.max }.into()) } else { Ok(()) }
    }
}
