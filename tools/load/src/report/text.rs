//! A report as a few lines.

use std::fmt::Write as _;

use super::{Kinds, Quantiles, Report};

pub(super) fn summary(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let Report { scenario, received, sent, streams, .. } = report;
    writeln!(
        out,
        "{}: {} rooms of {} publishers, {} publishing receivers, {} receivers; {}",
        report.server, scenario.rooms, scenario.publishers, scenario.both, scenario.receivers, report.profile
    )?;
    writeln!(out, "joined     {} of {}, {} lost later", report.joined, report.participants, report.lost)?;
    writeln!(out, "join       {}", quantiles(&report.join_ms))?;
    writeln!(out, "to audio   {}", quantiles(&report.first_audio_ms))?;
    writeln!(out, "to picture {}", quantiles(&report.first_video_ms))?;
    writeln!(out, "measured   {:.1} s", report.measured_s)?;
    writeln!(out, "sent       {:.0} packets/s, {} in all", sent.packets_per_s, sent.packets)?;
    let by_sequence = if scenario.sampled > 1 { " by sequence numbers" } else { "" };
    writeln!(out, "received   {:.0} packets/s{by_sequence}, {} counted", received.packets_per_s, received.packets)?;
    writeln!(
        out,
        "checked    {} tags right, {} wrong; {} duplicates",
        received.verified, received.forged, received.duplicates
    )?;
    writeln!(
        out,
        "loss       {:.3} %, {:.3} % after repairs ({} lost, {} repaired)",
        received.loss * 100.0,
        received.residual_loss * 100.0,
        received.lost,
        received.repaired
    )?;
    writeln!(
        out,
        "streams    audio {} of {}, video {} of {}; {} of {} receivers complete",
        streams.audio,
        streams.audio_expected,
        streams.video,
        streams.video_expected,
        streams.receivers_complete,
        streams.receivers
    )?;
    for (name, Kinds { audio, video }) in [("latency", &report.latency_ms), ("jitter", &report.jitter_ms)] {
        writeln!(out, "{name:<10} audio {}", quantiles(audio))?;
        writeln!(out, "           video {}", quantiles(video))?;
    }
    writeln!(
        out,
        "generator  {:.0} % of {} media threads busy; late: audio p99 {:.2}, video p99 {:.2} ms",
        report.generator_busy * 100.0,
        scenario.threads,
        report.generator_late_ms.audio.p99,
        report.generator_late_ms.video.p99
    )?;
    for (error, count) in &report.errors {
        writeln!(out, "error      {count} times: {error}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning    {warning}")?;
    }
    Ok(())
}

fn quantiles(values: &Quantiles) -> String {
    if values.count == 0 {
        return "-".to_owned();
    }
    let Quantiles { count, p50, p95, p99, max } = values;
    format!("p50 {p50:.2}, p95 {p95:.2}, p99 {p99:.2}, max {max:.2} ms ({count} values)")
}
