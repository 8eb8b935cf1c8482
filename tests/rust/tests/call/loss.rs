//! A bad network on both hops.

use sluice_tests::{
    api::{fresh_metrics, number},
    client::{Client, Options, Received},
    process::Server,
};

/// Without repair one frame in twenty is missing on each hop; with it, hardly any.
const LOSS: f64 = 0.05;
const MISSING_MAX: f64 = 0.005;

/// Frames at the beginning whose order a bad network may spoil.
const BEGINNING: u64 = 10;

/// Enough for the bound to mean something: a twentieth of them is 75.
const ENOUGH: u64 = 1500;

#[tokio::test]
async fn video_crosses_loss_and_reordering_on_both_hops() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let bad = |seed| Options {
        audio: Some(std::time::Duration::from_millis(20)),
        video: Some(std::time::Duration::from_millis(20)),
        loss: LOSS,
        reorder: LOSS,
        seed,
        ..Options::default()
    };
    let mut ann = Client::join(server.http, "loss", "ann", bad(1)).await?;
    let mut bob = Client::join(server.http, "loss", "bob", bad(2)).await?;
    for client in [&mut ann, &mut bob] {
        let enough = |r: &Received| r.frames >= ENOUGH;
        let seen = client
            .until("enough frames", |seen| seen.audios.values().any(enough) && seen.videos.values().any(enough))
            .await?;
        let (audio, video) = (seen.audios.values().next().expect("one"), seen.videos.values().next().expect("one"));
        for (what, received) in [("audio", audio), ("video", video)] {
            println!("{what}: {:.2} % missing of {}", received.missing_share() * 100.0, received.frames);
            // A stream's first packets have nothing before them that would tell a receiver to wait.
            assert!(received.disorder == 0 || received.disorder_at < BEGINNING, "{what}: {received:?}");
        }
        assert!(video.missing_share() < MISSING_MAX, "{video:?}");
        // str0m asks for no audio again, so audio shows what the network really loses.
        assert!(audio.missing_share() > LOSS, "{audio:?}");
        assert!(seen.keyframe_requests < 60, "repaired, not started anew: {seen:?}");
    }
    let after = fresh_metrics(server.http).await?;
    for name in ["sluice_node_sent_resends", "sluice_node_sent_nacks", "sluice_node_nacked", "sluice_node_received_rtx"]
    {
        assert!(number(&after, name) >= 20.0, "{name}: {after:#?}");
    }
    server.healthy()?;
    Ok(())
}
