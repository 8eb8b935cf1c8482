//! What happened, by name. Each counter has one writing thread; readers may look at any time.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A number that one thread raises and others read.
#[derive(Default, Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds. A load and a store, as there is one writer: no locked instruction on the packet path.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets what is read off elsewhere: a clock, the length of a queue.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($(#[$about:meta])* $type:ident, $prefix:literal; $($(#[$doc:meta])* $name:ident,)*) => {
        $(#[$about])*
        #[derive(Default, Debug)]
        pub(crate) struct $type {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl $type {
            pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((concat!($prefix, stringify!($name)), self.$name.value()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Counted by a worker's thread.
    WorkerCounters, "worker_";
    /// Datagrams the backend handed over.
    received,
    /// Datagrams longer than a frame.
    drop_backend,
    /// Receives that found packet memory used up.
    starved,
    /// A sibling's datagram that found packet memory used up.
    drop_no_frame,
    /// Datagrams sent.
    sent,
    /// Sends that took them: `sent / sends` is the length of runs.
    sends,
    /// Of these datagrams, sent past the kernel's stack (AF_XDP).
    sent_direct,
    /// Sends whose segmentation was refused: their datagrams left one by one.
    unsegmented,
    /// Datagrams that the kernel refused.
    send_errors,
    /// Of these, longer than the path takes in one piece.
    send_too_long,
    /// Datagrams that belong to a sibling and were copied to it.
    handed_over,
    /// Datagrams that siblings copied to us.
    handed_in,
    /// Queue to the sibling was full.
    drop_handoff_full,
    /// What a forwarder said to a sibling's, while the queue there was full: one copy of a packet, or a state.
    drop_relay_full,
    /// A sibling believed this to be ours and it was not.
    drop_handed_in,
    /// A check for a user name that no worker knows.
    drop_unknown_ufrag,
    /// DTLS, RTP or RTCP from a 5-tuple without a passed check.
    drop_unvalidated,
    /// Neither STUN, DTLS, RTP nor RTCP by its first byte.
    drop_unclassified,
    /// DTLS record while the queue to the slow thread was full.
    drop_slow_full,
    /// DTLS record or answer to a check while all transmit slots were in flight.
    drop_no_slot,
    /// DTLS record for a transport without a route.
    drop_no_route,
    /// Routes or user names of siblings that found no place in the directory.
    directory_full,
    /// Routes not told to a sibling as its queue was full; its next check tells them again.
    directory_untold,
    /// 5-tuples that the kernel could not be told of; they are handed over.
    unsteered,
    /// Transports that ICE could not take in.
    refused_transports,
    /// Events lost as the link did not take them.
    drop_events,
    /// Time that the thread was at work, in microseconds; the rest of the time it waited.
    busy_us,
    /// Share of the last tenth of a second that it was at work, in thousandths.
    busy_permille,
    /// CPU time of the thread, the kernel's work on its behalf included, in microseconds.
    cpu_us,
    /// Frames of packet memory, and those of them that nobody uses now.
    frames,
    frames_free,
    /// Commands of the link and results of the slow thread that wait now.
    commands_waiting,
    verdicts_waiting,
}

counters! {
    /// Counted by a slow thread.
    SlowCounters, "slow_";
    /// DTLS associations that were completed.
    connected,
    /// Associations that broke or were closed by the client.
    closed,
    /// Datagrams for a transport that is gone, or that came before its fingerprint and found the waiting place full.
    drop_early,
    /// Data messages taken in.
    data_received,
    /// Data messages sent, one for each receiver.
    data_sent,
    /// Bytes of them.
    data_sent_bytes,
    /// Longer than a data message may be.
    drop_data_long,
    /// Not a data packet, one that only a server may send, or not a packet of a data track.
    drop_data_malformed,
    /// On `_data_track` under a handle that nothing is published under (any more).
    drop_data_track,
    /// The receiver's channel is not open (yet).
    drop_data_unopened,
    /// The receiver reads too slowly: its buffer is full.
    drop_data_full,
    /// Transports closed as their reliable channel stayed full.
    closed_unread,
    /// CPU time of the thread in microseconds.
    cpu_us,
    /// Orders of the link and datagrams of the worker that wait now.
    orders_waiting,
    datagrams_waiting,
}

/// Numbers of parts that count without atomics, copied out by their worker now and then.
#[derive(Default)]
pub(crate) struct Published(Mutex<Vec<(&'static str, u64)>>);

impl Published {
    /// Replaces the copy, unless a reader is at it: then the next time will do.
    pub(crate) fn publish(&self, counters: impl Iterator<Item = (&'static str, u64)>) {
        if let Ok(mut copy) = self.0.try_lock() {
            copy.clear();
            copy.extend(counters);
        }
    }

    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything one worker and its slow thread count.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) worker: WorkerCounters,
    pub(crate) slow: SlowCounters,
    /// Of the forwarder and of ICE.
    pub(crate) published: Published,
    /// Of DTLS and SCTP.
    pub(crate) slow_published: Published,
}

impl Counted {
    /// All of it by name.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let published = self.published.read().into_iter().chain(self.slow_published.read());
        published.chain(self.worker.iter()).chain(self.slow.iter())
    }
}

/// Sums over the workers, in a fixed order.
pub(crate) fn merge<'a>(parts: impl IntoIterator<Item = &'a Counted>) -> Vec<(String, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for part in parts {
        for (name, value) in part.read() {
            match sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name, value)),
            }
        }
    }
    sums.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let (one, two) = (Counted::default(), Counted::default());
        one.worker.received.add(2);
        two.worker.received.add(3);
        two.published.publish([("ice_accepted", 7)].into_iter());
        let merged = merge([&one, &two]);
        assert!(merged.contains(&("worker_received".into(), 5)) && merged.contains(&("ice_accepted".into(), 7)));
    }
}
