//! Participants that passed every check and then misbehave: on their own 5-tuple, with the right keys.

use livekit_protocol as proto;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sluice_tests::{
    api::{fresh_metrics, metrics, number},
    client::{Client, Options, Order},
    hostile::{Hostile, OPUS, SSRC},
    process::Server,
};
use std::time::Duration;

/// Between two audio packets of the hostile participant.
const PERIOD: Duration = Duration::from_millis(20);

/// A header extension block of one-byte elements (RFC 8285 section 4.2) that says it has `words` words.
fn extension(words: u16, elements: &[u8]) -> Vec<u8> {
    let mut block = vec![0xbe, 0xde];
    block.extend(words.to_be_bytes());
    block.extend(elements);
    block
}

/// Packets that are authentic and lie about themselves.
fn lies(hostile: &mut Hostile) -> Vec<Vec<u8>> {
    let payload = [0xfc; 40];
    let mut lies = Vec::new();
    // Extension blocks longer than the packet, longer than what was sent as header, and with elements that reach out of it.
    for (words, elements) in [
        (0xffff, &[0; 4][..]),
        (12, &[0; 4]),
        (1, &[0x1f, 1, 2, 3]),
        (1, &[0x10, b'9', 0x3f, 0]),
        (2, &[0x20, 0, 0x31, 0, 0xff, 0xff, 0xff, 0xff]),
        (0, &[]),
    ] {
        let mut header = hostile.header(0x90);
        header.extend(extension(words, elements));
        lies.push(hostile.seal(&header, &payload));
    }
    // More CSRCs than bytes, padding longer than the payload, no padding where padding is said, nothing at all.
    for (first, payload) in [(0x8f, &[0; 8][..]), (0xa0, &[0xff; 4]), (0xa0, &[0; 4]), (0xa0, &[]), (0x80, &[])] {
        let header = hostile.header(first);
        lies.push(hostile.seal(&header, payload));
    }
    // Payload types and SSRCs that nobody announced.
    for (at, byte) in [(1, 127), (8, 0xee)] {
        let mut header = hostile.header(0x80);
        header[at] = byte;
        lies.push(hostile.seal(&header, &payload));
    }
    lies
}

/// RTCP whose lengths and counts lie, each beginning with a good report so that it is taken for RTCP.
fn reports() -> Vec<Vec<u8>> {
    let report = |first: u8, kind: u8, words: u16, body: &[u8]| {
        let mut packet = vec![first, kind];
        packet.extend(words.to_be_bytes());
        packet.extend(SSRC.to_be_bytes());
        packet.extend(body);
        packet
    };
    let good = report(0x80, 201, 1, &[]);
    let after = |tail: Vec<u8>| [good.clone(), tail].concat();
    vec![
        // Longer than there is, shorter than it must be, with more blocks than there are.
        report(0x80, 201, 0xffff, &[]),
        report(0x80, 201, 0, &[]),
        report(0x9f, 201, 1, &[]),
        report(0x80, 200, 1, &[]),
        report(0x9f, 200, 6, &[0; 20]),
        report(0xa0, 201, 2, &[0, 0, 0, 0xff]),
        after(report(0x81, 202, 2, &[1, 255, 0, 0])),
        after(report(0x9f, 203, 1, &[])),
        after(report(0x81, 205, 2, &[0; 4])),
        after(report(0x81, 205, 0x0fff, &[0; 8])),
        // Transport-wide feedback: run lengths and counts beyond what follows.
        after(report(0x8f, 205, 4, &[0, 0, 0, 1, 0, 1, 0xff, 0xff, 0, 0, 0, 0])),
        after(report(0x8f, 205, 5, &[0, 0, 0, 1, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0x5f, 0xff])),
        // REMB with more SSRCs than there are, XR with lying blocks, an unknown type, a tail of three bytes.
        after(report(0x8f, 206, 4, &[0, 0, 0, 0, b'R', b'E', b'M', b'B', 255, 0xff, 0xff, 0xff])),
        after(report(0x80, 207, 3, &[4, 0, 0xff, 0xff, 0, 0, 0, 0])),
        after(report(0x80, 250, 2, &[0; 4])),
        after(vec![0x80, 201, 0]),
    ]
}

/// The same with a right checksum (RFC 9260 section 6.8, appendix A: CRC-32C, least significant byte first).
fn checked(mut datagram: Vec<u8>) -> Vec<u8> {
    let Some(checksum) = datagram.get_mut(8..12) else { return datagram };
    checksum.fill(0);
    let crc = datagram.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    datagram[8..12].copy_from_slice(&(!crc).to_le_bytes());
    datagram
}

async fn good(hostile: &mut Hostile, packets: usize) -> anyhow::Result<()> {
    for _ in 0..packets {
        let packet = hostile.good();
        hostile.send(&packet).await?;
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

#[tokio::test]
async fn lies_on_a_validated_path_are_dropped_and_counted_and_calls_go_on() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "hostile", "ann", Options { videos: 1, ..Options::default() }).await?;
    let mut bob = Client::join(server.http, "hostile", "bob", Options { videos: 1, ..Options::default() }).await?;
    bob.until("ann's media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    let mut hostile = Hostile::join(server.http, server.media, "hostile", "mallory").await?;
    good(&mut hostile, 20).await?;
    bob.until("mallory's audio", |seen| seen.audios.len() == 2).await?;
    let before = metrics(server.http).await?;

    // Truncated and flipped before the packet itself, which is taken nevertheless; then replayed.
    let packet = hostile.good();
    for len in 1..packet.len() {
        hostile.send(&packet[..len]).await?;
    }
    for at in 0..packet.len() {
        let mut flipped = packet.clone();
        flipped[at] ^= 0x10;
        hostile.send(&flipped).await?;
    }
    for _ in 0..=10 {
        hostile.send(&packet).await?;
    }
    let header = hostile.header(0x80);
    let wrong = hostile.seal_wrongly(&header, &[0xfc; 40])?;
    hostile.send(&wrong).await?;
    for bytes in [1600, 2040, 2048, 2049, 4000, 60_000] {
        let mut oversized = packet.clone();
        oversized.resize(bytes, 0);
        hostile.send(&oversized).await?;
    }
    for lie in lies(&mut hostile) {
        hostile.send(&lie).await?;
    }
    for report in reports() {
        let sealed = hostile.seal_rtcp(&report)?;
        hostile.send(&sealed).await?;
        // And as it is, without protection.
        hostile.send(&report).await?;
    }
    good(&mut hostile, 20).await?;

    // Authentic noise: what the parsers behind the authentication meet.
    let mut dice = StdRng::seed_from_u64(40);
    let seeds = reports();
    for round in 0..3_000 {
        if round % 2 == 0 {
            let mut report = seeds[dice.random_range(0..seeds.len())].clone();
            for _ in 0..dice.random_range(1..5) {
                let at = dice.random_range(2..report.len());
                report[at] = dice.random();
            }
            let sealed = hostile.seal_rtcp(&report)?;
            hostile.send(&sealed).await?;
        } else {
            let mut header = hostile.header(0x80 | dice.random_range(0..64u8));
            header[1] = if dice.random() { OPUS } else { dice.random_range(0..128) };
            let words = dice.random_range(0..8);
            header.extend(extension(dice.random_range(0..8), &vec![dice.random(); words * 4]));
            let payload: Vec<u8> = (0..dice.random_range(0..60)).map(|_| dice.random()).collect();
            let sealed = hostile.seal(&header, &payload);
            hostile.send(&sealed).await?;
        }
        if round % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    // Everybody hears everybody, the liar included once it says the truth again.
    let (seen, _, ()) =
        tokio::try_join!(bob.goes_on("the call", 40), ann.goes_on("the call", 40), good(&mut hostile, 200))?;
    assert_eq!((seen.breaks, seen.failed), (0, None));
    let after = fresh_metrics(server.http).await?;
    let grown = |name: &str| number(&after, name) - number(&before, name);
    for (name, least) in [
        ("sluice_node_drop_replayed", 10.0),
        ("sluice_node_drop_unauthentic", 50.0),
        ("sluice_node_drop_rtcp_malformed", 5.0),
        ("sluice_node_drop_unknown_payload", 1.0),
    ] {
        assert!(grown(name) >= least, "{name} grew by {}: {after:#?}", grown(name));
    }
    let dropped: f64 =
        ["drop_srtp", "drop_malformed", "drop_size"].map(|name| grown(&format!("sluice_node_{name}"))).iter().sum();
    assert!(dropped >= 5.0, "lying headers are counted: {after:#?}");
    let oversized = grown("sluice_node_worker_drop_backend") + grown("sluice_node_drop_size");
    assert!(oversized >= 3.0, "oversized datagrams are counted: {after:#?}");
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn garbage_where_sctp_and_dtls_should_be_ends_at_its_sender() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let mut ann = Client::join(server.http, "sctp", "ann", Options { video: None, ..Options::default() }).await?;
    let mut bob = Client::join(server.http, "sctp", "bob", Options { video: None, ..Options::default() }).await?;
    ann.until("channels", |seen| seen.can_send_data && seen.can_receive_data).await?;
    bob.until("channels", |seen| seen.can_send_data && seen.can_receive_data).await?;
    let mut dice = StdRng::seed_from_u64(50);
    let mut hostile = Hostile::join(server.http, server.media, "sctp", "mallory").await?;
    // An SCTP header with an INIT whose length, streams and parameters lie, then all of it mutated, then noise.
    let init = [
        &[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 0, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xc0, 0, 0xff, 0xff],
    ]
    .concat();
    hostile.send_sctp(&init).await?;
    hostile.send_sctp(&checked(init.clone())).await?;
    for _ in 0..500 {
        let mut bytes = init.clone();
        for _ in 0..dice.random_range(0..8) {
            let at = dice.random_range(0..bytes.len());
            bytes[at] = dice.random();
        }
        if dice.random() {
            bytes = (0..dice.random_range(1..900)).map(|_| dice.random()).collect();
        }
        if dice.random() {
            bytes = checked(bytes);
        }
        if hostile.send_sctp(&bytes).await.is_err() {
            break;
        }
    }
    // Records that are not DTLS, on the same path.
    for _ in 0..500 {
        let mut record: Vec<u8> = (0..dice.random_range(13..300)).map(|_| dice.random()).collect();
        record[0] = dice.random_range(20..64);
        if dice.random() {
            record[1..3].copy_from_slice(&[0xfe, 0xfd]);
        }
        hostile.send(&record).await?;
    }

    let message = proto::DataPacket {
        value: Some(proto::data_packet::Value::User(proto::UserPacket {
            payload: b"hello".to_vec(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let before = bob.now().data;
    ann.order(Order::Data(prost::Message::encode_to_vec(&message))).await;
    let seen = bob.until("ann's message", |seen| seen.data > before).await?;
    assert_eq!((seen.breaks, seen.failed), (0, None));
    ann.goes_on("audio", 20).await?;
    // The path of media is another one: what mallory does to its data does not stop its own audio either.
    good(&mut hostile, 20).await?;
    let after = fresh_metrics(server.http).await?;
    for (name, least) in [("sctp_datagrams_dropped", 200.0), ("dtls_datagrams_fruitless", 200.0)] {
        assert!(number(&after, &format!("sluice_node_{name}")) >= least, "{name}: {after:#?}");
    }
    assert_eq!(number(&after, "sluice_node_peer_panics"), 0.0);
    server.healthy()?;
    Ok(())
}

#[tokio::test]
async fn a_client_whose_every_packet_is_repeated_and_damaged_is_heard_without_a_gap() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let ann = Client::join(server.http, "shadow", "ann", Options::default()).await?;
    let mut bob =
        Client::join(server.http, "shadow", "bob", Options { audio: None, video: None, ..Options::default() }).await?;
    bob.until("ann's media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    ann.order(Order::Shadow(Box::new(|datagram| {
        // RTP and RTCP alone: STUN and DTLS protect themselves otherwise.
        if !(128..192).contains(&datagram[0]) {
            return Vec::new();
        }
        // Another SSRC: not a repetition, but a forgery.
        let mut flipped = datagram.to_vec();
        flipped[8] ^= 0x20;
        vec![datagram.to_vec(), flipped, datagram[..datagram.len() - 1].to_vec()]
    })))
    .await;
    let seen = bob.goes_on("ann's media", 60).await?;
    for received in seen.audios.values().chain(seen.videos.values()) {
        assert_eq!((received.missing, received.disorder, received.gaps), (0, 0, 0), "{seen:?}");
    }
    let after = fresh_metrics(server.http).await?;
    // Two repetitions and one forgery of each packet.
    let packets = number(&after, "sluice_node_received_packets");
    assert!(number(&after, "sluice_node_drop_replayed") >= packets, "{after:#?}");
    assert!(number(&after, "sluice_node_drop_unauthentic") >= packets / 2.0, "{after:#?}");
    server.healthy()?;
    Ok(())
}
