//! Nodes and calls, placed and moved by the real placement code.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sluice_placement::{
    Ask, BOUND_PERCENT, Call, Candidate, QUIET_PERCENT, State, View, backup, heal, is_above_bound, place, span, spread,
};

use crate::{
    mix,
    people::{Costs, Work, cpu},
    report::Loads,
    settings::Settings,
};

/// What happened in a second or a phase.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub started: u64,
    pub ended: u64,
    /// Calls that nobody could take when they began.
    pub refused: u64,
    /// Parts of calls that went to another node.
    pub moved_calls: u64,
    pub moved_people: u64,
    /// Placements that brought a node above the bound although another of its region would have stayed below.
    pub placed_above: u64,
    pub work: Work,
    pub placement: Duration,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.started += other.started;
        self.ended += other.ended;
        self.refused += other.refused;
        self.moved_calls += other.moved_calls;
        self.moved_people += other.moved_people;
        self.placed_above += other.placed_above;
        self.work.add(other.work, 1.0);
        self.placement += other.placement;
    }
}

struct Live {
    call: Call,
    people: usize,
}

pub struct Cluster {
    pub view: View,
    costs: BTreeMap<usize, Costs>,
    capacity_pps: u64,
    calls: BTreeMap<u64, Live>,
    /// Calls by the nodes that they are on.
    on: BTreeMap<String, BTreeSet<u64>>,
    people: usize,
    /// Since it was taken last.
    tally: Tally,
}

impl Cluster {
    pub fn new(settings: &Settings, costs: BTreeMap<usize, Costs>) -> Cluster {
        let nodes = (0..settings.nodes).map(|i| Candidate {
            name: node_name(i),
            state: State::Alive,
            // Machines of three generations.
            capacity_pps: settings.capacity_pps * [75, 100, 125, 100][i / settings.regions % 4] / 100,
            load_pps: 0,
            region: Some(region_name(i % settings.regions)),
        });
        let capacity_pps = settings.capacity_pps;
        let (calls, on) = (BTreeMap::new(), BTreeMap::new());
        Cluster { view: View::new(nodes), costs, capacity_pps, calls, on, people: 0, tally: Tally::default() }
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    pub fn people(&self) -> usize {
        self.people
    }

    pub fn take(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// A call begins, if a node can take it.
    pub fn start(&mut self, id: u64, people: usize, region: usize) {
        let (room, region) = (format!("call-{id}"), region_name(region));
        let cost_pps = mix::cost_pps(people);
        let ask = Ask { cost_pps, region: Some(&region), avoid: &[], span: span(cost_pps, self.capacity_pps, None) };
        let before = cpu();
        let placed = place(&self.view, &room, &ask);
        self.tally.placement += cpu() - before;
        let Ok(nodes) = placed else {
            self.tally.refused += 1;
            return;
        };
        let part = ask.part_pps(nodes.len());
        for node in &nodes {
            self.view.charge(node, part);
            self.on.entry(node.clone()).or_default().insert(id);
            let is_above = passed_bound(&self.view, node, part);
            self.tally.placed_above += u64::from(is_above);
        }
        let call = Call { room, nodes, backup: None, cost_pps, region: Some(region) };
        self.calls.insert(id, Live { call, people });
        self.choose_backup(id);
        self.people += people;
        self.tally.started += 1;
        self.work(people, 1.0, |costs| costs.start);
    }

    pub fn end(&mut self, id: u64) {
        // Refused ones end too, without ever having been there.
        let Some(Live { call, people }) = self.calls.remove(&id) else { return };
        for node in &call.nodes {
            self.view.discharge(node, part(&call));
            self.on.get_mut(node).map(|calls| calls.remove(&id));
        }
        self.people -= people;
        self.tally.ended += 1;
        self.work(people, 1.0, |costs| costs.end);
    }

    /// Calls leave dead nodes, and drained ones at the rate. Parts of calls that cannot, in the order (dead, drained).
    pub fn heal(&mut self, drains_max: usize) -> (usize, usize) {
        let leaves = |node: &&Candidate| node.state != State::Alive;
        let from = self.view.nodes().iter().filter(leaves).filter_map(|node| self.on.get(&node.name));
        let ids: BTreeSet<u64> = from.flatten().copied().collect();
        if ids.is_empty() {
            return (0, 0);
        }
        let calls: Vec<Call> = ids.iter().filter_map(|id| Some(self.calls.get(id)?.call.clone())).collect();
        let before = cpu();
        let healing = heal(&self.view, &calls, drains_max);
        self.tally.placement += cpu() - before;
        for one in healing.moves {
            let Some(id) = one.room.strip_prefix("call-").and_then(|id| id.parse().ok()) else { continue };
            let Some(Live { call, people }) = self.calls.get_mut(&id) else { continue };
            let (part, people, moved) = (part(call), *people, members(call, *people, &one.from));
            for node in call.nodes.iter_mut().filter(|node| **node == one.from) {
                node.clone_from(&one.to);
            }
            self.view.discharge(&one.from, part);
            self.view.charge(&one.to, part);
            self.on.get_mut(&one.from).map(|calls| calls.remove(&id));
            self.on.entry(one.to).or_default().insert(id);
            self.tally.moved_calls += 1;
            self.tally.moved_people += moved as u64;
            self.work(people, moved as f64 / people as f64, |costs| costs.moved);
            self.choose_backup(id);
        }
        let dead = |from: &str| self.view.node(from).is_none_or(|node| node.state == State::Dead);
        let stuck = healing.stranded.iter().filter(|one| dead(&one.from)).count();
        (stuck, healing.stranded.len() - stuck)
    }

    /// Backups that have died are chosen anew.
    pub fn renew_backups(&mut self) {
        let is_alive = |name: &String| self.view.node(name).is_some_and(|node| node.state == State::Alive);
        let lost = self.calls.iter().filter(|(_, live)| !live.call.backup.as_ref().is_some_and(is_alive));
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.choose_backup(id);
        }
    }

    pub fn is_empty(&self, node: &str) -> bool {
        self.on.get(node).is_none_or(BTreeSet::is_empty)
    }

    /// People whose node is dead.
    pub fn people_without_node(&self) -> usize {
        let dead = self.view.nodes().iter().filter(|node| node.state == State::Dead);
        dead.flat_map(|node| self.on.get(&node.name).into_iter().flatten().map(move |id| (node, id)))
            .filter_map(|(node, id)| self.calls.get(id).map(|live| members(&live.call, live.people, &node.name)))
            .sum()
    }

    /// How full the nodes are that are alive.
    pub fn loads(&self) -> Loads {
        let alive = || self.view.nodes().iter().filter(|node| node.state == State::Alive);
        let mut filled: Vec<f64> = alive().map(|node| node.load_pps as f64 / node.capacity_pps as f64).collect();
        filled.sort_by(f64::total_cmp);
        let at = |quantile: f64| filled.get(((filled.len() - 1) as f64 * quantile).round() as usize).copied();
        if filled.is_empty() {
            return Loads::default();
        }
        let sum = |of: fn(&Candidate) -> u64| alive().map(of).sum::<u64>() as f64;
        Loads {
            nodes: filled.len(),
            mean: sum(|node| node.load_pps) / sum(|node| node.capacity_pps),
            min: at(0.0).unwrap_or_default(),
            p50: at(0.5).unwrap_or_default(),
            p99: at(0.99).unwrap_or_default(),
            max: at(1.0).unwrap_or_default(),
            above_bound: alive().filter(|node| is_above_bound(&self.view, node)).count() as f64 / filled.len() as f64,
        }
    }

    fn choose_backup(&mut self, id: u64) {
        let Some(Live { call, .. }) = self.calls.get_mut(&id) else { return };
        let nodes: Vec<&str> = call.nodes.iter().map(String::as_str).collect();
        let ask = Ask { cost_pps: call.cost_pps, region: call.region.as_deref(), ..Ask::default() };
        let before = cpu();
        let chosen = backup(&self.view, &call.room, &ask, &nodes, call.backup.as_deref());
        self.tally.placement += cpu() - before;
        call.backup = chosen.ok();
    }

    fn work(&mut self, people: usize, share: f64, of: fn(&Costs) -> Work) {
        if let Some(costs) = self.costs.get(&people) {
            self.tally.work.add(of(costs), share);
        }
    }
}

pub fn node_name(index: usize) -> String {
    format!("node-{index:04}")
}

fn region_name(index: usize) -> String {
    format!("region-{}", index + 1)
}

fn part(call: &Call) -> u64 {
    Ask { cost_pps: call.cost_pps, ..Ask::default() }.part_pps(call.nodes.len())
}

/// Whether this placement brought the node above the bound of its region while another node there would have stayed below.
/// Computed from the loads, not asked of the placement code, which it is to check.
fn passed_bound(view: &View, name: &str, part_pps: u64) -> bool {
    let Some(chosen) = view.node(name) else { return false };
    let region = || view.nodes().iter().filter(|node| node.region == chosen.region && node.state == State::Alive);
    let sum = |of: fn(&Candidate) -> u64| region().map(of).sum::<u64>() as f64;
    let mean = sum(|node| node.load_pps) / sum(|node| node.capacity_pps);
    let bound = (mean * BOUND_PERCENT as f64).max(QUIET_PERCENT as f64) / 100.0;
    // Of two ways to compute one number the last digit differs.
    let filled = |node: &Candidate, more_pps: u64| (node.load_pps + more_pps) as f64 / node.capacity_pps as f64 - 1e-9;
    filled(chosen, 0) > bound && region().any(|node| node.name != name && filled(node, part_pps) <= bound.min(1.0))
}

/// People of a call who use this node.
fn members(call: &Call, people: usize, node: &str) -> usize {
    if call.nodes.len() == 1 {
        return people;
    }
    let nodes: Vec<&str> = call.nodes.iter().map(String::as_str).collect();
    (0..people).filter(|i| spread(&format!("person-{i}"), &nodes, None) == Some(node)).count()
}
