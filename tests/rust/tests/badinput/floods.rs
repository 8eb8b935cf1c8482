//! Participants that passed every check and then ask for more, or send more, than anybody should.

use std::{net::Ipv4Addr, time::Duration};

use sluice_tests::{
    api::{Metrics, fresh_metrics, metrics, number},
    client::{Client, Options, Seen},
    hostile::{Hostile, Receiver},
    process::{Folder, Server, path},
};
use str0m::media::Mid;
use tokio::time::interval;

/// Compounds of each kind that a receiver sends.
const ASKS: usize = 3_000;

/// SSRCs of one publisher.
const STREAMS: u32 = 100_000;

/// Resident memory may grow by this much in a test; a replay window for each of [`STREAMS`] would take 15 MB.
const GROWTH_BYTES: u64 = 8 << 20;

/// Ann and Bob, who are in a call before anybody else is.
struct Call {
    clients: [Client; 2],
    /// What each of them receives of the other.
    sections: [[Mid; 2]; 2],
}

impl Call {
    async fn start(server: &Server, room: &str) -> anyhow::Result<Call> {
        let ann = Client::join(server.http, room, "ann", Options::default()).await?;
        let bob = Client::join(server.http, room, "bob", Options::default()).await?;
        let mut call = Call { clients: [ann, bob], sections: [[Mid::from("0"); 2]; 2] };
        for (client, sections) in call.clients.iter_mut().zip(&mut call.sections) {
            let seen =
                client.until("the other's media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
            let mids = seen.audios.keys().chain(seen.videos.keys()).copied();
            sections.iter_mut().zip(mids).for_each(|(section, mid)| *section = mid);
        }
        Ok(call)
    }

    /// They go on, and nothing is lost on the way.
    async fn unharmed(&mut self) -> anyhow::Result<()> {
        for (client, sections) in self.clients.iter_mut().zip(&self.sections) {
            let of = |seen: &Seen| sections.map(|mid| seen.audios.get(&mid).or(seen.videos.get(&mid)).cloned());
            let frames = |seen: &Seen| of(seen).map(|received| received.map_or(0, |received| received.frames));
            let before = frames(&client.now());
            let enough = |seen: &Seen| frames(seen).iter().zip(before).all(|(now, before)| *now >= before + 60);
            let seen = client.until("the call", enough).await?;
            assert_eq!((seen.breaks, &seen.failed), (0, &None));
            for received in of(&seen).into_iter().flatten() {
                assert_eq!((received.missing, received.disorder), (0, 0), "{seen:?}");
            }
        }
        Ok(())
    }
}

fn grown(before: &Metrics, after: &Metrics, name: &str) -> f64 {
    let name = format!("sluice_node_{name}");
    number(after, &name) - number(before, &name)
}

#[tokio::test]
async fn a_receiver_that_asks_for_everything_always_costs_a_bounded_amount() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut call = Call::start(&server, "nacks").await?;
    let before = metrics(server.http).await?;
    let local = Ipv4Addr::LOCALHOST.into();
    let mut mallory = Receiver::join(server.http, server.media, local, "nacks", "mallory").await?;
    // Two voices and two pictures, and then some of each to ask for.
    while mallory.streams() < 4 {
        mallory.receive().await?;
    }
    for _ in 0..200 {
        mallory.receive().await?;
    }
    for ask in 0..ASKS {
        mallory.miss_everything().await?;
        mallory.lose_pictures().await?;
        if ask % 20 == 0 {
            // Retransmissions among it, which it wants again.
            mallory.receive().await?;
        }
    }
    call.unharmed().await?;
    let after = fresh_metrics(server.http).await?;
    let grown = |name: &str| grown(&before, &after, name);
    assert!(grown("nacked") >= 20_000.0, "{after:#?}");
    assert!(grown("nack_limited") >= grown("nacked") / 2.0, "{after:#?}");
    assert!(grown("sent_resends") >= 1.0 && grown("sent_resends") <= grown("nacked") / 20.0, "{after:#?}");
    // Of what is asked as fast as it can be, most is more than a receiver may say.
    assert!(grown("keyframe_requests") >= 100.0, "{after:#?}");
    assert!(grown("sent_plis") <= grown("keyframe_requests") / 5.0, "{after:#?}");
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_publisher_far_above_its_rate_is_cut_and_others_notice_nothing() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut call = Call::start(&server, "rate").await?;
    let before = metrics(server.http).await?;
    let mut mallory = Hostile::join(server.http, server.media, "rate", "mallory").await?;
    // A microphone that says nothing of its rate may send what Opus can: this is ten times as much, for four seconds.
    let mut ticks = interval(Duration::from_millis(10));
    for _ in 0..400 {
        ticks.tick().await;
        for _ in 0..6 {
            let header = mallory.header(0x80);
            let packet = mallory.seal(&header, &[0xfc; 1_000]);
            mallory.send(&packet).await?;
        }
    }
    call.unharmed().await?;
    // Then much more, of every kind, at once: before anything is opened.
    let packet = mallory.good();
    let report = mallory.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1])?;
    for n in 0..60_000 {
        mallory.send(if n % 2 == 0 { &packet } else { &report }).await?;
    }
    call.unharmed().await?;
    let after = fresh_metrics(server.http).await?;
    assert!(grown(&before, &after, "drop_rate") >= 1_000.0, "{after:#?}");
    // What it sends at its rate is heard again.
    let heard = grown(&before, &after, "received_packets");
    for _ in 0..50 {
        ticks.tick().await;
        let packet = mallory.good();
        mallory.send(&packet).await?;
    }
    let later = fresh_metrics(server.http).await?;
    assert!(grown(&before, &later, "received_packets") > heard);
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_hundred_thousand_streams_of_one_publisher_are_dropped_and_cost_no_memory() -> anyhow::Result<()> {
    // Little packet memory, so that it is in use before anything is measured.
    let folder = Folder::new();
    let file = folder.join("sluice.toml");
    std::fs::write(&file, "[media]\nframes = 1024\n")?;
    let mut server = Server::up(&["--config", &path(&file)])?;
    let mut call = Call::start(&server, "streams").await?;
    let mut mallory = Hostile::join(server.http, server.media, "streams", "mallory").await?;
    for _ in 0..50 {
        let packet = mallory.good();
        mallory.send(&packet).await?;
    }
    call.unharmed().await?;
    let before = metrics(server.http).await?;
    let (_, memory_before) = server.process.usage()?;

    let mut ticks = interval(Duration::from_millis(10));
    for ssrc in 0..STREAMS {
        let packet = mallory.stray(0x0100_0000 + ssrc, ssrc as u16);
        mallory.send(&packet).await?;
        if ssrc % 120 == 0 {
            ticks.tick().await;
        }
    }
    call.unharmed().await?;
    let after = fresh_metrics(server.http).await?;
    let (_, memory_after) = server.process.usage()?;
    let dropped = grown(&before, &after, "drop_streams_full");
    // Some may get lost on the way, as on any network, and some be more than a transport may send at once.
    assert!(dropped >= f64::from(STREAMS) / 2.0, "{dropped}: {after:#?}");
    let growth = memory_after.saturating_sub(memory_before);
    assert!(growth < GROWTH_BYTES, "{growth} bytes more for {STREAMS} streams");
    server.healthy()?;
    Ok(())
}
