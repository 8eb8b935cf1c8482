//! What is known of the nodes.

use std::collections::BTreeMap;

/// Loads, capacities and costs above are taken as this, so that sums and products of them cannot overflow. No machine sends a
/// thousandth of it.
pub const PPS_MAX: u64 = 1 << 40;

/// Whether a node may be given calls. Better states order first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Takes calls.
    Alive,
    /// Keeps the calls it has until they are moved, takes none.
    Drained,
    /// Forwards nothing.
    Dead,
}

/// One node as the cluster knows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate {
    /// Unique in the cluster.
    pub name: String,
    pub state: State,
    /// Packets per second that it may forward; 0 takes no calls. Weight in the ranking.
    pub capacity_pps: u64,
    /// Sum of the costs of the calls that are on it, those just assigned included.
    pub load_pps: u64,
    pub region: Option<String>,
}

/// Sums over the alive nodes of a pool.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    pub load_pps: u64,
    pub capacity_pps: u64,
}

/// All nodes, by name. What is placed is charged by the caller ([`View::charge`]), so that the next placement sees it.
#[derive(Clone, Default, Debug)]
pub struct View {
    nodes: Vec<Candidate>,
    all: Totals,
    regions: BTreeMap<String, Totals>,
}

impl View {
    /// A view of these nodes, in any order. Of several with one name the first in the order of [`Candidate`] counts, which
    /// prefers an alive one.
    pub fn new(nodes: impl IntoIterator<Item = Candidate>) -> View {
        let mut nodes: Vec<Candidate> = nodes.into_iter().collect();
        for node in &mut nodes {
            node.capacity_pps = node.capacity_pps.min(PPS_MAX);
            node.load_pps = node.load_pps.min(PPS_MAX);
        }
        nodes.sort();
        nodes.dedup_by(|later, first| later.name == first.name);
        let mut view = View { nodes, ..View::default() };
        for index in 0..view.nodes.len() {
            view.count(index, true);
        }
        view
    }

    /// Ordered by name.
    pub fn nodes(&self) -> &[Candidate] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Candidate> {
        self.index(name).map(|index| &self.nodes[index])
    }

    /// Adds a node, or replaces what was known of it.
    pub fn put(&mut self, mut node: Candidate) {
        node.capacity_pps = node.capacity_pps.min(PPS_MAX);
        node.load_pps = node.load_pps.min(PPS_MAX);
        match self.nodes.binary_search_by(|known| known.name.cmp(&node.name)) {
            Ok(index) => self.change(index, |known| *known = node),
            Err(index) => {
                self.nodes.insert(index, node);
                self.count(index, true);
            }
        }
    }

    /// Forgets a node; calls that are on it count as on a dead one. False if it was not known.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some(index) = self.index(name) else { return false };
        self.count(index, false);
        self.nodes.remove(index);
        true
    }

    /// False if there is no such node.
    pub fn set_state(&mut self, name: &str, state: State) -> bool {
        self.edit(name, |node| node.state = state)
    }

    /// Sets the load, as measured. False if there is no such node.
    pub fn set_load(&mut self, name: &str, load_pps: u64) -> bool {
        self.edit(name, |node| node.load_pps = load_pps.min(PPS_MAX))
    }

    /// Adds the cost of a call, or of a call's part, to a node. False if there is no such node.
    pub fn charge(&mut self, name: &str, cost_pps: u64) -> bool {
        self.edit(name, |node| node.load_pps = node.load_pps.saturating_add(cost_pps).min(PPS_MAX))
    }

    /// Takes it away. False if there is no such node.
    pub fn discharge(&mut self, name: &str, cost_pps: u64) -> bool {
        self.edit(name, |node| node.load_pps = node.load_pps.saturating_sub(cost_pps))
    }

    /// Sums over the alive nodes, of one region or of all.
    pub(crate) fn totals(&self, region: Option<&str>) -> Totals {
        match region {
            Some(region) => self.regions.get(region).copied().unwrap_or_default(),
            None => self.all,
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).ok()
    }

    fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Candidate)) -> bool {
        let Some(index) = self.index(name) else { return false };
        self.change(index, edit);
        true
    }

    fn change(&mut self, index: usize, edit: impl FnOnce(&mut Candidate)) {
        self.count(index, false);
        edit(&mut self.nodes[index]);
        self.count(index, true);
    }

    /// Adds a node to the sums, or takes it away.
    fn count(&mut self, index: usize, is_added: bool) {
        let node = &self.nodes[index];
        if node.state != State::Alive {
            return;
        }
        let region = node.region.as_ref().map(|region| self.regions.entry(region.clone()).or_default());
        for totals in region.into_iter().chain([&mut self.all]) {
            if is_added {
                totals.load_pps += node.load_pps;
                totals.capacity_pps += node.capacity_pps;
            } else {
                totals.load_pps -= node.load_pps;
                totals.capacity_pps -= node.capacity_pps;
            }
        }
    }
}
