//! Plots by the second as SVG, and a page around them.

use std::fmt::Write as _;

use super::{Point, Report};

const WIDTH: f64 = 860.0;
/// Of one plot, its title included.
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 24.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}\
pre{background:#f5f5f5;padding:1rem;overflow:auto}";

struct Line {
    name: &'static str,
    colour: &'static str,
    value: fn(&Point) -> f64,
}

struct Plot {
    title: &'static str,
    lines: &'static [Line],
}

/// What is drawn, one above the other on one axis of time.
const PLOTS: [Plot; 3] = [
    Plot {
        title: "how full nodes are, % of capacity",
        lines: &[
            Line { name: "median", colour: "#0a7", value: |point| point.p50 * 100.0 },
            Line { name: "99 %", colour: "#07c", value: |point| point.p99 * 100.0 },
            Line { name: "fullest", colour: "#d50", value: |point| point.max * 100.0 },
        ],
    },
    Plot {
        title: "people moved in a second (logarithmic)",
        lines: &[Line { name: "moved", colour: "#d50", value: |point| log(point.moved_people as f64) }],
    },
    Plot {
        title: "due from control in a second (logarithmic)",
        lines: &[
            Line { name: "table changes to nodes", colour: "#07c", value: |point| log(point.ops) },
            Line { name: "messages to clients", colour: "#0a7", value: |point| log(point.messages) },
        ],
    },
];

/// Decades, with nothing at zero.
fn log(value: f64) -> f64 {
    value.max(1.0).log10()
}

pub(super) fn page(report: &Report) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>sluice simulate</title><style>{STYLE}</style><h1>sluice simulate</h1>{}<pre>{}</pre></html>",
        svg(report),
        escaped(&report.text())
    )
}

pub(super) fn svg(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let height = HEIGHT * PLOTS.len() as f64;
    write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui,sans-serif\" font-size=\"11\" fill=\"#555\"><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    )?;
    for (i, plot) in PLOTS.iter().enumerate() {
        draw(out, report, plot, HEIGHT * i as f64)?;
    }
    out.push_str("</svg>\n");
    Ok(())
}

fn draw(out: &mut String, report: &Report, plot: &Plot, above: f64) -> std::fmt::Result {
    let points = &report.series;
    let end_s = points.last().map_or(1, |last| last.t_s + 1);
    let is_log = plot.title.contains("logarithmic");
    let highest = points.iter().flat_map(|point| plot.lines.iter().map(|line| (line.value)(point))).fold(0.0, f64::max);
    let top = if is_log { highest.ceil().max(1.0) } else { (highest / 10.0).ceil().max(1.0) * 10.0 };
    let x = |t_s: u64| LEFT + t_s as f64 / end_s as f64 * (WIDTH - LEFT - 10.0);
    let y = |value: f64| above + HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP);
    write!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"13\" fill=\"#222\">{}</text>", above + 14.0, plot.title)?;
    for (i, line) in plot.lines.iter().enumerate() {
        let at = 420.0 + 150.0 * i as f64;
        write!(out, "<text x=\"{at:.0}\" y=\"{:.0}\" fill=\"{}\">{}</text>", above + 14.0, line.colour, line.name)?;
    }
    // Phases as bands, numbered as they come; the page and the text say which they are.
    for (i, phase) in report.phases.iter().enumerate().filter(|(_, phase)| phase.seconds > 0) {
        let (from, to) = (x(phase.from_s), x(phase.from_s + phase.seconds));
        let fill = if i % 2 == 0 { "#f4f6f8" } else { "#fff" };
        let (band, bottom) = (above + TOP - 14.0, above + HEIGHT - BOTTOM);
        write!(
            out,
            "<rect x=\"{from:.1}\" y=\"{band:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"{fill}\"/><text x=\"{:.1}\" y=\"{:.0}\">{i}</text>",
            to - from,
            bottom - band,
            from + 3.0,
            band + 10.0
        )?;
        if above == 0.0 {
            write!(out, "<title>{i}: {}</title>", escaped(&phase.name))?;
        }
    }
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        // Decades only where they are whole.
        if is_log && value.fract() != 0.0 {
            continue;
        }
        let shown = if is_log { 10f64.powf(value) } else { value };
        let at = y(value);
        write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 10.0,
            LEFT - 6.0,
            at + 4.0,
            number(shown)
        )?;
    }
    for step in 0..=4 {
        let t_s = end_s * step / 4;
        write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{t_s} s</text>",
            x(t_s).min(WIDTH - 22.0),
            above + HEIGHT - 8.0
        )?;
    }
    for line in plot.lines {
        write!(out, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.2\" points=\"", line.colour)?;
        for point in points {
            write!(out, "{:.1},{:.1} ", x(point.t_s), y((line.value)(point)))?;
        }
        out.push_str("\"/>");
    }
    Ok(())
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 10_000.0 {
        format!("{:.0} k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
