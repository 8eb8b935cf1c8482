//! In which order what waits for one receiver leaves, and how it is padded, so that it makes long runs: consecutive packets of
//! one length, of which the last may be shorter, cost one send. The order within a stream is kept; padding (RFC 3550 section
//! 5.1, P) is paid from a budget that is a share of the bytes sent.

use arrayvec::ArrayVec;

/// Packets that are planned together: the most that the kernel takes as one run.
pub(crate) const PLAN_MAX: usize = 64;

/// Longest padding of a packet: its length is one byte.
const PADDING_MAX: u32 = 255;

/// Bytes of a run at most: an IP packet's length field, headers included.
const RUN_BYTES_MAX: u32 = 65_000;

/// Budget that may be saved up, in bytes. Raising it lets one burst of unequal packets be padded more.
const CREDIT_MAX: u32 = 2_000;

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) stream: u32,
    /// Length on the wire without padding.
    pub(crate) bytes: u32,
}

/// A packet in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// Which of the waiting ones.
    pub(crate) waiting: u8,
    /// Bytes of padding.
    pub(crate) padding: u8,
}

/// How much padding a receiver may still get.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// In thousandths of a byte.
    credit: u32,
}

impl Budget {
    fn earn(&mut self, bytes: u32, permille: u32) {
        self.credit = self.credit.saturating_add(bytes * permille).min(CREDIT_MAX * 1000);
    }

    fn affords(&self, bytes: u32) -> bool {
        bytes * 1000 <= self.credit
    }

    fn spend(&mut self, bytes: u32) {
        self.credit -= bytes * 1000;
    }
}

/// Places all of `waiting` (at most [`PLAN_MAX`], in order of arrival). Padding stays below `permille` of all bytes over time.
pub(crate) fn plan(waiting: &[Waiting], budget: &mut Budget, permille: u32, out: &mut ArrayVec<Placed, PLAN_MAX>) {
    out.clear();
    let mut streams = Streams::new(waiting);
    while let Some(longest) = streams.longest() {
        run(waiting, &mut streams, longest, budget, permille, out);
    }
}

/// Appends one run that begins with `first`.
fn run(
    waiting: &[Waiting],
    streams: &mut Streams,
    first: usize,
    budget: &mut Budget,
    permille: u32,
    out: &mut ArrayVec<Placed, PLAN_MAX>,
) {
    let begin = out.len();
    let mut length = waiting[streams.head(first)].bytes;
    budget.earn(length, permille);
    out.push(Placed { waiting: streams.take(first), padding: 0 });
    while let Some(candidate) = streams.nearest(waiting, length) {
        let bytes = waiting[streams.head(candidate)].bytes;
        let count = (out.len() - begin) as u32;
        if (count + 1) * length.max(bytes) > RUN_BYTES_MAX {
            return;
        }
        if bytes <= length {
            let padding = length - bytes;
            if padding > PADDING_MAX || !budget.affords(padding) {
                // It may still be the last, shorter one.
                out.push(Placed { waiting: streams.take(candidate), padding: 0 });
                budget.earn(bytes, permille);
                return;
            }
            budget.spend(padding);
            out.push(Placed { waiting: streams.take(candidate), padding: padding as u8 });
        } else {
            let more = bytes - length;
            let fits = out[begin..].iter().all(|placed| u32::from(placed.padding) + more <= PADDING_MAX);
            if !fits || !budget.affords(more * count) {
                return;
            }
            budget.spend(more * count);
            out[begin..].iter_mut().for_each(|placed| placed.padding += more as u8);
            length = bytes;
            out.push(Placed { waiting: streams.take(candidate), padding: 0 });
        }
        budget.earn(bytes, permille);
    }
    // The last of a run needs no padding.
    if let Some(last) = out[begin..].last_mut() {
        budget.credit += u32::from(std::mem::take(&mut last.padding)) * 1000;
    }
}

/// What is left of each stream, as chains of indices.
struct Streams {
    /// Of each stream: its number, and the first packet that is not placed.
    heads: ArrayVec<(u32, u8), PLAN_MAX>,
    /// Of each packet, the next of its stream; `END` if it is the last.
    next: [u8; PLAN_MAX],
    bytes: [u32; PLAN_MAX],
}

const END: u8 = u8::MAX;

impl Streams {
    fn new(waiting: &[Waiting]) -> Streams {
        let mut streams = Streams { heads: ArrayVec::new(), next: [END; PLAN_MAX], bytes: [0; PLAN_MAX] };
        let mut tails = ArrayVec::<u8, PLAN_MAX>::new();
        for (n, packet) in waiting.iter().enumerate() {
            streams.bytes[n] = packet.bytes;
            match streams.heads.iter().position(|(stream, _)| *stream == packet.stream) {
                Some(at) => {
                    streams.next[usize::from(tails[at])] = n as u8;
                    tails[at] = n as u8;
                }
                None => {
                    streams.heads.push((packet.stream, n as u8));
                    tails.push(n as u8);
                }
            }
        }
        streams
    }

    fn head(&self, stream: usize) -> usize {
        usize::from(self.heads[stream].1)
    }

    /// The stream whose next packet is the longest.
    fn longest(&self) -> Option<usize> {
        (0..self.heads.len()).max_by_key(|&stream| self.bytes[self.head(stream)])
    }

    /// The stream whose next packet fits a run of `length` best: the longest that is not longer, else the shortest.
    fn nearest(&self, waiting: &[Waiting], length: u32) -> Option<usize> {
        let mut best: Option<(usize, u32)> = None;
        for stream in 0..self.heads.len() {
            let bytes = waiting[self.head(stream)].bytes;
            let better = match best {
                None => true,
                Some((_, best)) if best <= length => bytes <= length && bytes > best,
                Some((_, best)) => bytes < best,
            };
            if better {
                best = Some((stream, bytes));
            }
        }
        best.map(|(stream, _)| stream)
    }

    /// Takes the next packet of a stream.
    fn take(&mut self, stream: usize) -> u8 {
        let taken = self.heads[stream].1;
        match self.next[usize::from(taken)] {
            END => {
                self.heads.swap_remove(stream);
            }
            next => self.heads[stream].1 = next,
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(sizes: &[(u32, u32)], permille: u32) -> Vec<(u8, u8)> {
        let waiting: Vec<_> = sizes.iter().map(|&(stream, bytes)| Waiting { stream, bytes }).collect();
        let mut out = ArrayVec::new();
        plan(&waiting, &mut Budget::default(), permille, &mut out);
        out.iter().map(|placed| (placed.waiting, placed.padding)).collect()
    }

    /// Sends that the plan costs.
    fn sends(waiting: &[Waiting], out: &[Placed]) -> usize {
        let (mut sends, mut length, mut closed) = (0, 0, true);
        for placed in out {
            let bytes = waiting[usize::from(placed.waiting)].bytes + u32::from(placed.padding);
            if closed || bytes > length {
                sends += 1;
                (length, closed) = (bytes, false);
            } else {
                closed = bytes < length;
            }
        }
        sends
    }

    #[test]
    fn a_frame_cut_almost_equally_is_one_run() {
        // As libwebrtc cuts it: the later packets are a byte longer.
        assert_eq!(placed(&[(1, 1000), (1, 1000), (1, 1001), (1, 1001)], 30), [(0, 1), (1, 1), (2, 0), (3, 0)]);
    }

    #[test]
    fn a_shorter_packet_ends_a_run_without_padding() {
        assert_eq!(placed(&[(1, 1000), (1, 1000), (1, 400)], 30), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(placed(&[(1, 1000), (1, 990)], 30), [(0, 0), (1, 0)], "the last needs none");
    }

    #[test]
    fn streams_are_sorted_into_each_other() {
        let order = placed(&[(1, 500), (2, 1100), (1, 500), (2, 1100), (3, 498)], 30);
        assert_eq!(order, [(1, 0), (3, 0), (0, 0), (2, 0), (4, 0)]);
    }

    #[test]
    fn nothing_is_padded_without_a_budget() {
        assert_eq!(placed(&[(1, 1000), (1, 999), (1, 1000)], 0), [(0, 0), (1, 0), (2, 0)]);
    }

    proptest! {
        #[test]
        fn everything_leaves_once_in_order_and_within_the_budget(
            bursts in prop::collection::vec(prop::collection::vec((0u32..6, 40u32..1250), 1..=PLAN_MAX), 1..40),
            permille in 0u32..80,
        ) {
            let mut budget = Budget::default();
            let mut out = ArrayVec::new();
            let (mut bytes, mut padding) = (0u64, 0u64);
            for burst in &bursts {
                let waiting: Vec<_> = burst.iter().map(|&(stream, bytes)| Waiting { stream, bytes }).collect();
                plan(&waiting, &mut budget, permille, &mut out);
                let mut seen = [false; PLAN_MAX];
                let mut newest = [None; 6];
                for placed in &out {
                    let n = usize::from(placed.waiting);
                    prop_assert!(!std::mem::replace(&mut seen[n], true), "placed twice");
                    let newest = &mut newest[waiting[n].stream as usize];
                    prop_assert!(newest.is_none_or(|before| before < n), "a stream is reordered");
                    *newest = Some(n);
                    bytes += u64::from(waiting[n].bytes);
                    padding += u64::from(placed.padding);
                }
                prop_assert_eq!(out.len(), waiting.len());
                prop_assert!(padding * 1000 <= bytes * u64::from(permille));
                prop_assert!(sends(&waiting, &out) <= waiting.len());
                let longest = waiting.iter().map(|w| w.bytes).max().unwrap();
                let padded = out.iter().map(|p| waiting[usize::from(p.waiting)].bytes + u32::from(p.padding));
                prop_assert!(padded.max().unwrap() <= longest, "padding makes nothing longer than what there is");
            }
        }
    }
}
