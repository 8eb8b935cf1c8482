//! A report as text: what the screen shows and what is printed where there is no terminal.

use std::fmt::Write;

use super::rates::{Report, Row};

/// Columns of the workers' table.
pub const COLUMNS: [&str; 12] = [
    "worker",
    "busy",
    "cpu",
    "slow",
    "pkt/s in",
    "pkt/s out",
    "Mb/s in",
    "Mb/s out",
    "ns/pkt",
    "run",
    "free",
    "waiting",
];

/// What the columns say of one worker.
pub fn cells(name: &str, row: &Row) -> [String; COLUMNS.len()] {
    let share = |share: f64| format!("{:.0}%", share * 100.0);
    let optional = |number: Option<f64>, digits: usize| number.map_or("-".to_owned(), |n| format!("{n:.digits$}"));
    let free = row.frames_free as f64 / row.frames.max(1) as f64;
    [
        name.to_owned(),
        share(row.busy),
        share(row.cpu),
        share(row.slow_cpu),
        format!("{:.0}", row.packets_in),
        format!("{:.0}", row.packets_out),
        format!("{:.1}", row.bits_in / 1e6),
        format!("{:.1}", row.bits_out / 1e6),
        optional(row.packet_cost_ns, 0),
        optional(row.run, 1),
        share(free),
        row.waits().to_string(),
    ]
}

/// All rows: the workers, and their sum where there are several.
pub fn rows(report: &Report) -> Vec<[String; COLUMNS.len()]> {
    let mut rows: Vec<_> = report.workers.iter().enumerate().map(|(n, row)| cells(&n.to_string(), row)).collect();
    if rows.len() > 1 {
        rows.push(cells("all", &report.total));
    }
    rows
}

/// What is true of the node as a whole, in one line.
pub fn head(report: &Report) -> String {
    let hold = report.total.hold_us.map_or(String::new(), |us| format!(", hold {us} us"));
    let up = report.uptime_s as u64;
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    format!("node {}, up {hours}:{minutes:02}:{seconds:02}, backend {}{hold}", report.node, report.backend)
}

/// Reasons of drops: name, per second, since the start.
pub fn drops(report: &Report) -> Vec<[String; 3]> {
    let line = |(name, drops): (&str, super::rates::Drops)| {
        [name.to_owned(), format!("{:.0}", drops.per_s), drops.total.to_string()]
    };
    report.total.drops_in_order().into_iter().map(line).collect()
}

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut out = head(report) + "\n";
    align(&mut out, &COLUMNS.map(str::to_owned), &rows(report));
    let drops = drops(report);
    if drops.is_empty() {
        out.push_str("nothing was dropped\n");
    } else {
        align(&mut out, &["dropped".to_owned(), "per s".to_owned(), "in all".to_owned()], &drops);
    }
    out
}

/// Writes columns: the first to the left, numbers to the right.
fn align<const N: usize>(out: &mut String, head: &[String; N], rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows.iter().chain([head]) {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.len().max(*width));
    }
    for row in [head].into_iter().chain(rows) {
        for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a string does not fail.
            let _ = if n == 0 { write!(out, "{cell:<width$}") } else { write!(out, "  {cell:>width$}") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::line::Sample;

    #[test]
    fn columns_are_aligned_and_a_lone_worker_is_not_summed() {
        let sample = |at_us, sent| Sample {
            node: "local".into(),
            backend: "uring".into(),
            reason: String::new(),
            at_us,
            workers: vec![
                [("sent_packets", sent), ("drop_muted", sent / 100)].map(|(name, n)| (name.to_owned(), n)).into(),
            ],
        };
        let report = Report::new(&sample(3_600_000_000, 0), &sample(3_661_000_000, 61_000));
        let text = text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "node local, up 1:01:01, backend uring");
        assert_eq!(lines.len(), 5, "{text}");
        let end = |line: &str, word: &str| line.find(word).unwrap() + word.len();
        assert_eq!(end(lines[1], "pkt/s out"), end(lines[2], "1000"));
        assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["drop_muted", "10", "610"]);
    }
}
