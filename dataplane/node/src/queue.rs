//! How threads wake each other. Queues themselves are `rtrb` rings: bounded, one producer, one consumer, no lock.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::Thread,
};

use sluice_io::Waker;

/// Wakes a worker out of its backend's wait. Ringing costs a fence and a load while the worker is awake, which is when
/// queues are busy, and a system call only when it sleeps.
pub(crate) struct Bell {
    asleep: AtomicBool,
    waker: Waker,
}

impl Bell {
    pub(crate) fn new(waker: Waker) -> Bell {
        Bell { asleep: AtomicBool::new(false), waker }
    }

    /// Called by a producer after it pushed.
    pub(crate) fn ring(&self) {
        // Pairs with the fence in `doze`: either we see the sleeper, or it sees what was pushed.
        fence(Ordering::SeqCst);
        self.hint();
    }

    /// The same without the fence, for a producer that rings later in its turn as well: a sleeper may be missed until then.
    pub(crate) fn hint(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// The worker is about to sleep; it looks into its queues once more after this.
    pub(crate) fn doze(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake: nobody needs to wake it.
    pub(crate) fn rise(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// Wakes a slow thread, which sleeps by parking.
#[derive(Default)]
pub(crate) struct Knock {
    sleeper: OnceLock<Thread>,
}

impl Knock {
    /// The calling thread is the one to wake.
    pub(crate) fn listen(&self) {
        // A second call would come from the same thread, so an occupied cell is fine.
        let _ = self.sleeper.set(std::thread::current());
    }

    /// Called by a producer after it pushed. Before [`Knock::listen`] nobody sleeps yet.
    pub(crate) fn knock(&self) {
        if let Some(thread) = self.sleeper.get() {
            thread.unpark();
        }
    }
}
