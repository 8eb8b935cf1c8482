//! Whatever happens in whatever order, what a receiver sees is one continuous stream.

use proptest::prelude::*;
use sluice_messages::{Entry, Key, TrackId, TransportId, Wish};
use sluice_srtp::Profile;
use sluice_wire::rtcp::{Packet, packets};

use crate::{
    net::{ANNA, Net, VIDEO, from_relay, keys, relay, to_relay},
    support::*,
    viewer::watch,
};

#[derive(Clone, Debug)]
enum Op {
    Frame { layers: u8, lose: u16, keyframe: bool, shuffle: bool, repeat: bool },
    Wish { max_encoding: u8, enabled: bool, max_fps: Option<u8> },
    Mute(bool),
    Replace,
    Ask(Vec<u16>),
    Wait(u16),
    Unroute,
    Rekey,
    Resubscribe,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0..8u8, any::<u16>(), prop::bool::weighted(0.1), any::<bool>(), any::<bool>())
            .prop_map(|(layers, lose, keyframe, shuffle, repeat)| Op::Frame {
                layers,
                // A third of the frames loses some packet.
                lose: if lose % 3 == 0 { lose } else { 0 },
                keyframe,
                shuffle,
                repeat,
            }),
        2 => (0..4u8, prop::bool::weighted(0.8), prop::option::of(Just(15)))
            .prop_map(|(max_encoding, enabled, max_fps)| Op::Wish { max_encoding, enabled, max_fps }),
        1 => any::<bool>().prop_map(Op::Mute),
        1 => Just(Op::Replace),
        3 => prop::collection::vec(0..40u16, 1..10).prop_map(Op::Ask),
        2 => (1..400u16).prop_map(Op::Wait),
        1 => Just(Op::Unroute),
        1 => Just(Op::Rekey),
        1 => Just(Op::Resubscribe),
    ]
}

fn play(ops: Vec<Op>, rtx: bool) {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    let mut track = video_track(9, 1, 3);
    world.put(Entry::Track(track.clone()));
    let mut entry = subscription(2, 9);
    if !rtx {
        entry.rtx_ssrc = None;
    }
    world.put(Entry::Subscription(entry.clone()));
    let rids = ["q", "h", "f"];
    let camera = |n: usize, ssrc: u32| Camera::new(1, 9, Some(rids[n]), ssrc);
    let mut cameras: Vec<_> = (0..3).map(|n| camera(n, 101 + n as u32)).collect();
    let mut next_ssrc = 1_000u32;
    let mut seen = 0;
    let mut shown = Vec::new();
    for op in ops {
        let asked: Vec<u32> = world.party(1).rtcp[seen..]
            .iter()
            .flat_map(|c| packets(c).map(|p| p.unwrap()).collect::<Vec<_>>())
            .filter_map(|p| match p {
                Packet::PictureLossIndication { media_ssrc, .. } => Some(media_ssrc),
                _ => None,
            })
            .collect();
        seen = world.party(1).rtcp.len();
        match op {
            Op::Frame { layers, lose, keyframe, shuffle, repeat } => {
                for (n, camera) in cameras.iter_mut().enumerate() {
                    if layers & (1 << n) == 0 {
                        camera.timestamp = camera.timestamp.wrapping_add(3000);
                        continue;
                    }
                    let mut packets = camera.frame(keyframe || asked.contains(&camera.ssrc));
                    let lost: Vec<u64> = packets.iter().map(|p| p.0).filter(|i| lose & (1 << (i % 16)) != 0).collect();
                    packets.retain(|p| !lost.contains(&p.0));
                    if shuffle {
                        packets.reverse();
                    }
                    for (index, packet) in packets {
                        world.send(1, index, &packet);
                        world.run(1);
                    }
                    if repeat {
                        // Some come as RTX, and one that had come already too.
                        lost.iter().chain([&(camera.index - 1)]).for_each(|&index| camera.repeat(&mut world, index));
                    }
                }
                world.run(30);
            }
            Op::Wish { max_encoding, enabled, max_fps } => {
                entry.wish = Wish { max_encoding, enabled, max_fps, priority: 0 };
                world.put(Entry::Subscription(entry.clone()));
            }
            Op::Mute(muted) => {
                track.muted = muted;
                world.put(Entry::Track(track.clone()));
            }
            Op::Replace => {
                next_ssrc += 10;
                cameras = (0..3).map(|n| camera(n, next_ssrc + n as u32)).collect();
            }
            Op::Ask(back) => {
                let Some(last) = world.party(2).rtp.last().map(|p| p.header.sequence) else { continue };
                let mut sequences: Vec<u16> = back.iter().map(|back| last.wrapping_sub(*back)).collect();
                sequences.sort();
                let ssrc = entry.ssrc;
                world.send_rtcp(2, |compound| {
                    compound.nack(1, ssrc, &sequences).unwrap();
                });
                world.run(1);
            }
            Op::Wait(ms) => world.run(u64::from(ms)),
            Op::Unroute => {
                let input = sluice_forwarder::Input::Unroute { transport: TransportId(2) };
                world.forwarder.input(world.now, input, &mut world.pool);
                world.run(50);
                world.route(2);
            }
            Op::Rekey => {
                // What was received so far belongs to the old association.
                shown.extend(std::mem::take(&mut world.party(2).rtp));
                world.key(2, Profile::Aes128CmSha1_80);
            }
            Op::Resubscribe => {
                world.remove(Key::Subscription { receiver: TransportId(2), track: TrackId(9) });
                world.run(5);
                shown.extend(std::mem::take(&mut world.party(2).rtp));
                check(&mut shown, entry.ssrc);
                // The same SSRC again, which control never does: even so no index may come twice.
                world.put(Entry::Subscription(entry.clone()));
            }
        }
    }
    world.run(200);
    shown.extend(std::mem::take(&mut world.party(2).rtp));
    check(&mut shown, entry.ssrc);
    world.finish();
}

fn check(shown: &mut Vec<Rtp>, ssrc: u32) {
    shown.retain(|p| p.header.ssrc == ssrc);
    watch(shown, true);
    shown.clear();
}

/// What may happen to a call on two nodes.
#[derive(Clone, Debug)]
enum Change {
    Frame {
        layers: u8,
        keyframe: bool,
    },
    Wish {
        max_encoding: u8,
        enabled: bool,
    },
    Mute(bool),
    Replace,
    Loss(u64),
    Wait(u16),
    /// The far, or the near end forgets the relay, and has it again with other keys.
    Forget {
        far: bool,
    },
    /// Both ends get other keys.
    Rekey,
    /// The near end takes the track back. As its SSRCs must not come again under the same keys, it gives it again with others.
    Withdraw,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        20 => (0..8u8, prop::bool::weighted(0.1)).prop_map(|(layers, keyframe)| Change::Frame { layers, keyframe }),
        2 => (0..4u8, prop::bool::weighted(0.8))
            .prop_map(|(max_encoding, enabled)| Change::Wish { max_encoding, enabled }),
        1 => any::<bool>().prop_map(Change::Mute),
        1 => Just(Change::Replace),
        2 => (0..200u64).prop_map(Change::Loss),
        1 => (1..2_000u16).prop_map(Change::Wait),
        1 => any::<bool>().prop_map(|far| Change::Forget { far }),
        1 => Just(Change::Rekey),
        1 => Just(Change::Withdraw),
    ]
}

/// Anna at the first node and a receiver, 2, at the second.
fn wander(changes: Vec<Change>) {
    let mut net = Net::new(2);
    net.worlds[0].join(ANNA);
    net.worlds[1].join(2);
    let mut track = video_track(VIDEO, ANNA, 3);
    net.publish(&Entry::Track(track.clone()));
    let mut entry = subscription(2, VIDEO);
    net.worlds[1].put(Entry::Subscription(entry.clone()));
    let rids = ["q", "h", "f"];
    let camera = |n: usize, ssrc: u32| Camera::new(ANNA, VIDEO, Some(rids[n]), ssrc);
    let mut cameras: Vec<_> = (0..3).map(|n| camera(n, 101 + n as u32)).collect();
    let (mut next_ssrc, mut next_key, mut seen) = (1_000u32, 100u8, 0);
    let mut shown = Vec::new();
    for change in changes {
        match change {
            Change::Frame { layers, keyframe } => {
                let compounds = &net.worlds[0].party(ANNA).rtcp;
                let asked = compounds[seen..].iter().flat_map(|c| packets(c).map(|p| p.unwrap()));
                let asked: Vec<u32> = asked
                    .filter_map(|p| match p {
                        Packet::PictureLossIndication { media_ssrc, .. } => Some(media_ssrc),
                        _ => None,
                    })
                    .collect();
                seen = compounds.len();
                for (n, camera) in cameras.iter_mut().enumerate() {
                    if layers & (1 << n) == 0 {
                        camera.timestamp = camera.timestamp.wrapping_add(3000);
                    } else {
                        let is_asked = asked.contains(&camera.ssrc);
                        camera.shoot(&mut net.worlds[0], keyframe || is_asked);
                    }
                }
                net.run(33);
            }
            Change::Wish { max_encoding, enabled } => {
                entry.wish = Wish { max_encoding, enabled, ..Wish::default() };
                net.worlds[1].put(Entry::Subscription(entry.clone()));
            }
            Change::Mute(muted) => {
                track.muted = muted;
                net.publish(&Entry::Track(track.clone()));
            }
            Change::Replace => {
                next_ssrc += 10;
                cameras = (0..3).map(|n| camera(n, next_ssrc + n as u32)).collect();
            }
            Change::Loss(permille) => net.loss_permille = permille,
            Change::Wait(ms) => net.run(u64::from(ms)),
            Change::Rekey | Change::Withdraw | Change::Forget { .. } => {
                if matches!(change, Change::Withdraw) {
                    net.worlds[0].remove(Key::Subscription { receiver: TransportId(50), track: TrackId(VIDEO) });
                    net.run(50);
                }
                if let Change::Forget { far } = change {
                    let node = usize::from(far);
                    net.worlds[node].remove(Key::Transport(TransportId(50)));
                    net.run(5);
                }
                // What is on its way has the old keys, and finds a relay that has others.
                net.seen.clear();
                next_key = next_key.wrapping_add(2);
                for (node, flips) in [(0, false), (1, true)] {
                    let mut entry = relay(0, flips);
                    let (one, other) = (keys(next_key), keys(next_key + 1));
                    (entry.send, entry.receive) = if flips { (other, one) } else { (one, other) };
                    net.worlds[node].relay(entry);
                }
                let whole = Entry::Track(track.clone());
                net.worlds[0].put(to_relay(&whole, 0));
                net.worlds[1].put(from_relay(&whole, 0));
                if matches!(change, Change::Forget { far: true }) {
                    // The track went with its relay, and with it what the receiver had of it.
                    shown.extend(std::mem::take(&mut net.worlds[1].party(2).rtp));
                    check(&mut shown, entry.ssrc);
                    net.worlds[1].put(Entry::Subscription(entry.clone()));
                }
            }
        }
    }
    shown.extend(std::mem::take(&mut net.worlds[1].party(2).rtp));
    check(&mut shown, entry.ssrc);

    // However it went: in the end the receiver gets what it wants.
    net.loss_permille = 0;
    (track.muted, entry.wish) = (false, Wish::default());
    net.publish(&Entry::Track(track.clone()));
    net.worlds[1].put(Entry::Subscription(entry.clone()));
    for _ in 0..60 {
        cameras[0].shoot(&mut net.worlds[0], true);
        net.run(33);
    }
    let before = net.worlds[1].party(2).rtp.len();
    for _ in 0..10 {
        cameras[0].shoot(&mut net.worlds[0], true);
        net.run(33);
    }
    assert!(net.worlds[1].party(2).rtp.len() > before + 20, "{} after {before}", net.worlds[1].party(2).rtp.len());
    net.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_receiver_sees_one_continuous_stream(ops in prop::collection::vec(op(), 1..80), rtx in any::<bool>()) {
        play(ops, rtx);
    }

    #[test]
    fn a_receiver_at_another_node_too(changes in prop::collection::vec(change(), 1..60)) {
        wander(changes);
    }
}
