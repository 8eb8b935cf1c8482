//! What a receiver can take. [`Estimator`] is where a real congestion controller goes; [`LossCap`] stands there now.

use std::time::Duration;

use sluice_wire::Micros;

/// Turns what a receiver reports into a rate for everything we send it.
pub trait Estimator {
    /// The receiver's own estimate (goog-remb) in bits per second.
    fn on_remb(&mut self, now: Micros, rate_bps: u64);
    /// Transport-wide feedback: packets of ours that it names as received and as lost.
    fn on_transport_feedback(&mut self, now: Micros, received: u32, lost: u32);
    /// Fraction of a receiver report, 0.0..=1.0.
    fn on_loss(&mut self, now: Micros, fraction: f32);
    /// Something was sent.
    fn on_sent(&mut self, now: Micros, bytes: usize);
    /// What may be sent now; none while nothing speaks against anything.
    fn rate_bps(&self) -> Option<u64>;
    /// What is being sent, in bits per second.
    fn sent_bps(&self) -> u64;
}

/// Loss above which the cap goes down. Lowering it gives way to every wireless hiccup.
const LOSS_HIGH: f32 = 0.10;
/// Loss below which it goes up again.
const LOSS_LOW: f32 = 0.02;
/// Period of decisions. Raising it reacts later, lowering it decides on too few packets.
const PERIOD: Duration = Duration::from_millis(1000);
/// Never below this: audio and the lowest layer go out whatever happens.
const FLOOR_BPS: u64 = 100_000;
/// Feedback about fewer packets than this says nothing.
const PACKETS_MIN: u32 = 20;

/// A cap below what was sent when more than [`LOSS_HIGH`] of it was lost, or when the receiver's own estimate is clearly
/// below it; lifted step by step while nothing is lost. (An estimate a little above what is sent is no limit: receivers
/// cannot see more than they get.)
#[derive(Debug, Default)]
pub(crate) struct LossCap {
    cap_bps: Option<u64>,
    remb_bps: Option<(Micros, u64)>,
    received: u32,
    lost: u32,
    reported: f32,
    decided: Micros,
    sent: Meter,
}

impl Estimator for LossCap {
    fn on_remb(&mut self, now: Micros, rate_bps: u64) {
        self.remb_bps = Some((now, rate_bps));
        self.decide(now);
    }

    fn on_transport_feedback(&mut self, now: Micros, received: u32, lost: u32) {
        self.received += received;
        self.lost += lost;
        self.decide(now);
    }

    fn on_loss(&mut self, now: Micros, fraction: f32) {
        self.reported = self.reported.max(fraction);
        self.decide(now);
    }

    fn on_sent(&mut self, now: Micros, bytes: usize) {
        self.sent.add(now, bytes);
    }

    fn rate_bps(&self) -> Option<u64> {
        self.cap_bps
    }

    fn sent_bps(&self) -> u64 {
        self.sent.rate_bps()
    }
}

impl LossCap {
    fn decide(&mut self, now: Micros) {
        if now.since(self.decided) < PERIOD {
            return;
        }
        self.decided = now;
        let seen = self.received + self.lost;
        let loss = if seen >= PACKETS_MIN { self.lost as f32 / seen as f32 } else { self.reported };
        (self.received, self.lost, self.reported) = (0, 0, 0.0);
        let sent = self.sent.rate_bps().max(FLOOR_BPS);
        let remb = self.remb_bps.filter(|(at, _)| now.since(*at) < 5 * PERIOD).map(|(_, bps)| bps);
        if loss > LOSS_HIGH {
            let base = self.cap_bps.map_or(sent, |cap| cap.min(sent));
            self.cap_bps = Some(((base as f32 * (1.0 - 0.5 * loss)) as u64).max(FLOOR_BPS));
        } else if let Some(remb) = remb.filter(|&bps| bps < sent / 10 * 8) {
            self.cap_bps = Some(remb.max(FLOOR_BPS));
        } else if loss < LOSS_LOW
            && let Some(cap) = self.cap_bps
        {
            let raised = cap + cap / 8;
            // Far above anything a call sends to one receiver the cap has no meaning any more.
            self.cap_bps = (raised < 50_000_000).then_some(raised);
        }
    }
}

/// Bits per second over about a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    since: Micros,
    bytes: u64,
    rate_bps: u64,
}

/// Raising it smooths more, lowering it follows key frames.
const METER_PERIOD: Duration = Duration::from_millis(500);

impl Meter {
    pub(crate) fn add(&mut self, now: Micros, bytes: usize) {
        let elapsed = now.since(self.since);
        if elapsed >= METER_PERIOD {
            let fresh = (self.bytes * 8_000_000).checked_div(elapsed.as_micros() as u64).unwrap_or(0);
            self.rate_bps = if elapsed > 4 * METER_PERIOD { fresh } else { (self.rate_bps + fresh) / 2 };
            self.bytes = 0;
            self.since = now;
        }
        self.bytes += bytes as u64;
    }

    pub(crate) fn rate_bps(&self) -> u64 {
        self.rate_bps
    }

    /// Takes over what somebody else measured.
    pub(crate) fn set(&mut self, rate_bps: u64) {
        self.rate_bps = rate_bps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cap: &mut LossCap, from_s: u64, seconds: u64, lost_of_100: u32) {
        for ms in from_s * 1000..(from_s + seconds) * 1000 {
            let now = Micros(ms * 1000);
            cap.on_sent(now, 250);
            if ms % 1000 == 999 {
                cap.on_transport_feedback(now, 100 - lost_of_100, lost_of_100);
            }
        }
    }

    #[test]
    fn loss_lowers_the_cap_and_its_end_lifts_it() {
        let mut cap = LossCap::default();
        run(&mut cap, 1, 5, 0);
        assert_eq!(cap.rate_bps(), None, "no loss, no cap");
        run(&mut cap, 6, 3, 30);
        let low = cap.rate_bps().unwrap();
        assert!(low < 1_800_000, "2 Mbit/s with 30 % loss gives less than {low}");
        run(&mut cap, 9, 5, 0);
        assert!(cap.rate_bps().unwrap() > low);
    }

    #[test]
    fn an_estimate_near_what_is_sent_is_no_limit() {
        let mut cap = LossCap::default();
        run(&mut cap, 1, 5, 0);
        cap.on_remb(Micros(7_000_000), 1_900_000);
        assert_eq!(cap.rate_bps(), None);
        cap.on_remb(Micros(8_500_000), 500_000);
        assert_eq!(cap.rate_bps(), Some(500_000));
    }
}
