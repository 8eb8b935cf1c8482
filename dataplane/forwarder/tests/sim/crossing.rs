//! Media crosses from one peer to another.

use crate::support::*;
use sluice_messages::{Entry, Event, Extension, Key, TrackId, TransportId};
use sluice_srtp::Profile;
use sluice_wire::rtcp::{Packet, SenderInfo, packets};

#[test]
fn audio_crosses_with_new_header_and_same_payload() {
    for profile in Profile::PREFERENCE {
        let mut world = World::new();
        for id in [1, 2] {
            world.put(Entry::Transport(World::transport(id)));
            world.key(id, profile);
            world.route(id);
        }
        world.put(audio_track(7, 1, None));
        world.put(Entry::Subscription(subscription(2, 7)));
        let mut microphone = Microphone::new(1, 7, 5555);
        let first_timestamp = microphone.timestamp;
        for _ in 0..100 {
            microphone.talk(&mut world);
            world.run(20);
        }
        let got = &world.party(2).rtp;
        assert_eq!(got.len(), 100, "{profile:?}");
        for (n, packet) in got.iter().enumerate() {
            assert_eq!(packet.header.payload_type, OPUS_OUT);
            assert_eq!(packet.header.ssrc, subscription(2, 7).ssrc);
            assert_eq!(packet.index, got[0].index + n as u64);
            assert_eq!(packet.header.timestamp, got[0].header.timestamp.wrapping_add(n as u32 * 960));
            assert_eq!(packet.payload()[..8], (65_500 + n as u64).to_be_bytes());
            assert_eq!(packet.extension(Extension::Mid), Some(&b"s7"[..]));
            assert_eq!(packet.extension(Extension::AudioLevel), Some(&[0x80 | 20][..]));
            assert!(packet.extension(Extension::TransportCc).is_some());
        }
        assert_ne!(first_timestamp, got[0].header.timestamp);
        assert!(world.events.contains(&Event::TrackStarted { track: TrackId(7) }));
        world.finish();
    }
}

#[test]
fn extensions_a_receiver_did_not_negotiate_are_left_out() {
    let mut world = World::new();
    world.join(1);
    let mut plain = World::transport(2);
    plain.send_extensions = Default::default();
    world.put(Entry::Transport(plain));
    world.key(2, Profile::AeadAes128Gcm);
    world.route(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    Microphone::new(1, 7, 5).talk(&mut world);
    world.run(1);
    assert_eq!(world.party(2).rtp[0].header.extension_profile, None);
    world.finish();
}

#[test]
fn publishers_get_transport_feedback_and_receiver_reports() {
    let mut world = World::new();
    world.join(1);
    world.put(audio_track(7, 1, Some(5555)));
    let mut microphone = Microphone::new(1, 7, 5555);
    for n in 0..150u64 {
        if n % 10 == 9 {
            microphone.next();
        } else {
            microphone.talk(&mut world);
        }
        world.run(20);
    }
    let mut arrived = Vec::new();
    let mut fractions = Vec::new();
    for compound in &world.party(1).rtcp {
        for packet in packets(compound) {
            match packet.unwrap() {
                Packet::TransportFeedback(feedback) => {
                    arrived.extend(feedback.arrivals().map(|a| (a.sequence, a.at_us.is_some())));
                }
                Packet::ReceiverReport(report) => fractions.extend(report.reports()),
                _ => {}
            }
        }
    }
    arrived.dedup();
    let expected: Vec<_> = (1..arrived.len() as u16 + 1).map(|sequence| (sequence, sequence % 10 != 0)).collect();
    assert_eq!(arrived, expected, "each number once, in order");
    assert!(arrived.len() > 140);
    assert!(fractions.len() >= 3);
    assert_eq!(fractions[0].ssrc, 5555);
    let last = fractions.last().unwrap();
    assert!((20..=31).contains(&last.fraction_lost), "10 % lost: {last:?}");
    world.finish();
}

#[test]
fn reports_of_both_kinds_cross_the_hop() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut microphone = Microphone::new(1, 7, 5555);
    microphone.talk(&mut world);
    // The publisher's clock is a day ahead.
    let info = SenderInfo {
        ssrc: 5555,
        ntp: 86_400 << 32,
        rtp_timestamp: microphone.timestamp,
        packet_count: 1,
        octet_count: 70,
    };
    world.send_rtcp(1, |compound| compound.sender_report(&info, &[]).unwrap());
    let sent_at = world.now;
    for _ in 0..100 {
        world.run(20);
        microphone.talk(&mut world);
    }
    let first = world.party(2).rtp[0].clone();
    let mut reports = Vec::new();
    let mut names = Vec::new();
    for compound in world.party(2).rtcp.clone() {
        for packet in packets(&compound) {
            match packet.unwrap() {
                Packet::SenderReport(report) => reports.push(report.info),
                Packet::SourceDescription(description) => {
                    names.extend(description.cnames().map(|(s, n)| (s, n.to_vec())))
                }
                _ => {}
            }
        }
    }
    assert!(reports.len() >= 2, "a first one soon, then one a second");
    let ssrc = subscription(2, 7).ssrc;
    assert!(names.iter().all(|(s, name)| *s == ssrc && name == b"PA_1"));
    let report = reports.last().unwrap();
    let since_first_ms = ((report.ntp >> 16) as f64 / 65.536 - sent_at.0 as f64 / 1000.0) as i64;
    let expected = first.header.timestamp.wrapping_add(960).wrapping_add((since_first_ms * 48) as u32);
    let error = report.rtp_timestamp.wrapping_sub(expected) as i32;
    assert!(error.abs() < 100, "{error} ticks off");
    assert!(report.packet_count >= 50);

    // The receiver answers with a report: the round trip is known then.
    let block = sluice_wire::rtcp::ReportBlock {
        ssrc,
        last_sr: (report.ntp >> 16) as u32,
        delay_since_last_sr: 0,
        ..Default::default()
    };
    world.run(40);
    world.send_rtcp(2, |compound| compound.receiver_report(1, &[block]).unwrap());
    for _ in 0..200 {
        world.run(20);
        microphone.talk(&mut world);
    }
    let rtt = world.events.iter().find_map(|event| match event {
        Event::Quality { transport: TransportId(2), quality } => Some(quality.rtt_us),
        _ => None,
    });
    assert!(rtt.is_some_and(|rtt| rtt > 0), "{rtt:?}");
    world.finish();
}

#[test]
fn a_muted_track_is_not_forwarded_and_goes_on_without_a_gap() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    let Entry::Track(mut track) = audio_track(7, 1, None) else { unreachable!() };
    world.put(Entry::Track(track.clone()));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut microphone = Microphone::new(1, 7, 5555);
    for n in 0..30 {
        if n % 10 == 0 {
            track.muted = n == 10;
            world.put(Entry::Track(track.clone()));
        }
        microphone.talk(&mut world);
        world.run(20);
    }
    let got = &world.party(2).rtp;
    assert_eq!(got.len(), 20);
    assert!(got.windows(2).all(|w| w[1].index == w[0].index + 1));
    assert_eq!(got[10].header.timestamp.wrapping_sub(got[9].header.timestamp), 11 * 960, "time went on");
    world.finish();
}

#[test]
fn speakers_are_who_is_heard() {
    let mut world = World::new();
    for id in [1, 2] {
        world.join(id);
        world.put(audio_track(id + 10, id, None));
    }
    let mut loud = Microphone::new(1, 11, 1);
    let mut quiet = Microphone::new(2, 12, 2);
    quiet.level = 90;
    for _ in 0..100 {
        loud.talk(&mut world);
        quiet.talk(&mut world);
        world.run(20);
    }
    loud.level = 127;
    for _ in 0..100 {
        loud.talk(&mut world);
        world.run(20);
    }
    let said: Vec<Vec<u64>> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Speakers { speakers, .. } => Some(speakers.iter().map(|s| s.track.0).collect()),
            _ => None,
        })
        .collect();
    assert!(said.len() >= 2 && said.len() < 8, "on change only: {said:?}");
    assert_eq!(said[0], [11]);
    assert!(said.last().unwrap().is_empty());
    world.finish();
}

#[test]
fn red_is_stripped_for_receivers_without_it() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    let fields =
        sluice_wire::rtp::HeaderFields { marker: false, payload_type: RED, sequence: 3, timestamp: 9, ssrc: 4 };
    let red = [&[0x80 | OPUS, 0x0f, 0x00, 0x02, OPUS][..], b"\x01\x02", b"primary"].concat();
    world.send(1, 3, &packet(fields, &[(Extension::Mid, b"7")], &red));
    world.run(1);
    let got = &world.party(2).rtp[0];
    assert_eq!((got.header.payload_type, got.payload()), (OPUS_OUT, &b"primary"[..]));
    world.finish();
}

#[test]
fn what_cannot_be_sent_waits_for_slots() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut microphone = Microphone::new(1, 7, 5555);
    world.tx.slots = 0;
    (0..5).for_each(|_| microphone.talk(&mut world));
    world.run(1);
    assert!(world.party(2).rtp.is_empty());
    assert!(world.forwarder.wake() <= world.now, "it wants to be polled");
    world.tx.slots = usize::MAX;
    world.run(1);
    assert_eq!(world.party(2).rtp.len(), 5);
    world.finish();
}

#[test]
fn bad_datagrams_are_counted_and_the_call_goes_on() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut microphone = Microphone::new(1, 7, 5555);
    microphone.talk(&mut world);
    world.datagram(1, b"");
    world.datagram(1, &[0x80]);
    world.datagram(1, &[0x80; 40]);
    world.datagram(1, &[0xff; 1900]);
    world.datagram(1, &[0x80, 200, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    world.datagram(99, &[0x80; 40]);
    // Authentic, but of no track.
    let fields = sluice_wire::rtp::HeaderFields { payload_type: 1, ssrc: 8, ..Default::default() };
    world.send(1, 0, &packet(fields, &[], b"x"));
    // Authentic RTCP with a lying length.
    let mut out = [0; 64];
    out[..8].copy_from_slice(&[0x80, 200, 0, 40, 0, 0, 0, 1]);
    let len = world.party(1).sender.protect_rtcp(&mut out, 8).unwrap();
    world.datagram(1, &out[..len]);
    for name in ["drop_unclassified", "drop_size", "drop_unknown_transport", "drop_unknown_ssrc", "drop_rtcp_malformed"]
    {
        assert!(world.counter(name) > 0, "{name}");
    }
    assert!(world.counter("drop_unauthentic") + world.counter("drop_srtp") >= 2);
    microphone.talk(&mut world);
    world.run(1);
    assert_eq!(world.party(2).rtp.len(), 2);
    world.finish();
}

#[test]
fn full_tables_refuse() {
    let config = sluice_forwarder::Config { peers_max: 1, tracks_max: 1, subscriptions_max: 1, ..Default::default() };
    let mut world = World::with(config, 64);
    world.join(1);
    world.put(Entry::Transport(World::transport(2)));
    world.put(audio_track(7, 1, None));
    world.put(audio_track(8, 1, None));
    world.put(Entry::Subscription(subscription(1, 7)));
    world.put(Entry::Subscription(subscription(1, 8)));
    world.run(1);
    assert!(world.events.iter().any(|event| matches!(event, Event::Transport { transport: TransportId(2), .. })));
    assert_eq!((world.counter("refuse_full"), world.counter("refuse_unknown")), (2, 1));
    world.remove(Key::Track(TrackId(7)));
    world.put(audio_track(8, 1, None));
    assert_eq!(world.counter("refuse_full"), 2, "there is room again");
    world.finish();
}

#[test]
fn an_idle_forwarder_does_not_wake() {
    let mut world = World::new();
    assert_eq!(world.forwarder.wake(), sluice_wire::Micros::NEVER);
    world.join(1);
    world.remove(Key::Transport(TransportId(1)));
    world.run(10_000);
    assert_eq!(world.forwarder.wake(), sluice_wire::Micros::NEVER);
}

#[test]
fn a_new_association_begins_with_roll_over_counter_zero() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut microphone = Microphone::new(1, 7, 5555);
    for _ in 0..70_000 {
        microphone.talk(&mut world);
        world.run(1);
    }
    let last = world.party(2).rtp.pop().unwrap();
    assert!(last.index > 1 << 16);
    world.key(2, Profile::AeadAes256Gcm);
    microphone.talk(&mut world);
    world.poll();
    let got = &world.party(2).rtp[0];
    assert_eq!(got.index, (last.index + 1) & 0xffff, "the sequence number goes on");
    // The publisher's association is new too: its numbers start over.
    world.key(1, Profile::AeadAes256Gcm);
    microphone.index = 17;
    microphone.talk(&mut world);
    world.poll();
    assert_eq!(world.party(2).rtp.len(), 2);
    world.finish();
}

#[test]
fn feedback_goes_on_after_consent_was_lost() {
    let mut world = World::new();
    world.join(1);
    world.put(audio_track(7, 1, None));
    let mut microphone = Microphone::new(1, 7, 5555);
    let mut heard = Vec::new();
    for n in 0..300 {
        if n == 100 {
            let transport = TransportId(1);
            world.forwarder.input(world.now, sluice_forwarder::Input::Unroute { transport }, &mut world.pool);
        }
        if n == 200 {
            world.route(1);
        }
        microphone.talk(&mut world);
        world.run(20);
        heard.push(world.party(1).rtcp.len());
    }
    assert!(heard[99] > 20);
    assert_eq!(heard[100], heard[199], "nothing while there is no consent");
    assert!(heard[299] > heard[199] + 20);
    world.finish();
}
