//! Calls that have to leave their node.

use std::cmp::Reverse;

use crate::{
    place::{self, Ask, PlaceError},
    view::{State, View},
};

/// A call as it is assigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub room: String,
    /// Primary first, 1 to [`crate::SPAN_MAX`].
    pub nodes: Vec<String>,
    /// Goes in for whichever of `nodes` dies, if it is fit for it at that time.
    pub backup: Option<String>,
    /// Of the whole call, in packets forwarded per second.
    pub cost_pps: u64,
    pub region: Option<String>,
}

/// One node of a call gives way to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    pub room: String,
    pub from: String,
    pub to: String,
    /// `from` is dead or unknown: media has stopped. Otherwise it is drained, and goes on until the move is done.
    pub is_urgent: bool,
}

/// A call that should leave a node and cannot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stranded {
    pub room: String,
    pub from: String,
    pub reason: PlaceError,
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Healing {
    /// In the order in which they should be done: first those without media, of these the most expensive.
    pub moves: Vec<Move>,
    /// Ask again when the view has changed. One on a drained node still has its media.
    pub stranded: Vec<Stranded>,
    /// Moves off drained nodes that were left for the next time.
    pub waiting: usize,
}

/// Which calls have to move, and whereto: off dead nodes all at once, off drained ones at most `drains_max` (call it again for more:
/// that, and how often, is the rate of a drain). A node that the view does not know is dead.
///
/// A dead node's part goes to the call's backup if that is alive and has room, otherwise, and off a drained node always, to where
/// [`crate::place`] would go without the call's nodes. Each move counts in the load that the next one sees, so that a whole
/// region's calls do not fall on one node. The view itself is not changed: charge `to` and discharge `from` as moves are done.
pub fn heal(view: &View, calls: &[Call], drains_max: usize) -> Healing {
    let mut view = view.clone();
    let mut due: Vec<Due> = calls.iter().flat_map(|call| dues(&view, call)).collect();
    due.sort_by_key(|due| {
        let Due { call, from, is_urgent } = *due;
        (!is_urgent, Reverse(call.cost_pps), call.room.as_str(), from)
    });
    let mut healing = Healing::default();
    let mut drains = 0;
    // Nodes that a call has been given by earlier moves of this healing.
    let mut given: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
    for Due { call, from, is_urgent } in due {
        if !is_urgent && drains == drains_max {
            healing.waiting += 1;
            continue;
        }
        let part = Ask { cost_pps: call.cost_pps, ..Ask::default() }.part_pps(call.nodes.len());
        let taken = given.entry(&call.room).or_default();
        match replacement(&view, call, part, taken, is_urgent) {
            Ok(to) => {
                view.charge(&to, part);
                view.discharge(from, part);
                drains += usize::from(!is_urgent);
                taken.push(to.clone());
                healing.moves.push(Move { room: call.room.clone(), from: from.to_owned(), to, is_urgent });
            }
            Err(reason) => {
                healing.stranded.push(Stranded { room: call.room.clone(), from: from.to_owned(), reason });
            }
        }
    }
    healing
}

/// A node that a call has to leave.
#[derive(Clone, Copy)]
struct Due<'a> {
    call: &'a Call,
    from: &'a str,
    is_urgent: bool,
}

fn dues<'a>(view: &View, call: &'a Call) -> Vec<Due<'a>> {
    let due = |from: &'a String| match view.node(from).map(|node| node.state) {
        Some(State::Alive) => None,
        Some(State::Drained) => Some(Due { call, from, is_urgent: false }),
        Some(State::Dead) | None => Some(Due { call, from, is_urgent: true }),
    };
    call.nodes.iter().filter_map(due).collect()
}

fn replacement(
    view: &View,
    call: &Call,
    part_pps: u64,
    taken: &[String],
    is_urgent: bool,
) -> Result<String, PlaceError> {
    let avoid: Vec<&str> = call.nodes.iter().chain(taken).map(String::as_str).collect();
    let region = call.region.as_deref();
    let fit = |name: &&str| place::is_fit(view, name, part_pps, &avoid);
    match call.backup.as_deref().filter(|_| is_urgent).filter(fit) {
        Some(backup) => Ok(backup.to_owned()),
        None => place::best(view, &call.room, part_pps, region, &avoid).map(|node| node.name.clone()),
    }
}
