//! Missing packets: asked from the publisher, answered to the receiver.

use sluice_messages::{Entry, PayloadMap};
use sluice_wire::rtcp::{Packet, packets};

use crate::{support::*, viewer::watch};

fn stage() -> (World, Camera) {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    camera.shoot(&mut world, true);
    world.run(20);
    (world, camera)
}

/// Sequence numbers asked from a publisher, with the times.
fn nacks(world: &World, id: u64) -> Vec<u16> {
    let compounds = world.parties[&id].rtcp.iter();
    let packets = compounds.flat_map(|c| packets(c).map(|p| p.unwrap()).collect::<Vec<_>>());
    let nacks = packets.filter_map(|packet| match packet {
        Packet::Nack(nack) => Some(nack.sequences().collect::<Vec<_>>()),
        _ => None,
    });
    nacks.flatten().collect()
}

#[test]
fn what_a_publisher_lost_is_asked_for_and_fills_the_gap() {
    let (mut world, mut camera) = stage();
    let lost: Vec<u64> = {
        let frame = camera.frame(false);
        world.send(1, frame[0].0, &frame[0].1);
        world.send(1, frame[2].0, &frame[2].1);
        vec![frame[1].0]
    };
    world.run(30);
    assert_eq!(nacks(&world, 1), [lost[0] as u16]);
    camera.repeat(&mut world, lost[0]);
    world.run(300);
    assert_eq!(nacks(&world, 1).len(), 1, "asked no more");
    assert_eq!(watch(&world.party(2).rtp, false).len(), 2);
    assert_eq!(world.counter("received_rtx"), 1);
    // Once more: the receiver must not see it twice.
    camera.repeat(&mut world, lost[0]);
    world.run(10);
    assert_eq!(world.counter("drop_duplicate"), 1);
    world.finish();
}

#[test]
fn packets_out_of_order_are_not_asked_for() {
    let (mut world, mut camera) = stage();
    for _ in 0..50 {
        let mut frame = camera.frame(false);
        frame.reverse();
        for (index, packet) in frame {
            world.send(1, index, &packet);
            world.run(1);
        }
        world.run(30);
    }
    assert_eq!(nacks(&world, 1), []);
    assert_eq!(watch(&world.party(2).rtp, false).len(), 51);
    world.finish();
}

#[test]
fn what_never_comes_becomes_a_key_frame_request() {
    let (mut world, mut camera) = stage();
    let frame = camera.frame(false);
    world.send(1, frame[2].0, &frame[2].1);
    world.run(1500);
    let asked = nacks(&world, 1);
    assert!((4..=16).contains(&asked.len()), "bounded: {asked:?}");
    assert_eq!(world.counter("sent_plis"), 2, "repeated until it comes");
    world.finish();
}

#[test]
fn what_a_receiver_lost_is_sent_again_as_rtx() {
    let (mut world, mut camera) = stage();
    camera.shoot(&mut world, false);
    world.run(10);
    let lost = world.party(2).rtp[4].clone();
    let ask = |world: &mut World| {
        world.send_rtcp(2, |compound| {
            compound.nack(1, lost.header.ssrc, &[lost.header.sequence]).unwrap();
        });
    };
    ask(&mut world);
    world.run(50);
    ask(&mut world);
    world.run(50);
    let rtx: Vec<_> = world.party(2).rtp.iter().filter(|p| p.header.payload_type == VP8_RTX_OUT).cloned().collect();
    assert_eq!(rtx.len(), 2);
    for packet in &rtx {
        assert_eq!(packet.header.ssrc, lost.header.ssrc + 1);
        assert_eq!(packet.header.timestamp, lost.header.timestamp);
        assert_eq!(packet.payload()[..2], lost.header.sequence.to_be_bytes());
        assert_eq!(&packet.payload()[2..], lost.payload(), "picture id included");
    }
    assert_eq!(rtx[1].index, rtx[0].index + 1);
    world.finish();
}

#[test]
fn without_rtx_the_same_bytes_are_sent_again() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    let mut entry = subscription(2, 9);
    entry.rtx_ssrc = None;
    entry.payloads = vec![PayloadMap { from: VP8, to: VP8_OUT, rtx: None }];
    world.put(Entry::Subscription(entry));
    let mut camera = Camera::new(1, 9, None, 300);
    camera.shoot(&mut world, true);
    world.run(500);
    camera.shoot(&mut world, false);
    world.run(10);
    let sequences: Vec<u16> = world.party(2).rtp.iter().map(|p| p.header.sequence).collect();
    let ssrc = subscription(2, 9).ssrc;
    world.send_rtcp(2, |compound| {
        compound.nack(1, ssrc, &sequences).unwrap();
    });
    world.run(10);
    assert_eq!(world.party(2).repeats, 6, "the support code compares the bytes");
    world.finish();
}

#[test]
fn a_nack_storm_is_bounded() {
    let (mut world, mut camera) = stage();
    for _ in 0..60 {
        camera.shoot(&mut world, false);
        world.run(5);
    }
    let ssrc = subscription(2, 9).ssrc;
    let sequences: Vec<u16> = world.party(2).rtp.iter().map(|p| p.header.sequence).collect();
    for _ in 0..200 {
        world.send_rtcp(2, |compound| {
            compound.nack(1, ssrc, &sequences).unwrap();
        });
        world.run(1);
    }
    let asked = 200 * sequences.len() as u64;
    let resent = world.counter("sent_resends");
    assert!(resent >= 183, "every one is answered at least once");
    assert!(resent <= 600, "{resent} answers to {asked} requests");
    assert!(world.counter("nack_limited") + world.counter("nack_unknown") + resent >= asked - 200);
    // Numbers that never were.
    let before = world.counter("nack_unknown");
    world.send_rtcp(2, |compound| {
        compound.nack(1, ssrc, &[sequences[0].wrapping_sub(5), sequences[180].wrapping_add(30)]).unwrap();
        compound.nack(1, 99, &[1]).unwrap();
    });
    assert_eq!(world.counter("nack_unknown"), before + 3);
    world.finish();
}

#[test]
fn old_packets_are_kept_for_a_second_only() {
    let (mut world, mut camera) = stage();
    let held = world.pool.capacity() - world.pool.free();
    assert_eq!(held, 3);
    world.run(1200);
    assert_eq!(world.pool.free(), world.pool.capacity());
    let sequence = world.party(2).rtp[0].header.sequence;
    let ssrc = subscription(2, 9).ssrc;
    world.send_rtcp(2, |compound| {
        compound.nack(1, ssrc, &[sequence]).unwrap();
    });
    assert_eq!(world.counter("nack_unknown"), 1);
    camera.shoot(&mut world, false);
    world.finish();
}

#[test]
fn receivers_ask_for_key_frames_through_us() {
    let (mut world, mut camera) = stage();
    world.run(1000);
    camera.shoot(&mut world, true);
    let before = world.counter("sent_plis");
    let ssrc = subscription(2, 9).ssrc;
    for _ in 0..5 {
        world.send_rtcp(2, |compound| compound.picture_loss(1, ssrc).unwrap());
        world.send_rtcp(2, |compound| compound.full_intra(1, &[(ssrc, 3)]).unwrap());
        world.run(2);
    }
    assert_eq!(world.counter("keyframe_requests"), 10);
    assert_eq!(world.counter("sent_plis"), before + 1);
    world.finish();
}

#[test]
fn packet_memory_that_runs_low_is_taken_from_histories() {
    let mut world = World::with(Default::default(), 128);
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    camera.packets_per_frame = 10;
    for n in 0..200 {
        camera.shoot(&mut world, n == 0);
        world.run(33);
    }
    assert_eq!(world.party(2).rtp.len(), 2000, "media goes on");
    assert!(world.counter("history_squeezed") > 0);
    world.finish();
}

/// Loss of five percent and reordering on both hops; publisher and receiver do what browsers do.
#[test]
fn loss_and_reordering_on_both_hops_are_repaired() {
    let (mut world, mut camera) = stage();
    let mut random = 99u32;
    let mut lucky = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % 100 >= 5
    };
    let ssrc = subscription(2, 9).ssrc;
    // Held back for a frame: packets out of order.
    let mut late: Vec<(u64, Vec<u8>)> = Vec::new();
    let (mut answered, mut read) = (0, 0);
    let mut got: std::collections::BTreeSet<u16> = Default::default();
    let mut newest = None;
    for _ in 0..900 {
        let delayed = std::mem::take(&mut late);
        for (index, packet) in camera.frame(false) {
            match (lucky(), lucky()) {
                (true, true) => world.send(1, index, &packet),
                (true, false) => late.push((index, packet)),
                (false, _) => {}
            }
        }
        delayed.into_iter().for_each(|(index, packet)| world.send(1, index, &packet));
        world.run(33);
        // The publisher answers, and some of its answers are lost.
        let asked = nacks(&world, 1);
        for sequence in &asked[answered..] {
            let index = *camera.sent.keys().rev().find(|index| **index as u16 == *sequence).unwrap();
            if lucky() {
                camera.repeat(&mut world, index);
            }
        }
        answered = asked.len();
        // The receiver takes what came through and asks for the rest.
        let arrived = world.party(2).rtp[read..].to_vec();
        read = world.party(2).rtp.len();
        for packet in arrived.iter().filter(|_| lucky()) {
            let sequence = match packet.header.ssrc == ssrc {
                true => packet.header.sequence,
                false => u16::from_be_bytes([packet.payload()[0], packet.payload()[1]]),
            };
            got.insert(sequence);
            newest = newest.max(Some(sequence));
        }
        let newest = newest.unwrap();
        let missing: Vec<u16> = (newest.saturating_sub(60)..newest).filter(|s| !got.contains(s)).collect();
        let first = world.party(2).rtp[0].header.sequence;
        let missing: Vec<u16> = missing.into_iter().filter(|s| *s >= first).collect();
        if !missing.is_empty() {
            world.send_rtcp(2, |compound| {
                compound.nack(1, ssrc, &missing).unwrap();
            });
        }
    }
    let (first, last) = (*got.first().unwrap(), *got.last().unwrap());
    assert!(last - first > 2_600);
    let missing: Vec<u16> = (first..last - 60).filter(|s| !got.contains(s)).collect();
    assert_eq!(missing, []);
    assert!(world.counter("sent_nacks") > 100 && world.counter("sent_resends") > 100);
    assert!(world.counter("received_packets") < 3_600, "no storm of repairs");
    world.finish();
}
