//! Maxima of what the store takes, and its times.

use std::time::Duration;

/// Longest value of a record in bytes. Raising it lets one record fill more of a ZooKeeper packet (1 MiB) or an etcd request
/// (1.5 MiB), which also holds the key; lowering it refuses rooms with long metadata.
pub const VALUE_LEN: usize = 256 * 1024;

/// Longest name of a record in bytes of UTF-8, before it is encoded (which at most triples it).
pub const NAME_LEN: usize = 1024;

/// Changes that wait in a [`Watch`](crate::Watch) for its reader. Raising it costs memory (values wait too); lowering it makes the
/// backend hold back or start over sooner, which costs a reading of the whole collection.
pub const WATCH_LEN: usize = 256;

/// Records that are read at once when a collection is listed from a store that has no reading of a range. Raising it makes a list
/// faster over a long way; lowering it leaves room for other operations on the same connection.
pub const READS_AT_ONCE: usize = 64;

/// First pause before a lost store is tried again; doubles up to [`PAUSE_MAX`].
pub const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause before a lost store is tried again. Raising it spares a store that just comes back; lowering it heals sooner.
pub const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Times and sizes that an operator may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the store keeps the records of a session that it no longer hears from. Lower finds a dead process sooner; higher
    /// rides out longer interruptions.
    ///
    /// A ZooKeeper server raises it to its `minSessionTimeout` (twice its `tickTime`, so 4 s by default: set `tickTime=1000` or
    /// less for 2 s) and lets a session live up to one tick longer. etcd knows whole seconds and raises it to 1.5 times its
    /// election timeout, rounded up (2 s by default).
    pub session_ttl: Duration,
    /// How long an operation may take before it fails.
    pub operation: Duration,
    /// How long [`open`](crate::open) waits for a store that cannot be reached.
    pub opening: Duration,
    /// Most records of one collection. It is counted at most once per second and process, so it may be passed by what is created
    /// within that second.
    pub collection_len: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_ttl: Duration::from_secs(2),
            operation: Duration::from_secs(1),
            opening: Duration::from_secs(10),
            collection_len: 200_000,
        }
    }
}
