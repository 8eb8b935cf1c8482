//! A report as one page: tables, and plots by the second as inline SVG. It loads nothing from anywhere.

use std::fmt::Write as _;

use super::{Point, Quantiles, Report};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
/// Room for the numbers beside a plot.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 24.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:right}\
td:first-child,th:first-child{text-align:left}svg{display:block;margin:.5rem 0 1.5rem}text{font-size:11px;fill:#555}\
.warning{background:#fff4d6;padding:.4rem .8rem;margin:.3rem 0}pre{background:#f5f5f5;padding:1rem;overflow:auto}";

/// A line of a plot.
struct Line {
    name: &'static str,
    colour: &'static str,
    value: fn(&Point) -> f64,
}

pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let title = format!("sluice load: {}", report.scenario.preset.unwrap_or("scenario"));
    write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    )?;
    for warning in &report.warnings {
        write!(out, "<p class=\"warning\">{}</p>", escaped(warning))?;
    }
    write!(out, "<pre>{}</pre>", escaped(&report.text()))?;
    out.push_str("<table><tr><th>ms</th><th>count</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr>");
    let rows = [
        ("join", &report.join_ms),
        ("to first audio", &report.first_audio_ms),
        ("to first picture", &report.first_video_ms),
        ("latency, audio", &report.latency_ms.audio),
        ("latency, video", &report.latency_ms.video),
        ("jitter, audio", &report.jitter_ms.audio),
        ("jitter, video", &report.jitter_ms.video),
        ("generator late, audio", &report.generator_late_ms.audio),
        ("generator late, video", &report.generator_late_ms.video),
    ];
    for (name, Quantiles { count, p50, p95, p99, max }) in rows {
        write!(
            out,
            "<tr><td>{name}</td><td>{count}</td><td>{p50:.2}</td><td>{p95:.2}</td><td>{p99:.2}</td><td>{max:.2}</td></tr>"
        )?;
    }
    out.push_str("</table>");
    let line = |name, colour, value| Line { name, colour, value };
    plot(
        out,
        report,
        "packets per second",
        &[
            line("received", "#0a7", |point| point.received_packets as f64),
            line("sent", "#07c", |point| point.sent_packets as f64),
        ],
    )?;
    plot(out, report, "received, Mbit/s", &[line("media", "#0a7", |point| point.received_bytes as f64 * 8.0 / 1e6)])?;
    plot(
        out,
        report,
        "latency, ms",
        &[
            line("audio p50", "#7bd", |point| point.audio_ms.p50),
            line("audio p99", "#07c", |point| point.audio_ms.p99),
            line("video p50", "#fb7", |point| point.video_ms.p50),
            line("video p99", "#d50", |point| point.video_ms.p99),
        ],
    )?;
    plot(out, report, "loss before repairs, %", &[line("loss", "#c03", |point| point.loss * 100.0)])?;
    write!(out, "<h2>Everything</h2><pre>{}</pre></html>", escaped(&report.json()))
}

fn plot(out: &mut String, report: &Report, title: &str, lines: &[Line]) -> std::fmt::Result {
    let points = &report.series;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    let span = (last.t_s - first.t_s).max(1) as f64;
    let highest = lines.iter().flat_map(|line| points.iter().map(line.value)).fold(0.0, f64::max);
    let top = round_up(highest);
    let x = |t_s: u64| LEFT + (t_s - first.t_s) as f64 / span * (WIDTH - LEFT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - 12.0);
    write!(out, "<h2>{title}</h2><svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">")?;
    let measured: Vec<u64> = points.iter().filter(|point| point.is_measured).map(|point| point.t_s).collect();
    if let (Some(from), Some(to)) = (measured.first(), measured.last()) {
        let (from, to) = (x(*from), x(*to));
        write!(
            out,
            "<rect x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f2f7f5\"/>",
            to - from,
            HEIGHT - BOTTOM
        )?;
    }
    for share in [0.0, 0.5, 1.0] {
        let (value, at) = (top * share, y(top * share));
        write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            number(value)
        )?;
    }
    for t_s in [first.t_s, last.t_s] {
        write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{t_s} s</text>",
            x(t_s).min(WIDTH - 16.0),
            HEIGHT - 6.0
        )?;
    }
    for (i, line) in lines.iter().enumerate() {
        write!(out, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\" points=\"", line.colour)?;
        for point in points {
            write!(out, "{:.1},{:.1} ", x(point.t_s), y((line.value)(point)))?;
        }
        let at = LEFT + 10.0 + 110.0 * i as f64;
        write!(out, "\"/><text x=\"{at:.1}\" y=\"11\" style=\"fill:{}\">{}</text>", line.colour, line.name)?;
    }
    out.push_str("</svg>");
    Ok(())
}

/// The next of 1, 2, 5, 10, … that is not less.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

fn number(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0} k", value / 1000.0)
    } else {
        format!("{}", (value * 1000.0).round() / 1000.0)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (36_000.0, 50_000.0)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}");
        }
        assert_eq!((number(0.5), number(50_000.0)), ("0.5".into(), "50 k".into()));
    }
}
