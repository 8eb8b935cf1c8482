//! What the command line says.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::mix;

/// Largest cluster that is simulated: ten times what one control may know.
const NODES_MAX: usize = 10_000;

/// Most calls at one time; each costs half a kilobyte.
const CALLS_MAX: usize = 2_000_000;

/// Longest pause in seconds; each second is a point of the plot.
const PAUSE_S_MAX: u64 = 3_600;

/// Flags of `sluice simulate`.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Settings {
    /// Media nodes
    #[arg(long, value_name = "N", default_value_t = 1_000, help_heading = "Cluster")]
    pub nodes: usize,
    /// Regions that the nodes stand in, equally many in each
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Cluster")]
    pub regions: usize,
    /// Nodes of a rack, which fail together
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Cluster")]
    pub rack: usize,
    /// Packets per second that a node may forward to receivers; nodes have 75, 100 or 125 percent of it
    #[arg(long, value_name = "N", default_value_t = 600_000, help_heading = "Cluster")]
    pub capacity_pps: u64,

    /// Calls at one time
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = "Calls")]
    pub calls: usize,
    /// Mean length of a call in minutes: calls divided by it is how many begin and end
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0, help_heading = "Calls")]
    pub minutes: f64,
    /// Leave out calls with more people than this
    #[arg(long, value_name = "N", default_value_t = 1_000, help_heading = "Calls")]
    pub largest: usize,

    /// Seconds of simulated time that are watched from each failure on, and before the first
    #[arg(long, value_name = "S", default_value_t = 30, help_heading = "What happens")]
    pub pause_s: u64,
    /// Moves off drained nodes per second, in the whole cluster
    #[arg(long, value_name = "N", default_value_t = 500, help_heading = "What happens")]
    pub drain_rate: usize,
    /// Nodes that are drained at one time, in percent of all
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, help_heading = "What happens")]
    pub drain_percent: f64,
    /// Decides which calls there are and which nodes fail; the same seed gives the same counts
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What happens")]
    pub seed: u64,
}

/// Where the reports go.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Write the report as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the plots alone, as one SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// No progress
    #[arg(long)]
    pub quiet: bool,
}

/// Why there is no such cluster. It is the caller's to change.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("--{flag} is {value}: say a number from {least} to {most}")]
    Range { flag: &'static str, value: f64, least: f64, most: f64 },
    #[error("a rack of {rack} nodes does not fit into a region: {nodes} nodes in {regions} regions")]
    Rack { rack: usize, nodes: usize, regions: usize },
    #[error(
        "{calls} calls cost about {cost_pps} packets/s, and {nodes} nodes may be given {usable_pps} (nine tenths, without one region if there are several): raise --nodes or --capacity-pps, or lower --calls"
    )]
    Overload { calls: usize, cost_pps: u64, nodes: usize, usable_pps: u64 },
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let range = |flag, value: f64, least: f64, most: f64| {
            // Not a number is in no range.
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(SettingsError::Range { flag, value, least, most })
            }
        };
        range("nodes", self.nodes as f64, 2.0, NODES_MAX as f64)?;
        range("regions", self.regions as f64, 1.0, (self.nodes / 2).min(64) as f64)?;
        range("rack", self.rack as f64, 1.0, NODES_MAX as f64)?;
        range("capacity-pps", self.capacity_pps as f64, 1_000.0, 1e9)?;
        range("calls", self.calls as f64, 1.0, CALLS_MAX as f64)?;
        range("minutes", self.minutes, 0.1, 10_000.0)?;
        range("largest", self.largest as f64, 2.0, 1_000.0)?;
        range("pause-s", self.pause_s as f64, 1.0, PAUSE_S_MAX as f64)?;
        range("drain-rate", self.drain_rate as f64, 1.0, 1e6)?;
        range("drain-percent", self.drain_percent, 0.01, 50.0)?;
        if self.rack > self.nodes / self.regions {
            return Err(SettingsError::Rack { rack: self.rack, nodes: self.nodes, regions: self.regions });
        }
        let cost_pps = (self.calls as f64 * mix::mean_cost_pps(self.largest)) as u64;
        let capacity_pps = self.nodes as u64 * self.capacity_pps;
        let lost_pps = if self.regions > 1 { capacity_pps / self.regions as u64 } else { 0 };
        // Nodes cannot be filled to the last packet.
        let usable_pps = (capacity_pps - lost_pps) / 10 * 9;
        if cost_pps > usable_pps {
            return Err(SettingsError::Overload { calls: self.calls, cost_pps, nodes: self.nodes, usable_pps });
        }
        Ok(())
    }
}
