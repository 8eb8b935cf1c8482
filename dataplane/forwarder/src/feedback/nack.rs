//! Packets missing from a publisher, and when to ask for them again (RFC 4585 section 6.2.1).

use std::time::Duration;

use arrayvec::ArrayVec;
use sluice_wire::Micros;

/// Gaps open at once in one layer. A burst longer than this is not worth repairing packet by packet: a key frame is.
pub(crate) const MISSING_MAX: usize = 128;
/// Packets that are out of order by less than this come by themselves. Raising it delays every repair.
const REORDER: Duration = Duration::from_millis(8);
/// Requests for one packet. More help nobody: its time to be played is over.
const TRIES_MAX: u8 = 8;
/// Age at which a gap is given up.
const AGE_MAX: Duration = Duration::from_millis(1000);
/// A request is repeated after the round trip and this for jitter, at least.
const SLACK: Duration = Duration::from_millis(15);
/// Taken as round trip while unknown.
const RTT_UNKNOWN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Gap {
    index: u64,
    due: Micros,
    since: Micros,
    asked: Micros,
    tries: u8,
}

/// Gaps of one layer, in ascending order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    gaps: ArrayVec<Gap, MISSING_MAX>,
}

/// What asking found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asked {
    /// When to ask next.
    pub(crate) next: Option<Micros>,
    /// Something was given up: only a key frame repairs it.
    pub(crate) gave_up: bool,
}

impl Missing {
    /// Indices before `newest` have not come. Returns when to ask, or none if they are too many to be asked for.
    pub(crate) fn open(&mut self, newest: u64, count: u64, now: Micros) -> Option<Micros> {
        if count as usize > self.gaps.remaining_capacity() {
            self.gaps.clear();
            return None;
        }
        let due = now + REORDER;
        let fresh = (newest - count..newest).map(|index| Gap { index, due, since: now, asked: now, tries: 0 });
        self.gaps.extend(fresh);
        Some(due)
    }

    /// One came after all. Returns the round trip if it came after exactly one request.
    pub(crate) fn close(&mut self, index: u64, now: Micros) -> Option<Duration> {
        let at = self.gaps.binary_search_by_key(&index, |gap| gap.index).ok()?;
        let gap = self.gaps.remove(at);
        (gap.tries == 1).then(|| now.since(gap.asked))
    }

    /// Gives the sequence numbers to ask for now to `ask`, until it says no, and forgets what is too old.
    pub(crate) fn ask(&mut self, now: Micros, rtt_us: u32, mut ask: impl FnMut(u16) -> bool) -> Asked {
        let mut asked = Asked::default();
        self.gaps.retain(|gap| {
            let hopeless = now.since(gap.since) >= AGE_MAX || (gap.tries >= TRIES_MAX && gap.due <= now);
            asked.gave_up |= hopeless;
            !hopeless
        });
        let rtt = if rtt_us == 0 { RTT_UNKNOWN } else { Duration::from_micros(u64::from(rtt_us)) };
        for gap in &mut self.gaps {
            if gap.due <= now && ask(gap.index as u16) {
                gap.tries += 1;
                gap.asked = now;
                gap.due = now + rtt + SLACK;
            }
        }
        asked.next = self.gaps.iter().map(|gap| gap.due).min();
        asked
    }

    /// When to ask next.
    pub(crate) fn due(&self) -> Option<Micros> {
        self.gaps.iter().map(|gap| gap.due).min()
    }

    pub(crate) fn clear(&mut self) {
        self.gaps.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_asked_for_until_it_closes_or_is_hopeless() {
        let mut missing = Missing::default();
        let mut requests = Vec::new();
        missing.open(105, 2, Micros(0));
        let mut gave_up_ms = 0;
        for ms in 0..2_000u64 {
            let now = Micros(ms * 1_000);
            if missing.due().is_some_and(|due| due <= now) {
                let asked = missing.ask(now, 50_000, |sequence| {
                    requests.push((ms, sequence));
                    true
                });
                if asked.gave_up {
                    gave_up_ms = ms;
                }
            }
            if ms == 20 {
                assert_eq!(missing.close(103, now), Some(Duration::from_millis(12)));
            }
        }
        assert_eq!(&requests[..3], &[(8, 103), (8, 104), (73, 104)]);
        assert_eq!(requests.len(), 1 + usize::from(TRIES_MAX));
        assert!((500..1_001).contains(&gave_up_ms));
    }

    #[test]
    fn a_burst_is_not_asked_for() {
        let mut missing = Missing::default();
        assert!(missing.open(10_000, 500, Micros(0)).is_none());
        assert_eq!(missing.due(), None);
    }
}
