//! A node on AF_XDP, at the end of a veth pair between namespaces: clients are served past the kernel, each by its worker.

#[path = "../../io/tests/support/mod.rs"]
mod namespaces;
mod support;

use std::net::UdpSocket;

use namespaces::Pair;
use sluice_io::{BackendKind, Probe};
use sluice_messages::{Entry, Transport};
use sluice_node::{BackendPreference, Node, NodeConfig};
use support::*;

const CLIENTS: usize = 16;

/// Entering a namespace concerns one thread, so all that happens there happens on this test's.
#[tokio::test(flavor = "current_thread")]
async fn clients_are_served_past_the_kernel_by_the_worker_with_the_queue() {
    if let Err(reason) = Probe::new().xdp {
        return println!("skipped: {reason}");
    }
    let Some(pair) = Pair::new(1, 1500) else { return };
    let authority = Authority::new();
    let (control, node) = pair.near(|| {
        let control = Control::listen(&authority, 0);
        let config = config(&authority, &authority.sign("node-1"), control.port(), 2);
        let bind = vec![format!("{}:0", Pair::NEAR_V4).parse().unwrap()];
        let node = Node::start(NodeConfig { bind, backend: BackendPreference::Xdp, ..config }).unwrap();
        (control, node)
    });
    println!("{:?}", node.backend());
    assert_eq!(node.backend().0, BackendKind::Xdp);
    let (mut link, _) = control.accept().await;
    let transports: Vec<Transport> = (1..=CLIENTS as u64).map(|id| transport(id, id, None, None)).collect();
    link.snapshot(1, transports.iter().cloned().map(Entry::Transport).collect()).await;
    let client = |_| Client::on(pair.far(|| UdpSocket::bind((Pair::FAR_V4, 0))).unwrap(), &node);
    let clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    for (client, transport) in clients.iter().zip(&transports) {
        assert!((0..10).any(|_| client.check(transport)), "{transport:?}: {:?}", node.counters());
    }
    let (handed, direct) = (counter(&node, "worker_handed_over"), counter(&node, "worker_sent_direct"));
    assert!(handed > 0, "strangers arrive at the one queue, and half of them are the other worker's");
    assert!(direct > 0, "the others are answered the way they came");
    for (client, transport) in clients.iter().zip(&transports) {
        assert!(client.check(transport));
        client.send(&RTP);
    }
    wait_for_counter(&node, "drop_no_keys", CLIENTS as u64);
    assert!(counter(&node, "worker_sent_direct") > direct);
    if Probe::new().steering.is_ok() {
        assert_eq!(counter(&node, "worker_handed_over"), handed, "the stack gives the other worker what is its own");
    }
    node.stop();
    assert!(!pair.near_link().contains("prog/xdp"), "the program goes with the node: {}", pair.near_link());
}
