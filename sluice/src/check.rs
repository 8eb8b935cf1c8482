//! What this machine offers, and what to change: printed at start and by `sluice check`.

use std::net::UdpSocket;

use sluice_node::{BackendPreference, NodeConfig};

use crate::{cli::CheckOptions, config};

/// `sluice check`.
pub fn run(options: &CheckOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let paths = sluice_server::certs::Paths::new(std::path::Path::new("."), "node");
    let node = config::node(&file, &options.media, "node", vec![], &paths);
    report(&node);
    Ok(())
}

/// Prints one line per finding to standard error.
pub fn report(node: &NodeConfig) {
    eprint!("{}", sluice_io::probe::Probe::new());
    match sluice_io::xdp::interface_for(&node.bind) {
        Ok(interface) => eprintln!("AF_XDP would use {interface} (--backend xdp)"),
        // Of no interest to somebody on loopback who did not ask for it.
        Err(_) if node.backend != BackendPreference::Xdp => {}
        Err(reason) => eprintln!("AF_XDP has no interface: {reason}"),
    }
    for address in &node.bind {
        // The node binds again by itself, with an error of its own; here it is said beforehand and for `sluice check`.
        match UdpSocket::bind(address) {
            Ok(_) => eprintln!("media on {address}/udp: the port is free"),
            Err(error) => eprintln!("media on {address}/udp: {error}; choose another with --media"),
        }
    }
}
