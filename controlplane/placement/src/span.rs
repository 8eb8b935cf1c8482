//! Calls that are too expensive for one node.

use std::cmp::Reverse;

use crate::rank;

/// Nodes that one call may have. Higher: larger calls, and each node sends every stream to all others of the call.
pub const SPAN_MAX: usize = 3;

/// Share of a node's capacity that one call may take there before it gets a further one. Lower: large calls spread earlier and
/// are relayed more. Higher: less room for it to grow until the further node is there, and for the other calls.
const SHARE_PERCENT: u64 = 50;

/// A call gives a node up when it would fit on one less with so much of the share. Lower: it keeps nodes for long. Higher: a call
/// whose cost goes up and down gains and loses nodes with it.
const SHRINK_PERCENT: u64 = 70;

/// A participant of a call and the node it uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub identity: String,
    pub node: String,
}

/// A participant that shall use another node of its call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shift {
    pub identity: String,
    pub from: String,
    pub to: String,
}

/// How many nodes a call shall have, 1 to [`SPAN_MAX`], from its cost (expected or measured, the whole call's) and the capacity
/// of one of them.
///
/// `current` is how many it has, none for a new one. Between giving one up and taking one there is a gap of 30 % so that a cost
/// that sways changes nothing.
pub fn span(cost_pps: u64, capacity_pps: u64, current: Option<usize>) -> usize {
    let fits = |nodes: usize, percent: u64| {
        let share = u128::from(capacity_pps) * u128::from(SHARE_PERCENT) / 100;
        u128::from(cost_pps) * 100 <= share * nodes as u128 * u128::from(percent)
    };
    let needed = |percent| (1..SPAN_MAX).find(|&nodes| fits(nodes, percent)).unwrap_or(SPAN_MAX);
    let least = needed(100);
    match current {
        // As many as it would take with the share reduced are kept, but no more.
        Some(current) => current.clamp(least, needed(SHRINK_PERCENT)),
        None => least,
    }
}

/// Which of a call's nodes a participant uses: `current` if that is one of them, otherwise the one that ranks highest for the
/// identity. None only if the call has no nodes.
///
/// So whoever is in a call stays where they are when it grows, and those who come later spread over all nodes evenly; of
/// those who lose their node each other node gets an equal share. [`regroup`] evens out what is left.
pub fn spread<'a>(identity: &str, nodes: &[&'a str], current: Option<&str>) -> Option<&'a str> {
    if let Some(kept) = nodes.iter().find(|node| Some(**node) == current) {
        return Some(kept);
    }
    let key = rank::key(identity);
    nodes.iter().copied().max_by_key(|node| (rank::hash(key, node), Reverse(*node)))
}

/// Participants that shall move so that each is where [`spread`] would put a newcomer, at most `most` of them.
///
/// When one node has been added to `n`, this moves one in `n + 1`, all to the new node: nobody goes from one old node to another.
/// Call it again after a while for the next `most`; the order is that of a hash of the identities, the same each time.
pub fn regroup(members: &[Membership], nodes: &[&str], most: usize) -> Vec<Shift> {
    let mut shifts: Vec<(u64, Shift)> = members
        .iter()
        .filter_map(|member| {
            let to = spread(&member.identity, nodes, None).filter(|to| *to != member.node)?;
            let shift = Shift { identity: member.identity.clone(), from: member.node.clone(), to: to.to_owned() };
            Some((rank::key(&member.identity), shift))
        })
        .collect();
    shifts.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.identity.cmp(&right.identity)));
    shifts.into_iter().take(most).map(|(_, shift)| shift).collect()
}
