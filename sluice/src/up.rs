//! `sluice up`: control and one node in one process, over the same link as apart.

use anyhow::Context;
use sluice_node::Node;
use sluice_server::{Server, certs, link::Watch};

use crate::{
    check,
    cli::UpOptions,
    config::{self, Control},
    greet, stats,
};

/// Name of the node inside.
const NODE: &str = "local";

/// Runs everything until a signal.
pub fn run(options: UpOptions) -> anyhow::Result<()> {
    let file = config::read(options.common.config.as_deref())?;
    let control = Control::new(&file, &options.common, &options.front)?;
    config::refuse_exposed(&control.mode, config::media_listen(&file, &options.media))?;
    let folder = control.data.join("certs");
    certs::make(&folder, &["control", NODE])?;
    // Any free port: the node inside is told it.
    let server = control.server(([127, 0, 0, 1], 0).into(), Watch::CALM, certs::Paths::new(&folder, "control"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let server = Server::start(server).await?;
        let link = vec![server.link_address().to_string()];
        let node = config::node(&file, &options.media, NODE, link, &certs::Paths::new(&folder, NODE));
        check::report(&node);
        let node = Node::start(node)?;
        let _stats = stats::serve(&control.data, node.watch());
        server.ready().await;
        greet::greet(&server, &control.mode);
        greet::signal().await;
        node.stop();
        server.stop().await;
        anyhow::Ok(())
    })
}
