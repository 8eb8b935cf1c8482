//! A load generator for any LiveKit-compatible server: publishers and receivers as real clients (signalling, ICE, DTLS,
//! SRTP, RTCP feedback, simulcast), cheap enough that one core drives thousands of receivers.
//!
//! Signalling runs on one tokio thread ([`session`]). What carries media is sans-IO ([`transport`], [`publish`],
//! [`receive`]) and runs on plain threads ([`worker`]), each with the sockets of its share of the clients.

#![forbid(unsafe_code)]

mod clock;
mod conduct;
mod data;
mod dtls;
mod feedback;
mod ice;
mod live;
mod measure;
mod model;
mod publish;
mod receive;
mod report;
mod scenario;
mod sdp;
mod session;
mod settings;
mod signal;
mod stamp;
mod stream;
mod transport;
mod worker;

use std::{io, path::Path};

pub use conduct::LoadError;
pub use report::Report;
pub use scenario::{Scenario, ScenarioError};
pub use settings::{Preset, ProfileName, Settings, Target};

use live::Live;
use signal::{Door, SignalError};

/// Why `sluice load` ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no load
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The URL cannot be used
    #[error(transparent)]
    Target(#[from] SignalError),
    /// The run gave no result
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The report cannot be written
    #[error("the report {path} cannot be written: {error}")]
    Write { path: String, error: io::Error },
}

impl Error {
    /// Whoever called has to change something before it can work.
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Scenario(_) | Error::Target(_))
    }
}

/// Runs what flags and scenario file say, and writes the reports. The summary goes to standard output, unless the JSON
/// does.
pub fn run(target: &Target, flags: Settings) -> Result<(), Error> {
    let file = target.scenario.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let scenario = flags.or(file).resolve()?;
    let (door, address) = Door::new(&target.url, &target.api_key, &target.api_secret)?;
    let (report, error) = conduct::run(scenario, door, &address, Live::new(target.quiet))?;
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
    error.map_or(Ok(()), |error| Err(error.into()))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::Write { path: path.display().to_string(), error })
}
