//! `sluice node`.

use anyhow::Context;
use sluice_node::Node;
use sluice_server::certs::Paths;

use crate::{
    check,
    cli::NodeOptions,
    config::{self, LINK_PORT},
    greet, stats,
};

/// Runs a media node until a signal.
pub fn run(options: NodeOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let name = options.name.clone().or_else(|| file.link.name.clone()).unwrap_or_else(|| "node".into());
    let data = config::data(&file, &options.common);
    let folder = options.certs.clone().or_else(|| file.link.certs.clone()).unwrap_or_else(|| data.join("certs"));
    let paths = Paths::new(&folder, &name);
    if !paths.certificate.exists() {
        anyhow::bail!(
            "there is no certificate for node {name:?} at {}: make it where ca.key is, with `sluice certs DIR --node {name}`",
            paths.certificate.display()
        );
    }
    let control = match (&options.control[..], &file.link.control[..]) {
        ([], []) => vec![format!("127.0.0.1:{}", LINK_PORT)],
        ([], file) => file.to_vec(),
        (options, _) => options.to_vec(),
    };
    let node = config::node(&file, &options.media, &name, control, &paths);
    check::report(&node);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let node = Node::start(node)?;
        let _stats = stats::serve(&data, node.watch());
        greet::signal().await;
        node.stop();
        anyhow::Ok(())
    })
}
