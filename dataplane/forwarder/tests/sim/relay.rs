//! A call on two forwarders: one decrypts, both have receivers, and between them is a way that loses what the test says.
//!
//! Longer than other files: the two forwarders and the way between them are most of it, and each test is about all three.

use proptest::prelude::*;
use sluice_forwarder::{Input, Output, Relay, Remote};
use sluice_messages::{Entry, Event, Key, Track, TrackId, TransportId, Wish};
use sluice_srtp::Profile;
use sluice_wire::rtcp::{Packet, SenderInfo, packets};

use crate::{allocations::ALLOCATIONS, support::*, viewer::watch};

const HOME: u8 = 0;
const SIBLING: u8 = 3;

/// Both forwarders of a node.
struct Node {
    home: World,
    sibling: World,
    /// What is said to the sibling, or to the home, is lost while this says so.
    loses_down: fn(u64) -> bool,
    loses_up: fn(u64) -> bool,
    /// Things said so far.
    said: u64,
}

fn never(_: u64) -> bool {
    false
}

fn always(_: u64) -> bool {
    true
}

impl Node {
    fn new() -> Node {
        let mut sibling = World::new();
        sibling.keyed = 100;
        Node { home: World::new(), sibling, loses_down: never, loses_up: never, said: 0 }
    }

    /// Tells both of a track that is published at the home.
    fn track(&mut self, entry: &Entry) {
        let Entry::Track(track) = entry else { panic!("{entry:?}") };
        self.home.put(entry.clone());
        self.remote(track);
    }

    fn remote(&mut self, track: &Track) {
        let cname = format!("PA_{}", track.publisher.0);
        let remote = Remote { track, home: HOME, cname: &cname };
        let World { forwarder, now, pool, .. } = &mut self.sibling;
        forwarder.input(*now, Input::PutRemote(remote), pool);
    }

    /// Says what is to be said, both ways, until there is nothing more.
    fn poll(&mut self) {
        self.home.poll();
        loop {
            let down = std::mem::take(&mut self.home.relays);
            for (to, what, bytes) in &down {
                assert_eq!(*to, 1 << SIBLING);
                self.said += 1;
                if !(self.loses_down)(self.said) {
                    self.sibling.hear(HOME, *what, bytes.as_deref());
                }
            }
            self.sibling.poll();
            let up = std::mem::take(&mut self.sibling.relays);
            for (to, what, bytes) in &up {
                assert_eq!((*to, bytes), (1 << HOME, &None));
                self.said += 1;
                if !(self.loses_up)(self.said) {
                    self.home.hear(SIBLING, *what, None);
                }
            }
            self.home.poll();
            if self.home.relays.is_empty() {
                break;
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.home.now.0 += 1_000;
            self.sibling.now = self.home.now;
            self.poll();
        }
    }

    /// The end of a call: no frame may stay behind, on either side.
    fn finish(mut self) {
        for track in 0..20 {
            self.sibling.remove(Key::Track(TrackId(track)));
            self.home.remove(Key::Track(TrackId(track)));
        }
        self.sibling.finish();
        self.home.finish();
    }
}

/// A publisher (1) at home with three layers on track 9, and a receiver (2) at the sibling.
struct Stage {
    node: Node,
    layers: Vec<Camera>,
    on: [bool; 3],
    tick: u64,
    plis_seen: usize,
    track: Track,
}

impl Stage {
    fn new() -> Stage {
        let mut node = Node::new();
        node.home.join(1);
        node.sibling.join(2);
        let track = video_track(9, 1, 3);
        node.track(&Entry::Track(track.clone()));
        node.sibling.put(Entry::Subscription(subscription(2, 9)));
        let layers = ["q", "h", "f"].iter().zip(101..).map(|(rid, ssrc)| Camera::new(1, 9, Some(rid), ssrc)).collect();
        Stage { node, layers, on: [true; 3], tick: 0, plis_seen: 0, track }
    }

    fn want(&mut self, wish: Wish) {
        let mut entry = subscription(2, 9);
        entry.wish = wish;
        self.node.sibling.put(Entry::Subscription(entry));
    }

    fn want_layer(&mut self, max_encoding: u8) {
        self.want(Wish { max_encoding, ..Wish::default() });
    }

    /// SSRCs for which the publisher was asked for key frames since the last time.
    fn plis(&mut self) -> Vec<u32> {
        let compounds = &self.node.home.parties[&1].rtcp;
        let asked = compounds[self.plis_seen..].iter().flat_map(|c| packets(c).map(|p| p.unwrap()));
        let asked = asked.filter_map(|packet| match packet {
            Packet::PictureLossIndication { media_ssrc, .. } => Some(media_ssrc),
            _ => None,
        });
        let asked = asked.collect();
        self.plis_seen = compounds.len();
        asked
    }

    /// Sends 30 frames a second, with key frames where they are asked for.
    fn play(&mut self, ms: u64) {
        for _ in 0..ms / 33 {
            let asked = self.plis();
            for n in 0..3 {
                let keyframe = self.tick == 0 || asked.contains(&self.layers[n].ssrc);
                if self.on[n] {
                    self.layers[n].shoot(&mut self.node.home, keyframe);
                } else {
                    self.layers[n].timestamp = self.layers[n].timestamp.wrapping_add(3000);
                }
            }
            self.tick += 1;
            self.node.run(33);
        }
    }

    /// The layer whose packets came last to the sibling's receiver.
    fn shown(&self) -> Option<usize> {
        let frame = watch(&self.node.sibling.parties[&2].rtp, true).pop()?;
        Some(frame.ssrc as usize - 101)
    }
}

#[test]
fn everybody_gets_everything_and_the_sibling_one_copy() {
    let mut node = Node::new();
    for id in [1, 2] {
        node.home.join(id);
    }
    for id in [3, 4, 5] {
        node.sibling.join(id);
    }
    node.track(&Entry::Track(video_track(9, 1, 1)));
    node.track(&audio_track(7, 1, None));
    for id in 2..=5 {
        let world = if id == 2 { &mut node.home } else { &mut node.sibling };
        world.put(Entry::Subscription(subscription(id, 9)));
        world.put(Entry::Subscription(subscription(id, 7)));
    }
    node.run(1);
    let mut camera = Camera::new(1, 9, None, 300);
    let mut microphone = Microphone::new(1, 7, 5555);
    for n in 0..200 {
        camera.shoot(&mut node.home, n == 0);
        microphone.talk(&mut node.home);
        node.run(20);
    }
    let of = |world: &World, id: u64, track: u64| -> Vec<Rtp> {
        let ssrc = subscription(id, track).ssrc;
        world.parties[&id].rtp.iter().filter(|p| p.header.ssrc == ssrc).cloned().collect()
    };
    for id in 2..=5 {
        let world = if id == 2 { &node.home } else { &node.sibling };
        assert_eq!(watch(&of(world, id, 9), false).len(), 200, "video of {id}");
        let audio = of(world, id, 7);
        let said: Vec<_> = audio.iter().map(|p| u64::from_be_bytes(p.payload()[..8].try_into().unwrap())).collect();
        assert_eq!(said, (65_500..65_700).collect::<Vec<_>>(), "audio of {id}, in order");
        assert!(audio.windows(2).all(|p| p[1].index == p[0].index + 1));
        let level = audio[9].extension(sluice_messages::Extension::AudioLevel);
        assert_eq!(level, Some(&[0x80 | 20][..]), "extensions go on");
    }
    assert_eq!(node.home.counter("relayed"), 200 * 4, "one copy, however many receivers are there");
    assert_eq!(node.sibling.counter("relayed_in"), 200 * 4);
    let about_tracks = |world: &World| {
        let is = |e: &&Event| matches!(e, Event::TrackStarted { .. } | Event::Layers { .. } | Event::Speakers { .. });
        world.events.iter().filter(is).count()
    };
    assert!(about_tracks(&node.home) >= 5, "{:?}", node.home.events);
    assert_eq!(about_tracks(&node.sibling), 0, "the home tells of tracks and speakers: {:?}", node.sibling.events);
    let forwarding = node.sibling.events.iter().filter(|e| matches!(e, Event::Forwarding { .. })).count();
    assert_eq!(forwarding, 3 * 2, "the sibling tells of its receivers, once: {:?}", node.sibling.events);
    node.finish();
}

#[test]
fn the_sibling_chooses_layers_and_gets_only_those() {
    let mut stage = Stage::new();
    stage.play(500);
    assert_eq!(stage.shown(), Some(2));
    let layer_packets = 30 * 3;
    for (max, shown) in [(0, 0), (1, 1), (0, 0), (2, 2), (u8::MAX, 2)] {
        stage.want_layer(max);
        stage.play(990);
        assert_eq!(stage.shown(), Some(shown));
        let before = stage.node.home.counter("relayed");
        stage.play(990);
        assert_eq!(stage.node.home.counter("relayed") - before, layer_packets, "one layer");
    }
    let frames = watch(&stage.node.sibling.party(2).rtp, false);
    assert!(frames.len() > 300, "no time without pictures: {}", frames.len());
    let plis = stage.node.home.counter("sent_plis");
    assert!(plis < 12, "{plis} key frames asked for in ten seconds");

    stage.want(Wish { enabled: false, ..Wish::default() });
    stage.play(99);
    let before = stage.node.home.counter("relayed");
    stage.play(990);
    assert_eq!(stage.node.home.counter("relayed"), before, "who wants nothing gets nothing");
    stage.node.finish();
}

#[test]
fn a_lost_layer_is_replaced_and_taken_back_at_the_sibling() {
    let mut stage = Stage::new();
    stage.play(1000);
    assert_eq!(stage.shown(), Some(2));
    stage.on[2] = false;
    stage.play(2000);
    assert_eq!(stage.shown(), Some(1));
    stage.on = [true, false, false];
    stage.play(2000);
    assert_eq!(stage.shown(), Some(0));
    stage.on = [true; 3];
    stage.play(2000);
    assert_eq!(stage.shown(), Some(2));
    watch(&stage.node.sibling.party(2).rtp, false);
    stage.node.finish();
}

#[test]
fn muted_and_back_at_a_key_frame_on_both_sides() {
    let mut stage = Stage::new();
    stage.play(500);
    for _ in 0..2 {
        stage.track.muted = true;
        let entry = Entry::Track(stage.track.clone());
        stage.node.track(&entry);
        stage.node.run(1);
        let before = stage.node.sibling.party(2).rtp.len();
        stage.play(500);
        assert_eq!(stage.node.sibling.party(2).rtp.len(), before);
        stage.track.muted = false;
        let entry = Entry::Track(stage.track.clone());
        stage.node.track(&entry);
        stage.play(500);
        assert!(stage.node.sibling.party(2).rtp.len() > before + 20);
    }
    let frames = watch(&stage.node.sibling.party(2).rtp, false);
    assert!(frames.windows(2).all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) < 90_000));
    stage.node.finish();
}

#[test]
fn a_receiver_is_answered_from_the_siblings_own_history() {
    let mut stage = Stage::new();
    stage.play(500);
    let before = (stage.node.home.counter("relayed"), stage.node.home.counter("nacked"));
    let party = stage.node.sibling.party(2);
    let (ssrc, last) = (subscription(2, 9).ssrc, party.rtp.last().unwrap().header.sequence);
    let asked: Vec<u16> = (1..20).map(|back| last.wrapping_sub(back)).collect();
    stage.node.sibling.send_rtcp(2, |compound| {
        compound.nack(1, ssrc, &asked).unwrap();
    });
    stage.node.run(1);
    let repaired = stage.node.sibling.party(2).rtp.iter().filter(|p| p.header.ssrc == ssrc + 1).count();
    assert_eq!(repaired, asked.len());
    assert_eq!(stage.node.sibling.counter("sent_resends"), asked.len() as u64);
    assert_eq!((stage.node.home.counter("relayed"), stage.node.home.counter("nacked")), before);
    stage.node.finish();
}

#[test]
fn the_home_repairs_for_receivers_that_only_siblings_have() {
    let mut node = Node::new();
    node.home.join(1);
    node.sibling.join(2);
    node.track(&Entry::Track(video_track(9, 1, 1)));
    node.sibling.put(Entry::Subscription(subscription(2, 9)));
    node.run(1);
    let mut camera = Camera::new(1, 9, None, 300);
    camera.shoot(&mut node.home, true);
    node.run(20);
    let frame = camera.frame(false);
    let lost = frame[1].0;
    for n in [0, 2] {
        node.home.send(1, frame[n].0, &frame[n].1);
    }
    node.run(30);
    assert_eq!(node.home.counter("sent_nacks"), 1);
    camera.repeat(&mut node.home, lost);
    // A packet of nothing but padding leaves no gap either.
    let padding = {
        let (index, made) = camera.clone().frame(false).swap_remove(0);
        let header = sluice_wire::rtp::Header::parse(&made).unwrap();
        let mut padding = made[..usize::from(header.payload_start)].to_vec();
        padding[0] |= 0x20;
        padding.extend([0, 0, 0, 4]);
        camera.index = index + 1;
        (index, padding)
    };
    node.home.send(1, padding.0, &padding.1);
    camera.shoot(&mut node.home, true);
    node.run(50);
    assert_eq!(watch(&node.sibling.party(2).rtp, false).len(), 3);
    assert_eq!(node.sibling.party(2).rtp.len(), 9);
    node.finish();
}

#[test]
fn clocks_cross_so_that_switches_and_reports_keep_time() {
    let mut stage = Stage::new();
    stage.play(330);
    // The publisher's clock is far from ours.
    let ntp = 5u64 << 32;
    for n in 0..3 {
        let (ssrc, rtp_timestamp) = (stage.layers[n].ssrc, stage.layers[n].timestamp);
        let info = SenderInfo { ssrc, ntp, rtp_timestamp, ..Default::default() };
        stage.node.home.send_rtcp(1, |compound| compound.sender_report(&info, &[]).unwrap());
    }
    stage.want_layer(0);
    stage.play(990);
    stage.want_layer(2);
    stage.play(990);
    let frames = watch(&stage.node.sibling.party(2).rtp, false);
    for pair in frames.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step % 3000 <= 2 || pair[0].ssrc != pair[1].ssrc, "{pair:?}");
        assert!(step <= 3001, "{pair:?}");
    }
    // Who comes later gets a report from what the sibling was told before.
    stage.node.sibling.join(3);
    stage.node.sibling.put(Entry::Subscription(subscription(3, 9)));
    stage.play(990);
    for id in [2, 3] {
        let compounds = stage.node.sibling.party(id).rtcp.clone();
        let (mut reports, mut names) = (Vec::new(), Vec::new());
        for packet in compounds.iter().flat_map(|c| packets(c)) {
            match packet.unwrap() {
                Packet::SenderReport(report) => reports.push(report.info),
                Packet::SourceDescription(description) => {
                    names.extend(description.cnames().map(|(_, name)| name.to_vec()));
                }
                _ => {}
            }
        }
        assert!(names.iter().all(|name| name == b"PA_1") && !names.is_empty(), "{names:?}");
        let report = reports.last().expect("a report");
        let newest = watch(&stage.node.sibling.party(id).rtp, false).pop().unwrap();
        // Between the report and the newest frame is at most a second, and timestamps go 90 for each millisecond.
        let ahead = newest.timestamp.wrapping_sub(report.rtp_timestamp) as i32;
        assert!((-6_000..=96_000).contains(&ahead), "{ahead} of {id}");
    }
    stage.node.finish();
}

#[test]
fn another_source_or_other_keys_are_a_switch_at_the_sibling_too() {
    let mut stage = Stage::new();
    stage.play(500);
    for (n, layer) in stage.layers.iter_mut().enumerate() {
        *layer = Camera::new(1, 9, layer.rid, 7_000_001 + n as u32);
    }
    stage.tick = 0;
    stage.play(500);
    stage.node.home.key(1, Profile::AeadAes256Gcm);
    stage.plis_seen = 0;
    stage.play(990);
    let frames = watch(&stage.node.sibling.party(2).rtp, false);
    assert!(frames.iter().any(|f| f.ssrc == 103) && frames.last().unwrap().ssrc == 7_000_003);
    assert!(frames.len() > 55, "{}", frames.len());
    stage.node.finish();
}

#[test]
fn what_is_lost_on_the_way_is_said_again() {
    let mut stage = Stage::new();
    // The first wish is lost, and so is what the home says of itself for a while.
    stage.node.loses_up = always;
    stage.play(99);
    assert_eq!(stage.shown(), None);
    stage.node.loses_up = never;
    stage.play(990);
    assert_eq!(stage.shown(), Some(2));
    // A layer ends unheard: the receiver is moved as soon as the home says it again.
    stage.on[2] = false;
    stage.node.loses_down = always;
    stage.play(1500);
    stage.node.loses_down = never;
    stage.play(2000);
    assert_eq!(stage.shown(), Some(1));
    watch(&stage.node.sibling.party(2).rtp, true);
    stage.node.finish();
}

#[test]
fn a_sibling_that_falls_silent_is_forgotten() {
    let mut stage = Stage::new();
    stage.play(990);
    stage.node.loses_up = always;
    stage.node.sibling.remove(Key::Track(TrackId(9)));
    stage.play(5000);
    let before = stage.node.home.counter("relayed");
    stage.play(990);
    assert_eq!(stage.node.home.counter("relayed"), before, "nothing goes to who says nothing");
    assert!(stage.node.sibling.counter("drop_relay_stale") > 0, "and what went there was counted");
    stage.node.finish();
}

#[test]
fn a_track_moves_from_one_home_to_another() {
    let mut stage = Stage::new();
    stage.play(500);
    // Its publisher is now here: the same id, the other way round.
    stage.node.sibling.join(1);
    stage.node.sibling.put(Entry::Track(stage.track.clone()));
    stage.node.sibling.put(Entry::Subscription(subscription(2, 9)));
    let (remote, now) = (Remote { track: &stage.track, home: SIBLING, cname: "PA_1" }, stage.node.home.now);
    stage.node.home.forwarder.input(now, Input::PutRemote(remote), &mut stage.node.home.pool);
    stage.node.home.join(3);
    stage.node.home.put(Entry::Subscription(subscription(3, 9)));
    let mut camera = Camera::new(1, 9, Some("f"), 900);
    for n in 0..50 {
        camera.shoot(&mut stage.node.sibling, n == 0);
        stage.node.sibling.poll();
        for (to, what, bytes) in std::mem::take(&mut stage.node.sibling.relays) {
            assert_eq!(to, 1 << HOME);
            stage.node.home.hear(SIBLING, what, bytes.as_deref());
        }
        stage.node.home.poll();
        for (to, what, _) in std::mem::take(&mut stage.node.home.relays) {
            assert_eq!(to, 1 << SIBLING);
            stage.node.sibling.hear(HOME, what, None);
        }
        stage.node.home.now.0 += 20_000;
        stage.node.sibling.now = stage.node.home.now;
        if n == 3 {
            camera.shoot(&mut stage.node.sibling, true);
        }
    }
    assert!(watch(&stage.node.home.party(3).rtp, false).len() > 40);
    stage.node.finish();
}

#[test]
fn nothing_leaks_when_a_call_ends_with_packets_on_their_way() {
    let mut stage = Stage::new();
    stage.play(330);
    // In the queue to the sibling, in its receivers' queues, and in both histories.
    stage.layers[2].shoot(&mut stage.node.home, false);
    assert!(stage.node.home.pool.free() < stage.node.home.pool.capacity());
    stage.node.finish();
}

#[test]
fn a_full_queue_drops_and_counts() {
    let config = sluice_forwarder::Config { relays_max: 4, ..Default::default() };
    let mut stage = Stage::new();
    let mut home = World::with(config, 4096);
    home.join(1);
    home.put(Entry::Track(stage.track.clone()));
    stage.node.home = home;
    stage.play(330);
    assert_eq!(stage.node.home.counter("drop_relay_full"), 0);
    stage.layers[2].packets_per_frame = 10;
    stage.play(33);
    assert_eq!(stage.node.home.counter("drop_relay_full"), 6);
    stage.layers[2].packets_per_frame = 3;
    stage.play(990);
    let party = stage.node.sibling.party(2);
    assert!(watch(&party.rtp, true).len() > 35);
    stage.node.finish();
}

#[test]
fn the_way_of_a_packet_to_a_sibling_allocates_nothing() {
    let mut node = Node::new();
    node.home.join(1);
    node.track(&Entry::Track(video_track(9, 1, 1)));
    for id in 2..=10 {
        node.sibling.join(id);
        node.sibling.put(Entry::Subscription(subscription(id, 9)));
    }
    node.run(1);
    let mut camera = Camera::new(1, 9, None, 300);
    let mut made: Vec<Vec<u8>> = Vec::new();
    for n in 0..1_000 {
        for (_, packet) in camera.frame(n == 0) {
            made.push(packet);
        }
    }
    let start = node.home.counter("relayed");
    let (home, sibling) = (&mut node.home, &mut node.sibling);
    let sealed: Vec<Vec<u8>> = made
        .iter()
        .enumerate()
        .map(|(n, packet)| {
            let index = camera.index - made.len() as u64 + n as u64;
            let header = sluice_wire::rtp::Header::parse(packet).unwrap();
            let (header, payload) = packet.split_at(usize::from(header.payload_start));
            let mut out = vec![0; 2048];
            let sender = &home.parties[&1].sender;
            let len = sender.seal_rtp(header, payload, (index >> 16) as u32, &mut out).unwrap();
            out.truncate(len);
            out
        })
        .collect();
    (home.tx.discards, sibling.tx.discards) = (true, true);
    let mut before = 0;
    for (n, bytes) in sealed.iter().enumerate() {
        if n == 1_000 {
            before = ALLOCATIONS.get();
        }
        let frame = home.pool.take().unwrap();
        home.pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
        home.pool.set_len(frame, bytes.len());
        home.now.0 += 2_000;
        sibling.now = home.now;
        home.forwarder.input(home.now, Input::Datagram { transport: TransportId(1), frame }, &mut home.pool);
        while let Some(output) = home.forwarder.poll(home.now, &mut home.pool, &mut home.tx) {
            let Output::Relay(Relay { what, frame, .. }) = output else { continue };
            let copy = frame.map(|frame| {
                let copy = sibling.pool.take().unwrap();
                let bytes = home.pool.bytes(frame);
                sibling.pool.buffer_mut(copy)[..bytes.len()].copy_from_slice(bytes);
                sibling.pool.set_len(copy, bytes.len());
                home.pool.release(frame);
                copy
            });
            let input = Input::Relayed { from: HOME, what, frame: copy };
            sibling.forwarder.input(sibling.now, input, &mut sibling.pool);
        }
        while let Some(output) = sibling.forwarder.poll(sibling.now, &mut sibling.pool, &mut sibling.tx) {
            match output {
                Output::Relay(Relay { what, .. }) => {
                    let input = Input::Relayed { from: SIBLING, what, frame: None };
                    home.forwarder.input(home.now, input, &mut home.pool);
                }
                // Events are made for the control plane, a few a second, and not per packet.
                Output::Event(_) => before += 1,
            }
        }
    }
    let now = ALLOCATIONS.get();
    assert!(now <= before, "{} allocations in 2,000 packets", now - before);
    assert_eq!(node.home.counter("relayed") - start, 3_000);
    assert!(node.sibling.tx.committed > 9 * 3_000 - 9 * 3, "{} sent", node.sibling.tx.committed);
    node.finish();
}

#[derive(Clone, Debug)]
enum Op {
    Frame {
        layers: u8,
        lose: u16,
        keyframe: bool,
        shuffle: bool,
        repeat: bool,
    },
    Wish {
        max_encoding: u8,
        enabled: bool,
        max_fps: Option<u8>,
    },
    Mute(bool),
    Replace,
    Ask(Vec<u16>),
    Wait(u16),
    /// The way loses one thing in so many, both ways; 0 is none.
    Lossy(u8),
    Rekey,
    Resubscribe,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0..8u8, any::<u16>(), prop::bool::weighted(0.1), any::<bool>(), any::<bool>())
            .prop_map(|(layers, lose, keyframe, shuffle, repeat)| Op::Frame {
                layers,
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
        2 => (0..4u8).prop_map(Op::Lossy),
        1 => Just(Op::Rekey),
        1 => Just(Op::Resubscribe),
    ]
}

const LOSSES: [fn(u64) -> bool; 4] =
    [never, |n| n * 7919 % 31 < 3, |n| n * 104_729 % 11 < 5, |n| n * 15_485_863 % 101 < 90];

fn play(ops: Vec<Op>) {
    let mut stage = Stage::new();
    let mut next_ssrc = 1_000u32;
    let mut entry = subscription(2, 9);
    let mut shown = Vec::new();
    let check = |shown: &mut Vec<Rtp>| {
        shown.retain(|p| p.header.ssrc == subscription(2, 9).ssrc);
        watch(shown, true);
        shown.clear();
    };
    for op in ops {
        let asked = stage.plis();
        match op {
            Op::Frame { layers, lose, keyframe, shuffle, repeat } => {
                for (n, camera) in stage.layers.iter_mut().enumerate() {
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
                        stage.node.home.send(1, index, &packet);
                        stage.node.run(1);
                    }
                    if repeat {
                        let again = camera.index - 1;
                        lost.iter().chain([&again]).for_each(|&index| camera.repeat(&mut stage.node.home, index));
                    }
                }
                stage.node.run(30);
            }
            Op::Wish { max_encoding, enabled, max_fps } => {
                entry.wish = Wish { max_encoding, enabled, max_fps, priority: 0 };
                stage.node.sibling.put(Entry::Subscription(entry.clone()));
            }
            Op::Mute(muted) => {
                stage.track.muted = muted;
                let track = Entry::Track(stage.track.clone());
                stage.node.track(&track);
            }
            Op::Replace => {
                next_ssrc += 10;
                let camera = |(n, rid): (usize, &'static str)| Camera::new(1, 9, Some(rid), next_ssrc + n as u32);
                stage.layers = ["q", "h", "f"].into_iter().enumerate().map(camera).collect();
            }
            Op::Ask(back) => {
                let Some(last) = stage.node.sibling.party(2).rtp.last().map(|p| p.header.sequence) else { continue };
                let mut sequences: Vec<u16> = back.iter().map(|back| last.wrapping_sub(*back)).collect();
                sequences.sort();
                stage.node.sibling.send_rtcp(2, |compound| {
                    compound.nack(1, entry.ssrc, &sequences).unwrap();
                });
                stage.node.run(1);
            }
            Op::Wait(ms) => stage.node.run(u64::from(ms)),
            Op::Lossy(how) => {
                (stage.node.loses_down, stage.node.loses_up) = (LOSSES[usize::from(how)], LOSSES[usize::from(how)]);
            }
            Op::Rekey => {
                shown.extend(std::mem::take(&mut stage.node.sibling.party(2).rtp));
                stage.node.sibling.key(2, Profile::Aes128CmSha1_80);
            }
            Op::Resubscribe => {
                stage.node.sibling.remove(Key::Subscription { receiver: TransportId(2), track: TrackId(9) });
                stage.node.sibling.remove(Key::Track(TrackId(9)));
                stage.node.run(5);
                shown.extend(std::mem::take(&mut stage.node.sibling.party(2).rtp));
                check(&mut shown);
                let track = stage.track.clone();
                stage.node.remote(&track);
                stage.node.sibling.put(Entry::Subscription(entry.clone()));
            }
        }
    }
    // When the way is good again, and somebody wants it, there is a picture again.
    (stage.node.loses_down, stage.node.loses_up) = (never, never);
    stage.track.muted = false;
    let track = Entry::Track(stage.track.clone());
    stage.node.track(&track);
    stage.want(Wish::default());
    stage.play(3000);
    shown.extend(std::mem::take(&mut stage.node.sibling.party(2).rtp));
    let before = shown.len();
    stage.play(330);
    assert!(stage.node.sibling.party(2).rtp.len() > 15, "media goes on");
    assert!(before > 0);
    shown.extend(std::mem::take(&mut stage.node.sibling.party(2).rtp));
    check(&mut shown);
    stage.node.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_receiver_behind_a_lossy_way_sees_one_continuous_stream(ops in prop::collection::vec(op(), 1..80)) {
        play(ops);
    }
}
