//! A call with a camera and a microphone, as clients and as rows of the table.

use std::time::Instant;

use sluice_messages::{
    CallId, Codec, Encoding, Entry, Kind, Payload, PayloadMap, Subscription, Track, TrackId, TransportId, Wish,
};
use sluice_node::Node;
use str0m::{
    media::{MediaKind, Mid},
    rtp::{RtpWrite, Ssrc},
};

use super::person::*;

pub const VIDEO: u32 = 300;
pub const VP8: u8 = 96;
pub const AUDIO: u32 = 400;
pub const OPUS: u8 = 111;

pub fn track(id: u64, ssrc: u32) -> Entry {
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
pub fn ssrc(receiver: u64, track: u64) -> u32 {
    (receiver * 1000 + track) as u32
}

pub fn subscription(receiver: u64, track: u64) -> Entry {
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

pub fn receiver(node: &Node, id: u64) -> Person {
    let mut person = Person::new(node, id, NODE_OPENS);
    let mut api = person.rtc.direct_api();
    for (track, kind) in [(1, MediaKind::Video), (2, MediaKind::Audio)] {
        let mid = Mid::from(&*format!("t{track}"));
        api.declare_media(mid, kind);
        api.expect_stream_rx(ssrc(id, track).into(), None, mid, None);
    }
    person
}

pub fn publisher(node: &Node) -> Person {
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
pub struct Sent {
    pub packets: u64,
}

impl Sent {
    /// One frame of video, which is a key frame if that was asked for, and one of audio.
    pub fn send(&mut self, person: &mut Person) {
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
pub fn received(person: &Person, track: u64) -> usize {
    let of = |p: &&str0m::rtp::RtpPacket| *p.header.ssrc == ssrc(person.transport.id.0, track);
    let numbers: Vec<u64> = person.rtp.iter().filter(of).map(|p| *p.seq_no).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    numbers.len()
}
