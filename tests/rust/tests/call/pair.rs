//! Two people.

use livekit_protocol::VideoQuality;
use sluice_tests::{
    client::{Client, LAYERS, Options},
    process::Server,
};

const ENOUGH: u64 = 60;

#[tokio::test]
async fn audio_and_video_flow_both_ways_in_order_and_without_gaps() -> anyhow::Result<()> {
    let server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "pair", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "pair", "bob", Options::default()).await?;
    for client in [&mut ann, &mut bob] {
        let seen = client
            .until("one audio, one video, active", |seen| {
                let enough = |r: &sluice_tests::client::Received| r.frames > ENOUGH;
                !seen.active.is_empty() && seen.audios.values().any(enough) && seen.videos.values().any(enough)
            })
            .await?;
        assert_eq!((seen.audios.len(), seen.videos.len()), (1, 1));
        for received in seen.audios.values().chain(seen.videos.values()) {
            assert_eq!((received.disorder, received.missing, received.gaps), (0, 0, 0), "{seen:?}");
        }
        assert_eq!((seen.breaks, seen.departures), (0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn the_layer_that_was_asked_for_arrives_and_numbers_go_on() -> anyhow::Result<()> {
    let server = Server::up(&[])?;
    let silent = Options { audio: None, video: None, ..Options::default() };
    let _ann = Client::join(server.http, "layers", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "layers", "bob", silent).await?;
    let seen = bob.until("a video", |seen| seen.videos.values().any(|video| video.frames > 5)).await?;
    let track = seen.tracks.iter().find(|(_, remote)| remote.is_video).expect("ann's camera").0.clone();
    let order = [
        (VideoQuality::Low, 0),
        (VideoQuality::High, 2),
        (VideoQuality::Medium, 1),
        (VideoQuality::High, 2),
        (VideoQuality::Low, 0),
    ];
    for (quality, layer) in order {
        bob.quality(&track, quality).await;
        let bytes = LAYERS[layer].3;
        bob.until(&format!("frames of {bytes} bytes"), |seen| seen.videos.values().any(|v| v.bytes == bytes)).await?;
        // The other layer must not come back.
        let before = bob.now().videos.values().next().expect("a video").frames;
        let seen = bob.until("more", |seen| seen.videos.values().any(|video| video.frames > before + 10)).await?;
        let video = seen.videos.values().next().expect("a video");
        assert_eq!((video.bytes, video.disorder), (bytes, 0), "after asking for {quality:?}: {seen:?}");
    }
    let video = bob.now().videos.values().next().expect("a video").clone();
    assert_eq!(video.gaps, 0, "sequence numbers go on over switches: {video:?}");

    bob.settings(&track, VideoQuality::High, true).await;
    bob.until("a pause", {
        let mut last = (0, std::time::Instant::now());
        move |seen| {
            let frames = seen.videos.values().map(|video| video.frames).sum();
            if frames != last.0 {
                last = (frames, std::time::Instant::now());
            }
            // Pings are answered meanwhile, so this is looked at now and then.
            last.1.elapsed() > std::time::Duration::from_secs(1)
        }
    })
    .await?;
    bob.settings(&track, VideoQuality::High, false).await;
    bob.goes_on("video after the pause", 10).await?;
    Ok(())
}
