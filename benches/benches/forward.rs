//! A frame of video from one publisher to 200 receivers, through the forwarder and into transmit slots that nobody sends;
//! beside it what no forwarder can avoid: sealing as many packets of that size, each with its receiver's key.

#![forbid(unsafe_code)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluice_forwarder::{Config, Forwarder, Input};
use sluice_frames::Pool;
use sluice_messages::{Entry, TransportId};
use sluice_srtp::{Profile, Sender};
use sluice_wire::{Micros, rtp::Header};
use support::{Camera, Collect, World, material, subscription, video_track};

#[path = "../../dataplane/forwarder/tests/sim/support.rs"]
#[allow(dead_code, reason = "the forwarder's tests use more of it")]
mod support;

const RECEIVERS: u64 = 200;
const PUBLISHER: u64 = 1;
const TRACK: u64 = 9;

/// 1.7 Mb/s of 30 frames a second.
const PACKETS_PER_FRAME: u64 = 6;
const FRAME_US: u64 = 33_333;
const PACKET_BYTES: usize = 1200;

/// A call with everyone in it, and who sends to it.
fn call() -> (World, Camera) {
    let mut world = World::with(Config::default(), 16_384);
    world.tx.discards = true;
    for id in 1..=RECEIVERS + 1 {
        world.keyed = id as u8 / 2;
        world.join(id);
    }
    world.put(Entry::Track(video_track(TRACK, PUBLISHER, 1)));
    for id in 2..=RECEIVERS + 1 {
        world.put(Entry::Subscription(subscription(id, TRACK)));
    }
    let mut camera = Camera::new(PUBLISHER, TRACK, None, 300);
    camera.packets_per_frame = PACKETS_PER_FRAME;
    (world, camera)
}

/// The packets of a frame as the publisher sends them, sealed and as long as video is.
fn frame(camera: &mut Camera, sender: &Sender, keyframe: bool) -> Vec<Vec<u8>> {
    let mut sealed = Vec::new();
    for (index, mut packet) in camera.frame(keyframe) {
        packet.resize(PACKET_BYTES - sender.profile().tag_len(), 0x77);
        let start = usize::from(Header::parse(&packet).expect("a packet").payload_start);
        let mut out = vec![0; 2048];
        let len = sender
            .seal_rtp(&packet[..start], &packet[start..], (index >> 16) as u32, &mut out)
            .expect("the slot suffices");
        out.truncate(len);
        sealed.push(out);
    }
    camera.sent.clear();
    sealed
}

/// All that a worker does for a frame, but for receiving and sending.
fn forward(forwarder: &mut Forwarder, pool: &mut Pool, tx: &mut Collect, now: &mut Micros, frame: &[Vec<u8>]) {
    for packet in frame {
        let id = pool.take().expect("a frame");
        pool.buffer_mut(id)[..packet.len()].copy_from_slice(packet);
        pool.set_len(id, packet.len());
        forwarder.input(*now, Input::Datagram { transport: TransportId(PUBLISHER), frame: id }, pool);
    }
    let end = Micros(now.0 + FRAME_US);
    // What is held back leaves when its time has come.
    while *now < end {
        while forwarder.poll(*now, pool, tx).is_some() {}
        *now = forwarder.wake().max(Micros(now.0 + 1)).min(end);
    }
}

fn step(criterion: &mut Criterion) {
    let (world, mut camera) = call();
    let World { mut forwarder, mut pool, mut tx, mut now, parties, .. } = world;
    let sender = &parties[&PUBLISHER].sender;
    forward(&mut forwarder, &mut pool, &mut tx, &mut now, &frame(&mut camera, sender, true));
    for _ in 0..30 {
        let next = frame(&mut camera, sender, false);
        forward(&mut forwarder, &mut pool, &mut tx, &mut now, &next);
    }

    let mut group = criterion.benchmark_group("a frame to 200 receivers");
    group.throughput(Throughput::Elements(RECEIVERS * PACKETS_PER_FRAME));
    let (before, mut frames) = (tx.committed, 0);
    group.bench_function("forwarder", |bencher| {
        bencher.iter_batched(
            || frame(&mut camera, sender, false),
            |frame| {
                frames += 1;
                forward(&mut forwarder, &mut pool, &mut tx, &mut now, &frame);
            },
            BatchSize::SmallInput,
        );
    });
    assert!(tx.committed - before >= frames * RECEIVERS * PACKETS_PER_FRAME, "everyone got everything");

    let senders: Vec<Sender> = (0..RECEIVERS)
        .map(|id| Sender::new(&material(Profile::AeadAes128Gcm, id as u8 / 2).0).expect("the keys fit"))
        .collect();
    let plain = {
        let (_, mut plain) = camera.frame(false).swap_remove(0);
        plain.resize(PACKET_BYTES - Profile::AeadAes128Gcm.tag_len(), 0x77);
        plain
    };
    let start = usize::from(Header::parse(&plain).expect("a packet").payload_start);
    let (mut slot, mut index) = ([0; 2048], 0u64);
    group.bench_function("sealing alone", |bencher| {
        bencher.iter(|| {
            for sender in &senders {
                for _ in 0..PACKETS_PER_FRAME {
                    index += 1;
                    slot[..start].copy_from_slice(&plain[..start]);
                    slot[2..4].copy_from_slice(&(index as u16).to_be_bytes());
                    sender
                        .seal_in_slot(&mut slot, start, start, &plain[start..], (index >> 16) as u32)
                        .expect("the slot suffices");
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
