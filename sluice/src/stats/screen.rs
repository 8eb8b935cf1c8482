//! The live view in a terminal.

use std::{
    sync::mpsc::{self, TryRecvError},
    time::Duration,
};

use anyhow::Context;
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Text},
    widgets::{Cell, Row, Table},
};

use super::{
    attach::{AttachError, Samples},
    line::Sample,
    rates::Report,
    table::{self, COLUMNS},
};

/// How long a key waits for its effect.
const KEYS_PERIOD: Duration = Duration::from_millis(100);

/// A worker that is busier than this is near its end.
const BUSY_HIGH: f64 = 0.85;

/// Shows reports until the user or the node ends.
pub fn run(mut samples: impl Samples + Send + 'static) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        loop {
            let sample = samples.next();
            let is_over = sample.is_err();
            if sender.send(sample).is_err() || is_over {
                return;
            }
        }
    });
    let mut terminal = ratatui::try_init().context("the terminal cannot be used: try --once")?;
    let result = show(&mut terminal, &receiver);
    ratatui::restore();
    result
}

fn show(terminal: &mut DefaultTerminal, samples: &mpsc::Receiver<Result<Sample, AttachError>>) -> anyhow::Result<()> {
    let mut before: Option<Sample> = None;
    let mut report = None;
    loop {
        match samples.try_recv() {
            Ok(sample) => {
                let now = sample?;
                report = before.as_ref().map(|before| Report::new(before, &now)).or(report);
                before = Some(now);
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(AttachError::Stopped.into()),
        }
        terminal.draw(|frame| draw(frame, report.as_ref()))?;
        // Also wakes up where the terminal's size changes: it is drawn anew above.
        if event::poll(KEYS_PERIOD)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupts || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(());
            }
        }
    }
}

fn draw(frame: &mut Frame<'_>, report: Option<&Report>) {
    let Some(report) = report else {
        return frame.render_widget("one second ...", frame.area());
    };
    let workers = table::rows(report);
    let [head, middle, drops, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(workers.len() as u16 + 2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let reason = Line::from(report.backend_reason.as_str()).dim();
    frame.render_widget(Text::from(vec![Line::from(table::head(report)).bold(), reason]), head);
    draw_workers(frame, middle, report, workers);
    draw_drops(frame, drops, report);
    frame.render_widget(Line::from("q: quit").dim(), foot);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, report: &Report, workers: Vec<[String; COLUMNS.len()]>) {
    let busy = report.workers.iter().chain([&report.total]).map(|row| row.busy);
    let rows = workers.into_iter().zip(busy).map(|(cells, busy)| {
        let style = if busy > BUSY_HIGH { Style::new().fg(Color::Red) } else { Style::new() };
        numbers(cells).style(style)
    });
    let widths = COLUMNS.map(|name| Constraint::Length(name.len().max(6) as u16));
    let header = numbers(COLUMNS.map(str::to_owned)).style(Style::new().bold());
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(2), area);
}

fn draw_drops(frame: &mut Frame<'_>, area: Rect, report: &Report) {
    let drops = table::drops(report);
    if drops.is_empty() {
        return frame.render_widget("nothing was dropped", area);
    }
    let header = numbers(["dropped", "per s", "in all"].map(str::to_owned)).style(Style::new().bold());
    let widths = [Constraint::Length(30), Constraint::Length(10), Constraint::Length(14)];
    frame.render_widget(Table::new(drops.into_iter().map(numbers), widths).header(header).column_spacing(2), area);
}

/// The first cell is a name, the others are numbers.
fn numbers<const N: usize>(cells: [String; N]) -> Row<'static> {
    let cell = |(n, text): (usize, String)| {
        let alignment = if n == 0 { Alignment::Left } else { Alignment::Right };
        Cell::from(Text::from(text).alignment(alignment))
    };
    Row::new(cells.into_iter().enumerate().map(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    #[test]
    fn a_report_is_drawn_in_any_size() {
        let counters = |n: u64| [("sent_packets", n), ("drop_muted", n)].map(|(name, n)| (name.to_owned(), n)).into();
        let sample = |at_us, n| Sample { at_us, workers: vec![counters(n), counters(2 * n)], ..Sample::default() };
        let report = Report::new(&sample(0, 0), &sample(1_000_000, 500));
        for (width, height) in [(120, 20), (40, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, None)).unwrap();
            terminal.draw(|frame| draw(frame, Some(&report))).unwrap();
            let drawn = terminal.backend().to_string();
            if width == 120 {
                assert!(drawn.contains("1500") && drawn.contains("drop_muted"), "{drawn}");
            }
        }
    }
}
