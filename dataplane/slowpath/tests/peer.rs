//! DTLS, SRTP keys and data channels between a [`Peer`] and a client made of the bare libraries.

mod support;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sctp_proto::PayloadProtocolIdentifier as Ppid;
use sluice_messages::{Data, DataKind, Failure};
use sluice_slowpath::{
    Certificate, Peer,
    peer::{
        Input, LOSSY_BUFFER_BYTES_MAX, MESSAGE_BYTES_MAX, Output, PeerConfig, RELIABLE_BUFFER_BYTES_MAX, SendError,
    },
};
use sluice_srtp::{KeyMaterial, Profile};
use sluice_wire::Micros;
use support::{Version, Weather, World};

const OURS: Data = Data { opened_by_us: true, may_send: true, delivers: true, streams: sluice_messages::Streams::NONE };
const THEIRS: Data =
    Data { opened_by_us: false, may_send: true, delivers: true, streams: sluice_messages::Streams::NONE };
const KINDS: [DataKind; 3] = [DataKind::Reliable, DataKind::Lossy, DataKind::Track];
const SOON: Duration = Duration::from_secs(5);

fn connected(world: &World) -> Option<&KeyMaterial> {
    world.outputs.iter().find_map(|o| match o {
        Output::Connected(keys) => Some(keys),
        _ => None,
    })
}

fn closed(world: &World) -> Option<Failure> {
    world.outputs.iter().find_map(|o| match o {
        Output::Closed(failure) => Some(*failure),
        _ => None,
    })
}

fn open_kinds(world: &World) -> Vec<DataKind> {
    world.outputs.iter().filter_map(|o| if let Output::ChannelOpen(kind, _) = o { Some(*kind) } else { None }).collect()
}

fn messages(world: &World) -> Vec<(DataKind, Vec<u8>)> {
    let message = |o: &Output| match o {
        Output::Message { kind, payload } => Some((*kind, payload.clone())),
        _ => None,
    };
    world.outputs.iter().filter_map(message).collect()
}

/// A world whose data channels are open.
fn open_world(version: Version, data: Data) -> World {
    let mut world = World::new(version, Some(data), Weather::FINE, 1);
    assert!(world.run(SOON, |w| w.client.established), "SCTP associates");
    if !data.opened_by_us {
        for (stream, kind) in [0, 2, 4].into_iter().zip(KINDS) {
            let now = world.now;
            world.client.open(now, stream, kind.label(), kind != DataKind::Reliable);
        }
    }
    assert!(world.run(SOON, |w| open_kinds(w).len() == 3), "all channels open");
    world
}

#[test]
fn both_sides_derive_the_same_srtp_keys() {
    for version in [Version::V12, Version::V13, Version::Auto] {
        let mut world = World::new(version, None, Weather::FINE, 1);
        assert!(world.run(SOON, |w| w.client.connected && connected(w).is_some()), "{version:?} connects");
        let (exported, _) = world.client.exported.as_ref().unwrap();
        let ours = connected(&world).unwrap();
        assert!(ours.profile == Profile::AeadAes256Gcm || ours.profile == Profile::AeadAes128Gcm);
        let theirs = KeyMaterial::from_exporter(ours.profile, exported, false).unwrap();
        assert_eq!((&ours.inbound, &ours.outbound), (&theirs.outbound, &theirs.inbound), "{version:?}");
        assert!(world.now < Micros(200_000), "{version:?} takes a few round trips of 20 ms, not {:?}", world.now);
    }
}

#[test]
fn another_certificate_than_described_is_refused() {
    for version in [Version::V12, Version::V13] {
        let shown = Certificate::generate().unwrap();
        let described = Certificate::generate().unwrap().fingerprint();
        let mut world = World::with(version, Some(OURS), Weather::FINE, 1, &shown, described);
        assert!(world.run(SOON, |w| closed(w).is_some()));
        assert_eq!(closed(&world), Some(Failure::Fingerprint), "{version:?}");
        assert!(connected(&world).is_none(), "{version:?}: no keys for a stranger");
        assert!(world.peer.is_closed());
        assert_eq!(world.peer.wake(), Micros::NEVER);
    }
}

#[test]
fn channels_that_we_open_carry_messages_both_ways() {
    for version in [Version::V12, Version::V13] {
        let mut world = open_world(version, OURS);
        assert_eq!(open_kinds(&world), KINDS);
        for kind in KINDS {
            world.input(Input::Send { kind, payload: kind.label().as_bytes() }).unwrap();
        }
        let from_us = |w: &World| w.client.received.iter().filter(|(_, ppid, _)| *ppid == Ppid::Binary).count();
        assert!(world.run(SOON, |w| from_us(w) == 3), "{version:?}");
        for (stream, label) in [(1, "_reliable"), (3, "_lossy"), (5, "_data_track")] {
            let expected = (stream, Ppid::Binary, label.as_bytes().to_vec());
            assert!(world.client.received.contains(&expected), "{label} on stream {stream}");
        }
        let now = world.now;
        world.client.write(now, 1, Ppid::Binary, b"back");
        assert!(world.run(SOON, |w| messages(w) == [(DataKind::Reliable, b"back".to_vec())]));
    }
}

#[test]
fn channels_that_the_client_opens_carry_messages_both_ways() {
    let mut world = open_world(Version::V12, THEIRS);
    let now = world.now;
    world.client.write(now, 0, Ppid::Binary, b"binary");
    world.client.write(now, 0, Ppid::String, b"text");
    world.client.write(now, 0, Ppid::BinaryEmpty, &[0]);
    world.client.write(now, 2, Ppid::Binary, b"lossy");
    assert!(world.run(SOON, |w| messages(w).len() == 4));
    let of = |kind| messages(&world).into_iter().filter(|(k, _)| *k == kind).map(|(_, p)| p).collect::<Vec<_>>();
    assert_eq!(of(DataKind::Reliable), [b"binary".to_vec(), b"text".to_vec(), vec![]]);
    assert_eq!(of(DataKind::Lossy), [b"lossy".to_vec()]);
    world.input(Input::Send { kind: DataKind::Track, payload: b"" }).unwrap();
    assert!(world.run(SOON, |w| w.client.received.contains(&(4, Ppid::BinaryEmpty, vec![0]))), "an empty message");
}

#[test]
fn an_unknown_label_is_acknowledged_and_its_messages_counted() {
    let mut world = open_world(Version::V13, THEIRS);
    let now = world.now;
    world.client.open(now, 8, "chat of another application", false);
    world.client.write(now, 8, Ppid::Binary, b"?");
    assert!(world.run(SOON, |w| w.peer.counters().messages_unknown == 1));
    let is_acknowledged = |w: &World| w.client.received.contains(&(8, Ppid::Dcep, vec![2]));
    assert!(world.run(SOON, is_acknowledged), "DATA_CHANNEL_ACK");
    assert!(messages(&world).is_empty());
}

#[test]
fn a_closed_channel_is_reported_and_refuses_messages() {
    let mut world = open_world(Version::V12, THEIRS);
    let now = world.now;
    world.client.close_channel(now, 2);
    let is_closed = |w: &World| w.outputs.iter().any(|o| matches!(o, Output::ChannelClosed(DataKind::Lossy)));
    assert!(world.run(SOON, is_closed));
    assert_eq!(world.input(Input::Send { kind: DataKind::Lossy, payload: b"x" }), Err(SendError::NotOpen));
    assert_eq!(world.input(Input::Send { kind: DataKind::Reliable, payload: b"x" }), Ok(()));
}

#[test]
fn the_longest_message_passes_and_a_longer_one_does_not() {
    let mut world = open_world(Version::V12, THEIRS);
    let longest = vec![7; MESSAGE_BYTES_MAX];
    let longer = vec![7; MESSAGE_BYTES_MAX + 1];
    assert_eq!(
        world.input(Input::Send { kind: DataKind::Reliable, payload: &longer }),
        Err(SendError::TooLong(MESSAGE_BYTES_MAX + 1))
    );
    world.input(Input::Send { kind: DataKind::Reliable, payload: &longest }).unwrap();
    assert!(world.run(SOON, |w| w.client.received.iter().any(|(_, _, p)| *p == longest)));
    let now = world.now;
    world.client.write(now, 0, Ppid::Binary, &longer);
    world.client.write(now, 0, Ppid::Binary, &longest);
    assert!(world.run(SOON, |w| !messages(w).is_empty()));
    assert!(messages(&world) == [(DataKind::Reliable, longest)], "the longer one before it was dropped");
    assert_eq!(world.peer.counters().messages_too_long, 1);
    assert!(world.datagram_bytes_max <= 1280, "datagrams fit any path: {}", world.datagram_bytes_max);
}

#[test]
fn a_client_that_does_not_read_costs_a_bounded_amount() {
    let mut world = open_world(Version::V12, THEIRS);
    world.client.stalled = true;
    let payload = vec![1; 10_000];
    let mut taken = 0;
    let error = loop {
        match world.input(Input::Send { kind: DataKind::Reliable, payload: &payload }) {
            Ok(()) => taken += payload.len(),
            Err(error) => break error,
        }
        world.run(Duration::from_millis(5), |_| false);
        assert!(taken < 4 * RELIABLE_BUFFER_BYTES_MAX, "the buffer is bounded");
    };
    assert!(matches!(error, SendError::Full(waiting) if waiting <= RELIABLE_BUFFER_BYTES_MAX), "{error:?}");
    for _ in 0..4 * LOSSY_BUFFER_BYTES_MAX / payload.len() {
        world.input(Input::Send { kind: DataKind::Lossy, payload: &payload }).unwrap();
    }
    assert!(world.peer.counters().messages_lossy_dropped > 0, "lossy messages give way instead");
}

#[test]
fn handshakes_survive_loss_reordering_and_duplicates() {
    let weather = Weather { loss: 0.2, duplicate: 0.2, delay_us: 10_000, jitter_us: 40_000 };
    for version in [Version::V12, Version::V13, Version::Auto] {
        for seed in 0..12 {
            let mut world = World::new(version, Some(OURS), weather, seed);
            let done = world.run(Duration::from_secs(30), |w| w.client.connected && open_kinds(w).len() == 3);
            assert!(done, "{version:?} with seed {seed}: {:?}", world.outputs);
            for number in 0..20u8 {
                world.input(Input::Send { kind: DataKind::Reliable, payload: &[number] }).unwrap();
            }
            let numbers = |w: &World| {
                let ours = w.client.received.iter().filter(|(stream, ppid, _)| *stream == 1 && *ppid == Ppid::Binary);
                ours.map(|(_, _, payload)| payload[0]).collect::<Vec<_>>()
            };
            assert!(world.run(Duration::from_secs(60), |w| numbers(w).len() == 20), "{version:?} with seed {seed}");
            assert_eq!(numbers(&world), (0..20).collect::<Vec<_>>(), "in order");
        }
    }
}

#[test]
fn lossy_messages_are_lost_and_nothing_waits_for_them() {
    let mut world = open_world(Version::V12, OURS);
    world.weather = Weather { loss: 0.2, duplicate: 0.0, delay_us: 10_000, jitter_us: 5_000 };
    for number in 0..200u8 {
        world.input(Input::Send { kind: DataKind::Lossy, payload: &[number; 800] }).unwrap();
        world.run(Duration::from_millis(20), |_| false);
    }
    world.input(Input::Send { kind: DataKind::Reliable, payload: b"last" }).unwrap();
    assert!(world.run(SOON, |w| w.client.received.iter().any(|(_, _, p)| p == b"last")));
    let arrived =
        world.client.received.iter().filter(|(stream, ppid, _)| *stream == 3 && *ppid == Ppid::Binary).count();
    assert!((100..200).contains(&arrived), "{arrived} of 200 arrived at a loss of 20 %");
    assert_eq!(world.peer.counters().messages_lossy_dropped, 0);
}

#[test]
fn a_client_without_the_permission_sends_in_vain() {
    let mut world = open_world(Version::V12, Data { may_send: false, ..THEIRS });
    let now = world.now;
    world.client.write(now, 0, Ppid::Binary, b"not allowed");
    assert!(world.run(SOON, |w| w.peer.counters().messages_forbidden == 1));
    world.input(Input::Data(Some(THEIRS))).unwrap();
    world.client.write(now, 0, Ppid::Binary, b"allowed");
    assert!(world.run(SOON, |w| messages(w) == [(DataKind::Reliable, b"allowed".to_vec())]));
}

#[test]
fn data_channels_can_come_after_the_connection() {
    let mut world = World::new(Version::V13, None, Weather::FINE, 1);
    assert!(world.run(SOON, |w| connected(w).is_some()));
    assert!(!world.run(Duration::from_secs(1), |w| w.client.established), "SCTP is not answered unasked");
    world.input(Input::Data(Some(OURS))).unwrap();
    assert!(world.run(Duration::from_secs(20), |w| open_kinds(w).len() == 3));
}

#[test]
fn nobody_answers_and_the_handshake_ends() {
    let mut world = World::new(Version::V12, None, Weather { loss: 0.0, ..Weather::FINE }, 1);
    world.run(Duration::from_millis(11), |_| false);
    world.weather.loss = 1.0;
    assert!(world.run(Duration::from_secs(60), |w| closed(w).is_some()));
    assert_eq!(closed(&world), Some(Failure::Dtls));
}

#[test]
fn a_client_that_closes_is_gone_and_so_are_we_when_we_close() {
    let mut world = open_world(Version::V12, OURS);
    let now = world.now;
    world.client.dtls.close().unwrap();
    world.client.turn(now);
    assert!(world.run(SOON, |w| closed(w).is_some()));
    assert_eq!(closed(&world), Some(Failure::Dtls));

    let mut world = open_world(Version::V13, OURS);
    world.input(Input::Close).unwrap();
    assert!(world.peer.is_closed());
    assert_eq!(closed(&world), None, "who closes needs no report");
    assert_eq!(world.input(Input::Send { kind: DataKind::Reliable, payload: b"x" }), Err(SendError::NotOpen));
}

#[test]
fn forged_plaintext_does_not_end_a_running_association() {
    for version in [Version::V12, Version::V13] {
        let mut world = open_world(version, OURS);
        let fatal_alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
        world.input(Input::Datagram(&fatal_alert)).unwrap();
        let stranger = Certificate::generate().unwrap();
        let mut forged = support::Client::new(Instant::now(), version, &stranger);
        forged.timeout(Micros(0));
        for hello in forged.sent.drain(..) {
            world.input(Input::Datagram(&hello)).unwrap();
        }
        world.input(Input::Send { kind: DataKind::Reliable, payload: b"still here" }).unwrap();
        let arrived = |w: &World| w.client.received.iter().any(|(_, _, p)| p == b"still here");
        assert!(world.run(SOON, arrived), "{version:?}");
        assert!(world.peer.counters().datagrams_dropped >= 2, "{version:?}");
    }
}

#[test]
fn sctp_garbage_inside_dtls_does_not_end_media() {
    let mut world = open_world(Version::V12, OURS);
    for length in [0usize, 1, 11, 12, 13, 40, 1000] {
        let now = world.now;
        let garbage: Vec<u8> = (0..length).map(|i| (i * 37 + length) as u8).collect();
        if !garbage.is_empty() {
            world.client.raw(now, &garbage);
        }
        world.run(Duration::from_millis(50), |_| false);
    }
    assert_eq!(closed(&world), None);
    world.input(Input::Send { kind: DataKind::Reliable, payload: b"still here" }).unwrap();
    assert!(world.run(SOON, |w| w.client.received.iter().any(|(_, _, p)| p == b"still here")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_datagrams_never_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let certificate = Certificate::generate().unwrap();
        let config = PeerConfig {
            certificate: &certificate,
            remote_fingerprint: certificate.fingerprint(),
            data: Some(OURS),
            epoch: Instant::now(),
            now: Micros(0),
        };
        let mut peer = Peer::new(config);
        for (i, datagram) in datagrams.iter().enumerate() {
            let mut datagram = datagram.clone();
            // Half of them begin like DTLS, or nothing would get past the first byte.
            if i % 2 == 0 && datagram.len() > 3 {
                datagram[..3].copy_from_slice(&[22, 0xfe, 0xfd]);
            }
            peer.input(Micros(i as u64 * 1000), Input::Datagram(&datagram)).unwrap();
            while peer.poll().is_some() {}
        }
        prop_assert_eq!(peer.counters().panics, 0);
    }

    #[test]
    fn damaged_handshakes_never_panic(seed in any::<u64>(), at in 0usize..1200, bits in 1u8..) {
        let mut world = World::new(if seed % 2 == 0 { Version::V12 } else { Version::V13 }, Some(OURS), Weather::FINE, seed);
        let mut forged = support::Client::new(Instant::now(), Version::Auto, &Certificate::generate().unwrap());
        forged.timeout(Micros(0));
        for mut hello in forged.sent.drain(..) {
            let index = at % hello.len();
            hello[index] ^= bits;
            world.input(Input::Datagram(&hello)).unwrap();
        }
        world.run(SOON, |w| closed(w).is_some() || connected(w).is_some());
        prop_assert_eq!(world.peer.counters().panics, 0);
    }

    #[test]
    fn damaged_sctp_never_panics(chunks in prop::collection::vec(any::<u8>(), 4..300), seed in any::<u64>()) {
        let mut world = open_world(Version::V12, THEIRS);
        let now = world.now;
        let mut packet = vec![0x13, 0x88, 0x13, 0x88];
        packet.extend_from_slice(&(seed as u32).to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&chunks);
        let checksum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&checksum);
        world.client.raw(now, &packet);
        world.run(Duration::from_millis(200), |_| false);
        prop_assert_eq!(world.peer.counters().panics, 0);
        prop_assert!(closed(&world).is_none(), "media goes on");
    }
}

/// CRC-32C as SCTP wants it (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
