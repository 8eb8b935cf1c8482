//! How other threads end a worker's wait.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Ends the current or next wait of one backend's turn, which then reports `woken`. Clones ring the same bell.
#[derive(Clone)]
pub struct Waker(Arc<Bell>);

struct Bell {
    /// Rung and not yet heard: further rings need no system call.
    rung: AtomicBool,
    /// None in the simulation, where nobody waits.
    event: Option<OwnedFd>,
}

impl Waker {
    /// Wakes the worker. What the caller wrote to a queue before is visible to the worker once its turn reports `woken`.
    pub fn wake(&self) {
        if self.0.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(event) = &self.0.event else { return };
        let one = 1u64;
        // SAFETY: needed to write an eventfd. The descriptor is open (owned here) and `one` is 8 readable bytes. It cannot
        // fail: the count stays far below its maximum, as it is rung once per hearing.
        unsafe {
            libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
        }
    }

    /// A bell with an eventfd behind it. Reading that blocks while nobody rang.
    pub(crate) fn new() -> io::Result<Waker> {
        // SAFETY: needed to make an eventfd; no memory is involved, the result is checked.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Waker(Arc::new(Bell { rung: AtomicBool::new(false), event: Some(event) })))
    }

    /// A bell that only [`Waker::heard`] listens to.
    pub(crate) fn silent() -> Waker {
        Waker(Arc::new(Bell { rung: AtomicBool::new(false), event: None }))
    }

    /// Whether it was rung since this was asked last. Called by the backend before its user looks at any queue, so that a
    /// ring after this is a new one.
    pub(crate) fn heard(&self) -> bool {
        self.0.rung.swap(false, Ordering::AcqRel)
    }

    /// The eventfd, for a backend to wait on; -1 if silent.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.event.as_ref().map_or(-1, |event| event.as_raw_fd())
    }
}
