//! How fast one joins a call: from connect to connected, to the first remote audio and to the first remote video, over
//! [`JOINS`] joins into a room with one publisher, on loopback, with clients on str0m. Reported, not asserted.
//!
//! `SLUICE=target/release/sluice cargo run --bin join` prints a line for the table of `benches/RESULTS.md`.

#![forbid(unsafe_code)]

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use sluice_tests::{
    client::{Client, Options},
    process::{Server, binary},
};

const JOINS: usize = 20;

/// Between two joins. Key frames are asked for at most so often that joins in quick succession wait for each other.
const PAUSE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    server.process.shows_log = false;
    // Frames come often, so that waiting for the next one is no part of what is measured.
    let publish = Options {
        audio: Some(Duration::from_millis(20)),
        video: Some(Duration::from_millis(33)),
        auto_subscribe: true,
        ..Options::default()
    };
    let _publisher = Client::join(server.http, "join", "publisher", publish).await?;
    let (mut connected, mut audio, mut video) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..JOINS {
        tokio::time::sleep(PAUSE).await;
        let listen = Options { audio: None, video: None, auto_subscribe: true, seed: i as u64, ..Options::default() };
        let mut client = Client::join(server.http, "join", &format!("listener{i}"), listen).await?;
        let seen = client.until("media", |seen| seen.first_audio.is_some() && seen.first_video.is_some()).await?;
        connected.push(seen.connected.context("connected before media")?);
        audio.push(seen.first_audio.context("audio")?);
        video.push(seen.first_video.context("video")?);
    }
    let cell = |mut times: Vec<Duration>| {
        times.sort();
        // Of 20 values in order, the 10th and the 19th: nearest rank.
        let rank =
            |share: f64| times[((times.len() as f64 * share).ceil() as usize).saturating_sub(1)].as_secs_f64() * 1000.0;
        format!("{:.0} / {:.0}", rank(0.50), rank(0.95))
    };
    let build = match binary().components().any(|part| part.as_os_str() == "release") {
        true => "release",
        false => "dev",
    };
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("| {commit} | {build} | {JOINS} | {} | {} | {} |", cell(connected), cell(audio), cell(video));
    Ok(())
}

/// Short name of the commit that is checked out.
fn commit() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output =
        std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(folder).output().ok()?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
