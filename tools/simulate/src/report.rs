//! What a simulation found.

mod plot;
mod text;

use serde::Serialize;

use crate::{
    people::{Costs, Work},
    settings::Settings,
};

/// The result. Its JSON form is what other programs read: names stay. All but `measured` is the same for the same seed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub settings: Settings,
    pub mean_people: f64,
    pub mean_cost_pps: f64,
    /// What a call of each size costs, as the room code did it.
    pub costs: Vec<Costs>,
    pub phases: Vec<Phase>,
    pub series: Vec<Point>,
    pub measured: Cpu,
}

/// How full the alive nodes are: load by capacity.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize)]
pub struct Loads {
    pub nodes: usize,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// Share of nodes above the bound of their region.
    pub above_bound: f64,
}

/// One thing that happened to the cluster.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Phase {
    pub name: String,
    pub from_s: u64,
    pub seconds: u64,
    /// Nodes that failed, or were drained until they were empty.
    pub nodes_lost: usize,
    /// At its end.
    pub calls: usize,
    pub people: usize,
    pub started: u64,
    pub ended: u64,
    /// Calls that nobody could take when they began.
    pub refused: u64,
    /// Placements that brought a node above the bound although another of its region would have stayed below: only calls
    /// whose own region is dead or full, for which the mean over all nodes counts.
    pub placed_above: u64,
    pub moved_calls: u64,
    pub moved_people: u64,
    /// Calls that could not leave a dead node at the end, or nodes that could not be drained.
    pub stranded: usize,
    pub people_without_node: usize,
    /// The second with the fullest node.
    pub worst: Loads,
    pub peak_ops_per_s: f64,
    pub peak_messages_per_s: f64,
    pub work: Work,
}

/// One second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Point {
    pub t_s: u64,
    /// Index into the phases.
    pub phase: usize,
    pub calls: usize,
    pub people: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    pub moved_people: u64,
    pub ops: f64,
    pub messages: f64,
    pub requests: f64,
}

/// CPU time on the machine that ran the simulation.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// One placement that looks at all nodes.
    pub place_us: f64,
    /// In the order of [`Report::phases`].
    pub phases: Vec<PhaseCpu>,
    pub sizes: Vec<SizeCpu>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PhaseCpu {
    pub placement_s: f64,
    /// What the room code would have taken: that of one call of each size, times the calls.
    pub rooms_s: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct SizeCpu {
    pub people: usize,
    pub start_us: f64,
    pub moved_us: f64,
    pub end_us: f64,
}

impl Report {
    /// Tables for a terminal.
    pub fn text(&self) -> String {
        text::summary(self)
    }

    pub fn json(&self) -> String {
        // Plain numbers and names always are JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Plots by the second, as one picture.
    pub fn svg(&self) -> String {
        plot::svg(self)
    }

    /// One page with tables and plots, which loads nothing from anywhere.
    pub fn html(&self) -> String {
        plot::page(self)
    }
}
