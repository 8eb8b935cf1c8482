//! What stands in for the system: links, queues and the clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    time::Duration,
};

use super::{Counts, Link};

/// Datagrams under way in the whole network. A test that sends more without receiving has lost its way; more would only use
/// memory.
const UNDER_WAY_MAX: usize = 1 << 17;

pub(super) struct World {
    now: Duration,
    random: Random,
    default_link: Link,
    links: BTreeMap<(SocketAddr, SocketAddr), Link>,
    paths: BTreeMap<(SocketAddr, SocketAddr), Path>,
    /// Who has an address: endpoint and socket.
    homes: BTreeMap<SocketAddr, (usize, u8)>,
    /// What is on its way to each endpoint, the earliest first.
    inboxes: Vec<BinaryHeap<Reverse<Parcel>>>,
    /// Datagrams ever under way: keeps those that arrive at the same time in order.
    parcels: u64,
    under_way: usize,
}

/// The state of one direction.
#[derive(Default)]
struct Path {
    /// When everything accepted so far will have left.
    busy_until: Duration,
    /// When the last one that keeps its place arrives.
    last_arrival: Duration,
    counts: Counts,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    arrival: Duration,
    number: u64,
    socket: u8,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            now: Duration::ZERO,
            random: Random(seed),
            default_link: Link::default(),
            links: BTreeMap::new(),
            paths: BTreeMap::new(),
            homes: BTreeMap::new(),
            inboxes: Vec::new(),
            parcels: 0,
            under_way: 0,
        }
    }

    pub(super) fn attach(&mut self, addresses: &[SocketAddr]) -> usize {
        let endpoint = self.inboxes.len();
        for (socket, &address) in addresses.iter().enumerate() {
            let before = self.homes.insert(address, (endpoint, socket as u8));
            assert!(before.is_none(), "{address} is taken");
        }
        self.inboxes.push(BinaryHeap::new());
        endpoint
    }

    pub(super) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
    }

    pub(super) fn set_link(&mut self, from: SocketAddr, to: SocketAddr, link: Link) {
        self.links.insert((from, to), link);
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn advance(&mut self, to: Duration) {
        self.now = self.now.max(to);
    }

    pub(super) fn next_arrival(&self) -> Option<Duration> {
        (0..self.inboxes.len()).filter_map(|endpoint| self.next_arrival_at(endpoint)).min()
    }

    pub(super) fn next_arrival_at(&self, endpoint: usize) -> Option<Duration> {
        self.inboxes[endpoint].peek().map(|parcel| parcel.0.arrival)
    }

    pub(super) fn has_arrived(&self, endpoint: usize) -> bool {
        self.next_arrival_at(endpoint).is_some_and(|arrival| arrival <= self.now)
    }

    /// Takes the earliest arrived datagram out: the socket it came to, who sent it, what it says.
    pub(super) fn receive(&mut self, endpoint: usize) -> Option<(u8, SocketAddr, Vec<u8>)> {
        if !self.has_arrived(endpoint) {
            return None;
        }
        let Reverse(parcel) = self.inboxes[endpoint].pop()?;
        self.under_way -= 1;
        self.paths.entry((parcel.from, parcel.to)).or_default().counts.delivered += 1;
        Some((parcel.socket, parcel.from, parcel.bytes))
    }

    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let link = *self.links.get(&(from, to)).unwrap_or(&self.default_link);
        let path = self.paths.entry((from, to)).or_default();
        path.counts.sent += 1;
        let Some(&(endpoint, socket)) = self.homes.get(&to) else {
            path.counts.unreachable += 1;
            return;
        };
        // Every datagram draws the same numbers whatever becomes of it, so that changing one share of a link leaves the
        // others' choices as they were.
        let [loss, duplicate, reorder, jitter] = std::array::from_fn(|_| self.random.share());

        let start = path.busy_until.max(self.now);
        let departure = match link.capacity_bps {
            None => start,
            Some(capacity_bps) => {
                let waiting_bytes = (start - self.now).as_secs_f64() * capacity_bps as f64 / 8.0;
                if waiting_bytes + bytes.len() as f64 > link.queue_bytes as f64 {
                    path.counts.overflowed += 1;
                    return;
                }
                start + Duration::from_secs_f64(bytes.len() as f64 * 8.0 / capacity_bps.max(1) as f64)
            }
        };
        path.busy_until = departure;
        if loss < link.loss {
            path.counts.lost += 1;
            return;
        }
        let mut arrival = (departure + link.delay + link.jitter.mul_f64(jitter)).max(path.last_arrival);
        if reorder < link.reorder {
            path.counts.held += 1;
            arrival += link.hold;
        } else {
            path.last_arrival = arrival;
        }
        let copies = if duplicate < link.duplicate { 2 } else { 1 };
        for _ in 0..copies {
            if self.under_way == UNDER_WAY_MAX {
                path.counts.overflowed += 1;
                continue;
            }
            self.under_way += 1;
            self.parcels += 1;
            let parcel = Parcel { arrival, number: self.parcels, socket, from, to, bytes: bytes.clone() };
            self.inboxes[endpoint].push(Reverse(parcel));
        }
        path.counts.duplicated += copies - 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.paths.values().fold(Counts::default(), |sum, path| Counts {
            sent: sum.sent + path.counts.sent,
            delivered: sum.delivered + path.counts.delivered,
            lost: sum.lost + path.counts.lost,
            overflowed: sum.overflowed + path.counts.overflowed,
            duplicated: sum.duplicated + path.counts.duplicated,
            held: sum.held + path.counts.held,
            unreachable: sum.unreachable + path.counts.unreachable,
        })
    }

    pub(super) fn counts_between(&self, from: SocketAddr, to: SocketAddr) -> Counts {
        self.paths.get(&(from, to)).map_or(Counts::default(), |path| path.counts)
    }
}

/// SplitMix64: the same numbers from the same seed with every version of every library.
struct Random(u64);

impl Random {
    /// A number from 0 up to, not including, 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}
