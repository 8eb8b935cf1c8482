//! One clock for a run: what publishers stamp and receivers read.

use std::time::Instant;

use sluice_wire::Micros;

/// Time since the run began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { epoch: Instant::now() }
    }

    /// Where it began.
    pub fn epoch(self) -> Instant {
        self.epoch
    }

    pub fn now(self) -> Micros {
        Micros(self.epoch.elapsed().as_micros() as u64)
    }

    pub fn ns(self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}
