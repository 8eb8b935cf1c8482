//! Sender and receiver reports, made anew on each hop (RFC 3550 section 6.4).

use sluice_wire::{
    Micros,
    rtcp::{ReportBlock, SenderInfo},
};

use crate::{
    Forwarder,
    limits::{REPORT_FIRST, REPORT_PERIOD},
    subscription::Source,
};

/// A publisher's clocks, from its last sender report for a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderClock {
    pub(crate) ntp: u64,
    pub(crate) rtp_timestamp: u32,
    pub(crate) arrival: Micros,
}

/// What arrived of one incoming stream, for receiver reports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reception {
    /// First and highest index.
    span: Option<(u64, u64)>,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Arrival minus timestamp of the last packet, in timestamp units.
    transit: Option<u32>,
    /// In sixteenths of a timestamp unit (RFC 3550 appendix A.8).
    jitter: u32,
    pub(crate) clock: Option<SenderClock>,
    pub(crate) next_report: Option<Micros>,
}

/// Packets of one reporting interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) expected: u64,
    pub(crate) lost: u64,
}

impl Reception {
    /// A packet came, not a retransmitted one.
    pub(crate) fn add(&mut self, index: u64, timestamp: u32, now: Micros, clock_rate: u32) {
        let (first, highest) = self.span.unwrap_or((index, index));
        self.span = Some((first.min(index), highest.max(index)));
        self.received += 1;
        self.next_report.get_or_insert(now + REPORT_FIRST);
        let arrival = (u128::from(now.0) * u128::from(clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let deviation = (transit.wrapping_sub(last) as i32).unsigned_abs();
            // A source that jumps in time is not jitter of the network.
            if deviation < clock_rate {
                self.jitter = self.jitter + deviation - ((self.jitter + 8) >> 4);
            }
        }
    }

    /// Ends an interval; none before the first packet.
    pub(crate) fn report(&mut self, ssrc: u32, now: Micros) -> Option<(ReportBlock, Interval)> {
        let (first, highest) = self.span?;
        self.next_report = Some(now + REPORT_PERIOD);
        let expected = highest - first + 1;
        let interval = expected.saturating_sub(self.expected_prior);
        let lost = interval.saturating_sub(self.received.saturating_sub(self.received_prior));
        self.expected_prior = expected;
        self.received_prior = self.received;
        let fraction = (lost << 8).checked_div(interval).unwrap_or(0).min(255);
        let (last_sr, delay) = self.clock.map_or((0, 0), |clock| {
            let delay = now.since(clock.arrival).as_micros() * 65_536 / 1_000_000;
            ((clock.ntp >> 16) as u32, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        let block = ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: i32::try_from(expected as i64 - self.received as i64).unwrap_or(i32::MAX),
            highest_sequence: highest as u32,
            jitter: self.jitter >> 4,
            last_sr,
            delay_since_last_sr: delay,
        };
        Some((block, Interval { expected: interval, lost }))
    }

    /// Jitter in timestamp units.
    pub(crate) fn jitter(&self) -> u32 {
        self.jitter >> 4
    }
}

/// Microseconds as 32.32 fixed point seconds.
pub(crate) fn ntp_span(micros: u64) -> u64 {
    ((u128::from(micros) << 32) / 1_000_000) as u64
}

/// Timestamp units in a signed span of 32.32 fixed point seconds.
pub(crate) fn units(span: i64, clock_rate: u32) -> u32 {
    ((i128::from(span) * i128::from(clock_rate)) >> 32) as i64 as u32
}

/// A stream whose publisher has sent no report goes without one for this many first periods; then arrival times must do.
const PATIENCE: u64 = 30;

impl Forwarder {
    /// Now as a 32.32 NTP timestamp.
    pub(crate) fn ntp(&self, now: Micros) -> u64 {
        self.config.ntp_offset.wrapping_add(ntp_span(now.0))
    }

    /// The report for what a receiver gets: the publisher's clock in our time, and the timestamps as they were rewritten.
    /// None while nothing is forwarded or the publisher's clock is not known yet.
    pub(crate) fn sender_info(&self, now: Micros, subscription_index: u32) -> Option<SenderInfo> {
        let subscription = self.subscriptions.get(subscription_index)?;
        let Source { encoding, generation } = subscription.current?;
        let track = self.tracks.get(subscription.track)?;
        let layer = track.layers.get(usize::from(encoding)).filter(|layer| layer.generation == generation)?;
        let ntp = self.ntp(now);
        let source_timestamp = match (layer.reception.clock, self.ntp_delta(track)) {
            (Some(clock), Some(delta)) => {
                let elapsed = ntp.wrapping_sub(delta).wrapping_sub(clock.ntp) as i64;
                clock.rtp_timestamp.wrapping_add(units(elapsed, track.clock_rate()))
            }
            _ if now.since(subscription.started) > REPORT_FIRST * PATIENCE as u32 => {
                let elapsed = ntp_span(now.since(layer.last_packet?).as_micros() as u64);
                layer.last_timestamp.wrapping_add(units(elapsed as i64, track.clock_rate()))
            }
            _ => return None,
        };
        Some(SenderInfo {
            ssrc: subscription.ssrc,
            ntp,
            rtp_timestamp: source_timestamp.wrapping_add(subscription.rewriter.timestamp_offset()),
            packet_count: subscription.packets,
            octet_count: subscription.octets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_jitter_as_in_the_rfc() {
        let mut reception = Reception::default();
        for n in (0..100u64).filter(|n| n % 4 != 3) {
            reception.add(65_500 + n, n as u32 * 960, Micros(n * 20_000 + (n % 2) * 5_000), 48_000);
        }
        let (block, interval) = reception.report(9, Micros(2_000_000)).unwrap();
        assert_eq!((interval.expected, interval.lost), (99, 24));
        assert_eq!(block.fraction_lost, (24 * 256 / 99) as u8);
        assert_eq!(block.cumulative_lost, 24);
        assert_eq!(block.highest_sequence, 65_598);
        assert!((100..=240).contains(&block.jitter), "5 ms at 48 kHz are 240, not {}", block.jitter);
        let (block, _) = reception.report(9, Micros(3_000_000)).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 24));
    }

    #[test]
    fn spans_convert() {
        assert_eq!(ntp_span(1_500_000), 3 << 31);
        assert_eq!(units(-(1 << 31), 90_000), 45_000u32.wrapping_neg());
    }
}
