//! Control and node as processes of their own: the link between them, and what happens when control goes.

#![forbid(unsafe_code)]

use serde_json::json;
use sluice_tests::{
    api::{self, metrics_until, number},
    client::{Client, Options},
    process::{self, Apart, Folder, free_tcp, free_udp},
};

#[tokio::test]
async fn a_call_outlives_its_control() -> anyhow::Result<()> {
    let mut servers = Apart::start()?;
    let mut ann = Client::join(servers.http, "apart", "ann", Options::default()).await?;
    let mut bob = Client::join(servers.http, "apart", "bob", Options::default()).await?;
    for client in [&mut ann, &mut bob] {
        client.until("media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    }
    let before = api::participants(servers.http, "apart").await?;
    let room = api::room_service(servers.http, "ListRooms", "apart", json!({})).await?["rooms"][0]["sid"].clone();
    assert!(room.as_str().is_some_and(|sid| sid.starts_with("RM_")), "{room}");
    // The node's note of who is there is at most a second old.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;

    servers.control.kill();
    for client in [&mut ann, &mut bob] {
        client.until("the socket's end", |seen| seen.breaks == 1).await?;
        let seen = client.goes_on("media without control", 40).await?;
        assert_eq!(seen.resumes, 0);
    }
    servers.start_control()?;
    for client in [&mut ann, &mut bob] {
        client.until("a resume", |seen| seen.resumes == 1).await?;
        client.until("an ICE restart offered", |seen| seen.restarts >= 1).await?;
        let seen = client.goes_on("media after the resume", 40).await?;
        assert_eq!((seen.departures, seen.failed.clone()), (0, None), "nobody left");
        for received in seen.audios.values().chain(seen.videos.values()) {
            assert_eq!(
                (received.missing, received.disorder, received.gaps),
                (0, 0, 0),
                "not one frame is missing: {seen:?}"
            );
        }
        assert_eq!(seen.tracks.len(), 2);
    }
    let after = api::participants(servers.http, "apart").await?;
    assert_eq!(after, before, "the same people with the same sids and tracks");
    let rooms = api::room_service(servers.http, "ListRooms", "apart", json!({})).await?;
    assert_eq!(rooms["rooms"][0]["sid"], room, "{rooms}");

    // The new control commands the node: somebody new comes in and is seen.
    let mut carol = Client::join(servers.http, "apart", "carol", Options::default()).await?;
    carol.until("both others", |seen| seen.audios.len() == 2 && seen.videos.len() == 2).await?;
    ann.until("carol", |seen| seen.audios.len() == 2 && seen.videos.len() == 2).await?;
    servers.control.healthy()?;
    servers.node.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_client_whose_socket_breaks_resumes_and_misses_nothing() -> anyhow::Result<()> {
    let mut server = process::Server::up(&[])?;
    let mut ann = Client::join(server.http, "resume", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "resume", "bob", Options::default()).await?;
    for client in [&mut ann, &mut bob] {
        client.until("media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    }
    let before = api::participants(server.http, "resume").await?;
    for resumes in 1..=3 {
        ann.order(sluice_tests::client::Order::Break).await;
        ann.until("a resume", |seen| seen.resumes == resumes && seen.restarts >= resumes).await?;
        ann.goes_on("media", 20).await?;
        bob.goes_on("media at the other", 20).await?;
    }
    let mut carol = Client::join(server.http, "resume", "carol", Options::default()).await?;
    ann.until("carol", |seen| seen.audios.len() == 2 && seen.videos.len() == 2).await?;
    carol.until("ann", |seen| seen.audios.len() == 2 && seen.videos.len() == 2).await?;
    for client in [&ann, &bob] {
        let seen = client.now();
        assert_eq!(seen.departures, 0, "{seen:?}");
        for received in seen.audios.values().chain(seen.videos.values()) {
            assert_eq!((received.missing, received.disorder), (0, 0), "{seen:?}");
        }
    }
    let after = api::participants(server.http, "resume").await?;
    assert_eq!((&after["ann"], &after["bob"]), (&before["ann"], &before["bob"]));
    let log = server.healthy()?;
    assert!(!log.contains("closed for what it sent"), "a broken line is nobody's fault:\n{log}");
    Ok(())
}

/// Control refuses, the node never gets in, and clients are told so in words.
async fn stays_outside(authority: &str) -> anyhow::Result<()> {
    let (ours, theirs) = (Folder::new(), Folder::new());
    process::certificates(&ours.join("certs"))?;
    process::certificates(&theirs.join("certs"))?;
    if authority == "ours" {
        // It trusts our control, and shows a certificate that somebody else signed.
        std::fs::copy(ours.join("certs/ca.pem"), theirs.join("certs/ca.pem"))?;
    }
    let (http, link) = (free_tcp(), free_udp());
    let mut control = process::control(http, link, &ours)?;
    let mut node = process::node(link, free_udp(), &theirs, &theirs.join("certs"));
    let refused = |metrics: &api::Metrics| number(metrics, "sluice_links_refused_total") >= 2.0;
    metrics_until(http, "two refusals", refused).await?;
    let token = process::token("apart", "ann", json!({}));
    let (status, text) = api::validate(http, &token).await?;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("no media node is linked"), "{text}");
    control.line("a node was refused")?;
    let log = control.healthy()?;
    assert!(!log.contains("a node is linked"), "{log}");
    // The node's operator reads why.
    node.line("certificate")?;
    node.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_node_with_a_certificate_of_another_authority_is_refused() -> anyhow::Result<()> {
    stays_outside("ours").await?;
    stays_outside("theirs").await
}
