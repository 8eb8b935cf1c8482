//! Clients that ask for more, or send more, than they may: what they cost is bounded, and others get what is theirs.

use proptest::prelude::*;
use sluice_forwarder::limits::{
    INTAKE_BURST, KEYFRAME_INTERVAL, NACKED_MAX, RATE_BURST, RATE_FACTOR, RESEND_PERIOD, RESENDS_MAX, RTP_PER_S_MAX,
};
use sluice_messages::Entry;
use sluice_wire::rtp::HeaderFields;

use crate::{support::*, viewer::watch};

/// Publisher 1 with camera 9; receivers 2, who floods, and 3, who does not.
fn stage() -> (World, Camera) {
    let mut world = World::new();
    (1..=3).for_each(|id| world.join(id));
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    world.put(Entry::Subscription(subscription(3, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    camera.shoot(&mut world, true);
    world.run(20);
    (world, camera)
}

/// Publisher 4 with microphone 8, heard by receiver 3.
fn talker(world: &mut World) -> Microphone {
    world.join(4);
    world.put(audio_track(8, 4, Some(77)));
    world.put(Entry::Subscription(subscription(3, 8)));
    Microphone::new(4, 8, 77)
}

/// What one receiver asks for in a millisecond.
#[derive(Clone, Debug)]
enum Ask {
    /// All that it got so far, as far as a datagram has room, so many times.
    Everything(usize),
    /// So many numbers from this distance before the newest on.
    Range(u16, u16),
    /// On a stream that is not there.
    Unknown(u32),
    Nothing,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (1usize..4).prop_map(Ask::Everything),
        4 => (any::<u16>(), 1..600u16).prop_map(|(back, count)| Ask::Range(back, count)),
        1 => any::<u32>().prop_map(Ask::Unknown),
        1 => Just(Ask::Nothing),
    ]
}

/// Receiver 2 asks for as many of these as one datagram has room for.
fn nack(world: &mut World, ssrc: u32, sequences: &[u16]) {
    world.send_rtcp(2, |compound| {
        compound.nack(1, ssrc, sequences).unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However a receiver asks, answers and searches are bounded by time, and the receiver beside it misses nothing.
    #[test]
    fn nacks_cost_no_more_than_their_bound(asks in prop::collection::vec(ask(), 100..500)) {
        let (mut world, mut camera) = stage();
        let ssrc = subscription(2, 9).ssrc;
        let mut frames = 1;
        for (ms, ask) in asks.iter().enumerate() {
            if ms % 10 == 0 {
                camera.shoot(&mut world, false);
                frames += 1;
            }
            let newest = world.party(2).rtp.iter().rev().find(|p| p.header.ssrc == ssrc).unwrap().header.sequence;
            match *ask {
                Ask::Everything(times) => {
                    let all: Vec<u16> = (0..600).rev().map(|back| newest.wrapping_sub(back)).collect();
                    (0..times).for_each(|_| nack(&mut world, ssrc, &all));
                }
                Ask::Range(back, count) => {
                    let from = newest.wrapping_sub(back);
                    let range: Vec<u16> = (0..count).map(|n| from.wrapping_add(n)).collect();
                    nack(&mut world, ssrc, &range);
                }
                Ask::Unknown(ssrc) => nack(&mut world, ssrc, &[newest]),
                Ask::Nothing => {}
            }
            world.run(1);
        }
        let windows = asks.len() as u64 / RESEND_PERIOD.as_millis() as u64 + 1;
        let resent = world.counter("sent_resends");
        prop_assert!(resent <= windows * u64::from(RESENDS_MAX), "{resent} in {windows} windows");
        let searched = world.counter("nacked") - world.counter("nack_limited");
        prop_assert!(searched <= windows * u64::from(NACKED_MAX), "{searched} in {windows} windows");
        world.run(50);
        prop_assert_eq!(watch(&world.party(3).rtp, false).len(), frames);
        world.finish();
    }
}

#[test]
fn a_flood_of_key_frame_requests_is_a_trickle_at_the_publisher() {
    let (mut world, mut camera) = stage();
    let ssrc = subscription(2, 9).ssrc;
    let mut frames = 1;
    for ms in 0..5_000 {
        for _ in 0..3 {
            world.send_rtcp(2, |compound| compound.picture_loss(1, ssrc).unwrap());
        }
        if ms % 33 == 0 {
            camera.shoot(&mut world, false);
            frames += 1;
        }
        world.run(1);
    }
    let asked = world.counter("keyframe_requests");
    assert!(asked >= 5_000, "{asked}");
    assert!(world.counter("drop_rate") >= 1_000, "more compounds than a receiver sends are not opened");
    let most = 5_000 / KEYFRAME_INTERVAL.as_millis() as u64 + 2;
    assert!((2..=most).contains(&world.counter("sent_plis")), "{}", world.counter("sent_plis"));
    world.run(50);
    assert_eq!(watch(&world.party(3).rtp, false).len(), frames);
    world.finish();
}

#[test]
fn packets_beyond_what_a_transport_may_send_are_not_opened() {
    let (mut world, mut camera) = stage();
    let mut talker = talker(&mut world);
    let per_ms = 3 * RTP_PER_S_MAX / 1000;
    let sent = per_ms * 2_000;
    let spoken = 2_000 / 20;
    let before = world.counter("received_packets");
    for ms in 0..2_000 {
        // Rubbish of the right transport: what an attacker repeats costs the attacked no more than what it says itself.
        for n in 0..per_ms {
            world.datagram(
                1,
                &[0x80, VP8, n as u8, ms as u8, 0, 0, 0, 0, 0, 0, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
            );
        }
        if ms % 20 == 0 {
            talker.talk(&mut world);
        }
        world.run(1);
    }
    let most = RTP_PER_S_MAX * (2_000 + INTAKE_BURST.as_millis() as u64) / 1000 + 2;
    let opened = world.counter("drop_unauthentic") + world.counter("drop_replayed") + world.counter("drop_srtp");
    assert!(opened <= most, "{opened}");
    assert_eq!(world.counter("drop_rate") + opened, sent);
    assert_eq!(world.counter("received_packets") - before, spoken, "the other publisher's are taken in");
    let ssrc = subscription(3, 8).ssrc;
    assert_eq!(world.party(3).rtp.iter().filter(|p| p.header.ssrc == ssrc).count() as u64, spoken);
    // It is a rate, not a sentence.
    world.run(1_000);
    camera.shoot(&mut world, true);
    world.run(50);
    assert_eq!(watch(&world.party(2).rtp, false).len(), 2);
    world.finish();
}

#[test]
fn a_track_is_held_to_a_multiple_of_what_it_declared() {
    const DECLARED_BPS: u64 = 1_000_000;
    let (mut world, mut camera) = stage();
    let mut track = video_track(9, 1, 1);
    track.rate_bps = DECLARED_BPS;
    world.put(Entry::Track(track));
    let mut talker = talker(&mut world);
    camera.packets_per_frame = 40;
    let (mut frames, mut bytes) = (0, 0);
    while bytes < 10 * DECLARED_BPS / 8 * 3 {
        for (index, packet) in camera.frame(frames % 10 == 0) {
            bytes += packet.len() as u64;
            world.send(1, index, &packet);
        }
        frames += 1;
        if frames % 3 == 0 {
            talker.talk(&mut world);
        }
        // 10 Mbit/s.
        world.run(8);
    }
    let dropped = world.counter("drop_rate");
    let ssrc = subscription(2, 9).ssrc;
    let got: u64 = world.party(2).rtp.iter().filter(|p| p.header.ssrc == ssrc).map(|p| p.packet.len() as u64).sum();
    let most = RATE_FACTOR * DECLARED_BPS / 8 * (3 + 1 + RATE_BURST.as_secs());
    assert!(dropped > 1_000 && got <= most, "{dropped} dropped, {got} of {bytes} bytes passed, {most} may");
    assert!(got >= RATE_FACTOR * DECLARED_BPS / 8, "{got}: what it may send passes");
    assert_eq!(world.counter("sent_nacks"), 0, "nobody is asked for what was dropped on purpose");
    let ssrc = subscription(3, 8).ssrc;
    assert_eq!(world.party(3).rtp.iter().filter(|p| p.header.ssrc == ssrc).count(), frames / 3);
    world.finish();
}

#[test]
fn streams_without_number_come_to_an_end() {
    const STREAMS: u32 = 100_000;
    let (mut world, mut camera) = stage();
    let mut frames = 1;
    for n in 0..STREAMS {
        // Half of them claim to be the camera, with its MID; the others say nothing of themselves.
        let fields =
            HeaderFields { marker: false, payload_type: VP8, sequence: n as u16, timestamp: n, ssrc: 1_000_000 + n };
        let mid: &[_] = &[(sluice_messages::Extension::Mid, &b"77"[..])];
        let made = packet(fields, if n % 2 == 0 { mid } else { &[] }, &[0x90, 0, 1, 2, 3]);
        world.send(1, u64::from(n) & 0xffff, &made);
        if n % 10 == 0 {
            world.run(1);
        }
    }
    assert!(world.counter("drop_streams_full") >= 98_000, "{}", world.counter("drop_streams_full"));
    // The camera goes on under the number that it had.
    camera.shoot(&mut world, true);
    frames += 1;
    world.run(50);
    assert!(watch(&world.party(3).rtp, true).len() >= frames);
    world.finish();
}
