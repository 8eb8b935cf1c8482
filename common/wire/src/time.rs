//! Time as an argument: nobody in the sans-IO crates reads a clock.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// Microseconds on the worker's monotonic clock since its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// Later than anything: "no deadline".
    pub const NEVER: Micros = Micros(u64::MAX);

    /// Time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;

    fn add(self, rhs: Duration) -> Micros {
        Micros(self.0.saturating_add(rhs.as_micros() as u64))
    }
}

impl Sub<Duration> for Micros {
    type Output = Micros;

    fn sub(self, rhs: Duration) -> Micros {
        Micros(self.0.saturating_sub(rhs.as_micros() as u64))
    }
}
