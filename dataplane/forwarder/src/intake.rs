//! How much one client may ask of a worker. Whoever keeps to what real clients do never meets these bounds.

use sluice_messages::{Kind, Track};
use sluice_wire::Micros;

use crate::limits::{
    AUDIO_RATE_BPS, INTAKE_BURST, RATE_BURST, RATE_FACTOR, RATE_MIN_BPS, RTCP_PER_S_MAX, RTP_PER_S_MAX, VIDEO_RATE_BPS,
};

/// Lets through what keeps a rate, and bursts after a pause (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When all that was let through would have come at exactly the rate, in nanoseconds.
    paid_ns: u64,
}

impl Bucket {
    /// Whether something may pass that takes `cost_ns` at the rate; what comes ahead of time is at most `burst_ns`.
    fn take(&mut self, now: Micros, cost_ns: u64, burst_ns: u64) -> bool {
        let now_ns = now.0.saturating_mul(1000);
        let paid_ns = self.paid_ns.max(now_ns).saturating_add(cost_ns);
        let passes = paid_ns - now_ns <= burst_ns;
        if passes {
            self.paid_ns = paid_ns;
        }
        passes
    }
}

/// Datagrams of one transport, before any work is done for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intake {
    rtp: Bucket,
    rtcp: Bucket,
}

impl Intake {
    /// Whether an RTP packet may come in.
    /// `factor` is how many clients it counts for.
    pub(crate) fn rtp(&mut self, now: Micros, factor: u32) -> bool {
        self.rtp.take(now, 1_000_000_000 / (RTP_PER_S_MAX * u64::from(factor)), INTAKE_BURST.as_nanos() as u64)
    }

    /// Whether an RTCP compound may come in.
    pub(crate) fn rtcp(&mut self, now: Micros, factor: u32) -> bool {
        self.rtcp.take(now, 1_000_000_000 / (RTCP_PER_S_MAX * u64::from(factor)), INTAKE_BURST.as_nanos() as u64)
    }
}

/// What a track may send, all its layers together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    rate_bps: u64,
    bucket: Bucket,
}

impl Allowance {
    pub(crate) fn new(entry: &Track) -> Allowance {
        let mut allowance = Allowance { rate_bps: 0, bucket: Bucket::default() };
        allowance.declare(entry);
        allowance
    }

    /// Takes over what the publisher says now.
    pub(crate) fn declare(&mut self, entry: &Track) {
        let declared_bps = match (entry.rate_bps, entry.kind) {
            (0, Kind::Audio) => AUDIO_RATE_BPS,
            (0, Kind::Video) => VIDEO_RATE_BPS,
            (declared_bps, _) => declared_bps,
        };
        self.rate_bps = declared_bps.saturating_mul(RATE_FACTOR).max(RATE_MIN_BPS);
    }

    /// Whether a packet of so many bytes is within it.
    pub(crate) fn take(&mut self, now: Micros, bytes: usize) -> bool {
        let cost_ns = (bytes as u64).saturating_mul(8_000_000_000) / self.rate_bps;
        self.bucket.take(now, cost_ns, RATE_BURST.as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_passes_and_ten_times_the_rate_does_not() {
        let run = |per_s: u64| {
            let mut intake = Intake::default();
            (0..per_s * 10).filter(|n| intake.rtcp(Micros(5_000_000 + n * 1_000_000 / per_s), 1)).count() as u64
        };
        assert_eq!(run(RTCP_PER_S_MAX), RTCP_PER_S_MAX * 10);
        let burst = RTCP_PER_S_MAX * INTAKE_BURST.as_millis() as u64 / 1000;
        let passed = run(RTCP_PER_S_MAX * 10);
        assert!((RTCP_PER_S_MAX * 10..=RTCP_PER_S_MAX * 10 + burst + 1).contains(&passed), "{passed}");
    }

    proptest! {
        /// Whatever comes when: in no stretch of time passes more than the rate and one burst.
        #[test]
        fn never_more_than_rate_and_burst(gaps in prop::collection::vec(0u64..400, 1..3000), from in 0usize..3000) {
            const COST_NS: u64 = 100_000;
            const BURST_NS: u64 = 10_000_000;
            let mut bucket = Bucket::default();
            let mut now = Micros(1);
            let mut passed = Vec::new();
            for gap in gaps {
                now.0 += gap;
                if bucket.take(now, COST_NS, BURST_NS) {
                    passed.push(now);
                }
            }
            let stretch = &passed[from.min(passed.len())..];
            if let (Some(first), Some(last)) = (stretch.first(), stretch.last()) {
                let span_ns = (last.0 - first.0) * 1000;
                prop_assert!(stretch.len() as u64 <= (span_ns + BURST_NS) / COST_NS + 1);
            }
        }
    }
}
