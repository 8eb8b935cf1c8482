//! What a run found.

mod html;
mod series;
mod text;

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    conduct::{Errors, Status},
    measure::{ByKind, Counters, Tally, histogram},
    scenario::{Scenario, profile_name},
};
pub use series::{Point, Series};

/// A generator that is busier has no room for a burst.
const BUSY_WARN: f64 = 0.9;

/// Beyond so much lateness of its own, a generator measures itself.
const LATE_WARN_MS: f64 = 20.0;

/// The result of a run. Its JSON form is what other programs read: names stay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub server: String,
    pub scenario: Scenario,
    pub profile: &'static str,
    pub measured_s: f64,
    pub participants: usize,
    pub joined: usize,
    /// Could not join.
    pub failed: usize,
    /// Joined and were thrown out.
    pub lost: usize,
    pub errors: Errors,
    /// From the first byte to the server until media can flow.
    pub join_ms: Quantiles,
    /// From the first byte to the server until the first whole picture, and the first audio packet.
    pub first_video_ms: Quantiles,
    pub first_audio_ms: Quantiles,
    pub sent: Sent,
    pub received: Received,
    pub streams: Streams,
    pub latency_ms: Kinds,
    pub jitter_ms: Kinds,
    /// How late the generator itself was.
    pub generator_late_ms: Kinds,
    /// How busy its media threads were, 0 to 1, on average over all.
    pub generator_busy: f64,
    pub counters: Counters,
    pub warnings: Vec<String>,
    pub series: Vec<Point>,
}

/// What publishers sent in the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
    pub packets_per_s: f64,
}

/// What receivers got in the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Received {
    /// Counted one by one.
    pub packets: u64,
    pub bytes: u64,
    /// What the sequence numbers say was sent to them, counted or not.
    pub packets_by_sequence: u64,
    pub packets_per_s: f64,
    pub verified: u64,
    pub forged: u64,
    pub duplicates: u64,
    pub lost: u64,
    pub repaired: u64,
    /// Lost of what was sent, before repairs, 0 to 1.
    pub loss: f64,
    /// The same after repairs.
    pub residual_loss: f64,
}

/// (Receiver, stream) pairs that should bring media and that did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Streams {
    pub audio_expected: usize,
    pub audio: u64,
    pub video_expected: usize,
    pub video: u64,
    pub receivers: usize,
    /// Receivers that got all of theirs.
    pub receivers_complete: u64,
}

/// The same of audio and of video.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Kinds {
    pub audio: Quantiles,
    pub video: Quantiles,
}

/// A distribution in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl From<&Histogram<u64>> for Quantiles {
    /// From microseconds.
    fn from(values: &Histogram<u64>) -> Quantiles {
        if values.is_empty() {
            return Quantiles::default();
        }
        let at = |quantile| values.value_at_quantile(quantile) as f64 / 1000.0;
        Quantiles {
            count: values.len(),
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: values.max() as f64 / 1000.0,
        }
    }
}

impl From<&ByKind> for Kinds {
    fn from(values: &ByKind) -> Kinds {
        Kinds { audio: (&values.audio).into(), video: (&values.video).into() }
    }
}

impl Report {
    pub(crate) fn new(
        server: String,
        scenario: &Scenario,
        measured: Duration,
        people: &[Status],
        errors: Errors,
        total: &Tally,
        series: Series,
    ) -> Report {
        let counters = total.counters;
        let measured_s = measured.as_secs_f64();
        let joined = people.iter().filter(|status| status.connected.is_some()).count();
        let lost = people.iter().filter(|status| status.connected.is_some() && status.ended).count();
        let missing =
            if scenario.sampled > 1 { 0 } else { counters.expected_packets.saturating_sub(counters.arrived_packets) };
        let share = |count: u64| {
            if counters.expected_packets == 0 { 0.0 } else { count as f64 / counters.expected_packets as f64 }
        };
        let counted = if scenario.sampled > 1 { counters.expected_packets } else { counters.received_packets };
        let expected = (0..scenario.people()).map(|index| scenario.expected(index));
        let (audio, video) = expected.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let receivers = (0..scenario.people()).filter(|index| scenario.roles(*index).receives).count();
        let mut report = Report {
            server,
            profile: profile_name(scenario.profile),
            scenario: scenario.clone(),
            measured_s,
            participants: people.len(),
            joined,
            failed: people.len() - joined,
            lost,
            errors,
            join_ms: since_began(people, |status| status.connected),
            first_video_ms: since_began(people, |status| status.first_video),
            first_audio_ms: since_began(people, |status| status.first_audio),
            sent: Sent {
                packets: counters.sent_packets,
                bytes: counters.sent_bytes,
                packets_per_s: counters.sent_packets as f64 / measured_s,
            },
            received: Received {
                packets: counters.received_packets,
                bytes: counters.received_bytes,
                packets_by_sequence: counters.expected_packets,
                packets_per_s: counted as f64 / measured_s,
                verified: counters.verified_packets,
                forged: counters.forged_packets,
                duplicates: counters.duplicate_packets,
                lost: missing,
                repaired: counters.repaired_packets,
                loss: share(missing),
                residual_loss: share(missing.saturating_sub(counters.repaired_packets)),
            },
            streams: Streams {
                audio_expected: audio * scenario.rooms,
                audio: counters.audio_streams,
                video_expected: video * scenario.rooms,
                video: counters.video_streams,
                receivers: receivers * scenario.rooms,
                receivers_complete: counters.complete_receivers,
            },
            latency_ms: (&total.latency).into(),
            jitter_ms: (&total.jitter).into(),
            generator_late_ms: (&total.late).into(),
            generator_busy: counters.busy_us as f64 / 1e6 / (measured_s * scenario.threads as f64),
            counters,
            warnings: Vec::new(),
            series: series.finish(),
        };
        report.warnings = report.warn();
        report
    }

    /// What makes the figures doubtful.
    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let late = self.generator_late_ms.audio.p99.max(self.generator_late_ms.video.p99);
        if late > LATE_WARN_MS {
            warnings.push(format!(
                "the generator itself was up to {late:.0} ms late (p99): it, not the server, may be the limit; give it more cores"
            ));
        }
        if self.generator_busy > BUSY_WARN {
            warnings.push(format!(
                "the generator's media threads were {:.0} % busy: it, not the server, may be the limit",
                self.generator_busy * 100.0
            ));
        }
        if self.failed > 0 {
            warnings.push(format!("{} of {} participants could not join", self.failed, self.participants));
        }
        if self.lost > 0 {
            warnings.push(format!("{} participants were lost during the run", self.lost));
        }
        if self.counters.forged_packets > 0 {
            warnings.push(format!("{} packets had a wrong tag", self.counters.forged_packets));
        }
        if self.streams.receivers_complete < self.streams.receivers as u64 {
            warnings.push(format!(
                "{} of {} receivers got every stream they should get",
                self.streams.receivers_complete, self.streams.receivers
            ));
        }
        warnings
    }

    /// As JSON, for programs.
    pub fn json(&self) -> String {
        // Names are strings and numbers are finite, so there is nothing that JSON cannot say.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// As one page with plots, for people.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// As a few lines, for a terminal.
    pub fn text(&self) -> String {
        text::summary(self)
    }
}

fn since_began(people: &[Status], time: impl Fn(&Status) -> Option<sluice_wire::Micros>) -> Quantiles {
    let mut values = histogram();
    for status in people {
        if let (Some(began), Some(at)) = (status.began, time(status)) {
            values.saturating_record(at.since(began).as_micros() as u64);
        }
    }
    (&values).into()
}
