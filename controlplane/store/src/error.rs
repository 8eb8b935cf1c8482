//! What can go wrong, per operation, and whether to try again.

use crate::Collection;

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Yes, after reading what stands in the store now.
    Read,
    /// Yes, later and as it is: the store is away or was interrupted.
    Later,
    /// No: the caller or the operator has to change something first.
    Never,
}

/// A record or a collection could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// the store cannot be reached or does not answer in time; not the caller's fault
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// the store answers and refuses; the operator's to mend (rights, password, a damaged database)
    #[error("the store refuses: {0}")]
    Refused(String),
    /// the caller's name is too long
    #[error("a name of {len} bytes is too long for the store, {max} are the maximum")]
    TooLong {
        /// bytes given
        len: usize,
        /// bytes possible
        max: usize,
    },
}

impl ReadError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            ReadError::Unavailable(_) => Retry::Later,
            ReadError::Refused(_) | ReadError::TooLong { .. } => Retry::Never,
        }
    }
}

/// A record could not be written or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// the record does not stand as the caller expected; nothing was changed
    #[error("the record is not as expected: {}", match current { Some(revision) => format!("it is at revision {revision}"), None => "there is none".into() })]
    Conflict {
        /// revision that the record has, `None` where there is none
        current: Option<u64>,
    },
    /// the session was lost while its record was written; nothing was changed, and a new session is on its way
    #[error("the session with the store was lost")]
    SessionLost,
    /// the store cannot be reached; nothing was changed
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// the store did not answer in time; the change may have been made, or may still be made when the store comes back
    #[error("the store did not say whether it made the change: {0}")]
    Unanswered(String),
    /// the store answers and refuses; the operator's to mend (rights, password, disk full)
    #[error("the store refuses: {0}")]
    Refused(String),
    /// the caller's name or value is too long
    #[error("a {what} of {len} bytes is too long for the store, {max} are the maximum")]
    TooLong {
        /// `name` or `value`
        what: &'static str,
        /// bytes given
        len: usize,
        /// bytes possible
        max: usize,
    },
    /// the collection is full; the operator's to mend
    #[error("the collection {collection} is full: {max} records are the maximum")]
    TooMany {
        /// the full collection
        collection: Collection,
        /// records possible
        max: usize,
    },
}

impl WriteError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            WriteError::Conflict { .. } | WriteError::Unanswered(_) => Retry::Read,
            WriteError::SessionLost | WriteError::Unavailable(_) => Retry::Later,
            WriteError::Refused(_) | WriteError::TooLong { .. } | WriteError::TooMany { .. } => Retry::Never,
        }
    }

    /// Whether the store was away, whatever became of the change.
    pub fn is_away(&self) -> bool {
        matches!(self, WriteError::Unavailable(_) | WriteError::Unanswered(_))
    }
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> WriteError {
        match error {
            ReadError::Unavailable(reason) => WriteError::Unavailable(reason),
            ReadError::Refused(reason) => WriteError::Refused(reason),
            ReadError::TooLong { len, max } => WriteError::TooLong { what: "name", len, max },
        }
    }
}

/// A store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// the address of the store is not one; the operator's to mend
    #[error("{url:?} is not the address of a store: {reason}")]
    Address {
        /// the address without its password
        url: String,
        /// what is wrong with it
        reason: String,
    },
    /// the cluster's name or identity cannot be used; the operator's to mend
    #[error("{name:?} cannot be a cluster's name: {reason}")]
    Name {
        /// the name
        name: String,
        /// what is wrong with it
        reason: &'static str,
    },
    /// the name is taken; the operator's to mend
    #[error(
        "the cluster name {cluster:?} in this store belongs to another cluster (its identity is {theirs}, ours is {ours}): \
         choose another name, or join that cluster with its keys"
    )]
    Foreign {
        /// the name
        cluster: String,
        /// identity of the cluster that has the name
        theirs: String,
        /// identity that was given
        ours: String,
    },
    /// the store cannot be reached; worth another try
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// the store answers and refuses; the operator's to mend
    #[error("the store refuses: {0}")]
    Refused(String),
}

impl OpenError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            OpenError::Unavailable(_) => Retry::Later,
            _ => Retry::Never,
        }
    }
}
