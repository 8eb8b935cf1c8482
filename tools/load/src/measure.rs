//! What is counted. Each thread counts for itself and hands over the difference once a second.

use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde::Serialize;
use sluice_wire::Micros;

/// Longest latency, jitter or delay that is told apart.
const LONGEST_US: u64 = 60_000_000;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Sums over all clients of a thread, or of all threads.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        impl AddAssign<&Counters> for Counters {
            fn add_assign(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Media packets that publishers sent, and their bytes as UDP payload.
    sent_packets,
    sent_bytes,
    /// Of these, packets sent once more on request.
    resent_packets,
    /// Sends that the operating system refused.
    send_errors,
    /// Media packets that receivers got, repairs and duplicates included, and their bytes as UDP payload.
    received_packets,
    received_bytes,
    /// Media packets that the sequence numbers say were sent to receivers.
    expected_packets,
    /// Of those, the ones that came without being asked for.
    arrived_packets,
    /// Of those that did not, the ones that came when asked for.
    repaired_packets,
    duplicate_packets,
    /// Opened with success, and refused by the tag.
    verified_packets,
    forged_packets,
    /// Of an SSRC that no description has.
    unknown_packets,
    /// Padding alone, as servers send to probe or fill.
    padding_packets,
    /// Dropped by `--loss`.
    dropped_packets,
    nacks_sent,
    plis_sent,
    /// What publishers were asked for.
    nacks_received,
    plis_received,
    /// Streams that brought media in the measured time.
    audio_streams,
    video_streams,
    /// Receivers that got every stream they should get.
    complete_receivers,
    /// CPU time of the threads that carry media.
    busy_us,
}

/// A histogram of microseconds with three digits.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that the library accepts.
    Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|_| Histogram::<u64>::new(3).expect("three digits"))
}

/// One histogram for each kind of media.
#[derive(Clone, Debug)]
pub struct ByKind {
    pub audio: Histogram<u64>,
    pub video: Histogram<u64>,
}

impl Default for ByKind {
    fn default() -> ByKind {
        ByKind { audio: histogram(), video: histogram() }
    }
}

impl ByKind {
    /// Adds a value in microseconds.
    pub fn record(&mut self, kind: Kind, value_us: u64) {
        match kind {
            Kind::Audio => self.audio.saturating_record(value_us),
            Kind::Video => self.video.saturating_record(value_us),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &ByKind) {
        // Both have the same bounds, so nothing can be out of them.
        let _ = self.audio.add(&other.audio);
        let _ = self.video.add(&other.video);
    }
}

/// Kinds of media.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Audio,
    Video,
}

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Phase {
    Joining,
    Measuring,
    Done,
}

impl Phase {
    /// The phase with this number.
    pub fn of(number: u8) -> Phase {
        match number {
            0 => Phase::Joining,
            1 => Phase::Measuring,
            _ => Phase::Done,
        }
    }
}

/// What one thread counted in one stretch of one phase.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub counters: Counters,
    /// From the publisher's send to the receiver's receive.
    pub latency: ByKind,
    /// RFC 3550's estimate, once for each stream and second.
    pub jitter: ByKind,
    /// How late this thread was with what publishers had to send: beyond some milliseconds the generator is the bottleneck.
    pub late: ByKind,
}

/// A [`Tally`] on its way.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub phase: Phase,
    pub at: Micros,
    pub tally: Tally,
}
