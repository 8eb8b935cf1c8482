//! Which packets were seen, for each SSRC: RFC 3711 section 3.3.2.

use crate::{DropReason, MAX_STREAMS};

/// Packets behind the highest index that are still told apart; RFC 3711 asks for 64 at least. At 5,000 packets/s of one
/// stream it bridges 200 ms of reordering. Raising it costs a bit for each SSRC.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// What is known of one SSRC.
#[derive(Clone, Debug)]
struct Stream {
    highest: u64,
    /// Bit `index % WINDOW` says whether that index was seen, for the `WINDOW` indices up to the highest.
    seen: [u64; WORDS],
}

impl Stream {
    fn new(index: u64) -> Stream {
        let mut stream = Stream { highest: index, seen: [0; WORDS] };
        stream.set(index, true);
        stream
    }

    fn check(&self, index: u64) -> Result<(), DropReason> {
        if index > self.highest {
            return Ok(());
        }
        if self.highest - index >= WINDOW {
            return Err(DropReason::TooOld);
        }
        let word = self.seen.get(word_of(index)).copied().unwrap_or(u64::MAX);
        if word & bit_of(index) != 0 { Err(DropReason::Replayed) } else { Ok(()) }
    }

    fn mark(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                (self.highest + 1..index).for_each(|skipped| self.set(skipped, false));
            }
            self.highest = index;
        }
        self.set(index, true);
    }

    fn set(&mut self, index: u64, seen: bool) {
        if let Some(word) = self.seen.get_mut(word_of(index)) {
            if seen { *word |= bit_of(index) } else { *word &= !bit_of(index) }
        }
    }
}

fn word_of(index: u64) -> usize {
    (index % WINDOW / 64) as usize
}

fn bit_of(index: u64) -> u64 {
    1 << (index % 64)
}

/// The SSRCs of one transport's RTP or RTCP. They come in when a packet of theirs was authenticated, and stay: forgetting one
/// would let its packets be replayed.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Beside `streams`, so that the search touches few cache lines.
    ssrcs: Vec<u32>,
    streams: Vec<Stream>,
    /// Where the last packet's SSRC was found: packets come in runs.
    last: usize,
}

/// A packet's place, found before its authentication and taken after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// `None` for an SSRC not seen before.
    at: Option<usize>,
    ssrc: u32,
    pub(crate) index: u64,
}

impl Streams {
    /// Room for the SSRCs of a usual participant, so that they cost no allocation when they come in.
    const INITIAL_CAPACITY: usize = 16;

    pub(crate) fn new() -> Streams {
        Streams {
            ssrcs: Vec::with_capacity(Streams::INITIAL_CAPACITY),
            streams: Vec::with_capacity(Streams::INITIAL_CAPACITY),
            last: 0,
        }
    }

    /// The place of an RTP packet, whose rollover count is estimated (RFC 3711 section 3.3.1): the index nearest to the highest.
    pub(crate) fn place_rtp(&mut self, ssrc: u32, sequence: u16) -> Result<Place, DropReason> {
        let at = self.find(ssrc)?;
        let index = match at.and_then(|at| self.streams.get(at)) {
            None => u64::from(sequence),
            Some(stream) => {
                let distance = sequence.wrapping_sub(stream.highest as u16) as i16;
                let index = stream.highest.checked_add_signed(i64::from(distance)).ok_or(DropReason::TooOld)?;
                // After 2^48 packets the key must not be used any more (section 9.2).
                if index >> 48 != 0 {
                    return Err(DropReason::TooOld);
                }
                stream.check(index)?;
                index
            }
        };
        Ok(Place { at, ssrc, index })
    }

    /// The place of an RTCP packet, which says its index.
    pub(crate) fn place_rtcp(&mut self, ssrc: u32, index: u32) -> Result<Place, DropReason> {
        let at = self.find(ssrc)?;
        if let Some(stream) = at.and_then(|at| self.streams.get(at)) {
            stream.check(u64::from(index))?;
        }
        Ok(Place { at, ssrc, index: u64::from(index) })
    }

    /// Remembers an authenticated packet.
    pub(crate) fn take(&mut self, place: Place) {
        match place.at.and_then(|at| self.streams.get_mut(at)) {
            Some(stream) => stream.mark(place.index),
            None => {
                self.last = self.streams.len();
                self.ssrcs.push(place.ssrc);
                self.streams.push(Stream::new(place.index));
            }
        }
    }

    fn find(&mut self, ssrc: u32) -> Result<Option<usize>, DropReason> {
        if self.ssrcs.get(self.last) == Some(&ssrc) {
            return Ok(Some(self.last));
        }
        match self.ssrcs.iter().position(|known| *known == ssrc) {
            Some(at) => {
                self.last = at;
                Ok(Some(at))
            }
            None if self.ssrcs.len() == MAX_STREAMS => Err(DropReason::TooManyStreams),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers RTP sequence numbers of one SSRC in order and compares what becomes of them.
    fn check(sequences: impl IntoIterator<Item = (u16, Result<u64, DropReason>)>) {
        let mut streams = Streams::new();
        for (step, (sequence, expected)) in sequences.into_iter().enumerate() {
            let place = streams.place_rtp(7, sequence);
            assert_eq!(place.map(|place| place.index), expected, "step {step}");
            if let Ok(place) = place {
                streams.take(place);
            }
        }
    }

    #[test]
    fn duplicates_are_dropped_and_harm_nothing() {
        use DropReason::Replayed;
        check([(5, Ok(5)), (5, Err(Replayed)), (7, Ok(7)), (6, Ok(6)), (6, Err(Replayed)), (8, Ok(8))]);
    }

    #[test]
    fn rollover_counts_in_both_directions() {
        check([
            (65_534, Ok(65_534)),
            (1, Ok(65_537)),
            (65_535, Ok(65_535)),
            (0, Ok(65_536)),
            (65_533, Ok(65_533)),
            (65_533, Err(DropReason::Replayed)),
            (30_000, Ok(95_536)),
            (60_000, Ok(125_536)),
            (2, Ok(131_074)),
        ]);
    }

    #[test]
    fn before_the_first_cycle_there_is_nothing() {
        check([(3, Ok(3)), (65_530, Err(DropReason::TooOld)), (2, Ok(2))]);
    }

    #[test]
    fn behind_the_window_is_too_old() {
        let edge = 5_000 - WINDOW as u16;
        check([(5_000, Ok(5_000)), (edge, Err(DropReason::TooOld)), (edge + 1, Ok(u64::from(edge) + 1))]);
    }

    #[test]
    fn a_jump_clears_what_it_passes() {
        // 1,029 shares its bit with 5, and 4,000 passes the whole window.
        check([(5, Ok(5)), (1_030, Ok(1_030)), (1_029, Ok(1_029)), (4_000, Ok(4_000)), (3_077, Ok(3_077))]);
    }

    #[test]
    fn ssrcs_are_bounded() {
        let mut streams = Streams::new();
        for ssrc in 0..MAX_STREAMS as u32 {
            let place = streams.place_rtp(ssrc, 1).unwrap();
            streams.take(place);
        }
        assert_eq!(streams.place_rtp(u32::MAX, 1).unwrap_err(), DropReason::TooManyStreams);
        assert!(streams.place_rtp(3, 2).is_ok(), "those that are in go on");
    }
}
