//! What is held, for how long, in which order it leaves and how it is padded; and what goes when there is too much.

use std::collections::HashMap;

use sluice_forwarder::{Config, Input};
use sluice_messages::Entry;
use sluice_wire::vp8::Descriptor;

use crate::{support::*, viewer::watch};

const RECEIVERS: u64 = 20;

/// The longest step of invented time.
const STEP_US: u64 = 500;

/// Three cameras and a microphone of participant 1, and receivers of all of them.
struct Hall {
    world: World,
    cameras: Vec<Camera>,
    microphone: Microphone,
    /// When each packet (SSRC and index at the publisher) arrived.
    arrived: HashMap<(u32, u64), u64>,
    /// Looked at already, for each receiver.
    looked: HashMap<u64, usize>,
    waits_us: Vec<u64>,
    random: u64,
}

impl Hall {
    fn new(config: Config, unequal: u64, seed: u64) -> Hall {
        let mut world = World::with(config, 4096);
        (1..=RECEIVERS + 1).for_each(|id| world.join(id));
        for track in [9, 10, 11] {
            world.put(Entry::Track(video_track(track, 1, 1)));
        }
        world.put(audio_track(7, 1, None));
        for id in 2..=RECEIVERS + 1 {
            [9, 10, 11, 7].into_iter().for_each(|track| world.put(Entry::Subscription(subscription(id, track))));
        }
        let camera = |track: u64| Camera { unequal, ..Camera::new(1, track, None, 300 + track as u32) };
        Hall {
            world,
            cameras: [9, 10, 11].map(camera).into(),
            microphone: Microphone::new(1, 7, 5),
            arrived: HashMap::new(),
            looked: HashMap::new(),
            waits_us: Vec::new(),
            random: seed,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    /// Frames at random, packets one by one with time between them or not, about 100,000 packets a second to all.
    fn play(&mut self, frames: usize) {
        for _ in 0..frames {
            let camera = self.random(3) as usize;
            let first = self.cameras[camera].frames == 0;
            for (index, packet) in self.cameras[camera].frame(first) {
                self.arrived.insert((self.cameras[camera].ssrc, index), self.world.now.0);
                self.world.send(1, index, &packet);
                if self.random(3) == 0 {
                    self.step();
                }
            }
            if self.random(4) == 0 {
                let before = self.audio();
                self.microphone.talk(&mut self.world);
                self.world.poll();
                assert_eq!(self.audio(), before + RECEIVERS as usize, "audio leaves at once");
            }
            self.step();
        }
    }

    fn audio(&self) -> usize {
        let of = |party: &Party| party.rtp.iter().filter(|rtp| rtp.header.payload_type == OPUS_OUT).count();
        self.world.parties.values().map(of).sum()
    }

    fn step(&mut self) {
        self.world.poll();
        self.world.now.0 += 1 + self.random(STEP_US);
        self.world.poll();
        for (id, party) in &self.world.parties {
            let looked = self.looked.entry(*id).or_default();
            for rtp in party.rtp[*looked..].iter().filter(|rtp| rtp.header.payload_type == VP8_OUT) {
                let payload = rtp.payload();
                let descriptor = Descriptor::parse(payload).unwrap();
                let at = usize::from(descriptor.len) + if descriptor.starts_frame { 10 } else { 0 };
                let ssrc = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                let index = u64::from_be_bytes(payload[at + 4..at + 12].try_into().unwrap());
                self.waits_us.push(self.world.now.0 - self.arrived[&(ssrc, index)]);
            }
            *looked = party.rtp.len();
        }
    }

    /// Packets that leave as one send, on average.
    fn run_length(&self) -> f64 {
        self.world.tx.committed as f64 / self.world.tx.sends as f64
    }
}

#[test]
fn nothing_waits_longer_than_the_hold_and_streams_keep_their_order() {
    for seed in 1..=5 {
        let config = Config::default();
        let hold_us = config.hold.as_micros() as u64;
        let mut hall = Hall::new(config, 6, seed);
        hall.play(1_000);
        assert_eq!(hall.world.counter("hold_us"), hold_us, "there was enough to do");
        let longest = *hall.waits_us.iter().max().unwrap();
        assert!(longest <= hold_us + STEP_US, "{longest} us");
        assert!(longest > hold_us / 2, "something was held");
        assert!(hall.run_length() > 1.5, "{} packets a send", hall.run_length());
        hall.world.run(10);
        for id in 2..=RECEIVERS + 1 {
            for track in [9, 10, 11] {
                let ssrc = subscription(id, track).ssrc;
                let of_track = hall.world.party(id).rtp.iter().filter(|rtp| rtp.header.ssrc == ssrc);
                let packets: Vec<_> = of_track.cloned().collect();
                assert!(packets.is_sorted_by_key(|rtp| rtp.index), "a stream is never reordered");
                watch(&packets, false);
            }
        }
        hall.world.finish();
    }
}

#[test]
fn padding_stays_in_its_budget_and_none_is_none() {
    let mut lengths = Vec::new();
    for permille in [0, 30] {
        let mut hall = Hall::new(Config { padding_permille: permille, ..Config::default() }, 6, 3);
        hall.play(1_000);
        let (padding, bytes) = (hall.world.counter("sent_padding_bytes"), hall.world.counter("sent_bytes"));
        assert!(padding * 1000 <= bytes * u64::from(permille), "{padding} of {bytes}");
        assert_eq!(padding > 0, permille > 0);
        lengths.push(hall.run_length());
        hall.world.finish();
    }
    assert!(lengths[1] > lengths[0] * 1.2, "padding makes sends longer: {lengths:?}");
}

#[test]
fn an_idle_worker_holds_nothing() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    for n in 0..200 {
        camera.shoot(&mut world, n == 0);
        world.poll();
        assert_eq!(world.party(2).rtp.len(), 3 * (n + 1), "sent in the turn in which it came");
        world.run(33);
    }
    world.finish();
}

#[test]
fn a_receiver_of_one_participant_gets_a_whole_frame_at_once() {
    let mut world = World::new();
    (1..=21).for_each(|id| world.join(id));
    world.put(Entry::Track(video_track(9, 1, 1)));
    (2..=21).for_each(|id| world.put(Entry::Subscription(subscription(id, 9))));
    let mut camera = Camera::new(1, 9, None, 300);
    for n in 0..500 {
        let before = world.party(2).rtp.len();
        for (at, (index, packet)) in camera.frame(n == 0).into_iter().enumerate() {
            world.send(1, index, &packet);
            world.poll();
            let came = world.party(2).rtp.len() - before;
            let held = world.counter("hold_us") > 0;
            assert!(!held || n <= 300 || came == 0 || at == 2, "the beginning waits for the end");
            assert!(at < 2 || came == 3, "and the end waits for nothing");
        }
        world.run(2);
    }
    assert!(world.counter("hold_us") > 0);
    world.finish();
}

/// Without RTX a packet is sent again as it was, padding included; [`World`] compares the bytes.
#[test]
fn a_padded_packet_is_repeated_byte_for_byte() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    let mut plain = subscription(2, 9);
    plain.rtx_ssrc = None;
    plain.payloads.iter_mut().for_each(|map| map.rtx = None);
    let ssrc = plain.ssrc;
    world.put(Entry::Subscription(plain));
    let mut camera = Camera { unequal: 5, packets_per_frame: 10, ..Camera::new(1, 9, None, 300) };
    for n in 0..20 {
        camera.shoot(&mut world, n == 0);
        world.run(1);
    }
    assert!(world.counter("sent_padding_bytes") > 0);
    let sequences: Vec<u16> = world.party(2).rtp.iter().map(|rtp| rtp.index as u16).collect();
    assert_eq!(sequences.len(), 200);
    for chunk in sequences.chunks(17) {
        world.send_rtcp(2, |compound| {
            compound.receiver_report(1, &[]).unwrap();
            compound.nack(1, ssrc, chunk).unwrap();
        });
        world.run(20);
    }
    assert_eq!(world.party(2).repeats, 200);
    world.finish();
}

#[test]
fn a_receiver_with_a_long_queue_does_not_starve_the_others() {
    let mut hall = Hall::new(Config::default(), 0, 9);
    hall.play(400);
    hall.world.run(10);
    // The transmit side stands still, then has a few slots in each turn.
    let before: Vec<usize> = hall.world.parties.values().map(|party| party.rtp.len()).collect();
    hall.world.tx.slots = 0;
    const FRAMES: usize = 20;
    for _ in 0..FRAMES {
        hall.cameras[0].shoot(&mut hall.world, false);
        hall.world.run(1);
    }
    let all = FRAMES * hall.cameras[0].packets_per_frame as usize;
    const SLOTS: usize = 70;
    for turns in 1.. {
        hall.world.tx.slots = SLOTS;
        hall.world.run(1);
        let parties = hall.world.parties.values().zip(&before).skip(1);
        let got: Vec<usize> = parties.map(|(party, before)| party.rtp.len() - before).collect();
        if got.iter().all(|&got| got == all) {
            break;
        }
        let wanted = all * RECEIVERS as usize / SLOTS;
        assert!(turns <= wanted + 5, "each slot is used: {got:?}");
    }
    hall.world.tx.slots = usize::MAX;
    hall.world.finish();
}

#[test]
fn the_memory_of_all_queues_is_bounded() {
    let mut hall = Hall::new(Config { egress_packets_max: 1024, ..Config::default() }, 0, 4);
    hall.play(100);
    assert_eq!(hall.world.counter("drop_queue_full"), 0);
    hall.world.tx.slots = 0;
    for _ in 0..100 {
        hall.cameras[0].shoot(&mut hall.world, false);
        hall.world.run(1);
    }
    assert!(hall.world.counter("drop_queue_full") > 0);
    hall.world.tx.slots = usize::MAX;
    hall.world.run(10);
    let before = hall.audio();
    hall.microphone.talk(&mut hall.world);
    hall.world.run(1);
    assert_eq!(hall.audio(), before + RECEIVERS as usize, "everything flows again");
    hall.world.finish();
}

/// The order in which layers go is `shed.rs`'s; this is what a receiver sees of it.
#[test]
fn an_overloaded_worker_leaves_out_layers_from_the_top_and_never_audio() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 3)));
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 9)));
    world.put(Entry::Subscription(subscription(2, 7)));
    let mut layers: Vec<_> =
        ["q", "h", "f"].iter().zip(101..).map(|(rid, ssrc)| Camera::new(1, 9, Some(rid), ssrc)).collect();
    let mut microphone = Microphone::new(1, 7, 5);
    let mut shown = Vec::new();
    for n in 0..900u64 {
        // A key frame each second, so that a receiver can be switched.
        layers.iter_mut().for_each(|layer| layer.shoot(&mut world, n % 30 == 0));
        microphone.talk(&mut world);
        let permille = if (200..400).contains(&n) { 1000 } else { 300 };
        world.forwarder.input(world.now, Input::Busy { permille }, &mut world.pool);
        let before = world.party(2).rtp.len();
        world.run(33);
        let fresh = &world.party(2).rtp[before..];
        let video: Vec<_> = fresh.iter().filter(|rtp| rtp.header.payload_type == VP8_OUT).cloned().collect();
        let layer = watch(&video, true).last().map(|frame| frame.ssrc);
        if shown.last() != Some(&layer) {
            shown.push(layer);
        }
        assert_eq!(fresh.len() - video.len(), 1, "audio goes on");
    }
    let whole: Vec<_> = shown.iter().copied().skip_while(|layer| *layer != Some(103)).collect();
    assert_eq!(whole, [Some(103), Some(102), Some(101), None, Some(101), Some(102), Some(103)], "{shown:?}");
    assert!(world.counter("shed_packets") > 0);
    assert_eq!(world.counter("shed_level"), 0);
    world.finish();
}
