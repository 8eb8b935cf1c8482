//! What a second worker costs and brings: one publisher of 1,200-byte video packets and many receivers in one call, on one
//! worker, and twice as many on two, in turns. Prints packets per CPU second of the worker threads.
//!
//! ```text
//! cargo run --release -p sluice-node --example cores -- [receivers a worker, 100] [packets a second, 500] [rounds, 6] [seconds, 5]
//! ```
//!
//! Clients are whole ones until they are connected; then they read no more, and the kernel drops what they get. That is billed
//! to the sending worker, in both cases alike. The machine needs a third core for the publisher, or the ratio alone counts.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use sluice_messages::{
    CallId, Codec, Encoding, Entry, Kind, Payload, PayloadMap, Subscription, Track, TrackId, TransportId, Wish,
};
use str0m::{media::MediaKind, rtp::RtpWrite};
use support::{person::*, *};

const SSRC: u32 = 300;
const VP8: u8 = 96;
const PAYLOAD_BYTES: usize = 1160;

/// What one round showed.
struct Round {
    packets: u64,
    cpu_s: f64,
    wall_s: f64,
    relayed: u64,
    lost: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let receivers = numbers.next().unwrap_or(100);
    let rate = numbers.next().unwrap_or(500);
    let rounds = numbers.next().unwrap_or(6);
    let seconds = numbers.next().unwrap_or(5);
    let mut costs: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds {
        for workers in [1, 2] {
            let shown = play(workers, receivers * workers as u64, rate, Duration::from_secs(seconds)).await;
            let per_second = shown.packets as f64 / shown.cpu_s;
            println!(
                "round {round}, {workers} worker(s): {:.0} packets/s sent, {:.0} packets per worker CPU second, {} relayed, {} dropped",
                shown.packets as f64 / shown.wall_s,
                per_second,
                shown.relayed,
                shown.lost,
            );
            costs[workers - 1].push(per_second);
        }
    }
    let [one, two] = costs.map(|mut all| {
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[0], all[all.len() - 1])
    });
    println!("one worker: median {:.0} packets per CPU second ({:.0} to {:.0})", one.0, one.1, one.2);
    println!("two workers: median {:.0} packets per CPU second ({:.0} to {:.0})", two.0, two.1, two.2);
    println!("the second core brings x {:.2}", 2.0 * two.0 / one.0);
}

async fn play(workers: usize, receivers: u64, rate: u64, time: Duration) -> Round {
    let (node, _control, mut link) = pair_with(workers, |config| {
        config.spread = receivers as usize / 2 + 1;
        config.pool_frames = 16_384;
        config.forwarder = sluice_node::ForwarderConfig::default();
    })
    .await;
    let mut publisher = Person::new(&node, 1, CLIENT_OPENS);
    let mut api = publisher.rtc.direct_api();
    api.declare_media("v".into(), MediaKind::Video);
    api.declare_stream_tx(SSRC.into(), None, "v".into(), None);
    let mut people = vec![publisher];
    people.extend((2..receivers + 2).map(|id| Person::new(&node, id, NODE_OPENS)));
    let mut entries: Vec<Entry> = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    entries.push(track());
    entries.extend((2..receivers + 2).map(subscription));
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(|person| person.is_connected));

    let mut sent = 0;
    send(&mut people[0], &mut sent, rate, Duration::from_millis(500));
    let before = (sent, cpu(), Instant::now());
    send(&mut people[0], &mut sent, rate, time);
    let after = (sent, cpu(), Instant::now());
    let lost = ["drop_queue_full", "drop_relay_full", "worker_drop_relay_full"];
    let round = Round {
        // What is lost is printed; without that each receiver gets each packet.
        packets: (after.0 - before.0) * receivers,
        cpu_s: after.1 - before.1,
        wall_s: (after.2 - before.2).as_secs_f64(),
        relayed: counter(&node, "relayed"),
        lost: lost.into_iter().map(|name| counter(&node, name)).sum(),
    };
    node.stop();
    round
}

/// Sends video in frames of ten packets.
fn send(person: &mut Person, sent: &mut u64, rate: u64, time: Duration) {
    let (start, first) = (Instant::now(), *sent);
    while start.elapsed() < time {
        let due = first + start.elapsed().as_millis() as u64 * rate / 1000;
        while *sent + 10 <= due {
            let (now, timestamp) = (Instant::now(), *sent as u32 * 300);
            for n in 0..10 {
                let begin = if n == 0 { 0x10 } else { 0 };
                let is_keyframe = *sent == 0 || !person.asked.is_empty();
                let mut payload = vec![begin, if is_keyframe { 0x10 } else { 0x11 }, 0, 0, 0x9d, 0x01, 0x2a];
                payload.extend([0x40, 1, 0xf0, 0]);
                payload.resize(PAYLOAD_BYTES, 7);
                *sent += 1;
                let write = RtpWrite::new(VP8.into(), (*sent).into(), timestamp, now, payload).marker(n == 9);
                person.rtc.direct_api().stream_tx(&SSRC.into()).expect("it was declared").write_rtp(write);
            }
            person.asked.clear();
        }
        person.drive();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// CPU time of all worker threads so far, in seconds.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs is there").filter_map(Result::ok);
    let of_worker = tasks.filter_map(|task| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).ok();
        let is_worker = read("comm")?.starts_with("worker-");
        let ns = read("schedstat")?.split(' ').next()?.parse::<u64>().ok()?;
        is_worker.then_some(ns as f64 / 1e9)
    });
    of_worker.sum()
}

fn track() -> Entry {
    Entry::Track(Track {
        id: TrackId(1),
        call: CallId(1),
        publisher: TransportId(1),
        kind: Kind::Video,
        mid: "v".into(),
        payloads: vec![Payload { payload_type: VP8, codec: Codec::Vp8, rtx: None, nack: true }],
        encodings: vec![Encoding { rid: None, ssrc: Some(SSRC), rtx_ssrc: None }],
        muted: false,
        rate_bps: 0,
    })
}

fn subscription(receiver: u64) -> Entry {
    Entry::Subscription(Subscription {
        receiver: TransportId(receiver),
        track: TrackId(1),
        mid: "v".into(),
        ssrc: receiver as u32,
        rtx_ssrc: None,
        payloads: vec![PayloadMap { from: VP8, to: VP8, rtx: None }],
        wish: Wish::default(),
    })
}
