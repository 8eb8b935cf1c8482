//! The node's clock: one zero for all its threads.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sluice_wire::Micros;

/// Counts from the node's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
    /// Wall clock at `epoch`, as a 32.32 NTP timestamp (RFC 3550 section 4).
    ntp: u64,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        /// Seconds from 1900 to 1970.
        const NTP_OF_UNIX_S: u64 = 2_208_988_800;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        Clock { epoch: Instant::now(), ntp: (unix.as_secs().wrapping_add(NTP_OF_UNIX_S) << 32) | fraction }
    }

    pub(crate) fn now(&self) -> Micros {
        Micros(self.epoch.elapsed().as_micros() as u64)
    }

    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    pub(crate) fn ntp(&self) -> u64 {
        self.ntp
    }
}

/// CPU time of the calling thread so far, in user space and in the kernel. A system call: not for every packet.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
