//! The validated 5-tuples of one transport.

use sluice_frames::Route;
use sluice_wire::Micros;

use super::ROUTES_MAX;

/// A selected route not checked for this long (in microseconds) is left for any route that is. Longer keeps a dead path
/// longer after the client's address changed; shorter flaps when two checks are lost in a row.
const STALE_US: u64 = 5_000_000;

/// One validated 5-tuple.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) route: Route,
    /// When a check passed last.
    pub(super) checked: Micros,
    /// Its last check carried USE-CANDIDATE.
    nominated: bool,
    priority: u32,
}

/// What a check changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    pub(super) new: bool,
    pub(super) selected: bool,
    pub(super) evicted: Option<Route>,
}

/// Routes of one transport, and which of them is sent to.
#[derive(Debug)]
pub(super) struct Routes {
    entries: [Option<Entry>; ROUTES_MAX],
    selected: Option<usize>,
}

impl Routes {
    pub(super) fn new() -> Routes {
        Routes { entries: [None; ROUTES_MAX], selected: None }
    }

    /// Where to send to.
    pub(super) fn selected(&self) -> Option<Route> {
        self.entries[self.selected?].map(|e| e.route)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.iter().filter_map(|e| *e)
    }

    /// When any route was checked last.
    pub(super) fn checked(&self) -> Option<Micros> {
        self.iter().map(|e| e.checked).max()
    }

    /// Takes note of an authenticated check.
    pub(super) fn check(&mut self, now: Micros, route: Route, use_candidate: bool, priority: u32) -> Change {
        let mut change = Change::default();
        let known = self.entries.iter().position(|e| e.is_some_and(|e| e.route == route));
        let was_nominated = known.is_some_and(|i| self.entries[i].is_some_and(|e| e.nominated));
        let index = known.unwrap_or_else(|| {
            change.new = true;
            self.room(&mut change)
        });
        self.entries[index] = Some(Entry { route, checked: now, nominated: use_candidate, priority });
        if self.selected != Some(index) && self.prefers(now, index, change.new, was_nominated) {
            self.selected = Some(index);
            change.selected = true;
        }
        change
    }

    /// Forgets a route. True if it was the selected one; another is selected if there is one.
    pub(super) fn remove(&mut self, route: Route) -> bool {
        let Some(index) = self.entries.iter().position(|e| e.is_some_and(|e| e.route == route)) else {
            return false;
        };
        self.entries[index] = None;
        if self.selected != Some(index) {
            return false;
        }
        self.selected = (0..ROUTES_MAX)
            .filter_map(|i| self.entries[i].map(|e| (e.nominated, e.checked, i)))
            .max()
            .map(|(_, _, i)| i);
        true
    }

    /// Whether a route just checked shall be sent to instead of the selected one.
    ///
    /// A client nominates by USE-CANDIDATE. Clients that set it on every check (aggressive nomination) would make the
    /// selection flap, so among routes that keep carrying it the higher PRIORITY stays. Until something is nominated the
    /// route validated last is used provisionally, so that DTLS can start.
    fn prefers(&self, now: Micros, index: usize, new: bool, was_nominated: bool) -> bool {
        let Some(selected) = self.selected.and_then(|i| self.entries[i]) else {
            return true;
        };
        let Some(candidate) = self.entries[index] else {
            return false;
        };
        let stale = now.since(selected.checked).as_micros() as u64 > STALE_US;
        match (candidate.nominated, selected.nominated) {
            (true, true) => stale || !was_nominated || candidate.priority > selected.priority,
            (true, false) => true,
            (false, true) => stale,
            (false, false) => stale || new,
        }
    }

    /// A free place, or the one checked longest ago, which is never the selected one.
    fn room(&mut self, change: &mut Change) -> usize {
        if let Some(free) = self.entries.iter().position(Option::is_none) {
            return free;
        }
        let oldest = (0..ROUTES_MAX)
            .filter(|&i| Some(i) != self.selected)
            .min_by_key(|&i| self.entries[i].map(|e| e.checked))
            .unwrap_or(0);
        change.evicted = self.entries[oldest].map(|e| e.route);
        oldest
    }
}
