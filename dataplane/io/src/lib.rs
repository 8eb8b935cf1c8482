//! Ways to the network, behind [`sluice_frames::Backend`]: `uring` (io_uring), `mmsg` (recvmmsg/sendmmsg), `xdp` (AF_XDP,
//! past most of the kernel) and `sim` (no network at all, for tests). Each folder has the same files: `mod` the backend, `rx` how
//! datagrams come in, `tx` how they leave (`uring` sends as `mmsg` does), `sys` what it asks of the system underneath.
//!
//! A node [binds](socket::bind) the sockets of its workers, [probes](Probe::new) the kernel, [starts](Started::new) an
//! [`AnyBackend`] for each worker, which runs it. Other threads wake it with its [`Waker`]. [`steer`] has the kernel give
//! datagrams to the worker whose they are.

mod address;
mod any;
pub mod bpf;
pub mod mmsg;
pub mod probe;
mod runs;
pub mod sim;
pub mod socket;
pub mod steer;
pub mod uring;
mod waker;
pub mod xdp;

pub use any::{AnyBackend, BackendKind, Config, Started};
pub use mmsg::Mmsg;
pub use probe::{Preference, Probe};
pub use steer::Steering;
pub use uring::Uring;
pub use waker::Waker;
pub use xdp::Xdp;
