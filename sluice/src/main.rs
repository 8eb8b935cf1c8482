//! `sluice`: one binary, one subcommand per role.

#![forbid(unsafe_code)]

mod check;
mod cli;
mod config;
mod control;
mod greet;
mod media;
mod stats;
mod token;
mod up;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;

use crate::cli::{Cli, Role};

/// What cannot start because of what the operator wrote (or a port in use) ends with this code.
const EXIT_CONFIG: u8 = 2;

/// A load that could be run and gave no result ends with this one.
const EXIT_LOAD: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_tool =
        matches!(cli.role, Role::Token(_) | Role::Certs(_) | Role::Stats(_) | Role::Load(_) | Role::Simulate(_));
    let default = if is_tool { "warn" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| default.into());
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
    let result = match cli.role {
        Role::Up(options) => up::run(options),
        Role::Control(options) => control::run(options),
        Role::Node(options) => media::run(options),
        Role::Token(options) => token::run(&options),
        Role::Certs(options) => control::certs(&options),
        Role::Stats(options) => stats::run(&options),
        Role::Check(options) => check::run(&options),
        Role::Load(options) => sluice_load::run(&options.target, options.settings).map_err(anyhow::Error::from),
        Role::Simulate(options) => {
            sluice_simulate::run(&options.target, &options.settings).map_err(anyhow::Error::from)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, causes included: what an operator reads first.
            eprintln!("sluice: {error:#}");
            let is_load = error.downcast_ref::<sluice_load::Error>().is_some_and(|error| !error.is_usage());
            ExitCode::from(if is_load { EXIT_LOAD } else { EXIT_CONFIG })
        }
    }
}
