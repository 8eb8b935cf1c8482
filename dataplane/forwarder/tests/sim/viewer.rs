//! What a decoder would say of a received video stream.

use std::collections::{BTreeMap, HashMap};

use sluice_wire::vp8::Descriptor;

use crate::support::Rtp;

/// A frame as it was put together from packets.
#[derive(Clone, Debug)]
pub struct Frame {
    pub ssrc: u32,
    pub timestamp: u32,
    pub picture_id: u16,
    pub tl0: u8,
    pub temporal_id: u8,
    pub is_keyframe: bool,
}

/// Puts packets in order and cuts them into frames, asserting on the way what every decoder relies on.
pub fn watch(packets: &[Rtp], expect_gaps: bool) -> Vec<Frame> {
    let ordered: BTreeMap<u64, &Rtp> = packets.iter().map(|p| (p.index, p)).collect();
    assert_eq!(ordered.len(), packets.len(), "each number once");
    let mut frames: Vec<Frame> = Vec::new();
    let mut last: Option<u64> = None;
    let mut sources: HashMap<u32, u64> = HashMap::new();
    for (&index, packet) in &ordered {
        if let Some(last) = last
            && !expect_gaps
        {
            assert_eq!(index, last + 1, "no gap");
        }
        let contiguous = last.is_none_or(|last| index == last + 1);
        last = Some(index);
        let payload = packet.payload();
        let descriptor = Descriptor::parse(payload).expect("VP8");
        let at = usize::from(descriptor.len) + if descriptor.starts_frame { 10 } else { 0 };
        let ssrc = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let source_index = u64::from_be_bytes(payload[at + 4..at + 12].try_into().unwrap());
        // Packets of one source keep their order: a number between two others was made for it.
        let before = sources.insert(ssrc, source_index);
        assert!(before.is_none_or(|before| before < source_index), "order of {ssrc} kept");
        let frame = Frame {
            ssrc,
            timestamp: packet.header.timestamp,
            picture_id: descriptor.picture_id.unwrap().value(),
            tl0: descriptor.tl0_picture_index.unwrap(),
            temporal_id: descriptor.temporal_id.unwrap(),
            is_keyframe: descriptor.is_keyframe,
        };
        match frames.last() {
            Some(current) if current.picture_id == frame.picture_id => {
                assert_eq!((current.timestamp, current.tl0, current.ssrc), (frame.timestamp, frame.tl0, frame.ssrc));
            }
            previous => {
                if let Some(previous) = previous {
                    let step = frame.timestamp.wrapping_sub(previous.timestamp) as i32;
                    assert!(step > 0, "time goes on: {previous:?} {frame:?}");
                    if contiguous {
                        assert_eq!(frame.picture_id, (previous.picture_id + 1) & 0x7fff, "{previous:?} {frame:?}");
                        let base = u8::from(frame.temporal_id == 0);
                        assert_eq!(frame.tl0, previous.tl0.wrapping_add(base), "{previous:?} {frame:?}");
                    }
                    if previous.ssrc != frame.ssrc && contiguous {
                        assert!(frame.is_keyframe, "a switch happens at a key frame");
                    }
                }
                frames.push(frame);
            }
        }
    }
    frames
}
