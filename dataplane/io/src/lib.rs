//! Ways to the network, behind [`sluice_frames::Backend`]: `uring` (io_uring), `mmsg` (recvmmsg/sendmmsg) and `sim` (no
//! network at all, for tests). Each folder has the same files: `mod` the backend, `rx` how datagrams come in, `tx` how they
//! leave, `sys` what it asks of the system underneath.
//!
//! A worker [binds](socket::bind) its sockets, [probes](Probe::new) the kernel, [chooses](Probe::choose) and then runs one
//! [`AnyBackend`]. Other threads wake it with its [`Waker`].

mod address;
mod any;
pub mod mmsg;
pub mod probe;
mod runs;
pub mod sim;
pub mod socket;
pub mod uring;
mod waker;

pub use any::{AnyBackend, BackendKind, Config};
pub use mmsg::Mmsg;
pub use probe::{Preference, Probe};
pub use uring::Uring;
pub use waker::Waker;
