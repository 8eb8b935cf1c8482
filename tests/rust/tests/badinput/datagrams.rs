//! Datagrams of strangers: dropped, counted by reason, and never answered with more than they brought.

use std::{net::Ipv4Addr, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sluice_tests::{
    api::{metrics_until, number},
    process::Server,
};
use sluice_wire::stun;
use tokio::{net::UdpSocket, time::timeout};

/// After the last datagram nothing comes any more for this long.
const QUIET: Duration = Duration::from_millis(300);

/// An ICE check.
fn check(username: &str, password: &str) -> Vec<u8> {
    let request = stun::Request {
        transaction_id: stun::TransactionId(rand::random()),
        username: username.as_bytes(),
        password: password.as_bytes(),
        priority: 1,
        use_candidate: true,
        role: stun::Role::Controlling(1),
    };
    let mut out = vec![0; stun::MAX_WRITTEN_BYTES];
    let len = stun::write_request(&mut out, &request).expect("there is room");
    out.truncate(len);
    out
}

/// Bytes that come back for a datagram.
async fn answered(socket: &UdpSocket, datagram: &[u8]) -> anyhow::Result<usize> {
    socket.send(datagram).await?;
    let mut bytes = 0;
    let mut buffer = [0; 2000];
    while let Ok(received) = timeout(QUIET, socket.recv(&mut buffer)).await {
        bytes += received?;
    }
    Ok(bytes)
}

/// A DTLS 1.2 ClientHello: record header, handshake header, version, random, no session, no cookie, one suite.
fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let mut handshake = vec![1, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0, body.len() as u8];
    handshake.extend(&body);
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, handshake.len() as u8];
    record.extend(&handshake);
    record
}

#[tokio::test]
async fn strangers_are_dropped_counted_and_never_answered_with_more() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server.media).await?;
    // A participant whose ufrag is known, but who never came.
    let ufrag = {
        use livekit_protocol::signal_response::Message as Response;
        use sluice_tests::{
            process::token,
            signal::{QUERY, Signal},
        };
        let mut signal = Signal::connect(server.http, &token("strangers", "ann", serde_json::json!({})), QUERY).await?;
        let offer =
            signal.until(|message| if let Response::Offer(offer) = message { Some(offer.sdp) } else { None }).await?;
        let ufrag = offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("credentials").to_owned();
        (ufrag, signal)
    };

    let rtp = [&[0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9][..], &[0; 60]].concat();
    let rtcp = [&[0x80, 201, 0, 1, 0, 0, 0, 9][..], &[0; 14]].concat();
    let mut unsigned = check("nobody:me", "x");
    unsigned.truncate(40);
    let silent: Vec<(&str, Vec<u8>, &str)> = vec![
        ("garbage", vec![0xff; 100], "worker_drop_unclassified"),
        ("one byte", vec![0x80], "worker_drop_"),
        ("DTLS ClientHello", client_hello(), "worker_drop_unvalidated"),
        ("RTP", rtp, "worker_drop_unvalidated"),
        ("RTCP", rtcp, "worker_drop_unvalidated"),
        ("STUN for nobody", check("nobody01:me", "password"), "worker_drop_unknown_ufrag"),
        (
            "STUN with a lying length",
            vec![0, 1, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
            "ice_malformed",
        ),
        ("STUN cut off", unsigned, "ice_malformed"),
        ("oversized", vec![0x80; 4000], "worker_drop_backend"),
    ];
    for (what, datagram, _) in &silent {
        assert_eq!(answered(&socket, datagram).await?, 0, "{what} is not answered");
    }
    // These may be answered, with an error or the own address.
    let known = check(&format!("{}:me", ufrag.0), "not the password");
    let bare = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    for (what, datagram) in [("a wrong password", &known[..]), ("a bare binding request", &bare[..])] {
        let bytes = answered(&socket, datagram).await?;
        assert!(bytes <= datagram.len(), "{what}: {bytes} bytes for {}", datagram.len());
    }
    let mut dice = StdRng::seed_from_u64(30);
    let mut sent = 0;
    let mut back = 0;
    for _ in 0..300 {
        let mut datagram = match dice.random_range(0..4) {
            0 => client_hello(),
            1 => check("nobody01:me", "password"),
            2 => known.clone(),
            _ => (0..dice.random_range(1..1500)).map(|_| dice.random()).collect(),
        };
        for _ in 0..dice.random_range(0..6) {
            let at = dice.random_range(0..datagram.len());
            datagram[at] = dice.random();
        }
        sent += datagram.len();
        socket.send(&datagram).await?;
        let mut buffer = [0; 2000];
        while let Ok(bytes) = socket.try_recv(&mut buffer) {
            assert!(bytes <= 1500);
            back += bytes;
        }
    }
    assert!(back <= sent, "{back} bytes for {sent}");

    let names: Vec<String> = silent.iter().map(|(_, _, name)| format!("sluice_node_{name}")).collect();
    let wrong = "sluice_node_ice_integrity_wrong";
    let counted = |metrics: &sluice_tests::api::Metrics, name: &str| -> f64 {
        metrics.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value).sum()
    };
    let metrics = metrics_until(server.http, "a count for every reason", |metrics| {
        names.iter().all(|name| counted(metrics, name) >= 1.0) && number(metrics, wrong) >= 1.0
    })
    .await?;
    assert!(number(&metrics, "sluice_node_worker_drop_unvalidated") >= 3.0, "DTLS, RTP and RTCP before a check");
    assert_eq!(number(&metrics, "sluice_node_slow_connected"), 0.0);
    server.healthy()?;
    Ok(())
}
