//! A cluster in simulation: thousands of nodes and calls, their failures and drains, with the placement and the room code that
//! control runs. What it counts is the same for the same seed; what it measures is CPU time on this machine.
//!
//! `run` is the time line, `cluster` what is placed and moved, `people` drives the room code with clients like browsers, `mix` says
//! how large calls are and what they cost.

#![forbid(unsafe_code)]

mod cluster;
mod mix;
mod people;
mod report;
mod run;
mod settings;

use std::{io, path::Path};

pub use report::{Phase, Report};
pub use settings::{Settings, SettingsError, Target};

/// Why `sluice simulate` ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no cluster
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The report cannot be written
    #[error("the report {path} cannot be written: {error}")]
    Write { path: String, error: io::Error },
}

/// Runs the simulation and writes the reports. The table goes to standard output, unless the JSON does.
pub fn run(target: &Target, settings: &Settings) -> Result<(), Error> {
    let report = simulate(settings, target.quiet)?;
    let is_stdout = target.json.as_deref() == Some(Path::new("-"));
    if is_stdout {
        println!("{}", report.json());
    } else {
        print!("{}", report.text());
    }
    if let Some(path) = target.json.as_deref().filter(|_| !is_stdout) {
        write(path, &report.json())?;
    }
    if let Some(path) = &target.html {
        write(path, &report.html())?;
    }
    if let Some(path) = &target.svg {
        write(path, &report.svg())?;
    }
    Ok(())
}

/// The same without writing anything; progress goes to standard error unless `is_quiet`.
pub fn simulate(settings: &Settings, is_quiet: bool) -> Result<Report, SettingsError> {
    settings.check()?;
    Ok(run::run(settings, is_quiet))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::Write { path: path.display().to_string(), error })
}
