//! A call on several nodes.

use sluice_forwarder::Input;
use sluice_messages::{
    CallId, Entry, Event, Extension, Key, Relay, RelayTrack, Track, TrackId, TransportId, TransportState,
};
use sluice_wire::{
    Micros,
    rtcp::{Packet, SenderInfo, packets},
};

use crate::{allocations::ALLOCATIONS, net::*, support::*, viewer::watch};

#[test]
fn everybody_gets_everything_and_each_wanted_layer_crosses_once() {
    let mut stage = Stage::new();
    stage.join(0, 2);
    for id in 3..=6 {
        stage.join(1, id);
    }
    stage.play(1000);
    stage.want(1, 6, 0);
    stage.play(1000);
    let before: Vec<u64> = (0..3).map(|layer| stage.net.crossed(VIDEO, layer)).collect();
    stage.play(990);
    for (node, id) in [(0, 2), (1, 3), (1, 4), (1, 5), (1, 6)] {
        assert_eq!(stage.shown(node, id), Some(if id == 6 { 0 } else { 2 }), "{id}");
        watch(&stage.got(node, id, VIDEO), false);
        let audio = stage.got(node, id, AUDIO);
        let said: Vec<_> = audio.iter().map(|p| u64::from_be_bytes(p.payload()[..8].try_into().unwrap())).collect();
        assert!(said.windows(2).all(|pair| pair[1] == pair[0] + 1), "{id}: {said:?}");
        assert!(said.len() > 85, "{id}: {}", said.len());
        assert_eq!(audio[9].extension(Extension::AudioLevel), Some(&[0x80 | 20][..]), "extensions cross");
    }
    let after: Vec<u64> = (0..3).map(|layer| stage.net.crossed(VIDEO, layer)).collect();
    let more: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    assert_eq!(more, [90, 0, 90], "what somebody wants, once, however many do; and what nobody wants not at all");
    assert_eq!(stage.net.worlds[1].counter("nacked") + stage.net.worlds[0].counter("nacked"), 0);

    let told = |world: &World| {
        let is = |e: &&Event| matches!(e, Event::TrackStarted { .. } | Event::Layers { .. } | Event::Speakers { .. });
        world.events.iter().filter(is).count()
    };
    assert!(told(&stage.net.worlds[0]) >= 4, "{:?}", stage.net.worlds[0].events);
    assert_eq!(
        told(&stage.net.worlds[1]),
        0,
        "the home tells of tracks and speakers: {:?}",
        stage.net.worlds[1].events
    );
    let of_relay = |e: &&Event| matches!(e, Event::Forwarding { receiver, .. } if receiver.0 >= 50);
    assert_eq!(stage.net.worlds[0].events.iter().filter(of_relay).count(), 0);
    stage.net.finish();
}

#[test]
fn both_ways_at_once_under_the_same_ssrcs() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    // Somebody at the other node publishes too.
    stage.net.worlds[1].join(4);
    stage.net.worlds[0].join(2);
    let ssrcs_of = |id: u64| ssrcs(0, id, 1);
    let back = Entry::Track(Track { id: TrackId(VIDEO + 1), ..video_track(VIDEO, 4, 1) });
    let same =
        Entry::RelayTrack(RelayTrack { relay: TransportId(50), track: TrackId(VIDEO + 1), ssrcs: ssrcs_of(VIDEO) });
    let Entry::Track(mut arrives) = from_relay(&back, 0) else { panic!("a track") };
    (arrives.encodings[0].ssrc, arrives.encodings[0].rtx_ssrc) =
        (Some(ssrcs_of(VIDEO)[0].ssrc), ssrcs_of(VIDEO)[0].rtx_ssrc);
    stage.net.worlds[1].put(back);
    stage.net.worlds[1].put(same);
    stage.net.worlds[0].put(Entry::Track(arrives));
    stage.net.worlds[0].put(Entry::Subscription(subscription(2, VIDEO + 1)));
    let mut camera = Camera::new(4, VIDEO, None, 300);
    stage.net.loss_permille = 30;
    for n in 0..200 {
        camera.shoot(&mut stage.net.worlds[1], n % 40 == 0);
        stage.play(33);
    }
    stage.net.loss_permille = 0;
    stage.play(990);
    watch(&stage.got(1, 3, VIDEO), false);
    let frames = watch(&stage.got(0, 2, VIDEO + 1), false);
    assert!(frames.len() >= 160, "all from a key frame on: {}", frames.len());
    assert_eq!(stage.shown(1, 3), Some(2));
    for world in &stage.net.worlds {
        assert_eq!(world.counter("drop_unknown_ssrc") + world.counter("drop_unauthentic"), 0);
    }
    stage.net.finish();
}

#[test]
fn it_does_not_matter_which_node_hears_of_a_track_first() {
    let mut net = Net::new(2);
    net.worlds[0].join(ANNA);
    net.worlds[1].join(3);
    let entry = Entry::Track(video_track(VIDEO, ANNA, 1));
    net.worlds[1].put(from_relay(&entry, 0));
    net.worlds[1].put(Entry::Subscription(subscription(3, VIDEO)));
    net.run(480);
    assert!(net.worlds[0].counter("drop_wish_stale") > 0);
    let before = net.worlds[1].counter("sent_rtcp");
    net.worlds[0].put(entry.clone());
    net.worlds[0].put(to_relay(&entry, 0));
    net.run(150);
    let mut camera = Camera::new(ANNA, VIDEO, None, 300);
    camera.shoot(&mut net.worlds[0], true);
    net.run(30);
    assert_eq!(watch(&net.worlds[1].parties[&3].rtp, false).len(), 1, "the wish was said again until it was heard");
    net.run(5_000);
    let said = net.worlds[1].counter("sent_rtcp") - before;
    assert!(said < 40, "and then once a second: {said}");
    net.finish();
}

#[test]
fn layers_are_chosen_where_the_receiver_is() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(660);
    assert_eq!(stage.shown(1, 3), Some(2));
    for max in [0, 1, 0, 2] {
        stage.want(1, 3, max);
        stage.play(990);
        assert_eq!(stage.shown(1, 3), Some(usize::from(max)));
        let before: u64 = (0..3).map(|layer| stage.net.crossed(VIDEO, layer)).sum();
        stage.play(990);
        let after: u64 = (0..3).map(|layer| stage.net.crossed(VIDEO, layer)).sum();
        assert_eq!(after - before, 90, "one layer");
    }
    let frames = watch(&stage.got(1, 3, VIDEO), false);
    assert!(frames.len() > 220, "no time without pictures: {}", frames.len());
    stage.net.worlds[1].remove(Key::Subscription { receiver: TransportId(3), track: TrackId(VIDEO) });
    stage.play(330);
    let before = stage.net.crossed(VIDEO, 2);
    stage.play(990);
    assert_eq!(stage.net.crossed(VIDEO, 2), before, "nobody wants it any more");
    assert!(stage.net.crossed(AUDIO, 0) > 280, "and the other track goes on");
    stage.net.finish();
}

#[test]
fn losses_between_nodes_are_repaired_there() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.join(1, 4);
    stage.play(990);
    stage.net.loss_permille = 50;
    stage.play(10_000);
    stage.net.loss_permille = 0;
    stage.play(990);
    for id in [3, 4] {
        let video = stage.got(1, id, VIDEO);
        let frames = watch(&video, false);
        assert!(frames.len() > 350, "{}", frames.len());
        let audio = stage.got(1, id, AUDIO);
        let indices: std::collections::BTreeSet<u64> = audio.iter().map(|packet| packet.index).collect();
        let span = indices.last().unwrap() - indices.first().unwrap() + 1;
        assert_eq!(indices.len() as u64, span, "no gap in the audio of {id}");
    }
    let (near, far) = (&stage.net.worlds[0], &stage.net.worlds[1]);
    assert!(near.counter("sent_resends") > 20 && far.counter("received_rtx") > 20);
    assert!(far.counter("sent_nacks") > 20);
    assert_eq!(far.counter("nacked"), 0, "receivers noticed nothing they had to ask for");
    stage.net.finish();
}

#[test]
fn key_frames_and_repairs_are_asked_for_across_nodes() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(1320);
    stage.plis();
    let ssrc = subscription(3, VIDEO).ssrc;
    stage.net.worlds[1].send_rtcp(3, |compound| compound.picture_loss(1, ssrc).unwrap());
    stage.net.run(50);
    assert_eq!(stage.plis(), [103], "of the layer that is shown");

    // Lost before the first node: what it lacks itself it asks for, and it crosses late.
    let frame = stage.layers[2].frame(true);
    let lost = frame[1].0;
    for n in [0, 2] {
        stage.net.worlds[0].send(ANNA, frame[n].0, &frame[n].1);
    }
    stage.net.run(60);
    assert!(stage.net.worlds[0].counter("sent_nacks") > 0);
    let mut camera = stage.layers[2].clone();
    camera.repeat(&mut stage.net.worlds[0], lost);
    stage.net.run(100);
    watch(&stage.got(1, 3, VIDEO), false);

    // What a receiver lost comes from its own node.
    let before = stage.net.worlds[0].counter("nacked");
    let last = stage.got(1, 3, VIDEO).last().unwrap().header.sequence;
    let asked: Vec<u16> = (1..10).map(|back| last.wrapping_sub(back)).collect();
    stage.net.worlds[1].send_rtcp(3, |compound| {
        compound.nack(1, ssrc, &asked).unwrap();
    });
    stage.net.run(50);
    assert_eq!(stage.net.worlds[1].counter("sent_resends"), asked.len() as u64);
    assert_eq!(stage.net.worlds[0].counter("nacked"), before);
    stage.net.finish();
}

#[test]
fn clocks_and_names_cross() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(330);
    for n in 0..3 {
        let (ssrc, rtp_timestamp) = (stage.layers[n].ssrc, stage.layers[n].timestamp);
        let info = SenderInfo { ssrc, ntp: 5 << 32, rtp_timestamp, ..Default::default() };
        stage.net.worlds[0].send_rtcp(ANNA, |compound| compound.sender_report(&info, &[]).unwrap());
    }
    stage.play(3000);
    let ssrc = subscription(3, VIDEO).ssrc;
    let compounds = &stage.net.worlds[1].parties[&3].rtcp;
    let all = || compounds.iter().flat_map(|compound| packets(compound).map(|packet| packet.unwrap()));
    assert!(all().any(|packet| matches!(packet, Packet::SenderReport(report) if report.info.ssrc == ssrc)));
    let names = all().filter_map(|packet| match packet {
        Packet::SourceDescription(description) => {
            Some(description.cnames().map(|(_, name)| name.to_vec()).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert!(names.flatten().any(|name| name == b"PA_1"), "the publisher's, not the relay's");
    stage.net.finish();
}

#[test]
fn muted_and_another_source_on_both_sides() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(660);
    stage.video.muted = true;
    let entry = Entry::Track(stage.video.clone());
    stage.net.publish(&entry);
    stage.net.run(50);
    let before = stage.got(1, 3, VIDEO).len();
    stage.play(660);
    assert_eq!(stage.got(1, 3, VIDEO).len(), before);
    stage.video.muted = false;
    let entry = Entry::Track(stage.video.clone());
    stage.net.publish(&entry);
    stage.play(990);
    assert!(stage.got(1, 3, VIDEO).len() > before + 60);

    // The publisher numbers anew: no number on the relay comes twice, which the network watches.
    for layer in &mut stage.layers {
        *layer = Camera { index: 100, ..Camera::new(ANNA, VIDEO, layer.rid, layer.ssrc + 100) };
    }
    let before = stage.got(1, 3, VIDEO).len();
    stage.play(1980);
    assert!(stage.got(1, 3, VIDEO).len() > before + 120);
    watch(&stage.got(1, 3, VIDEO), true);
    stage.net.finish();
}

#[test]
fn a_node_that_is_gone_wants_nothing_and_its_successor_starts_anew() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(660);
    stage.net.loss_permille = 1000;
    stage.play(7_000);
    let before = stage.net.crossed.values().sum::<u64>();
    stage.play(990);
    assert_eq!(stage.net.crossed.values().sum::<u64>(), before, "its wishes have ended");
    assert!(stage.net.worlds[0].counter("sent_plis") < 20);

    // It is back, with other keys at both ends.
    stage.net.loss_permille = 0;
    stage.net.seen.clear();
    let fresh = |flips: bool| {
        let mut entry = relay(0, flips);
        let (one, other) = if flips { (201, 200) } else { (200, 201) };
        (entry.send, entry.receive) = (keys(one), keys(other));
        entry
    };
    stage.net.worlds[0].relay(fresh(false));
    stage.net.worlds[1].relay(fresh(true));
    let before = stage.got(1, 3, VIDEO).len();
    stage.play(3_300);
    assert!(stage.got(1, 3, VIDEO).len() > before + 120, "{}", stage.got(1, 3, VIDEO).len() - before);
    watch(&stage.got(1, 3, VIDEO), true);
    stage.net.finish();
}

#[test]
fn wrong_keys_and_strangers_are_counted_and_do_nothing() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(660);
    // Half of new keys would start the packet counts of the other half over.
    let mut half = relay(0, false);
    half.receive = keys(77);
    stage.net.worlds[0].relay(half);
    assert_eq!(stage.net.worlds[0].counter("refuse_keys"), 1);
    let mut crooked = relay(0, false);
    crooked.ssrc += 1;
    stage.net.worlds[0].relay(crooked);
    assert_eq!(stage.net.worlds[0].counter("refuse_keys"), 2);
    let before = stage.got(1, 3, VIDEO).len();
    stage.play(330);
    assert!(stage.got(1, 3, VIDEO).len() > before + 20, "it goes on as before");

    // Keys that are not swapped: nothing can be opened.
    let mut wrong = relay(0, true);
    (wrong.send, wrong.receive) = (keys(99), keys(98));
    stage.net.worlds[1].relay(wrong);
    stage.net.run(20);
    let before = stage.got(1, 3, VIDEO).len();
    stage.play(1320);
    assert_eq!(stage.got(1, 3, VIDEO).len(), before);
    assert!(stage.net.worlds[1].counter("drop_unauthentic") > 20);
    // Its counts began anew, so that some are taken for old ones before their tags are looked at.
    let near = &stage.net.worlds[0];
    assert!(near.counter("drop_unauthentic") + near.counter("drop_replayed") > 0);
    let mut rubbish = [7; 60];
    (rubbish[0], rubbish[1]) = (0x80, 96);
    let before = stage.net.worlds[1].counter("drop_unauthentic");
    stage.net.worlds[1].datagram(50, &rubbish);
    assert_eq!(stage.net.worlds[1].counter("drop_unauthentic"), before + 1);
    stage.net.worlds[1].datagram(50, &[0xff; 60]);
    assert_eq!(stage.net.worlds[1].counter("drop_unclassified"), 1);
    stage.net.finish();
}

#[test]
fn what_came_by_a_relay_leaves_by_none() {
    let mut net = Net::new(3);
    net.worlds[0].join(ANNA);
    let entry = Entry::Track(video_track(VIDEO, ANNA, 1));
    net.publish(&entry);
    net.worlds[1].put(to_relay(&entry, 1));
    assert_eq!(net.worlds[1].counter("refuse_loop"), 1);
    // Nor can anybody be subscribed in the ways of clients, or be sent SSRCs of another relay.
    net.worlds[0].put(Entry::Subscription(subscription(50, VIDEO)));
    net.worlds[0].put(Entry::RelayTrack(RelayTrack {
        relay: TransportId(50),
        track: TrackId(VIDEO),
        ssrcs: ssrcs(1, VIDEO, 1),
    }));
    assert_eq!(net.worlds[0].counter("refuse_unknown"), 2);
    net.finish();
}

#[test]
fn relays_are_bounded() {
    use sluice_forwarder::limits::{RELAYS_MAX, RELAYS_PER_CALL_MAX};
    let mut world = World::new();
    let mut put = |call: u64, count: usize, from: usize| {
        for n in from..from + count {
            let mut entry = relay(0, false);
            (entry.id, entry.call, entry.ssrc) = (TransportId(n as u64), CallId(call), n as u32 * Relay::SSRCS);
            world.put(Entry::Relay(entry));
        }
        world.counter("refuse_full")
    };
    assert_eq!(put(1, RELAYS_PER_CALL_MAX + 3, 0), 3);
    let mut refused = 3;
    for call in 2..20 {
        refused = put(call, RELAYS_PER_CALL_MAX, 1000 * call as usize);
    }
    assert_eq!(refused as usize, 3 + 19 * RELAYS_PER_CALL_MAX - RELAYS_MAX);
    world.poll();
    assert_eq!(world.events.len() as u64, refused, "each is told as failed");
}

#[test]
fn a_packet_that_crosses_allocates_nothing() {
    let mut stage = Stage::new();
    stage.join(1, 3);
    stage.play(990);
    let Stage { mut net, layers, .. } = stage;
    let mut camera = layers[2].clone();
    camera.sent.clear();
    // Everything that arrives is made beforehand.
    let mut arriving: Vec<Vec<u8>> = Vec::new();
    for _ in 0..400 {
        for (index, packet) in camera.frame(false) {
            let start = usize::from(sluice_wire::rtp::Header::parse(&packet).unwrap().payload_start);
            let mut out = vec![0; 2048];
            let sender = &net.worlds[0].parties[&ANNA].sender;
            let sealed = sender.seal_rtp(&packet[..start], &packet[start..], (index >> 16) as u32, &mut out).unwrap();
            out.truncate(sealed);
            arriving.push(out);
        }
    }
    let [near, far] = &mut net.worlds[..] else { panic!("two nodes") };
    let mut wire: Vec<(usize, Vec<u8>)> = (0..64).map(|_| (0, vec![0; 2048])).collect();
    let (mut before, mut crossed) = (0, 0);
    far.tx.discards = true;
    for (n, bytes) in arriving.iter().enumerate() {
        if n == 200 {
            before = ALLOCATIONS.get();
        }
        // Wishes are not said again meanwhile, and hold for this long.
        near.now.0 += 2_000;
        far.now = near.now;
        let mut tx = Wire { slots: &mut wire, used: 0 };
        let frame = near.pool.take().unwrap();
        near.pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
        near.pool.set_len(frame, bytes.len());
        let input = Input::Datagram { transport: TransportId(ANNA), frame };
        near.forwarder.input(near.now, input, &mut near.pool);
        while let Some(output) = near.forwarder.poll(near.now, &mut near.pool, &mut tx) {
            before += u64::from(matches!(output, sluice_forwarder::Output::Event(_)));
        }
        let used = tx.used;
        for (length, bytes) in &wire[..used] {
            // What is for Anna finds no key here; the rest crosses.
            let frame = far.pool.take().unwrap();
            far.pool.buffer_mut(frame)[..*length].copy_from_slice(&bytes[..*length]);
            far.pool.set_len(frame, *length);
            let input = Input::Datagram { transport: TransportId(50), frame };
            far.forwarder.input(far.now, input, &mut far.pool);
            crossed += 1;
        }
        while let Some(output) = far.forwarder.poll(far.now, &mut far.pool, &mut far.tx) {
            before += u64::from(matches!(output, sluice_forwarder::Output::Event(_)));
        }
    }
    assert!(crossed > 1_000, "{crossed} crossed");
    assert!(far.tx.committed > 1_000, "{} arrived", far.tx.committed);
    assert!(ALLOCATIONS.get() <= before, "{} allocations in 1,000 packets", ALLOCATIONS.get() - before);
    net.finish();
}

/// Slots that are made once.
struct Wire<'a> {
    slots: &'a mut [(usize, Vec<u8>)],
    used: usize,
}

impl sluice_frames::Tx for Wire<'_> {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.slots.get_mut(self.used).map(|(_, bytes)| &mut bytes[..])
    }

    fn room(&self) -> usize {
        self.slots.len() - self.used
    }

    fn commit(&mut self, bytes: usize, _: sluice_frames::Route) {
        self.slots[self.used].0 = bytes;
        self.used += 1;
    }
}

#[test]
fn a_relay_lives_while_its_other_end_speaks() {
    let mut net = Net::new(2);
    let told = |net: &mut Net| {
        let states = net.worlds.iter_mut().map(|world| {
            let events = std::mem::take(&mut world.events);
            let states = events.into_iter().filter_map(|event| match event {
                Event::Transport { transport, state } => Some((transport.0, state)),
                _ => None,
            });
            states.collect::<Vec<_>>()
        });
        states.collect::<Vec<_>>()
    };
    net.run(20_000);
    let up = vec![(50, TransportState::Connected)];
    assert_eq!(told(&mut net), [up.clone(), up.clone()], "though nobody is in the call");
    assert!((36..=40).contains(&net.sent), "a word each second: {}", net.sent);
    net.loss_permille = 1000;
    net.run(20_000);
    let down = vec![(50, TransportState::Disconnected)];
    assert_eq!(told(&mut net), [down.clone(), down]);
    net.loss_permille = 0;
    net.run(2_000);
    assert_eq!(told(&mut net), [up.clone(), up]);

    let mut world = World::new();
    world.relay(relay(0, false));
    world.run(10_000);
    let never = Event::Transport { transport: TransportId(50), state: TransportState::Disconnected };
    assert_eq!(world.events.iter().filter(|event| **event == never).count(), 1, "also who never spoke");
    world.remove(Key::Transport(TransportId(50)));
    world.run(20_000);
    assert_eq!(world.forwarder.wake(), Micros::NEVER);
    world.finish();
    net.finish();
}

#[test]
fn a_call_grows_to_another_node_and_nobody_notices() {
    let mut world = World::new();
    world.join(ANNA);
    world.join(2);
    let entry = Entry::Track(video_track(VIDEO, ANNA, 1));
    world.put(entry.clone());
    world.put(Entry::Subscription(subscription(2, VIDEO)));
    let mut camera = Camera::new(ANNA, VIDEO, None, 300);
    for n in 0..30 {
        camera.shoot(&mut world, n == 0);
        world.run(33);
    }
    let mut net = Net::new(2);
    let mut far = net.worlds.remove(1);
    far.now = world.now;
    far.join(3);
    net.worlds = vec![world, far];
    net.worlds[0].relay(relay(0, false));
    net.publish(&entry);
    net.worlds[1].put(Entry::Subscription(subscription(3, VIDEO)));
    let mut plis = net.worlds[0].counter("sent_plis");
    for _ in 0..60 {
        let asked = net.worlds[0].counter("sent_plis");
        camera.shoot(&mut net.worlds[0], asked > plis);
        plis = asked;
        net.run(33);
    }
    assert_eq!(watch(&net.worlds[0].parties[&2].rtp, false).len(), 90);
    assert!(watch(&net.worlds[1].parties[&3].rtp, false).len() > 50);
    net.finish();
}
