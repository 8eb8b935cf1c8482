//! The time line: calls come and go, nodes fail and return, all are drained in turn.

use std::{cmp::Reverse, collections::BinaryHeap, io::IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sluice_placement::{Ask, State, place};

use crate::{
    cluster::{Cluster, Tally, node_name},
    mix,
    people::{self, cpu},
    report::{Cpu, Phase, PhaseCpu, Point, Report, SizeCpu},
    settings::Settings,
};

/// A drain in which nothing could be moved for so many seconds is given up.
const STUCK_S: u64 = 30;

/// Placements that are timed on the filled cluster.
const TIMED: usize = 1_000;

pub fn run(settings: &Settings, is_quiet: bool) -> Report {
    let bar = progress(is_quiet);
    let sizes: Vec<usize> = mix::sizes(settings.largest).map(|(people, _)| people).collect();
    let costs: Vec<_> = sizes
        .iter()
        .map(|&people| {
            bar.set_message(format!("room code: a call of {people}"));
            people::measure(people)
        })
        .collect();
    let by_size = costs.iter().map(|costs| (costs.people, *costs)).collect();
    let mut simulation = Simulation::new(settings, Cluster::new(settings, by_size), bar);
    simulation.fill();
    let place_us = simulation.time_placements();
    simulation.fails("calls come and go", &[]);
    let Settings { nodes, regions, rack, .. } = *settings;
    let region = simulation.random.random_range(0..regions);
    let in_region: Vec<usize> = (region..nodes).step_by(regions).collect();
    let first = simulation.random.random_range(0..=in_region.len() - rack);
    let one = simulation.random.random_range(0..nodes);
    simulation.fails("one node fails", &[one]);
    simulation.fails(&format!("a rack of {rack} fails"), &in_region[first..first + rack]);
    if regions > 1 {
        simulation.fails(&format!("a region of {} fails", in_region.len()), &in_region);
    }
    simulation.drain_all();
    simulation.bar.finish_and_clear();
    let sizes = costs.iter().map(|costs| SizeCpu {
        people: costs.people,
        start_us: costs.start.cpu_us,
        moved_us: costs.moved.cpu_us,
        end_us: costs.end.cpu_us,
    });
    Report {
        settings: settings.clone(),
        mean_people: mix::mean_people(settings.largest),
        mean_cost_pps: mix::mean_cost_pps(settings.largest),
        measured: Cpu { place_us, phases: simulation.cpu, sizes: sizes.collect() },
        costs,
        phases: simulation.phases,
        series: simulation.series,
    }
}

struct Simulation<'a> {
    settings: &'a Settings,
    cluster: Cluster,
    random: StdRng,
    t_s: u64,
    last_id: u64,
    next_arrival_ms: u64,
    departures: BinaryHeap<Reverse<(u64, u64)>>,
    phases: Vec<Phase>,
    cpu: Vec<PhaseCpu>,
    series: Vec<Point>,
    bar: ProgressBar,
}

/// A phase that is under way.
struct Open {
    phase: Phase,
    total: Tally,
}

impl<'a> Simulation<'a> {
    fn new(settings: &'a Settings, cluster: Cluster, bar: ProgressBar) -> Simulation<'a> {
        Simulation {
            settings,
            cluster,
            random: StdRng::seed_from_u64(settings.seed),
            t_s: 0,
            last_id: 0,
            next_arrival_ms: 0,
            departures: BinaryHeap::new(),
            phases: Vec::new(),
            cpu: Vec::new(),
            series: Vec::new(),
            bar,
        }
    }

    /// The calls that there are at the beginning, all at once and out of the plot.
    fn fill(&mut self) {
        let mut open = self.open("the first calls");
        for _ in 0..self.settings.calls {
            self.arrive(0);
        }
        let tally = self.cluster.take();
        open.phase.seconds = 0;
        open.total.add(&tally);
        open.phase.worst = self.cluster.loads();
        self.next_arrival_ms = self.gap_ms(self.arrivals_per_ms());
        self.close(open);
    }

    /// Mean CPU time of one placement without a region, so that all nodes are looked at.
    fn time_placements(&self) -> f64 {
        let before = cpu();
        let ask = Ask { cost_pps: 1_000, ..Ask::default() };
        let placed = (0..TIMED).filter(|i| place(&self.cluster.view, &format!("timed-{i}"), &ask).is_ok()).count();
        (cpu() - before).as_secs_f64() * 1e6 / placed.max(1) as f64
    }

    /// Nodes die, calls leave them, and after a while the nodes are back, empty.
    fn fails(&mut self, name: &str, nodes: &[usize]) {
        let mut open = self.open(name);
        open.phase.nodes_lost = nodes.len();
        self.set(nodes, State::Dead);
        for second in 0..self.settings.pause_s {
            let (dead, _) = self.second(&mut open);
            // After those without media: backups chosen before would not know where these went.
            if second == 0 && !nodes.is_empty() {
                self.cluster.renew_backups();
                open.total.add(&self.cluster.take());
            }
            open.phase.stranded = dead;
        }
        open.phase.people_without_node = self.cluster.people_without_node();
        self.set(nodes, State::Alive);
        self.close(open);
    }

    /// Each node is drained, leaves when it is empty, and is back at once.
    fn drain_all(&mut self) {
        let mut open = self.open("all nodes are drained in turn");
        let at_once = (self.settings.nodes as f64 * self.settings.drain_percent / 100.0).ceil() as usize;
        let mut left = (0..self.settings.nodes).rev().collect::<Vec<usize>>();
        let mut draining: Vec<usize> = Vec::new();
        let mut stuck_s = 0;
        while stuck_s < STUCK_S {
            let next = left.split_off(left.len().saturating_sub(at_once - draining.len()));
            self.set(&next, State::Drained);
            draining.extend(next);
            if draining.is_empty() {
                break;
            }
            self.bar.set_message(format!("{}: {} left", open.phase.name, left.len() + draining.len()));
            let before = open.total.moved_calls;
            self.second(&mut open);
            let (empty, full) = draining.into_iter().partition(|&node| self.cluster.is_empty(&node_name(node)));
            draining = full;
            self.set(&empty, State::Alive);
            open.phase.nodes_lost += empty.len();
            let moves = open.total.moved_calls > before || !empty.is_empty();
            stuck_s = if moves { 0 } else { stuck_s + 1 };
        }
        open.phase.stranded = draining.len() + left.len();
        self.set(&draining, State::Alive);
        self.close(open);
    }

    /// One second. Parts of calls that could not leave their node: (dead, drained).
    fn second(&mut self, open: &mut Open) -> (usize, usize) {
        let end_ms = (self.t_s + 1) * 1_000;
        loop {
            let departs_ms = self.departures.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            if departs_ms.min(self.next_arrival_ms) >= end_ms {
                break;
            }
            if departs_ms <= self.next_arrival_ms {
                if let Some(Reverse((_, id))) = self.departures.pop() {
                    self.cluster.end(id);
                }
            } else {
                let at_ms = self.next_arrival_ms;
                self.arrive(at_ms);
                self.next_arrival_ms = at_ms + self.gap_ms(self.arrivals_per_ms());
            }
        }
        let stranded = self.cluster.heal(self.settings.drain_rate);
        let tally = self.cluster.take();
        let loads = self.cluster.loads();
        open.total.add(&tally);
        let phase = &mut open.phase;
        phase.seconds += 1;
        phase.peak_ops_per_s = phase.peak_ops_per_s.max(tally.work.ops);
        phase.peak_messages_per_s = phase.peak_messages_per_s.max(tally.work.messages);
        if phase.seconds == 1 || loads.max > phase.worst.max {
            phase.worst = loads;
        }
        self.series.push(Point {
            t_s: self.t_s,
            phase: self.phases.len(),
            calls: self.cluster.calls(),
            people: self.cluster.people(),
            p50: loads.p50,
            p99: loads.p99,
            max: loads.max,
            moved_people: tally.moved_people,
            ops: tally.work.ops,
            messages: tally.work.messages,
            requests: tally.work.requests,
        });
        self.t_s += 1;
        stranded
    }

    fn arrive(&mut self, at_ms: u64) {
        self.last_id += 1;
        let people = mix::draw(&mut self.random, self.settings.largest);
        let region = self.random.random_range(0..self.settings.regions);
        let departs_ms = at_ms + self.gap_ms(1.0 / (self.settings.minutes * 60_000.0));
        self.departures.push(Reverse((departs_ms, self.last_id)));
        self.cluster.start(self.last_id, people, region);
    }

    fn arrivals_per_ms(&self) -> f64 {
        self.settings.calls as f64 / (self.settings.minutes * 60_000.0)
    }

    /// Exponentially distributed, at least a millisecond.
    fn gap_ms(&mut self, per_ms: f64) -> u64 {
        let uniform: f64 = self.random.random();
        (-(1.0 - uniform).ln() / per_ms).ceil().max(1.0) as u64
    }

    fn set(&mut self, nodes: &[usize], state: State) {
        for &node in nodes {
            self.cluster.view.set_state(&node_name(node), state);
        }
    }

    fn open(&self, name: &str) -> Open {
        self.bar.set_message(name.to_owned());
        Open { phase: Phase { name: name.to_owned(), from_s: self.t_s, ..Phase::default() }, total: Tally::default() }
    }

    fn close(&mut self, Open { mut phase, total }: Open) {
        phase.calls = self.cluster.calls();
        phase.people = self.cluster.people();
        phase.started = total.started;
        phase.ended = total.ended;
        phase.refused = total.refused;
        phase.placed_above = total.placed_above;
        phase.moved_calls = total.moved_calls;
        phase.moved_people = total.moved_people;
        phase.work = total.work;
        self.cpu.push(PhaseCpu { placement_s: total.placement.as_secs_f64(), rooms_s: total.work.cpu_us / 1e6 });
        self.phases.push(phase);
    }
}

fn progress(is_quiet: bool) -> ProgressBar {
    if is_quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
