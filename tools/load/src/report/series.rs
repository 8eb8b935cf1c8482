//! A run by the second.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Quantiles;
use crate::measure::{Phase, Snapshot, Tally};

/// Seconds that may still get something: threads hand over once a second, each in its own rhythm.
const OPEN: u64 = 3;

/// One second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Point {
    /// Since the run began.
    pub t_s: u64,
    pub is_measured: bool,
    pub sent_packets: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    pub lost: u64,
    pub repaired: u64,
    /// 0 to 1.
    pub loss: f64,
    pub audio_ms: Quantiles,
    pub video_ms: Quantiles,
}

/// Seconds in order.
#[derive(Debug, Default)]
pub struct Series {
    open: BTreeMap<u64, (Tally, bool)>,
    points: Vec<Point>,
}

impl Series {
    /// Adds what one thread counted; it belongs to the second in which the thread handed it over.
    pub fn add(&mut self, snapshot: &Snapshot) {
        let second = snapshot.at.0 / 1_000_000;
        let (tally, is_measured) = self.open.entry(second).or_default();
        tally.counters += &snapshot.tally.counters;
        tally.latency.merge(&snapshot.tally.latency);
        *is_measured |= snapshot.phase == Phase::Measuring;
        while self.open.first_key_value().is_some_and(|(first, _)| first + OPEN < second) {
            self.close_first();
        }
    }

    fn close_first(&mut self) {
        if let Some((second, (tally, is_measured))) = self.open.pop_first() {
            self.points.push(point(second, &tally, is_measured));
        }
    }

    /// The last second to which nothing will be added, or nearly so.
    pub fn latest(&self) -> Option<Point> {
        let mut open = self.open.iter().rev();
        open.next()?;
        let recent = open.next().map(|(second, (tally, is_measured))| point(*second, tally, *is_measured));
        recent.or(self.points.last().copied())
    }

    /// All seconds.
    pub fn finish(mut self) -> Vec<Point> {
        while !self.open.is_empty() {
            self.close_first();
        }
        self.points
    }
}

fn point(t_s: u64, tally: &Tally, is_measured: bool) -> Point {
    let counters = &tally.counters;
    let lost = counters.expected_packets.saturating_sub(counters.arrived_packets);
    Point {
        t_s,
        is_measured,
        sent_packets: counters.sent_packets,
        received_packets: counters.received_packets,
        received_bytes: counters.received_bytes,
        lost,
        repaired: counters.repaired_packets,
        loss: if counters.expected_packets == 0 { 0.0 } else { lost as f64 / counters.expected_packets as f64 },
        audio_ms: (&tally.latency.audio).into(),
        video_ms: (&tally.latency.video).into(),
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::Micros;

    use super::*;

    #[test]
    fn threads_are_added_up_by_the_second() {
        let mut series = Series::default();
        for (at, packets) in [(100_000, 5), (900_000, 6), (1_500_000, 7), (9_000_000, 1)] {
            let mut tally = Tally::default();
            tally.counters.received_packets = packets;
            tally.latency.video.saturating_record(packets * 1000);
            series.add(&Snapshot { phase: Phase::Measuring, at: Micros(at), tally });
        }
        let points = series.finish();
        let got: Vec<_> = points.iter().map(|p| (p.t_s, p.received_packets, p.video_ms.count)).collect();
        assert_eq!(got, [(0, 11, 2), (1, 7, 1), (9, 1, 1)]);
    }
}
