//! Where a call goes, and who takes over.

use std::cmp::Ordering;

use crate::{
    rank,
    span::SPAN_MAX,
    view::{Candidate, PPS_MAX, State, Totals, View},
};

/// A node takes a call only while its utilisation stays below so much of the mean over its pool (the region, or all).
/// Lower: loads are more even, and more calls sit on another node than the ranking's first, so that more views disagree.
/// Higher: fuller nodes, less room on them for a call that grows.
pub const BOUND_PERCENT: u64 = 125;

/// Below this share of its capacity a node is never passed over: in a quiet cluster a few calls are far above the mean and hurt
/// nobody. Lower: the first calls of a day leave the ranking. Higher: loads are uneven where it begins to matter.
pub const QUIET_PERCENT: u64 = 5;

/// What is to be placed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Packets per second that the whole call will be forwarded, expected or measured.
    pub cost_pps: u64,
    /// Nodes of this region come first while one of them has room.
    pub region: Option<&'a str>,
    /// Nodes that shall not be chosen: the call's own when a further one is looked for, or the one just lost.
    pub avoid: &'a [&'a str],
    /// Nodes that the call shall have, 1 to [`SPAN_MAX`] (0 counts as 1), see [`crate::span`]. Each carries an equal part of the cost.
    pub span: usize,
}

/// Why nobody can take a call. All may pass: try again when a node has come, or calls have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("no media node is known: start one with `sluice node`")]
    NoNodes,
    #[error("none of the {known} media nodes is alive")]
    AllDead { known: usize },
    #[error("all {alive} media nodes that are alive are drained: undrain one, or start another")]
    AllDrained { alive: usize },
    #[error(
        "all {open} media nodes that take calls are ones to be avoided: the call is on them, or has just lost them"
    )]
    AllAvoided { open: usize },
    #[error(
        "all {open} media nodes are full: the call needs {cost_pps} packets/s on one, and the emptiest has {left_pps} left"
    )]
    Full { open: usize, cost_pps: u64, left_pps: u64 },
}

/// Nodes for a call, the first being its primary: those that rank highest for the room's name among those with room.
///
/// Walks the ranking to the first node that stays under the bound, [`BOUND_PERCENT`] of the mean utilisation. Where all would
/// be above (a call that is large for the cluster), the one that ends up with the least utilisation is taken, the higher ranked
/// of equals. Fewer nodes than `ask.span` are given where fewer have room, never none.
///
/// Charge the view with the parts ([`Ask::part_pps`] of as many nodes as were given) before the next placement.
pub fn place(view: &View, room: &str, ask: &Ask) -> Result<Vec<String>, PlaceError> {
    fill(view, room, ask, Vec::new())
}

/// More nodes for a call that has some: those of `current` that are alive stay in their order, and the next in the ranking come
/// after them until there are `ask.span`. Never takes one away.
///
/// # Errors
/// None of `current` is alive, and nobody can take the call.
pub fn grow(view: &View, room: &str, ask: &Ask, current: &[&str]) -> Result<Vec<String>, PlaceError> {
    let is_alive = |name: &&&str| view.node(name).is_some_and(|node| node.state == State::Alive);
    fill(view, room, ask, current.iter().filter(is_alive).map(|name| (*name).to_owned()).collect())
}

/// The passive backup of a call that is on `nodes`: where [`place`] would go without them. `current`, the backup so far, stays
/// while it is alive, has room and is none of `nodes`, so that changing loads do not make it wander.
///
/// It is to take one node's part, `ask.cost_pps` by the number of `nodes`; it is not charged for that.
///
/// # Errors
/// There is no other node, or none has room: the call has no backup, and heals by [`crate::heal`].
pub fn backup(view: &View, room: &str, ask: &Ask, nodes: &[&str], current: Option<&str>) -> Result<String, PlaceError> {
    let part = ask.part_pps(nodes.len());
    let avoid: Vec<&str> = ask.avoid.iter().chain(nodes).copied().collect();
    match current.filter(|name| is_fit(view, name, part, &avoid)) {
        Some(name) => Ok(name.to_owned()),
        None => best(view, room, part, ask.region, &avoid).map(|node| node.name.clone()),
    }
}

/// Whether a node can take so much.
pub(crate) fn is_fit(view: &View, name: &str, cost_pps: u64, avoid: &[&str]) -> bool {
    view.node(name).is_some_and(|node| is_open(node, avoid) && has_room(node, cost_pps))
}

/// Whether a node stands above the bound of its pool: its region if it has one, else all.
pub fn is_above_bound(view: &View, node: &Candidate) -> bool {
    !is_under(node, 0, view.totals(node.region.as_deref()))
}

impl Ask<'_> {
    /// What each of `nodes` nodes carries of the call.
    pub fn part_pps(&self, nodes: usize) -> u64 {
        self.cost_pps.min(PPS_MAX).div_ceil(nodes.max(1) as u64)
    }
}

fn fill(view: &View, room: &str, ask: &Ask, mut chosen: Vec<String>) -> Result<Vec<String>, PlaceError> {
    let span = ask.span.clamp(1, SPAN_MAX);
    let part = ask.part_pps(span);
    while chosen.len() < span {
        let avoid: Vec<&str> = ask.avoid.iter().copied().chain(chosen.iter().map(String::as_str)).collect();
        match best(view, room, part, ask.region, &avoid) {
            Ok(node) => chosen.push(node.name.clone()),
            Err(error) if chosen.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(chosen)
}

/// The node for one part of a call.
pub(crate) fn best<'v>(
    view: &'v View,
    room: &str,
    cost_pps: u64,
    region: Option<&str>,
    avoid: &[&str],
) -> Result<&'v Candidate, PlaceError> {
    let key = rank::key(room);
    region
        .and_then(|region| within(view, key, cost_pps, Some(region), avoid))
        .or_else(|| within(view, key, cost_pps, None, avoid))
        .ok_or_else(|| reason(view, cost_pps, avoid))
}

/// The same in one pool. One pass: the first of the ranking that is under the bound is the highest of those under the bound.
fn within<'v>(view: &'v View, key: u64, cost_pps: u64, region: Option<&str>, avoid: &[&str]) -> Option<&'v Candidate> {
    let totals = view.totals(region);
    let mut first: Option<(f64, &Candidate)> = None;
    let mut emptiest: Option<&Candidate> = None;
    for node in view.nodes() {
        let is_in = region.is_none() || node.region.as_deref() == region;
        if !is_in || !is_open(node, avoid) || !has_room(node, cost_pps) {
            continue;
        }
        if is_under(node, cost_pps, totals) {
            let score = rank::score(key, &node.name, node.capacity_pps);
            // Nodes come by name, so that of equals the first by name wins.
            if first.is_none_or(|(highest, _)| score > highest) {
                first = Some((score, node));
            }
        } else if first.is_none() && emptiest.is_none_or(|other| emptier(key, cost_pps, node, other) == Ordering::Less)
        {
            emptiest = Some(node);
        }
    }
    first.map(|(_, node)| node).or(emptiest)
}

fn is_open(node: &Candidate, avoid: &[&str]) -> bool {
    node.state == State::Alive && node.capacity_pps > 0 && !avoid.contains(&node.name.as_str())
}

fn has_room(node: &Candidate, cost_pps: u64) -> bool {
    node.load_pps + cost_pps.min(PPS_MAX) <= node.capacity_pps
}

/// Whether the node stays under the bound of its pool with this cost on it.
fn is_under(node: &Candidate, cost_pps: u64, pool: Totals) -> bool {
    let load = u128::from(node.load_pps + cost_pps);
    let capacity = u128::from(node.capacity_pps);
    let mean = u128::from(pool.load_pps + cost_pps);
    load * 100 <= capacity * u128::from(QUIET_PERCENT)
        || load * u128::from(pool.capacity_pps) * 100 <= mean * capacity * u128::from(BOUND_PERCENT)
}

/// By utilisation with the cost on it, then by rank.
fn emptier(key: u64, cost_pps: u64, a: &Candidate, b: &Candidate) -> Ordering {
    let filled =
        |node: &Candidate, other: &Candidate| u128::from(node.load_pps + cost_pps) * u128::from(other.capacity_pps);
    let score = |node: &Candidate| rank::score(key, &node.name, node.capacity_pps);
    filled(a, b).cmp(&filled(b, a)).then_with(|| score(b).total_cmp(&score(a)))
}

fn reason(view: &View, cost_pps: u64, avoid: &[&str]) -> PlaceError {
    let known = view.nodes().len();
    let alive = view.nodes().iter().filter(|node| node.state != State::Dead).count();
    let takes = |node: &&Candidate| node.state == State::Alive;
    let open = view.nodes().iter().filter(takes).count();
    let left = |node: &Candidate| node.capacity_pps.saturating_sub(node.load_pps);
    let left = view.nodes().iter().filter(takes).filter(|node| !avoid.contains(&node.name.as_str())).map(left).max();
    match (known, alive, open, left) {
        (0, ..) => PlaceError::NoNodes,
        (known, 0, ..) => PlaceError::AllDead { known },
        (_, alive, 0, _) => PlaceError::AllDrained { alive },
        (_, _, open, None) => PlaceError::AllAvoided { open },
        (_, _, open, Some(left_pps)) => PlaceError::Full { open, cost_pps, left_pps },
    }
}
