//! What is done for everybody at once, in a slow rhythm, as long as there are transports.

use std::time::Duration;

use sluice_frames::Pool;
use sluice_messages::{Event, Quality};
use sluice_wire::Micros;

use crate::{Forwarder, estimate::Estimator, limits::SPEAKERS_PERIOD};

/// Layers that fell silent are noticed within this, and old frames go.
const SWEEP_PERIOD: Duration = Duration::from_millis(100);
/// Rates are shared anew and temporal layers chosen.
const SECOND: Duration = Duration::from_secs(1);
const QUALITY_PERIOD: Duration = Duration::from_secs(Event::QUALITY_PERIOD_S);

/// When each pass is due; all never while the table is empty.
#[derive(Debug)]
pub(crate) struct Tick {
    sweep: Micros,
    second: Micros,
    speakers: Micros,
    quality: Micros,
}

impl Default for Tick {
    fn default() -> Self {
        Tick { sweep: Micros::NEVER, second: Micros::NEVER, speakers: Micros::NEVER, quality: Micros::NEVER }
    }
}

impl Tick {
    pub(crate) fn next(&self) -> Micros {
        self.sweep.min(self.second).min(self.speakers).min(self.quality)
    }

    /// Starts all passes, if they do not run.
    pub(crate) fn start(&mut self, now: Micros) {
        if self.next() == Micros::NEVER {
            *self = Tick {
                sweep: now + SWEEP_PERIOD,
                second: now + SECOND,
                speakers: now + SPEAKERS_PERIOD,
                quality: now + QUALITY_PERIOD,
            };
        }
    }
}

/// Whether a pass is due; sets when it is due again.
fn take(due: &mut Micros, period: Duration, now: Micros) -> bool {
    let is_due = *due <= now;
    if is_due {
        *due = now + period;
    }
    is_due
}

impl Forwarder {
    pub(crate) fn run_tick(&mut self, now: Micros, pool: &mut Pool) {
        if self.tick.next() > now {
            return;
        }
        if take(&mut self.tick.sweep, SWEEP_PERIOD, now) {
            self.sweep(now, pool);
            self.pace.adapt(now, self.counters.sent_packets);
            self.counters.hold_us = self.pace.hold().as_micros() as u64;
        }
        if take(&mut self.tick.second, SECOND, now) {
            self.choose_temporal();
            self.renew_relays();
            self.renew_nodes(now);
            for index in 0..self.peers.end() {
                self.allocate(now, index);
            }
        }
        if take(&mut self.tick.speakers, SPEAKERS_PERIOD, now) {
            self.detect_speakers();
        }
        if take(&mut self.tick.quality, QUALITY_PERIOD, now) {
            self.report_quality();
            if self.peers.is_empty() {
                self.tick = Tick::default();
            }
        }
    }

    fn report_quality(&mut self) {
        for index in 0..self.peers.end() {
            let Some(peer) = self.peers.get_mut(index).filter(|peer| peer.is_reachable()) else { continue };
            let period = std::mem::take(&mut peer.period);
            let quality = Quality {
                loss_up: period.lost_up as f32 / period.expected_up.max(1) as f32,
                loss_down: period.loss_down_sum / period.loss_down_reports.max(1) as f32,
                rtt_us: peer.rtt_us,
                jitter_us: period.jitter_us,
                rate_up_bps: peer.received.rate_bps(),
                rate_down_bps: peer.estimator.sent_bps(),
            };
            self.events.push(Event::Quality { transport: peer.id, quality }, &mut self.counters);
        }
    }
}
