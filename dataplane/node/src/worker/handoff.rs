//! Datagrams for transports of another worker, what workers tell each other about their 5-tuples, and what their forwarders
//! say to each other about a call that lives on both. One bounded lane for each ordered pair of workers.

use std::sync::Arc;

use sluice_forwarder::Relayed;
use sluice_frames::Route;

use super::directory::WorkerIndex;
use crate::{
    lane::{LaneIn, LaneOut, lane, place_bytes},
    queue::Bell,
};

/// Places in all lanes towards one worker together; each costs 2 KiB. Raising it rides out longer turns of the receiving
/// worker, beyond it datagrams are dropped and counted.
const PLACES: usize = 4096;

/// Fewest places of one lane, however many workers there are.
const PLACES_MIN: usize = 64;

/// What is handed over.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "it stands in a place of a lane, which is as large as a datagram anyway")]
pub(crate) enum Handed {
    /// A datagram from that route.
    Datagram(Route),
    /// The route is one of the teller's now.
    Mine(Route),
    /// It is no longer.
    NotMine(Route),
    /// From forwarder to forwarder; packets with their bytes.
    Relayed(Relayed),
}

/// All siblings of a worker.
pub(crate) struct Siblings {
    /// By index; none for the worker itself.
    ways: Vec<Option<Way>>,
}

struct Way {
    to: LaneIn<Handed>,
    bell: Arc<Bell>,
    /// Something was pushed since the bell was rung.
    is_pushed: bool,
}

/// What comes from siblings, with who they are.
pub(crate) type FromSiblings = Vec<(WorkerIndex, LaneOut<Handed>)>;

impl Siblings {
    /// Hands a datagram over. False: the lane is full.
    pub(crate) fn hand(&mut self, to: WorkerIndex, from: Route, datagram: &[u8]) -> bool {
        self.push(to, Handed::Datagram(from), datagram)
    }

    /// Tells one sibling that a route is ours. False: the lane is full.
    pub(crate) fn own(&mut self, to: WorkerIndex, route: Route) -> bool {
        self.push(to, Handed::Mine(route), &[])
    }

    /// Tells all siblings that it no longer is; returns how many could not be told.
    pub(crate) fn disown(&mut self, route: Route) -> u64 {
        let others = 0..self.ways.len() as WorkerIndex;
        let untold = |to| self.ways[usize::from(to)].is_some() && !self.push(to, Handed::NotMine(route), &[]);
        others.map(untold).filter(|untold| *untold).count() as u64
    }

    /// Hands over what our forwarder says, and wakes the sibling at once, as it can begin while we send. False: the lane is
    /// full.
    pub(crate) fn relay(&mut self, to: WorkerIndex, what: Relayed, packet: &[u8]) -> bool {
        let is_pushed = self.push(to, Handed::Relayed(what), packet);
        if is_pushed && let Some(Some(way)) = self.ways.get(usize::from(to)) {
            way.bell.hint();
        }
        is_pushed
    }

    /// Wakes those who got something, once per turn.
    pub(crate) fn ring(&mut self) {
        for way in self.ways.iter_mut().flatten() {
            if std::mem::take(&mut way.is_pushed) {
                way.bell.ring();
            }
        }
    }

    fn push(&mut self, to: WorkerIndex, head: Handed, datagram: &[u8]) -> bool {
        let Some(Some(way)) = self.ways.get_mut(usize::from(to)) else { return false };
        let is_pushed = way.to.push(head, datagram);
        way.is_pushed |= is_pushed;
        is_pushed
    }
}

/// Lanes between all workers with these bells: for each worker, the ways to its siblings and what comes from them.
pub(crate) fn connect(bells: &[Arc<Bell>]) -> Vec<(Siblings, FromSiblings)> {
    let count = bells.len();
    let mut ends: Vec<(Siblings, FromSiblings)> =
        (0..count).map(|_| (Siblings { ways: Vec::new() }, Vec::new())).collect();
    let anything = Handed::NotMine(Route { socket: 0, peer: ([0, 0, 0, 0], 0).into() });
    for from in 0..count {
        for to in 0..count {
            if from == to {
                ends[from].0.ways.push(None);
                continue;
            }
            let (lane_in, lane_out) = lane(places(count), anything);
            ends[from].0.ways.push(Some(Way { to: lane_in, bell: bells[to].clone(), is_pushed: false }));
            ends[to].1.push((from as WorkerIndex, lane_out));
        }
    }
    ends
}

/// Memory of all lanes towards a worker, in bytes.
pub(crate) fn lanes_bytes(workers: usize) -> usize {
    places(workers) * workers.saturating_sub(1) * place_bytes::<Handed>()
}

/// Places of each lane towards a worker.
fn places(workers: usize) -> usize {
    match workers {
        0 | 1 => 0,
        n => (PLACES / (n - 1)).max(PLACES_MIN),
    }
}
