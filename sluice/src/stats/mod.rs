//! `sluice stats`: what a running node does. The node's process serves its counters on a Unix socket in its data folder
//! (`serve.rs`), one JSON line a second ([`line`]); the tool reads them (`attach.rs`), makes rates of them (`rates.rs`) and
//! shows those as a table (`table.rs`) or a live screen (`screen.rs`).

mod attach;
mod line;
mod rates;
mod screen;
mod serve;
mod table;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

pub use serve::serve;

use self::{attach::Samples, rates::Report};
use crate::{cli::StatsOptions, config};

/// The socket of the node whose data is in this folder.
fn socket(data: &Path) -> PathBuf {
    data.join("stats.sock")
}

/// `sluice stats`.
pub fn run(options: &StatsOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let data = config::data(&file, &options.common);
    let path = std::path::absolute(socket(&data)).context("the data folder's path")?;
    let mut samples = attach::attach(&path)?;
    if !options.once && !options.json && io::stdout().is_terminal() {
        return screen::run(samples);
    }
    let mut before = samples.next()?;
    loop {
        let now = samples.next()?;
        let report = Report::new(&before, &now);
        let text = if options.json { serde_json::to_string(&report)? + "\n" } else { table::text(&report) };
        match write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()) {
            Ok(()) if !options.once => {}
            Ok(()) => return Ok(()),
            // Whoever read this, `head` for one, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("the output cannot be written"),
        }
        before = now;
    }
}
