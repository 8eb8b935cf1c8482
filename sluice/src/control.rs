//! `sluice control` and `sluice certs`.

use std::path::PathBuf;

use anyhow::Context;
use sluice_server::{Server, ServerConfig, certs};

use crate::{
    cli::{CertsOptions, ControlOptions},
    config, up,
};

/// Port that nodes dial when nothing else is said.
pub const LINK_PORT: u16 = 7881;

/// Runs the control plane until a signal.
pub fn run(options: ControlOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let mode = config::keys(&file)?;
    let listen = config::listen(&file, &options.front);
    config::refuse_exposed(&mode, &listen)?;
    let data = config::data(&file, &options.common);
    let link = options.link.or(file.link.listen).unwrap_or_else(|| ([127, 0, 0, 1], LINK_PORT).into());
    let folder: PathBuf = options.certs.or_else(|| file.link.certs.clone()).unwrap_or_else(|| data.join("certs"));
    let paths = certs::Paths::new(&folder, "control");
    if !paths.certificate.exists() {
        anyhow::bail!(
            "there is no certificate for the link at {}: make it with `sluice certs {}`",
            paths.certificate.display(),
            folder.display()
        );
    }
    let tls = config::tls(&file, &options.front, &listen)?;
    let server = ServerConfig {
        listen,
        tls,
        keys: mode.keys.clone(),
        development: mode.development,
        link,
        certs: paths,
        store: data.join("store"),
        rooms: config::rooms(&file),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let server = Server::start(server).await?;
        up::greet(&server, &mode);
        eprintln!("Nodes:  sluice node --control {} --certs {}", server.link_address(), folder.display());
        up::signal().await;
        server.stop().await;
        anyhow::Ok(())
    })
}

/// Makes the link's certificates.
pub fn certs(options: &CertsOptions) -> anyhow::Result<()> {
    let mut names = vec!["control"];
    names.extend(options.node.iter().map(String::as_str));
    let written = certs::make(&options.folder, &names)?;
    for path in &written {
        println!("{}", path.display());
    }
    if written.is_empty() {
        eprintln!("all of them exist already");
    }
    Ok(())
}
