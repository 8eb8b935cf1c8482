//! The cluster store: what all processes of a cluster must agree on, behind one trait with three backends.
//!
//! [`open`] makes a [`Store`] from an address: `sled:<folder>` embedded in one process, `zookeeper://host:port,…` or
//! `etcd://host:port,…` for a cluster. Above it [`records`] knows what is written under which collection, and [`leader`] elects one
//! of many with nothing but the trait. One suite of tests, `tests/contract`, says what every backend fulfils.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod counts;
mod embedded;
mod error;
mod etcd;
pub mod leader;
pub mod limits;
mod line;
mod name;
mod open;
pub mod records;
mod store;
mod watch;
mod zookeeper;

pub use error::{OpenError, ReadError, Retry, WriteError};
pub use limits::Settings;
pub use open::open;
pub use store::{Collection, Expect, Life, Record, Session, SessionState, Store};
pub use watch::{Change, Watch};
