//! What a running process tells its operator, and how it is told to stop.

use sluice_server::Server;

use crate::config::Mode;

/// The lines a newcomer reads.
pub fn greet(server: &Server, mode: &Mode) {
    let url = server.url();
    let (key, secret) = &mode.first;
    let program = std::env::args().next().unwrap_or_else(|| "sluice".into());
    println!("Page:   {url}");
    if mode.development {
        println!("Key:    {key}, secret {secret} (development mode: this machine only)");
    } else {
        println!("Key:    {key}");
    }
    println!("Token:  {program} token --room demo --identity ann");
    if mode.development {
        println!(
            "Others: browsers give camera and microphone to https and localhost only. For other machines: \
             SLUICE_KEYS=\"mykey: $(openssl rand -hex 32)\" {program} up --listen 0.0.0.0:7880 --media 0.0.0.0:7882 --tls self-signed"
        );
    } else if url.starts_with("http://") {
        println!(
            "Camera: browsers give camera and microphone to https and localhost only: add --tls self-signed, or put a proxy with TLS in front"
        );
    }
}

/// Waits for SIGINT or SIGTERM.
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        _ => return std::future::pending().await,
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
