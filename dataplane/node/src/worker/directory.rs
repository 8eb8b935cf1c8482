//! What a worker knows about its siblings: by which user names their transports are checked, and which 5-tuples they have
//! validated. The kernel spreads 5-tuples over workers by a hash that knows nothing of calls.

use std::collections::HashMap;

use sluice_frames::Route;

/// Routes of siblings at most. Each transport has a handful; raising it costs about 80 bytes each, and what finds no place
/// is dropped as if nobody had validated it.
pub(crate) const ROUTES_MAX: usize = 65_536;

/// User names of siblings at most: two for each transport that is restarting ICE.
pub(crate) const UFRAGS_MAX: usize = 32_768;

/// Index of a worker.
pub(crate) type WorkerIndex = u16;

/// Routes and user names of siblings.
#[derive(Default)]
pub(crate) struct Directory {
    routes: HashMap<Route, WorkerIndex>,
    ufrags: HashMap<String, WorkerIndex>,
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirectoryFull;

impl Directory {
    pub(crate) fn new(workers: usize) -> Directory {
        // A single worker has no siblings and needs no memory for them.
        if workers < 2 {
            return Directory::default();
        }
        Directory { routes: HashMap::with_capacity(4096), ufrags: HashMap::with_capacity(1024) }
    }

    /// The sibling that has validated this route.
    pub(crate) fn route(&self, route: &Route) -> Option<WorkerIndex> {
        self.routes.get(route).copied()
    }

    /// The sibling with the transport of this local user name.
    pub(crate) fn ufrag(&self, ufrag: &str) -> Option<WorkerIndex> {
        self.ufrags.get(ufrag).copied()
    }

    pub(crate) fn learn_route(&mut self, route: Route, owner: WorkerIndex) -> Result<(), DirectoryFull> {
        if self.routes.len() >= ROUTES_MAX && !self.routes.contains_key(&route) {
            return Err(DirectoryFull);
        }
        self.routes.insert(route, owner);
        Ok(())
    }

    /// Only the owner's word ends its own claim: another sibling may have validated the route since.
    pub(crate) fn forget_route(&mut self, route: &Route, owner: WorkerIndex) {
        if self.routes.get(route) == Some(&owner) {
            self.routes.remove(route);
        }
    }

    pub(crate) fn learn_ufrag(&mut self, ufrag: String, owner: WorkerIndex) -> Result<(), DirectoryFull> {
        if self.ufrags.len() >= UFRAGS_MAX && !self.ufrags.contains_key(&ufrag) {
            return Err(DirectoryFull);
        }
        self.ufrags.insert(ufrag, owner);
        Ok(())
    }

    pub(crate) fn forget_ufrag(&mut self, ufrag: &str, owner: WorkerIndex) {
        if self.ufrags.get(ufrag) == Some(&owner) {
            self.ufrags.remove(ufrag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        Route { socket: 0, peer: ([192, 0, 2, 1], port).into() }
    }

    #[test]
    fn the_last_owner_of_a_route_counts() {
        let mut directory = Directory::new(3);
        directory.learn_route(route(1), 1).unwrap();
        directory.learn_route(route(1), 2).unwrap();
        directory.forget_route(&route(1), 1);
        assert_eq!(directory.route(&route(1)), Some(2), "a late goodbye of the former owner changes nothing");
        directory.forget_route(&route(1), 2);
        assert_eq!(directory.route(&route(1)), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut directory = Directory::new(2);
        for ufrag in 0..UFRAGS_MAX {
            directory.learn_ufrag(ufrag.to_string(), 1).unwrap();
        }
        assert_eq!(directory.learn_ufrag("one more".into(), 1), Err(DirectoryFull));
        directory.learn_ufrag("7".into(), 1).unwrap();
        directory.forget_ufrag("7", 1);
        directory.learn_ufrag("one more".into(), 1).unwrap();
        assert_eq!(directory.ufrag("one more"), Some(1));
    }
}
