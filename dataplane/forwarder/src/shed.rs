//! What is left out when the worker has more to do than it can: the highest layers first, then lower ones, then video at all.
//! Audio stays. One step at a time, and back more slowly than there, as what was left out is asked for again at once.

use std::time::Duration;

use sluice_frames::Pool;
use sluice_wire::Micros;

use crate::{Forwarder, track::LAYERS_MAX};

/// Busy longer than this share of the time, in thousandths: another step. Raising it uses the core further and lets queues
/// grow in bursts, lowering it sheds what could have been sent.
const BUSY_HIGH_PERMILLE: u16 = 950;

/// Less busy than this: a step back. What a step saves must fit between the two, or it comes and goes.
const BUSY_LOW_PERMILLE: u16 = 600;

/// A step takes effect with the next key frame: the next step waits for that.
const STEP_PERIOD: Duration = Duration::from_secs(1);

/// Steps back are this much further apart.
const CALM_PERIOD: Duration = Duration::from_secs(3);

/// How much is left out.
#[derive(Debug, Default)]
pub(crate) struct Shed {
    /// 0: nothing; then one layer more for each; at [`ALL_VIDEO`], video.
    level: u8,
    changed: Micros,
}

/// The level without video.
const ALL_VIDEO: u8 = LAYERS_MAX as u8;

impl Shed {
    /// The highest encoding that is forwarded; none if no video is.
    pub(crate) fn max_encoding(&self) -> Option<u8> {
        match self.level {
            0 => Some(u8::MAX),
            level => ALL_VIDEO.checked_sub(level + 1),
        }
    }

    /// Takes a step if it is time; whether it did.
    fn step(&mut self, now: Micros, busy_permille: u16) -> bool {
        let since = now.since(self.changed);
        let level = if busy_permille > BUSY_HIGH_PERMILLE && since >= STEP_PERIOD {
            (self.level + 1).min(ALL_VIDEO)
        } else if busy_permille < BUSY_LOW_PERMILLE && since >= CALM_PERIOD {
            self.level.saturating_sub(1)
        } else {
            self.level
        };
        let is_step = level != self.level;
        if is_step {
            (self.level, self.changed) = (level, now);
        }
        is_step
    }
}

impl Forwarder {
    /// The worker says how busy it was of late.
    pub(crate) fn busy(&mut self, now: Micros, permille: u16, pool: &mut Pool) {
        if !self.shed.step(now, permille) {
            return;
        }
        self.counters.shed_level = u64::from(self.shed.level);
        self.counters.shed_steps += 1;
        self.distribute(now, pool);
        for track_index in 0..self.tracks.end() {
            self.retarget_track(now, track_index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_go_from_the_top_and_come_back_slowly() {
        let mut shed = Shed::default();
        let mut caps = vec![shed.max_encoding()];
        let mut now = Micros(10_000_000);
        let mut run = |shed: &mut Shed, permille, seconds: u64| {
            for _ in 0..seconds * 10 {
                now.0 += 100_000;
                if shed.step(now, permille) {
                    caps.push(shed.max_encoding());
                }
            }
            caps.clone()
        };
        assert_eq!(run(&mut shed, 940, 10), [Some(u8::MAX)], "busy is not too busy");
        assert_eq!(run(&mut shed, 1000, 2), [Some(u8::MAX), Some(1), Some(0)]);
        assert_eq!(run(&mut shed, 800, 10).len(), 3, "between the marks nothing changes");
        assert_eq!(run(&mut shed, 990, 10).last(), Some(&None), "audio is all that is left");
        assert_eq!(run(&mut shed, 100, 2).last(), Some(&Some(0)));
        assert_eq!(run(&mut shed, 100, 20)[4..], [Some(0), Some(1), Some(u8::MAX)]);
    }
}
