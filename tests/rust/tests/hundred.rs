//! A hundred people in one call, each with audio and simulcast video, hearing everybody and seeing nine.

#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use sluice_tests::{
    api::{self, Metrics, fresh_metrics, number},
    client::{Client, Options, Seen},
    process::Server,
};

const PEOPLE: usize = 100;
const VIDEOS: usize = 9;

/// A machine with two cores runs the server and a hundred clients with full WebRTC stacks: rates are low.
const AUDIO: Duration = Duration::from_millis(1000);
const VIDEO: Duration = Duration::from_millis(1000);

/// The steady call that is measured.
const MEASURED: Duration = Duration::from_secs(20);

/// A hundred joins, each of which changes what all others receive, with the clients on the same two cores.
const JOINING_MAX: Duration = Duration::from_secs(240);

/// Counters of the node that mean that something was lost, on its way in or out or inside.
fn losses(metrics: &Metrics) -> Vec<(&str, f64)> {
    let lost = |name: &str| {
        let name = name.strip_prefix("sluice_node_").unwrap_or_default();
        // Names of reasons, not of what a subscription leaves out by itself.
        name.contains("drop_")
            || name.starts_with("nacked")
            || name == "sent_nacks"
            || name.contains("starved")
            || name.contains("send_errors")
    };
    metrics.iter().filter(|(name, _)| lost(name)).map(|(name, value)| (name.as_str(), *value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_people_hear_everybody_and_see_nine() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let started = Instant::now();
    let joins = (0..PEOPLE).map(|i| {
        let options =
            Options { audio: Some(AUDIO), video: Some(VIDEO), videos: VIDEOS, seed: i as u64, ..Options::default() };
        let http = server.http;
        async move { Client::join(http, "hundred", &format!("p{i:03}"), options).await }
    });
    let clients = try_join_all(joins).await?;
    let complete =
        |seen: &Seen| seen.audios.len() == PEOPLE - 1 && seen.videos.len() == VIDEOS && seen.active.len() == PEOPLE - 1;
    for client in &clients {
        let mut seen = client.seen.clone();
        let left = JOINING_MAX.saturating_sub(started.elapsed());
        let waited = tokio::time::timeout(left, seen.wait_for(|seen| seen.failed.is_some() || complete(seen))).await;
        if waited.is_err() || client.now().failed.is_some() {
            let counts: Vec<_> = clients
                .iter()
                .map(|client| client.now())
                .map(|seen| (seen.audios.len(), seen.videos.len(), seen.active.len(), seen.breaks, seen.failed))
                .collect();
            anyhow::bail!("not everybody hears 99 and sees 9 in time: {counts:?}");
        }
    }
    let joined = started.elapsed();

    let before = fresh_metrics(server.http).await?;
    let numbers: Vec<Seen> = clients.iter().map(Client::now).collect();
    let (cpu_before, _) = server.process.usage()?;
    let measured = Instant::now();
    tokio::time::sleep(MEASURED).await;
    let after = fresh_metrics(server.http).await?;
    let (cpu, memory) = server.process.usage()?;
    let seconds = measured.elapsed().as_secs_f64();

    for ((name, then), (_, now)) in losses(&before).into_iter().zip(losses(&after)) {
        assert_eq!(now - then, 0.0, "{name} during the steady call");
    }
    for (client, before) in clients.iter().zip(&numbers) {
        let seen = client.now();
        assert_eq!((seen.breaks, seen.departures, &seen.failed), (0, 0, &None), "{seen:?}");
        let tracks = |seen: &Seen| seen.audios.clone().into_iter().chain(seen.videos.clone()).collect::<Vec<_>>();
        for ((mid, then), (_, now)) in tracks(before).into_iter().zip(tracks(&seen)) {
            let frames = now.frames - then.frames;
            assert!(frames as f64 >= MEASURED.as_secs_f64() / 2.0, "{mid}: {frames} frames of {then:?}, {now:?}");
            assert_eq!((now.missing - then.missing, now.disorder), (0, then.disorder), "{mid}: {then:?}, {now:?}");
        }
    }
    let there = api::participants(server.http, "hundred").await?;
    assert_eq!(there.values().filter(|p| p.state == "ACTIVE" && p.tracks.len() == 2).count(), PEOPLE);

    let grown =
        |name: &str| number(&after, &format!("sluice_node_{name}")) - number(&before, &format!("sluice_node_{name}"));
    let mut report = String::new();
    writeln!(report, "{PEOPLE} participants, each receiving {} audios and {VIDEOS} videos", PEOPLE - 1)?;
    writeln!(report, "joined and receiving everything after {:.1} s", joined.as_secs_f64())?;
    writeln!(report, "packets in per second: {:.0}", grown("received_packets") / seconds)?;
    writeln!(report, "packets out per second: {:.0}", grown("sent_packets") / seconds)?;
    writeln!(
        report,
        "server CPU: {:.1} % of one core over {seconds:.0} s ({cpu:.1} s since start)",
        (cpu - cpu_before) / seconds * 100.0
    )?;
    writeln!(report, "server memory, resident: {} MiB", memory >> 20)?;
    for (name, value) in losses(&after).into_iter().filter(|(_, value)| *value > 0.0) {
        writeln!(report, "while joining, {name}: {value}")?;
    }
    print!("{report}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artefacts");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("hundred.txt"), report)?;
    server.healthy()?;
    Ok(())
}
