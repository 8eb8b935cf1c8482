//! A call on two workers: media from a client on one reaches clients on both.

mod support;

use std::time::Instant;

use sluice_messages::{
    CallId, Codec, Down, Encoding, Entry, Key, Kind, Op, Payload, PayloadMap, Subscription, Track, TrackId,
    TransportId, Wish,
};
use sluice_node::Node;
use str0m::{
    media::{MediaKind, Mid},
    rtp::{RtpWrite, Ssrc},
};
use support::{person::*, *};

const VIDEO: u32 = 300;
const VP8: u8 = 96;
const AUDIO: u32 = 400;
const OPUS: u8 = 111;

fn track(id: u64, ssrc: u32) -> Entry {
    let (kind, payload_type, codec) = match ssrc {
        VIDEO => (Kind::Video, VP8, Codec::Vp8),
        _ => (Kind::Audio, OPUS, Codec::Opus),
    };
    Entry::Track(Track {
        id: TrackId(id),
        call: CallId(1),
        publisher: TransportId(1),
        kind,
        mid: format!("t{id}"),
        payloads: vec![Payload { payload_type, codec, rtx: None, nack: true }],
        encodings: vec![Encoding { rid: None, ssrc: Some(ssrc), rtx_ssrc: None }],
        muted: false,
        rate_bps: 0,
    })
}

/// SSRC of a track at a receiver.
fn ssrc(receiver: u64, track: u64) -> u32 {
    (receiver * 1000 + track) as u32
}

fn subscription(receiver: u64, track: u64) -> Entry {
    let payload_type = if track == 1 { VP8 } else { OPUS };
    Entry::Subscription(Subscription {
        receiver: TransportId(receiver),
        track: TrackId(track),
        mid: format!("t{track}"),
        ssrc: ssrc(receiver, track),
        rtx_ssrc: None,
        payloads: vec![PayloadMap { from: payload_type, to: payload_type, rtx: None }],
        wish: Wish::default(),
    })
}

fn receiver(node: &Node, id: u64) -> Person {
    let mut person = Person::new(node, id, NODE_OPENS);
    let mut api = person.rtc.direct_api();
    for (track, kind) in [(1, MediaKind::Video), (2, MediaKind::Audio)] {
        let mid = Mid::from(&*format!("t{track}"));
        api.declare_media(mid, kind);
        api.expect_stream_rx(ssrc(id, track).into(), None, mid, None);
    }
    person
}

fn publisher(node: &Node) -> Person {
    let mut person = Person::new(node, 1, CLIENT_OPENS);
    let mut api = person.rtc.direct_api();
    for (mid, kind, ssrc) in [("t1", MediaKind::Video, VIDEO), ("t2", MediaKind::Audio, AUDIO)] {
        api.declare_media(mid.into(), kind);
        api.declare_stream_tx(ssrc.into(), None, mid.into(), None);
    }
    person
}

/// What a publisher sent so far.
#[derive(Default)]
struct Sent {
    packets: u64,
}

impl Sent {
    /// One frame of video, which is a key frame if that was asked for, and one of audio.
    fn send(&mut self, person: &mut Person) {
        let is_keyframe = std::mem::take(&mut person.asked).contains(&Ssrc::from(VIDEO)) || self.packets == 0;
        let mut frame = vec![0x10, if is_keyframe { 0x10 } else { 0x11 }, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 1, 0xf0, 0];
        frame.extend(self.packets.to_be_bytes());
        for (ssrc, pt, time, payload) in
            [(VIDEO, VP8, self.packets as u32 * 900, frame), (AUDIO, OPUS, self.packets as u32 * 480, vec![0xfc; 40])]
        {
            let mut api = person.rtc.direct_api();
            let stream = api.stream_tx(&ssrc.into()).unwrap();
            let write = RtpWrite::new(pt.into(), (self.packets + 1).into(), time, Instant::now(), payload);
            stream.write_rtp(write.marker(true));
        }
        self.packets += 1;
    }
}

/// How many packets of a track a receiver has, all of them in order and without gap.
fn received(person: &Person, track: u64) -> usize {
    let of = |p: &&str0m::rtp::RtpPacket| *p.header.ssrc == ssrc(person.transport.id.0, track);
    let numbers: Vec<u64> = person.rtp.iter().filter(of).map(|p| *p.seq_no).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    numbers.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_on_both_workers_get_everything() {
    let (node, _control, mut link) = pair_that_spreads().await;
    let mut people = vec![publisher(&node)];
    people.extend((2..=6).map(|id| receiver(&node, id)));
    let mut entries: Vec<Entry> = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    entries.extend([track(1, VIDEO), track(2, AUDIO)]);
    entries.extend((2..=5).flat_map(|id| [subscription(id, 1), subscription(id, 2)]));
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let mut sent = Sent::default();
    live(&node, &mut people, "media arrives", |people| {
        sent.send(&mut people[0]);
        people[1..5].iter().all(|person| received(person, 1) > 50 && received(person, 2) > 50)
    });
    // Home and sibling have two receivers each, and the sibling gets each packet once.
    wait_for_counter(&node, "relayed", 100);
    assert!(counter(&node, "relayed") <= 2 * sent.packets, "{} of {}", counter(&node, "relayed"), sent.packets);

    // Who comes later, and who asks for a key frame, is served on either side.
    let ops = vec![Op::Put(subscription(6, 1)), Op::Put(subscription(6, 2))];
    link.say(Down::Delta { epoch: 1, sequence: 1, ops }).await;
    live(&node, &mut people, "the late one gets media", |people| {
        sent.send(&mut people[0]);
        received(&people[5], 1) > 20 && received(&people[5], 2) > 20
    });
    for n in 1..=5 {
        let before = counter(&node, "keyframe_requests");
        let mut api = people[n].rtc.direct_api();
        let stream = api.stream_rx_by_mid("t1".into(), None).unwrap();
        stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        people[0].asked.clear();
        live(&node, &mut people, "a key frame is asked for", |people| {
            counter(&node, "keyframe_requests") > before && !people[0].asked.is_empty()
        });
    }

    // Whoever leaves, leaves nothing behind: the others go on, and in the end nobody does.
    let before: Vec<usize> = people[1..4].iter().map(|person| received(person, 1)).collect();
    let ops = [4, 5, 6].map(|id| Op::Remove(Key::Transport(TransportId(id)))).into();
    link.say(Down::Delta { epoch: 1, sequence: 2, ops }).await;
    people.truncate(3);
    live(&node, &mut people, "the others go on", |people| {
        sent.send(&mut people[0]);
        people[1..].iter().zip(&before).all(|(person, before)| received(person, 1) > before + 50)
    });
    let ops = vec![Op::Remove(Key::Track(TrackId(1))), Op::Remove(Key::Transport(TransportId(1)))];
    link.say(Down::Delta { epoch: 1, sequence: 3, ops }).await;
    live(&node, &mut people, "the publisher is gone", |people| {
        sent.send(&mut people[0]);
        counter(&node, "worker_drop_unvalidated") + counter(&node, "worker_drop_handed_in") > 10
    });
    assert_eq!(counter(&node, "worker_drop_relay_full"), 0);
    assert_eq!(counter(&node, "drop_relay_full"), 0);
    node.stop();
}
