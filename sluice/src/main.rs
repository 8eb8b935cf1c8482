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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = if matches!(cli.role, Role::Token(_) | Role::Certs(_) | Role::Stats(_)) { "warn" } else { "info" };
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
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, causes included: what an operator reads first.
            eprintln!("sluice: {error:#}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}
