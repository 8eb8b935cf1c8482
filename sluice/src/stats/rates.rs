//! From two samples to what happened between them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::{Counters, Sample};

/// What a node did between two samples; one line of `sluice stats --json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub node: String,
    pub backend: String,
    pub backend_reason: String,
    /// Since the node was started.
    pub uptime_s: f64,
    /// Between the samples.
    pub interval_s: f64,
    /// All workers together; shares are averages.
    pub total: Row,
    pub workers: Vec<Row>,
}

/// What one worker did, or all of them.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// Share of the time that the worker was at work, 0.0..=1.0.
    pub busy: f64,
    /// CPU time of its thread per time, and of its slow thread.
    pub cpu: f64,
    pub slow_cpu: f64,
    /// RTP packets that were taken in and sent, per second.
    pub packets_in: f64,
    pub packets_out: f64,
    /// Their bits on the wire (UDP payload), per second.
    pub bits_in: f64,
    pub bits_out: f64,
    /// CPU time of the worker's thread for each RTP packet sent, in nanoseconds; none while nothing is sent.
    pub packet_cost_ns: Option<f64>,
    /// Datagrams for each send that the kernel was asked for: the length of segmentation runs.
    pub run: Option<f64>,
    /// How long packets are held back so that runs form, now.
    pub hold_us: Option<u64>,
    /// Packet memory.
    pub frames: u64,
    pub frames_free: u64,
    /// What waits in queues now.
    pub waiting: BTreeMap<String, u64>,
    /// What was dropped, skipped, shed or refused, by reason, if that ever happened.
    pub drops: BTreeMap<String, Drops>,
    /// Everything that is counted, since the start.
    pub counters: Counters,
}

/// One reason.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Drops {
    /// Since the start.
    pub total: u64,
    pub per_s: f64,
}

/// Beginnings of the names of what was lost or left out, behind the name of the part that counted it.
const DROPS: &[&str] = &["drop_", "skip_", "shed_packets", "refuse_", "refused_", "send_errors", "starved"];

impl Report {
    /// Both samples are of the same node, `before` the older one.
    pub fn new(before: &Sample, now: &Sample) -> Report {
        let interval_s = now.at_us.saturating_sub(before.at_us).max(1) as f64 / 1e6;
        let nothing = Counters::new();
        let pairs: Vec<(&Counters, &Counters)> =
            now.workers.iter().enumerate().map(|(n, now)| (before.workers.get(n).unwrap_or(&nothing), now)).collect();
        let sum = |pick: fn(&(&'_ Counters, &'_ Counters)) -> Counters| {
            pairs.iter().map(pick).fold(Counters::new(), |mut sum, counters| {
                counters.into_iter().for_each(|(name, value)| *sum.entry(name).or_default() += value);
                sum
            })
        };
        let (sum_before, sum_now) = (sum(|pair| pair.0.clone()), sum(|pair| pair.1.clone()));
        let mut total = Row::new(&sum_before, &sum_now, interval_s);
        let count = pairs.len().max(1) as f64;
        for share in [&mut total.busy, &mut total.cpu, &mut total.slow_cpu] {
            *share /= count;
        }
        total.hold_us = now.workers.iter().filter_map(|counters| counters.get("hold_us").copied()).max();
        Report {
            node: now.node.clone(),
            backend: now.backend.clone(),
            backend_reason: now.reason.clone(),
            uptime_s: now.at_us as f64 / 1e6,
            interval_s,
            total,
            workers: pairs.iter().map(|(before, now)| Row::new(before, now, interval_s)).collect(),
        }
    }
}

impl Row {
    fn new(before: &Counters, now: &Counters, interval_s: f64) -> Row {
        let level = |name: &str| now.get(name).copied().unwrap_or_default();
        let grown = |name: &str| level(name).saturating_sub(before.get(name).copied().unwrap_or_default()) as f64;
        let rate = |name: &str| grown(name) / interval_s;
        let ratio = |of: f64, per: f64| (per > 0.0).then_some(of / per);
        let drops = now.iter().filter(|(name, total)| is_drop(name) && **total > 0);
        let waiting = now.iter().filter_map(|(name, value)| Some((name.strip_suffix("_waiting")?.to_owned(), *value)));
        Row {
            busy: rate("worker_busy_us") / 1e6,
            cpu: rate("worker_cpu_us") / 1e6,
            slow_cpu: rate("slow_cpu_us") / 1e6,
            packets_in: rate("received_packets"),
            packets_out: rate("sent_packets"),
            bits_in: rate("received_bytes") * 8.0,
            bits_out: rate("sent_bytes") * 8.0,
            packet_cost_ns: ratio(grown("worker_cpu_us") * 1e3, grown("sent_packets")),
            run: ratio(grown("worker_sent"), grown("worker_sends")),
            hold_us: now.get("hold_us").copied(),
            frames: level("worker_frames"),
            frames_free: level("worker_frames_free"),
            waiting: waiting.collect(),
            drops: drops.map(|(name, &total)| (name.clone(), Drops { total, per_s: rate(name) })).collect(),
            counters: now.clone(),
        }
    }

    /// Reasons of drops, those that happen most often now first.
    pub fn drops_in_order(&self) -> Vec<(&str, Drops)> {
        let mut drops: Vec<_> = self.drops.iter().map(|(name, drops)| (name.as_str(), *drops)).collect();
        drops.sort_by(|(_, a), (_, b)| b.per_s.total_cmp(&a.per_s).then(b.total.cmp(&a.total)));
        drops
    }

    /// Everything that waits.
    pub fn waits(&self) -> u64 {
        self.waiting.values().sum()
    }
}

fn is_drop(name: &str) -> bool {
    let own = name.strip_prefix("worker_").or_else(|| name.strip_prefix("slow_")).unwrap_or(name);
    DROPS.iter().any(|beginning| own.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, workers: &[&[(&str, u64)]]) -> Sample {
        let counters = |worker: &&[(&str, u64)]| worker.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        Sample { at_us, workers: workers.iter().map(counters).collect(), ..Sample::default() }
    }

    #[test]
    fn rates_are_differences_by_the_nodes_clock() {
        let before = sample(1_000_000, &[&[("sent_packets", 100), ("worker_cpu_us", 50), ("sent_bytes", 0)], &[]]);
        let now = sample(
            3_000_000,
            &[
                &[
                    ("sent_packets", 2100),
                    ("worker_cpu_us", 1_000_050),
                    ("worker_busy_us", 1_500_000),
                    ("sent_bytes", 500),
                    ("worker_sent", 2000),
                    ("worker_sends", 500),
                    ("worker_frames", 10),
                    ("worker_commands_waiting", 7),
                    ("drop_replayed", 4),
                    ("worker_drop_no_slot", 1),
                    ("drop_size", 0),
                    ("hold_us", 2000),
                ],
                &[("worker_frames", 10), ("hold_us", 1000), ("drop_replayed", 1)],
            ],
        );
        let report = Report::new(&before, &now);
        assert_eq!((report.interval_s, report.uptime_s), (2.0, 3.0));
        let row = &report.workers[0];
        assert_eq!((row.packets_out, row.bits_out, row.packet_cost_ns), (1000.0, 2000.0, Some(500_000.0)));
        assert_eq!((row.busy, row.cpu, row.run, row.hold_us), (0.75, 0.5, Some(4.0), Some(2000)));
        assert_eq!((row.waits(), row.drops["drop_replayed"]), (7, Drops { total: 4, per_s: 2.0 }));
        assert_eq!(
            row.drops_in_order().iter().map(|d| d.0).collect::<Vec<_>>(),
            ["drop_replayed", "worker_drop_no_slot"]
        );
        assert_eq!((report.workers[1].packet_cost_ns, report.workers[1].run), (None, None), "nothing was sent");
        let total = &report.total;
        assert_eq!((total.busy, total.frames, total.hold_us), (0.375, 20, Some(2000)));
        assert_eq!((total.packets_out, total.drops["drop_replayed"].total), (1000.0, 5));
    }
}
