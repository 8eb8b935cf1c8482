//! What a node says on its statistics socket: a line of JSON each second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    Sample(Sample),
    /// Why nothing more comes.
    Refused(String),
}

/// Everything that is counted, at one time. Names are those of `/metrics`, less their prefix.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The node's name.
    pub node: String,
    /// The backend that runs, and why that one.
    pub backend: String,
    pub reason: String,
    /// Microseconds since the node was started.
    pub at_us: u64,
    /// Counters since the start, and present levels, of each worker.
    pub workers: Vec<Counters>,
}

/// Numbers by name.
pub type Counters = BTreeMap<String, u64>;
