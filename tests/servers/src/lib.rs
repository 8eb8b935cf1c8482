//! Real servers for tests: ZooKeeper and etcd from Debian's packages, and a TCP proxy that cuts and hangs.
//!
//! Each server has its own folder and loopback ports, so that several run at once, and ends with the value that started it, at the
//! latest with the process.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod proxy;
mod server;

pub use proxy::{Mode, Proxy};
pub use server::{Kind, Server, Tls};
