//! Receivers that the network does not reach any more, while media for them goes on.

use std::net::{IpAddr, Ipv4Addr};

use sluice_tests::{
    api::{metrics_until, number},
    client::{Client, Options},
    hostile::Receiver,
    network,
    process::Server,
};

/// Address that is taken away in the middle of a call.
const LEAVES: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Packets that each of them gets before.
const HEARD: usize = 50;

#[tokio::test]
async fn what_does_not_reach_one_receiver_reaches_the_others() -> anyhow::Result<()> {
    if !network::own("unreachable::what_does_not_reach_one_receiver_reaches_the_others")? {
        return Ok(());
    }
    network::run("ip", &["link", "add", "wire", "type", "veth", "peer", "name", "end"])?;
    network::run("ip", &["addr", "add", &format!("{LEAVES}/24"), "dev", "wire"])?;
    network::run("ip", &["link", "set", "wire", "up"])?;
    network::run("ip", &["link", "set", "end", "up"])?;

    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "unreachable", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "unreachable", "bob", Options::default()).await?;
    bob.until("ann's media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    let join = |local: IpAddr, name| Receiver::join(server.http, server.media, local, "unreachable", name);
    let mut closed = join(Ipv4Addr::LOCALHOST.into(), "closed").await?;
    let mut away = join(LEAVES.into(), "away").await?;
    for receiver in [&mut closed, &mut away] {
        for _ in 0..HEARD {
            receiver.receive().await?;
        }
    }

    // The port of one is closed: every packet to it comes back as an ICMP error. The address of the other is gone.
    let refused = network::counted("Icmp", "OutDestUnreachs")?;
    closed.vanish();
    network::run("ip", &["addr", "del", &format!("{LEAVES}/24"), "dev", "wire"])?;
    let metrics = metrics_until(server.http, "sends that fail", |metrics| {
        number(metrics, "sluice_node_worker_send_errors") >= 10.0
    })
    .await?;
    assert!(network::counted("Icmp", "OutDestUnreachs")? > refused, "a closed port is told");
    assert_eq!(number(&metrics, "sluice_node_ice_expired"), 0.0);
    for client in [&mut ann, &mut bob] {
        let seen = client.goes_on("the call", 60).await?;
        assert_eq!((seen.breaks, &seen.failed), (0, &None));
        for received in seen.audios.values().chain(seen.videos.values()) {
            assert_eq!((received.missing, received.disorder), (0, 0), "{seen:?}");
        }
    }
    // Nobody at either of them consents any more (RFC 7675): then nothing is sent.
    metrics_until(server.http, "the end of consent", |metrics| number(metrics, "sluice_node_ice_expired") >= 2.0)
        .await?;
    bob.goes_on("the call", 20).await?;
    server.healthy()?;
    Ok(())
}
