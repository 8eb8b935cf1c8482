//! Simulcast: which layer, when it switches, and what the receiver sees of it.

use sluice_messages::{Entry, Event, Track, TrackId, TransportId, Wish};
use sluice_wire::rtcp::{Packet, packets};

use crate::{support::*, viewer::watch};

/// A publisher (1) with three layers on track 9 and a receiver (2).
struct Stage {
    world: World,
    layers: Vec<Camera>,
    /// Layers that are sent.
    on: [bool; 3],
    tick: u64,
    plis_seen: usize,
    track: Track,
}

impl Stage {
    fn new() -> Stage {
        let mut world = World::new();
        world.join(1);
        world.join(2);
        let track = video_track(9, 1, 3);
        world.put(Entry::Track(track.clone()));
        world.put(Entry::Subscription(subscription(2, 9)));
        let layers = ["q", "h", "f"].iter().zip(101..).map(|(rid, ssrc)| Camera::new(1, 9, Some(rid), ssrc)).collect();
        Stage { world, layers, on: [true; 3], tick: 0, plis_seen: 0, track }
    }

    fn wish(&mut self, wish: Wish) {
        let mut entry = subscription(2, 9);
        entry.wish = wish;
        self.world.put(Entry::Subscription(entry));
    }

    fn want(&mut self, max_encoding: u8) {
        self.wish(Wish { max_encoding, ..Wish::default() });
    }

    /// SSRCs for which key frames were asked since the last time.
    fn plis(&mut self) -> Vec<u32> {
        let compounds = &self.world.parties[&1].rtcp[self.plis_seen..];
        let asked = compounds.iter().flat_map(|c| packets(c).map(|p| p.unwrap())).filter_map(|packet| match packet {
            Packet::PictureLossIndication { media_ssrc, .. } => Some(media_ssrc),
            _ => None,
        });
        let asked = asked.collect();
        self.plis_seen = self.world.parties[&1].rtcp.len();
        asked
    }

    /// Sends 30 frames a second, with key frames where they are asked for.
    fn play(&mut self, ms: u64) {
        for _ in 0..ms / 33 {
            let asked = self.plis();
            for n in 0..3 {
                let keyframe = self.tick == 0 || asked.contains(&self.layers[n].ssrc);
                if self.on[n] {
                    self.layers[n].shoot(&mut self.world, keyframe);
                } else {
                    self.layers[n].timestamp = self.layers[n].timestamp.wrapping_add(3000);
                }
            }
            self.tick += 1;
            self.world.run(33);
        }
    }

    /// The layer whose packets came last.
    fn shown(&self) -> Option<usize> {
        let frame = watch(&self.world.parties[&2].rtp, true).pop()?;
        Some(frame.ssrc as usize - 101)
    }

    fn finish(self) {
        self.world.finish();
    }
}

#[test]
fn the_wished_layer_is_shown_and_switches_are_seamless() {
    let mut stage = Stage::new();
    stage.play(500);
    assert_eq!(stage.shown(), Some(2));
    for (max, shown) in [(0, 0), (1, 1), (0, 0), (2, 2), (u8::MAX, 2)] {
        stage.want(max);
        stage.play(1000);
        assert_eq!(stage.shown(), Some(shown));
    }
    let frames = watch(&stage.world.party(2).rtp, false);
    assert!(frames.len() > 150, "no time without pictures: {}", frames.len());
    let forwarded: Vec<_> = stage.world.events.iter().filter(|e| matches!(e, Event::Forwarding { .. })).collect();
    assert_eq!(
        forwarded.last(),
        Some(&&Event::Forwarding { receiver: TransportId(2), track: TrackId(9), encoding: Some(2) })
    );
    let layers: Vec<_> = stage.world.events.iter().filter(|e| matches!(e, Event::Layers { .. })).collect();
    assert_eq!(layers.len(), 3, "one more each time: {layers:?}");
    stage.finish();
}

#[test]
fn a_switch_storm_keeps_continuity_and_the_publisher_in_peace() {
    let mut stage = Stage::new();
    stage.play(500);
    let before = stage.world.counter("sent_plis");
    let mut random = 12345u32;
    for _ in 0..300 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        stage.want((random >> 24) as u8 % 3);
        stage.play(33);
    }
    let frames = watch(&stage.world.party(2).rtp, false);
    assert!(frames.len() > 300);
    let plis = stage.world.counter("sent_plis") - before;
    assert!(plis <= 3 * 2 * 11, "twice a second for each layer at most, not {plis} in ten seconds");
    assert!(stage.world.counter("switches") > 10);
    stage.finish();
}

#[test]
fn timestamps_follow_the_publishers_clock_across_switches() {
    let mut stage = Stage::new();
    stage.play(330);
    let ntp = 5u64 << 32;
    for n in 0..3 {
        let (ssrc, rtp_timestamp) = (stage.layers[n].ssrc, stage.layers[n].timestamp);
        let info = sluice_wire::rtcp::SenderInfo { ssrc, ntp, rtp_timestamp, ..Default::default() };
        stage.world.send_rtcp(1, |compound| compound.sender_report(&info, &[]).unwrap());
    }
    stage.want(0);
    stage.play(990);
    stage.want(2);
    stage.play(990);
    let frames = watch(&stage.world.party(2).rtp, false);
    for pair in frames.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        // A switch may repeat the instant of the last frame of the old layer; otherwise it is exactly a frame.
        assert!(step % 3000 <= 2 || pair[0].ssrc != pair[1].ssrc, "{pair:?}");
        assert!(step <= 3001, "{pair:?}");
    }
    stage.finish();
}

#[test]
fn a_lost_layer_is_replaced_and_taken_back() {
    let mut stage = Stage::new();
    stage.play(1000);
    assert_eq!(stage.shown(), Some(2));
    stage.on[2] = false;
    stage.play(2000);
    assert_eq!(stage.shown(), Some(1));
    stage.on[1] = false;
    stage.play(2000);
    assert_eq!(stage.shown(), Some(0));
    stage.on = [false, false, true];
    stage.play(2500);
    assert_eq!(stage.shown(), Some(2), "what exists, even above");
    stage.want(0);
    stage.play(1000);
    assert_eq!(stage.shown(), Some(2), "nothing lower is there");
    stage.on[0] = true;
    stage.play(1000);
    assert_eq!(stage.shown(), Some(0));
    watch(&stage.world.party(2).rtp, false);
    stage.finish();
}

#[test]
fn disabled_and_muted_send_nothing_and_come_back_at_a_key_frame() {
    let mut stage = Stage::new();
    stage.play(500);
    let mut events = 0;
    for round in 0..2 {
        let on = |stage: &mut Stage, on: bool| match round {
            0 => stage.wish(Wish { enabled: on, ..Wish::default() }),
            _ => {
                stage.track.muted = !on;
                let entry = Entry::Track(stage.track.clone());
                stage.world.put(entry);
            }
        };
        on(&mut stage, false);
        stage.world.run(1);
        let before = stage.world.party(2).rtp.len();
        stage.play(500);
        assert_eq!(stage.world.party(2).rtp.len(), before);
        on(&mut stage, true);
        stage.play(500);
        assert!(stage.world.party(2).rtp.len() > before + 20);
        events += 2;
    }
    let frames = watch(&stage.world.party(2).rtp, false);
    assert!(frames.windows(2).all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) < 90_000));
    let forwarded = stage.world.events.iter().filter(|e| matches!(e, Event::Forwarding { .. })).count();
    assert!(forwarded > events, "each change is told");
    stage.finish();
}

#[test]
fn half_the_frame_rate_leaves_out_the_upper_temporal_layer() {
    let mut stage = Stage::new();
    stage.play(1500);
    stage.wish(Wish { max_fps: Some(15), ..Wish::default() });
    stage.play(1200);
    let count = stage.world.party(2).rtp.len();
    stage.play(990);
    let frames = watch(&stage.world.party(2).rtp[count..], false);
    assert_eq!(frames.len(), 15);
    assert!(frames.iter().all(|frame| frame.temporal_id == 0));
    stage.wish(Wish::default());
    stage.play(3000);
    let frames = watch(&stage.world.party(2).rtp, false);
    assert_eq!(frames.last().map(|f| f.ssrc), Some(103));
    assert!(frames.iter().rev().take(10).any(|frame| frame.temporal_id == 1), "all frames again");
    stage.finish();
}

#[test]
fn a_replaced_source_goes_on_in_the_same_stream() {
    let mut stage = Stage::new();
    stage.play(500);
    for (n, layer) in stage.layers.iter_mut().enumerate() {
        *layer = Camera::new(1, 9, layer.rid, 7_000_001 + n as u32);
    }
    stage.tick = 0;
    stage.play(500);
    let frames = watch(&stage.world.party(2).rtp, false);
    assert!(frames.iter().any(|f| f.ssrc == 103) && frames.last().unwrap().ssrc == 7_000_003);
    assert!(frames.windows(2).all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) < 30_000));
    stage.finish();
}

#[test]
fn a_key_frame_that_begins_late_is_complete_for_the_receiver() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    let mut packets = camera.frame(true);
    packets.extend(camera.frame(false));
    packets.swap(0, 4);
    for (index, packet) in packets {
        world.send(1, index, &packet);
    }
    world.run(1);
    let frames = watch(&world.party(2).rtp, false);
    assert_eq!(frames.len(), 2);
    assert_eq!(world.party(2).rtp.len(), 6);
    world.finish();
}

#[test]
fn numbers_roll_over() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(Entry::Subscription(subscription(2, 9)));
    let mut camera = Camera::new(1, 9, None, 300);
    camera.packets_per_frame = 50;
    for n in 0..3_000 {
        camera.shoot(&mut world, n == 0);
        world.run(10);
        if n % 500 == 0 {
            // The viewer's own memory.
            camera.sent.clear();
        }
    }
    let got = &world.party(2).rtp;
    assert_eq!(got.len(), 150_000);
    assert!(got.last().unwrap().index > 2 << 16, "two roll-overs");
    let frames = watch(got, false);
    assert_eq!(frames.len(), 3_000);
    world.finish();
}

#[test]
fn a_receivers_loss_lowers_its_layer_and_not_that_of_others() {
    let mut stage = Stage::new();
    stage.world.join(3);
    stage.world.put(Entry::Subscription(subscription(3, 9)));
    stage.layers[0].packets_per_frame = 1;
    stage.layers[2].packets_per_frame = 12;
    stage.play(2000);
    let ssrc = subscription(2, 9).ssrc;
    for _ in 0..6 {
        let block = sluice_wire::rtcp::ReportBlock { ssrc, fraction_lost: 120, ..Default::default() };
        stage.world.send_rtcp(2, |compound| compound.receiver_report(1, &[block]).unwrap());
        stage.play(1000);
    }
    assert!(stage.shown() < Some(2), "{:?}", stage.shown());
    let other = watch(&stage.world.party(3).rtp, false);
    assert_eq!(other.last().unwrap().ssrc, 103);
    stage.finish();
}

#[test]
fn audio_leaves_before_video() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(audio_track(7, 1, None));
    world.put(Entry::Subscription(subscription(2, 9)));
    world.put(Entry::Subscription(subscription(2, 7)));
    Camera::new(1, 9, None, 300).shoot(&mut world, true);
    Microphone::new(1, 7, 5).talk(&mut world);
    world.run(1);
    let types: Vec<_> = world.party(2).rtp.iter().map(|p| p.header.payload_type).collect();
    assert_eq!(types, [OPUS_OUT, VP8_OUT, VP8_OUT, VP8_OUT]);
    world.finish();
}
