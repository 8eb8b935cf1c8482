//! `sluice up`: control and one node in one process, over the same link as apart.

use anyhow::Context;
use sluice_node::Node;
use sluice_server::{Server, ServerConfig, certs};

use crate::{
    check,
    cli::UpOptions,
    config::{self, Mode},
    media,
};

/// Name of the node inside.
const NODE: &str = "local";

/// Runs everything until a signal.
pub fn run(options: UpOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let mode = config::keys(&file)?;
    let listen = config::listen(&file, &options.front);
    config::refuse_exposed(&mode, &listen)?;
    let data = config::data(&file, &options.common);
    let folder = data.join("certs");
    certs::make(&folder, &["control", NODE])?;
    let tls = config::tls(&file, &options.front, &listen)?;
    let server = ServerConfig {
        listen,
        tls,
        keys: mode.keys.clone(),
        development: mode.development,
        // Any free port: the node inside is told it.
        link: ([127, 0, 0, 1], 0).into(),
        certs: certs::Paths::new(&folder, "control"),
        store: data.join("store"),
        rooms: config::rooms(&file),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let server = Server::start(server).await?;
        let control = vec![server.link_address().to_string()];
        let paths = certs::Paths::new(&folder, NODE);
        let node = media::settings(&file, &options.media, NODE, control, &paths);
        check::report(&node);
        let node = Node::start(node)?;
        server.ready().await;
        greet(&server, &mode);
        signal().await;
        server.stop().await;
        node.stop();
        anyhow::Ok(())
    })
}

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
