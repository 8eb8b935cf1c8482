//! A call on two workers.

use std::time::Duration;

use futures_util::future::try_join_all;
use sluice_tests::{
    api::{fresh_metrics, number},
    client::{Client, Options, Seen},
    process::{Folder, Server, path},
};

const PEOPLE: usize = 12;
const ENOUGH: u64 = 20;

#[tokio::test]
async fn twelve_people_on_two_workers_all_see_and_hear_each_other() -> anyhow::Result<()> {
    let folder = Folder::new();
    let config = folder.join("sluice.toml");
    // The first receivers fill the first worker.
    std::fs::write(&config, "[media]\nspread = 40\n")?;
    let mut server = Server::up(&["--workers", "2", "--config", &path(&config)])?;
    let pace = Some(Duration::from_millis(200));
    let joins = (0..PEOPLE).map(|i| {
        let options = Options { audio: pace, video: pace, seed: i as u64, ..Options::default() };
        let http = server.http;
        async move { Client::join(http, "wide", &format!("p{i:02}"), options).await }
    });
    let mut clients = try_join_all(joins).await?;
    let complete = |seen: &Seen| {
        let others = PEOPLE - 1;
        let enough = |r: &sluice_tests::client::Received| r.frames > ENOUGH;
        seen.audios.values().filter(|r| enough(r)).count() == others
            && seen.videos.values().filter(|r| enough(r)).count() == others
            && seen.active.len() == others
    };
    for client in &mut clients {
        let seen = client.until("everybody's audio and video", complete).await?;
        let received = || seen.audios.values().chain(seen.videos.values());
        assert!(received().all(|r| (r.disorder, r.gaps) == (0, 0)), "{seen:?}");
        assert_eq!((seen.breaks, seen.departures), (0, 0));
    }
    let metrics = fresh_metrics(server.http).await?;
    let counted = |name: &str| number(&metrics, &format!("sluice_node_{name}"));
    assert!(counted("relayed_in") > 0.0, "somebody is on the other worker");
    for name in ["drop_relay_full", "worker_drop_relay_full", "worker_drop_handoff_full", "worker_drop_no_frame"] {
        assert_eq!(counted(name), 0.0, "{name}");
    }

    // Data goes to everybody as well.
    let sender = clients.pop().expect("there are twelve");
    sender.order(sluice_tests::client::Order::Data(packet())).await;
    for client in &mut clients {
        client.until("a message", |seen| seen.data == 1).await?;
    }
    server.healthy()?;
    Ok(())
}

fn packet() -> Vec<u8> {
    use livekit_protocol::{DataPacket, UserPacket, data_packet};
    use prost::Message;
    let user = UserPacket { payload: b"to all".to_vec(), ..Default::default() };
    DataPacket { value: Some(data_packet::Value::User(user)), ..Default::default() }.encode_to_vec()
}
