//! `sluice control` and `sluice certs`.

use anyhow::Context;
use sluice_server::{Server, certs, link::Watch};

use crate::{
    cli::{CertsOptions, ControlOptions},
    config::{self, Control, LINK_PORT},
    greet,
};

/// Runs the control plane until a signal.
pub fn run(options: ControlOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let control = Control::new(&file, &options.common, &options.front)?;
    let link = options.link.or(file.link.listen).unwrap_or_else(|| ([127, 0, 0, 1], LINK_PORT).into());
    let folder = options.certs.or(file.link.certs).unwrap_or_else(|| control.data.join("certs"));
    let paths = certs::Paths::new(&folder, "control");
    if !paths.certificate.exists() {
        anyhow::bail!(
            "there is no certificate for the link at {}: make it with `sluice certs {}`",
            paths.certificate.display(),
            folder.display()
        );
    }
    let server = control.server(link, Watch::FAST, paths);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let server = Server::start(server).await?;
        greet::greet(&server, &control.mode);
        println!("Nodes:  sluice node --control {} --certs {}", server.link_address(), folder.display());
        greet::signal().await;
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
