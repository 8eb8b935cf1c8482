//! What a receiver knows of one stream: sequence numbers, loss, jitter (RFC 3550 section 6.4.1 and appendix A), what to ask
//! for again, and the first picture. Time is an argument.

use std::{collections::VecDeque, time::Duration};

use sluice_wire::{Micros, rtcp::ReportBlock, vp8};

use crate::measure::{Counters, Kind};

/// Packets that are told from duplicates, counted back from the newest. Lowering it counts late repairs as duplicates.
const WINDOW: u64 = 1024;

/// What extended sequence numbers begin with: one round above zero, so that a packet before the first has a number, too.
const ROUND: u64 = 1 << 16;

/// Missing packets that are remembered. A longer gap is an outage that no repair fills.
const MISSING_MAX: usize = 256;

/// Packets may overtake each other so long before they are asked for again.
const REORDER: Duration = Duration::from_millis(10);

/// Between two requests for the same packet, and how many there are, as libwebrtc has it.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASKS_MAX: u8 = 10;

/// One stream of RTP.
pub struct Stream {
    pub kind: Kind,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    clock_hz: u32,
    /// The network lets 1 in so many packets through.
    sampled: u16,
    first: Option<u64>,
    /// Sequence number, extended.
    highest: u64,
    seen: [u64; (WINDOW / 64) as usize],
    /// Came without being asked for, and came when asked for.
    arrived: u64,
    repaired: u64,
    duplicates: u64,
    transit: Option<i64>,
    /// In units of the clock.
    jitter: f64,
    missing: VecDeque<Missing>,
    /// A picture cannot be completed any more.
    is_broken: bool,
    /// What the last report and the last snapshot said.
    reported: Count,
    snapshot: Count,
    /// Middle of the NTP time of the last sender report, and when it came.
    sender_report: Option<(u32, Micros)>,
    picture: Picture,
    /// Packets came in the measured time.
    pub is_active: bool,
}

#[derive(Clone, Copy, Default)]
struct Count {
    expected: u64,
    arrived: u64,
    repaired: u64,
    duplicates: u64,
}

struct Missing {
    index: u64,
    asked: u8,
    next: Micros,
}

/// How far the first picture is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Picture {
    /// Waiting for the beginning of a key frame.
    Waiting,
    /// It has begun, and this packet comes next.
    Begun(u64),
    Complete,
}

/// What a packet's sequence number says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Not seen before; with its extended sequence number.
    New(u64),
    Duplicate,
}

impl Stream {
    /// A stream of which nothing has come yet.
    pub fn new(kind: Kind, ssrc: u32, rtx_ssrc: Option<u32>, clock_hz: u32, sampled: u16) -> Stream {
        Stream {
            kind,
            ssrc,
            rtx_ssrc,
            clock_hz: clock_hz.max(1),
            sampled: sampled.max(1),
            first: None,
            highest: 0,
            seen: [0; (WINDOW / 64) as usize],
            arrived: 0,
            repaired: 0,
            duplicates: 0,
            transit: None,
            jitter: 0.0,
            missing: VecDeque::new(),
            is_broken: false,
            reported: Count::default(),
            snapshot: Count::default(),
            sender_report: None,
            picture: Picture::Waiting,
            is_active: false,
        }
    }

    /// A packet came on the stream itself.
    pub fn arrive(&mut self, now: Micros, sequence: u16, timestamp: u32) -> Arrival {
        let arrival = self.note(now, sequence, false);
        if let Arrival::New(index) = arrival
            && index == self.highest
        {
            self.jitter(now, timestamp);
        }
        arrival
    }

    /// A packet came as a retransmission (RFC 4588).
    pub fn repair(&mut self, now: Micros, sequence: u16) -> Arrival {
        if self.first.is_none() {
            return Arrival::Duplicate;
        }
        self.note(now, sequence, true)
    }

    fn note(&mut self, now: Micros, sequence: u16, is_repair: bool) -> Arrival {
        let Some(first) = self.first else {
            let index = ROUND | u64::from(sequence);
            (self.first, self.highest) = (Some(index), index);
            self.mark(index);
            self.arrived += 1;
            return Arrival::New(index);
        };
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        let index = self.highest.wrapping_add_signed(i64::from(ahead));
        if ahead > 0 {
            self.advance(now, index);
        } else if self.highest - index >= WINDOW || self.is_marked(index) {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        self.mark(index);
        self.first = Some(first.min(index));
        let place = self.missing.iter().position(|missing| missing.index == index);
        let was_asked = place.and_then(|place| self.missing.remove(place)).is_some_and(|missing| missing.asked > 0);
        // Without RTX a repair is the packet itself, once more.
        if is_repair || was_asked {
            self.repaired += 1;
        } else {
            self.arrived += 1;
        }
        Arrival::New(index)
    }

    fn advance(&mut self, now: Micros, index: u64) {
        for skipped in (self.highest + 1..index).rev().take(WINDOW as usize) {
            self.unmark(skipped);
        }
        if self.sampled == 1 {
            for skipped in self.highest + 1..index {
                if self.missing.len() >= MISSING_MAX {
                    self.missing.pop_front();
                    self.is_broken = true;
                }
                self.missing.push_back(Missing { index: skipped, asked: 0, next: now + REORDER });
            }
        }
        self.highest = index;
    }

    fn slot(index: u64) -> (usize, u64) {
        let place = index % WINDOW;
        ((place / 64) as usize, 1 << (place % 64))
    }

    fn is_marked(&self, index: u64) -> bool {
        let (word, bit) = Stream::slot(index);
        self.seen[word] & bit != 0
    }

    fn mark(&mut self, index: u64) {
        let (word, bit) = Stream::slot(index);
        self.seen[word] |= bit;
    }

    fn unmark(&mut self, index: u64) {
        let (word, bit) = Stream::slot(index);
        self.seen[word] &= !bit;
    }

    /// RFC 3550 appendix A.8.
    fn jitter(&mut self, now: Micros, timestamp: u32) {
        let arrival = (u128::from(now.0) * u128::from(self.clock_hz) / 1_000_000) as i64;
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp) as i32);
        if let Some(last) = self.transit {
            let difference = f64::from((transit as u32).wrapping_sub(last as u32) as i32).abs();
            self.jitter += (difference - self.jitter) / 16.0;
        }
        self.transit = Some(transit);
    }

    /// An opened video packet, for the time to the first picture. True when it is complete now.
    pub fn look(&mut self, index: u64, marker: bool, payload: &[u8]) -> bool {
        let begins = vp8::Descriptor::parse(payload).is_ok_and(|descriptor| descriptor.is_keyframe);
        let is_next = matches!(self.picture, Picture::Begun(next) if next == index);
        self.picture = match self.picture {
            Picture::Complete => return false,
            _ if !begins && !is_next => Picture::Waiting,
            _ if marker => Picture::Complete,
            _ => Picture::Begun(index + 1),
        };
        self.picture == Picture::Complete
    }

    /// Every packet has to be opened, for the first picture is not complete.
    pub fn wants_all(&self) -> bool {
        self.picture != Picture::Complete
    }

    /// No more looking for the first picture.
    pub fn settle(&mut self) {
        self.picture = Picture::Complete;
    }

    /// A sender report came.
    pub fn on_sender_report(&mut self, now: Micros, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// Sequence numbers to ask for now; what was asked for in vain is given up.
    pub fn asks(&mut self, now: Micros, into: &mut Vec<u16>) {
        let before = self.missing.len();
        self.missing.retain(|missing| missing.asked < ASKS_MAX || missing.next > now);
        self.is_broken |= self.missing.len() < before;
        for missing in self.missing.iter_mut().filter(|missing| missing.next <= now) {
            missing.asked += 1;
            missing.next = now + ASK_AGAIN;
            into.push(missing.index as u16);
        }
    }

    /// When [`Stream::asks`] has something to say.
    pub fn wake(&self) -> Micros {
        self.missing.iter().map(|missing| missing.next).min().unwrap_or(Micros::NEVER)
    }

    /// Whether a picture was lost for good since this was last asked.
    pub fn take_broken(&mut self) -> bool {
        std::mem::take(&mut self.is_broken)
    }

    fn count(&self) -> Count {
        Count {
            expected: self.first.map_or(0, |first| self.highest - first + 1),
            arrived: self.arrived,
            repaired: self.repaired,
            duplicates: self.duplicates,
        }
    }

    /// The report on what came since the last one. None if nothing ever came. Where the network lets only some packets
    /// through, nothing is lost.
    pub fn report(&mut self, now: Micros) -> Option<ReportBlock> {
        self.first?;
        let count = self.count();
        let (expected, arrived) = (count.expected - self.reported.expected, count.arrived - self.reported.arrived);
        self.reported = count;
        let (mut fraction_lost, mut cumulative_lost) = (0, 0);
        if self.sampled == 1 {
            fraction_lost = (expected.saturating_sub(arrived) * 256).checked_div(expected).unwrap_or(0).min(255) as u8;
            cumulative_lost = (count.expected as i64 - count.arrived as i64).clamp(-(1 << 23), (1 << 23) - 1) as i32;
        }
        let (last_sr, delay_since_last_sr) = self
            .sender_report
            .map_or((0, 0), |(middle, at)| (middle, (now.since(at).as_micros() * 65_536 / 1_000_000) as u32));
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost,
            cumulative_lost,
            highest_sequence: (self.highest - ROUND) as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay_since_last_sr,
        })
    }

    /// Jitter in microseconds, once something came.
    pub fn jitter_us(&self) -> Option<u64> {
        self.transit?;
        Some((self.jitter * 1_000_000.0 / f64::from(self.clock_hz)) as u64)
    }

    /// Adds what came since this was last asked.
    pub fn settle_into(&mut self, counters: &mut Counters) {
        let (count, before) = (self.count(), self.snapshot);
        self.snapshot = count;
        counters.expected_packets += count.expected - before.expected;
        counters.arrived_packets += count.arrived - before.arrived;
        counters.repaired_packets += count.repaired - before.repaired;
        counters.duplicate_packets += count.duplicates - before.duplicates;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sampled: u16) -> Stream {
        Stream::new(Kind::Video, 7, Some(8), 90_000, sampled)
    }

    fn at(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    fn counts(stream: &mut Stream) -> (u64, u64, u64, u64) {
        let mut counters = Counters::default();
        stream.settle_into(&mut counters);
        let Counters { expected_packets, arrived_packets, repaired_packets, duplicate_packets, .. } = counters;
        (expected_packets, arrived_packets, repaired_packets, duplicate_packets)
    }

    fn asked(stream: &mut Stream, now: Micros) -> Vec<u16> {
        let mut asks = Vec::new();
        stream.asks(now, &mut asks);
        asks
    }

    #[test]
    fn loss_is_asked_for_after_a_moment_and_repaired() {
        let mut stream = stream(1);
        for sequence in [65_534, 65_535, 2] {
            stream.arrive(at(0), sequence, 0);
        }
        assert_eq!(asked(&mut stream, at(5)), [0u16; 0], "it may be late only");
        assert_eq!(stream.wake(), at(10));
        assert_eq!(asked(&mut stream, at(10)), [0, 1]);
        assert_eq!(asked(&mut stream, at(50)), [0u16; 0]);
        assert!(matches!(stream.repair(at(60), 0), Arrival::New(_)));
        assert_eq!(asked(&mut stream, at(110)), [1]);
        assert_eq!(stream.repair(at(120), 0), Arrival::Duplicate);
        // Without RTX the packet itself comes again.
        assert!(matches!(stream.arrive(at(130), 1, 0), Arrival::New(_)));
        assert_eq!(counts(&mut stream), (5, 3, 2, 1));
        assert_eq!(stream.wake(), Micros::NEVER);
        assert!(!stream.take_broken());
    }

    #[test]
    fn what_only_overtook_is_not_lost() {
        let mut stream = stream(1);
        for sequence in [10, 12, 11, 11, 9] {
            stream.arrive(at(0), sequence, 0);
        }
        assert_eq!(asked(&mut stream, at(100)), [0u16; 0]);
        assert_eq!(counts(&mut stream), (4, 4, 0, 1));
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let mut stream = stream(1);
        stream.arrive(at(0), 1, 0);
        stream.arrive(at(0), 3, 0);
        let asks: usize = (0..40).map(|i| asked(&mut stream, at(10 + i * 100)).len()).sum();
        assert_eq!(asks, usize::from(ASKS_MAX));
        assert!(stream.take_broken() && !stream.take_broken());
        // Memory is bounded, however long the gap.
        stream.arrive(at(5000), 30_000, 0);
        assert_eq!(stream.missing.len(), MISSING_MAX);
    }

    #[test]
    fn a_sampling_network_loses_nothing() {
        let mut stream = stream(16);
        for sequence in (0..1600u16).step_by(16) {
            stream.arrive(at(u64::from(sequence)), sequence, 0);
        }
        assert_eq!((asked(&mut stream, at(9000)), stream.wake()), (vec![], Micros::NEVER));
        let report = stream.report(at(9000)).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
        assert_eq!(counts(&mut stream), (1585, 100, 0, 0));
    }

    #[test]
    fn reports_say_what_was_lost_since_the_last_one() {
        let mut stream = stream(1);
        assert!(stream.report(at(0)).is_none());
        for sequence in (0..100).filter(|sequence| sequence % 4 != 1) {
            stream.arrive(at(0), sequence, 0);
        }
        stream.on_sender_report(at(1000), 0x1234_5678_9ABC_DEF0);
        let first = stream.report(at(1500)).unwrap();
        assert_eq!((first.fraction_lost, first.cumulative_lost), (64, 25));
        assert_eq!(first.highest_sequence, 99, "no round has passed");
        assert_eq!((first.last_sr, first.delay_since_last_sr), (0x5678_9ABC, 32_768));
        for sequence in 100..200 {
            stream.arrive(at(0), sequence, 0);
        }
        let second = stream.report(at(2000)).unwrap();
        assert_eq!((second.fraction_lost, second.cumulative_lost), (0, 25));
    }

    #[test]
    fn even_arrivals_have_no_jitter_and_uneven_ones_have() {
        let run = |uneven: u64| {
            let mut stream = stream(1);
            for i in 0..200u64 {
                let late = if i % 2 == 0 { uneven } else { 0 };
                stream.arrive(at(i * 20 + late), i as u16, (i * 1800) as u32);
            }
            stream.jitter_us().unwrap()
        };
        assert_eq!(run(0), 0);
        assert!((4500..=5100).contains(&run(5)), "{}", run(5));
    }

    #[test]
    fn the_first_picture_needs_all_its_packets() {
        const BEGIN: &[u8] = &[0x90, 0x80, 0x01, 0x10, 0, 0, 0x9D, 1, 0x2A, 0, 0, 0, 0];
        const MORE: &[u8] = &[0x80, 0x80, 0x01, 0x55];
        let mut stream = stream(1);
        assert!(!stream.look(1, true, MORE), "no key frame");
        assert!(!stream.look(2, false, BEGIN));
        assert!(!stream.look(4, true, MORE), "one is missing");
        assert!(!stream.look(5, false, BEGIN));
        assert!(!stream.look(6, false, MORE));
        assert!(stream.look(7, true, MORE) && !stream.wants_all());
    }
}
