//! Datagrams through real sockets: who is served, who is not, and which worker does it.

mod support;

use std::time::{Duration, Instant};

use sluice_messages::{Entry, Transport};
use sluice_node::BackendPreference;
use support::*;

/// Enough source ports for each of two workers to get some: the chance that one gets none is 2^-31.
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn whichever_worker_the_kernel_picks_the_right_one_serves() {
    right_worker_serves(BackendPreference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_without_io_uring() {
    right_worker_serves(BackendPreference::Mmsg).await;
}

async fn right_worker_serves(backend: BackendPreference) {
    let without_steering = |config: &mut sluice_node::NodeConfig| (config.backend, config.steering) = (backend, false);
    let (node, _control, mut link) = pair_with(2, without_steering).await;
    let transports: Vec<Transport> = (1..=CLIENTS as u64).map(|id| transport(id, 1, None, None)).collect();
    link.snapshot(1, transports.iter().cloned().map(Entry::Transport).collect()).await;
    let clients: Vec<Client> = transports.iter().map(|_| Client::new(&node)).collect();
    for (client, transport) in clients.iter().zip(&transports) {
        // The first checks may come before every worker has read its queue; a client repeats them as well.
        assert!((0..10).any(|_| client.check(transport)), "{transport:?}: {:?}", node.counters());
    }
    let handed = counter(&node, "worker_handed_over");
    assert!(handed > 0 && handed < 10 * CLIENTS as u64, "some and not all were handed over: {handed}");
    assert_eq!(counter(&node, "worker_handed_in"), handed);
    for client in &clients {
        client.send(&RTP);
    }
    // All reach the forwarder of the one worker that has the call, which has no keys for them.
    wait_for_counter(&node, "drop_no_keys", CLIENTS as u64);
    assert_eq!(counter(&node, "worker_drop_unvalidated"), 0);
    assert!(counter(&node, "worker_handed_over") > handed, "media is handed over like checks");

    let stranger = Client::new(&node);
    stranger.send(&RTP);
    wait_for_counter(&node, "worker_drop_unvalidated", 1);

    // A removed transport's 5-tuple is worth nothing, wherever it arrives.
    link.snapshot(2, vec![]).await;
    let start = Instant::now();
    while clients[0].check_quickly(&transports[0]) {
        assert!(start.elapsed() < PATIENCE, "the worker obeys soon after the link did");
    }
    for (client, transport) in clients.iter().zip(&transports) {
        assert!(!client.check_quickly(transport), "nobody answers for a transport that is gone");
        client.send(&RTP);
    }
    // Where the sibling has not heard of it yet, the one that had the transport drops what it is handed.
    let dropped = || counter(&node, "worker_drop_unvalidated") + counter(&node, "worker_drop_handed_in");
    let start = Instant::now();
    while dropped() < 1 + CLIENTS as u64 {
        assert!(start.elapsed() < PATIENCE, "{:?}", node.counters());
        std::thread::sleep(Duration::from_millis(5));
    }
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_first_check_a_client_is_received_by_its_worker() {
    steered(BackendPreference::Auto).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_received_without_io_uring() {
    steered(BackendPreference::Mmsg).await;
}

async fn steered(backend: BackendPreference) {
    if let Err(reason) = sluice_io::Probe::new().steering {
        return println!("skipped: {reason}");
    }
    let (node, _control, mut link) = pair_on(backend, 2).await;
    let transports: Vec<Transport> = (1..=CLIENTS as u64).map(|id| transport(id, id, None, None)).collect();
    link.snapshot(1, transports.iter().cloned().map(Entry::Transport).collect()).await;
    let clients: Vec<Client> = transports.iter().map(|_| Client::new(&node)).collect();
    for (client, transport) in clients.iter().zip(&transports) {
        assert!((0..10).any(|_| client.check(transport)), "{transport:?}: {:?}", node.counters());
    }
    let handed = counter(&node, "worker_handed_over");
    assert!(handed > 0, "first checks arrive by the hash, which knows nothing of calls");
    for round in 1..=3 {
        for (client, transport) in clients.iter().zip(&transports) {
            assert!(client.check(transport));
            client.send(&RTP);
        }
        wait_for_counter(&node, "drop_no_keys", round * CLIENTS as u64);
    }
    assert_eq!(counter(&node, "worker_handed_over"), handed, "nothing is handed over any more");
    assert_eq!(counter(&node, "worker_unsteered"), 0);

    // Checks that prove nothing steer nothing: they end where the hash sends them.
    let mut wrong = transports[0].clone();
    wrong.ice.local.pwd = "another-password-of-22-characters".into();
    let strangers: Vec<Client> = (0..CLIENTS).map(|_| Client::new(&node)).collect();
    for _ in 0..2 {
        let before = counter(&node, "worker_handed_over");
        for stranger in &strangers {
            assert!(!stranger.check_quickly(&wrong));
        }
        assert!(counter(&node, "worker_handed_over") > before, "as at first, and as ever");
    }

    // A client whose transport is gone is nobody's again: its next transport may be another worker's.
    link.snapshot(2, vec![]).await;
    let start = Instant::now();
    while clients[0].check_quickly(&transports[0]) {
        assert!(start.elapsed() < PATIENCE, "the worker obeys soon after the link did");
    }
    let moved: Vec<Transport> = (1..=CLIENTS as u64).map(|id| transport(100 + id, 100 + id, None, None)).collect();
    link.snapshot(3, moved.iter().cloned().map(Entry::Transport).collect()).await;
    for (client, transport) in clients.iter().zip(&moved) {
        assert!((0..10).any(|_| client.check(transport)), "{transport:?}: {:?}", node.counters());
    }
    let handed = counter(&node, "worker_handed_over");
    for (client, transport) in clients.iter().zip(&moved) {
        assert!(client.check(transport));
    }
    assert_eq!(counter(&node, "worker_handed_over"), handed);
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing_back() {
    let (node, _control, mut link) = pair(2).await;
    let known = transport(1, 1, None, None);
    link.snapshot(1, vec![Entry::Transport(known.clone())]).await;
    let stranger = Client::new(&node);
    let dtls_client_hello = {
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1];
        record.resize(73, 0);
        record
    };
    let sctp_init = [19, 136, 19, 136, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20, 0, 0, 0, 1];
    let stun_cut_short = [0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3];
    let stun_lying = [0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let plain_binding = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let rtcp = [0x80, 200, 0, 1, 1, 2, 3, 4];
    let garbage: [&[u8]; 12] = [
        &dtls_client_hello,
        &sctp_init,
        &stun_cut_short,
        &stun_lying,
        &plain_binding,
        &RTP,
        &rtcp,
        &[0],
        &[],
        &[0xff; 1200],
        &[23; 1200],
        &[0; 1900],
    ];
    let mut sent = 0;
    for _ in 0..50 {
        for datagram in garbage {
            stranger.send(datagram);
            sent += 1;
        }
    }
    let forged =
        Transport { ice: sluice_messages::Ice { local: credentials("guess"), ..known.ice.clone() }, ..known.clone() };
    let mut wrong = forged.clone();
    wrong.ice.local.ufrag = known.ice.local.ufrag.clone();
    assert!(!stranger.check_quickly(&forged), "a check for nobody");
    assert!(!stranger.check_quickly(&wrong), "a check with the wrong password");
    assert!(stranger.is_left_alone(), "not one byte came back");
    wait_for_counter(&node, "worker_received", sent + 2);
    for (name, least) in [
        ("worker_drop_unvalidated", 4 * 50),
        ("worker_drop_unclassified", 50),
        ("ice_malformed", 50),
        ("ice_amplifying", 50),
        ("ice_integrity_wrong", 1),
        ("worker_drop_unknown_ufrag", 1),
    ] {
        wait_for_counter(&node, name, least);
    }
    assert!(Client::new(&node).check(&known), "and those who may are served");
    node.stop();
}
