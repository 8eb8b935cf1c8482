//! Transport-wide feedback of a receiver (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets of the
//! transport came, and when.

use sluice_wire::{Micros, rtcp::Compound};

/// Packets that wait for the next feedback. It goes out every 100 ms, so this is 400,000 packets/s of one receiver.
const WAITING_MAX: usize = 1 << 15;

/// Packets that one round of feedback covers at most; what is beyond is left out, as after an outage.
const COVERED_MAX: u64 = 4096;

/// What arrived since the last feedback.
#[derive(Default)]
pub struct Arrivals {
    /// Extended number of the first packet that was not covered yet.
    next: Option<u64>,
    newest: u64,
    waiting: Vec<(u64, Micros)>,
    count: u8,
}

impl Arrivals {
    /// A packet with this transport-wide number came.
    pub fn note(&mut self, now: Micros, number: u16) {
        let index = match self.next {
            // One round above zero, so that an earlier packet has a number, too.
            None => 1 << 16 | u64::from(number),
            Some(_) => self.newest.wrapping_add_signed(i64::from(number.wrapping_sub(self.newest as u16) as i16)),
        };
        self.next.get_or_insert(index);
        self.newest = self.newest.max(index);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((index, now));
        }
    }

    /// Whether there is something to tell.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends feedback on everything up to the newest packet, as far as there is room; the rest comes with the next one.
    /// `all`: the network lets only some packets through, and those in between came as well.
    pub fn write(&mut self, sender_ssrc: u32, media_ssrc: u32, all: bool, compound: &mut Compound<'_>) {
        let Some(next) = self.next.filter(|_| !self.waiting.is_empty()) else { return };
        let start = next.max((self.newest + 1).saturating_sub(COVERED_MAX));
        let mut arrivals = vec![None; (self.newest + 1 - start) as usize];
        for &(index, at) in &self.waiting {
            if let Some(place) = index.checked_sub(start).and_then(|place| arrivals.get_mut(place as usize)) {
                *place = Some(at);
            }
        }
        if all {
            let mut later = None;
            for arrival in arrivals.iter_mut().rev() {
                later = arrival.or(later);
                *arrival = later;
            }
        }
        let mut covered = 0;
        while covered < arrivals.len() {
            let base = (start + covered as u64) as u16;
            match compound.transport_feedback(sender_ssrc, media_ssrc, self.count, base, &arrivals[covered..]) {
                Some(0) => covered = arrivals.len(),
                Some(more) => {
                    covered += more;
                    self.count = self.count.wrapping_add(1);
                }
                None => break,
            }
        }
        let end = start + covered as u64;
        self.next = Some(end);
        self.waiting.retain(|(index, _)| *index >= end);
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::rtcp::{Packet, packets};

    use super::*;

    fn written(arrivals: &mut Arrivals, all: bool) -> Vec<(u16, bool)> {
        let mut bytes = [0; 1200];
        let mut compound = Compound::new(&mut bytes);
        arrivals.write(1, 2, all, &mut compound);
        let len = compound.len();
        let mut told = Vec::new();
        for packet in packets(&bytes[..len]) {
            let Ok(Packet::TransportFeedback(feedback)) = packet else { panic!("only feedback") };
            told.extend(feedback.arrivals().map(|arrival| (arrival.sequence, arrival.at_us.is_some())));
        }
        told
    }

    #[test]
    fn everything_is_told_once_and_gaps_are_losses() {
        let mut arrivals = Arrivals::default();
        for number in [65_534, 65_535, 1] {
            arrivals.note(Micros(1_000_000), number);
        }
        let told = written(&mut arrivals, false);
        assert_eq!(told, [(65_534, true), (65_535, true), (0, false), (1, true)]);
        assert!(written(&mut arrivals, false).is_empty());
        arrivals.note(Micros(1_100_000), 3);
        assert_eq!(written(&mut arrivals, false), [(2, false), (3, true)]);
    }

    #[test]
    fn on_a_sampling_network_gaps_are_none() {
        let mut arrivals = Arrivals::default();
        arrivals.note(Micros(1_000_000), 10);
        arrivals.note(Micros(1_050_000), 14);
        assert!(written(&mut arrivals, true).iter().all(|(_, came)| *came));
    }

    #[test]
    fn an_outage_is_not_walked_through() {
        let mut arrivals = Arrivals::default();
        arrivals.note(Micros(1_000_000), 0);
        for step in 1..=10u16 {
            arrivals.note(Micros(1_000_000), step * 3000);
        }
        assert!(written(&mut arrivals, false).len() <= COVERED_MAX as usize);
    }
}
