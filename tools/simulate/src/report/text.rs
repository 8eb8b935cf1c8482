//! A report as tables.

use std::fmt::Write as _;

use super::Report;

pub(super) fn summary(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let settings = &report.settings;
    writeln!(
        out,
        "{} nodes in {} regions, {} calls of {:.1} people and {:.0} packets/s on average; seed {}\n",
        settings.nodes, settings.regions, settings.calls, report.mean_people, report.mean_cost_pps, settings.seed
    )?;
    writeln!(
        out,
        "{:<32}{:>6}{:>8}{:>8}{:>7}{:>7}{:>7}{:>7}{:>8}",
        "how full nodes are, %", "s", "nodes", "mean", "min", "p50", "p99", "max", "above"
    )?;
    for phase in &report.phases {
        let loads = phase.worst;
        let [mean, min, p50, p99, max, above] =
            [loads.mean, loads.min, loads.p50, loads.p99, loads.max, loads.above_bound].map(|share| share * 100.0);
        writeln!(
            out,
            "{:<32}{:>6}{:>8}{mean:>8.1}{min:>7.1}{p50:>7.1}{p99:>7.1}{max:>7.1}{above:>8.2}",
            phase.name, phase.seconds, loads.nodes
        )?;
    }
    writeln!(
        out,
        "\n{:<32}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>12}",
        "calls", "at end", "begun", "refused", "moved", "people", "stranded", "past bound"
    )?;
    for phase in &report.phases {
        writeln!(
            out,
            "{:<32}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>12}",
            phase.name,
            phase.calls,
            phase.started,
            phase.refused,
            phase.moved_calls,
            phase.moved_people,
            phase.stranded,
            phase.placed_above
        )?;
    }
    writeln!(
        out,
        "\n{:<32}{:>11}{:>11}{:>11}{:>11}{:>12}{:>10}",
        "control", "ops", "ops/s max", "messages", "msg/s max", "placement s", "rooms s"
    )?;
    for (phase, cpu) in report.phases.iter().zip(&report.measured.phases) {
        writeln!(
            out,
            "{:<32}{:>11.0}{:>11.0}{:>11.0}{:>11.0}{:>12.3}{:>10.1}",
            phase.name,
            phase.work.ops,
            phase.peak_ops_per_s,
            phase.work.messages,
            phase.peak_messages_per_s,
            cpu.placement_s,
            cpu.rooms_s
        )?;
    }
    writeln!(
        out,
        "\n{:>6}{:>11}{:>9}{:>10}{:>10}{:>9}{:>10}{:>10}{:>9}{:>10}",
        "people",
        "start: ops",
        "messages",
        "CPU us",
        "move: ops",
        "messages",
        "CPU us",
        "end: ops",
        "messages",
        "CPU us"
    )?;
    for (costs, cpu) in report.costs.iter().zip(&report.measured.sizes) {
        writeln!(
            out,
            "{:>6}{:>11.0}{:>9.0}{:>10.0}{:>10.0}{:>9.0}{:>10.0}{:>10.0}{:>9.0}{:>10.0}",
            costs.people,
            costs.start.ops,
            costs.start.messages,
            cpu.start_us,
            costs.moved.ops,
            costs.moved.messages,
            cpu.moved_us,
            costs.end.ops,
            costs.end.messages,
            cpu.end_us
        )?;
    }
    writeln!(out, "\none placement over all nodes: {:.1} us of CPU", report.measured.place_us)
}
