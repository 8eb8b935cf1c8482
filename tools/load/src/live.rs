//! What a terminal shows while a run goes on. Everything goes to standard error.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sluice_wire::Micros;

use crate::report::Series;

/// Between two lines of the table.
const ROW: Duration = Duration::from_secs(1);

/// Progress bar and table. Where they are not wanted, or standard error is no terminal, only the two lines that mark the
/// measurement are printed: what drives this program waits for them.
pub struct Live {
    bars: Option<(MultiProgress, ProgressBar)>,
    began: Micros,
    total: Duration,
    next_row: Micros,
    rows: u64,
    /// Second of the last row.
    shown_s: Option<u64>,
}

impl Live {
    /// `quiet`: neither bar nor table.
    pub fn new(quiet: bool) -> Live {
        let shows = !quiet && std::io::stderr().is_terminal();
        let bars = shows.then(|| {
            let all = MultiProgress::new();
            let bar = all.add(ProgressBar::new(0));
            (all, bar)
        });
        Live { bars, began: Micros(0), total: Duration::ZERO, next_row: Micros(0), rows: 0, shown_s: None }
    }

    pub(crate) fn joining(&self, people: usize) {
        self.style("joining   {bar:40} {pos}/{len} {msg}", people as u64);
    }

    pub(crate) fn warming(&self) {
        self.style("warming up {msg}", 1);
    }

    pub(crate) fn measuring(&mut self, duration: Duration) {
        self.say(&format!("measuring for {} s", duration.as_secs_f64()));
        self.style("measuring {bar:40} {pos}/{len} s {msg}", duration.as_secs());
        self.total = duration;
        self.began = Micros::NEVER;
    }

    pub(crate) fn measured(&self) {
        self.say("measured");
    }

    pub(crate) fn finish(&self) {
        if let Some((_, bar)) = &self.bars {
            bar.finish_and_clear();
        }
    }

    /// Brings the bar up to date, and adds a row once a second.
    pub(crate) fn show(&mut self, now: Micros, joined: usize, ended: usize, series: &Series) {
        let Some((all, bar)) = &self.bars else { return };
        if self.total.is_zero() {
            bar.set_position(joined as u64);
        } else {
            self.began = self.began.min(now);
            bar.set_position(now.since(self.began).as_secs());
        }
        if now < self.next_row {
            return;
        }
        self.next_row = now + ROW;
        let Some(point) = series.latest().filter(|point| Some(point.t_s) != self.shown_s) else { return };
        self.shown_s = Some(point.t_s);
        if self.rows.is_multiple_of(20) {
            // A terminal that has gone away is no reason to stop measuring.
            let _ = all.println(
                "  time  joined  ended   sent/s  received/s   Mbit/s    loss   audio p50/p99 ms   video p50/p99 ms",
            );
        }
        self.rows += 1;
        let _ = all.println(format!(
            "{:>5}s {joined:>7} {ended:>6} {:>8} {:>11} {:>8.1} {:>6.2}% {:>10.1}/{:<7.1} {:>10.1}/{:<7.1}",
            point.t_s,
            point.sent_packets,
            point.received_packets,
            point.received_bytes as f64 * 8.0 / 1e6,
            point.loss * 100.0,
            point.audio_ms.p50,
            point.audio_ms.p99,
            point.video_ms.p50,
            point.video_ms.p99,
        ));
    }

    fn style(&self, template: &str, length: u64) {
        if let Some((_, bar)) = &self.bars {
            bar.set_length(length);
            bar.set_position(0);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some((all, _)) => drop(all.println(line)),
            None => eprintln!("{line}"),
        }
    }
}
