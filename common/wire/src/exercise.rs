//! What fuzz targets and tests call: each parser over arbitrary bytes, asserting what must hold of whatever it accepts.
//!
//! These functions panic where an assertion fails. Nothing else in this crate does.

use std::iter;

use arrayvec::ArrayVec;

use crate::{Micros, av1, h264, level, red, rtcp, rtp, stun, vp8, vp9};

/// The longest input that is also written back.
const BUFFER_BYTES: usize = 4096;

/// RTP headers: what was read is written anew and reads the same.
pub fn rtp(bytes: &[u8]) {
    let _ = rtp::classify(bytes);
    let _ = level::AudioLevel::parse(bytes);
    let Ok(header) = rtp::Header::parse(bytes) else {
        return;
    };
    assert!(header.payload(bytes).len() == header.payload_len() && header.payload_len() <= bytes.len());
    let mut buffer = [0; BUFFER_BYTES];
    let fields = rtp::HeaderFields {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let len = rtp::write_header(&mut buffer, fields);
    let mut writer = rtp::ExtensionWriter::new(&mut buffer, len.unwrap_or_default());
    let fits = header.extensions(bytes).all(|(id, value)| writer.push(id, value).is_some());
    if let (true, Some(len)) = (fits, writer.finish()) {
        let written = &buffer[..len];
        let again = rtp::Header::parse(written).expect("a written header is readable");
        assert!(header.extensions(bytes).eq(again.extensions(written)));
        assert_eq!(
            (again.marker, again.payload_type, again.sequence, again.timestamp, again.ssrc),
            (header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc)
        );
    }
    if let Some(copy) = buffer.get_mut(..bytes.len()) {
        copy.copy_from_slice(bytes);
        if let Some(len) = rtp::restore_rtx(copy, &header, 7, 96) {
            let original = rtp::Header::parse(&copy[..len]).expect("a restored packet is readable");
            assert_eq!(Some(original.sequence), rtp::original_sequence(header.payload(bytes)));
            assert_eq!(original.payload(&copy[..len]), &header.payload(bytes)[rtp::RTX_PREFIX_BYTES..]);
        }
    }
}

/// RTCP compounds: everything in them is walked, and feedback is written anew and reads the same.
pub fn rtcp(bytes: &[u8]) {
    for packet in rtcp::packets(bytes) {
        let Ok(packet) = packet else {
            continue;
        };
        let entries = match packet {
            rtcp::Packet::SenderReport(report) => report.reports().count(),
            rtcp::Packet::ReceiverReport(report) => report.reports().count(),
            rtcp::Packet::SourceDescription(description) => description.cnames().count(),
            rtcp::Packet::Goodbye(goodbye) => goodbye.ssrcs().count(),
            rtcp::Packet::FullIntraRequest(request) => request.entries().count(),
            rtcp::Packet::Remb(remb) => remb.ssrcs().count(),
            rtcp::Packet::Nack(nack) => {
                nack_again(&nack);
                0
            }
            rtcp::Packet::TransportFeedback(feedback) => {
                feedback_again(&feedback);
                0
            }
            rtcp::Packet::Application(application) => application.words().count(),
            rtcp::Packet::PictureLossIndication { .. } | rtcp::Packet::Unknown { .. } => 0,
        };
        assert!(entries <= bytes.len());
    }
}

fn nack_again(nack: &rtcp::Nack) {
    let sequences: ArrayVec<u16, 256> = nack.sequences().take(256).collect();
    let mut buffer = [0; BUFFER_BYTES];
    let mut compound = rtcp::Compound::new(&mut buffer);
    assert_eq!(compound.nack(1, 2, &sequences), Some(sequences.len()));
    let len = compound.len();
    for packet in rtcp::packets(&buffer[..len]) {
        let Ok(rtcp::Packet::Nack(again)) = packet else {
            panic!("a written NACK is readable");
        };
        assert!(sequences.iter().all(|sequence| again.sequences().any(|found| found == *sequence)));
        assert!(again.sequences().all(|found| sequences.contains(&found)));
    }
}

fn feedback_again(feedback: &rtcp::TransportFeedback) {
    assert_eq!(feedback.arrivals().count(), usize::from(feedback.status_count));
    let arrivals: ArrayVec<Option<Micros>, 512> = feedback
        .arrivals()
        .take(512)
        .map(|arrival| arrival.at_us.and_then(|at| u64::try_from(at).ok()).map(Micros))
        .collect();
    // Past half of its 24 bits the reference time reads as negative.
    if arrivals.iter().flatten().any(|at| at.0 >= 64_000 << 23) {
        return;
    }
    let mut buffer = [0; BUFFER_BYTES];
    let mut compound = rtcp::Compound::new(&mut buffer);
    let Some(covered) = compound.transport_feedback(1, 2, 3, feedback.base_sequence, &arrivals) else {
        return;
    };
    let len = compound.len();
    for packet in rtcp::packets(&buffer[..len]) {
        let Ok(rtcp::Packet::TransportFeedback(again)) = packet else {
            panic!("written feedback is readable");
        };
        let again = again.arrivals().map(|arrival| arrival.at_us.map(|at| Micros(at as u64)));
        assert!(again.eq(arrivals.iter().copied().take(covered)));
    }
}

/// STUN messages: parsed and verified; the input also serves as a request's username.
pub fn stun(bytes: &[u8]) {
    let mut buffer = [0; BUFFER_BYTES];
    if let Ok(message) = stun::Message::parse(bytes) {
        let _ = (message.verify_integrity(b"password"), message.verify_fingerprint());
        let len = stun::write_error(
            &mut buffer,
            message.transaction_id,
            stun::ErrorCode::UnknownAttribute,
            &message.unknown,
            Some(b"password"),
        );
        let error = stun::Message::parse(&buffer[..len.unwrap_or_default()]).expect("a written error is readable");
        assert_eq!((error.error_code, error.transaction_id), (Some(420), message.transaction_id));
        assert!(error.verify_integrity(b"password") && error.verify_fingerprint());
    }
    let request = stun::Request {
        transaction_id: stun::TransactionId([7; 12]),
        username: bytes,
        password: b"password",
        priority: 1,
        use_candidate: true,
        role: stun::Role::Controlling(2),
    };
    if let Some(len) = stun::write_request(&mut buffer, &request) {
        let message = stun::Message::parse(&buffer[..len]).expect("a written request is readable");
        assert!(message.username == Some(bytes) && message.verify_integrity(b"password") && message.use_candidate);
    }
}

/// VP8 descriptors: a patch changes the fields it names and nothing else.
pub fn vp8(bytes: &[u8]) {
    let Ok(descriptor) = vp8::Descriptor::parse(bytes) else {
        return;
    };
    let mut copy: ArrayVec<u8, 16> = bytes.iter().copied().take(16).collect();
    let before = vp8::Descriptor::parse(&copy);
    let patch = vp8::Patch { picture_id: Some(0x2A55), tl0_picture_index: Some(0x99), key_index: Some(0x15) };
    descriptor.patch(&mut copy, patch).expect("the descriptor is there");
    let patched = vp8::Descriptor::parse(&copy).expect("a patched descriptor is readable");
    let expected = before.map(|before| vp8::Descriptor {
        picture_id: before.picture_id.map(|id| match id {
            vp8::PictureId::Narrow(_) => vp8::PictureId::Narrow(0x55),
            vp8::PictureId::Wide(_) => vp8::PictureId::Wide(0x2A55),
        }),
        tl0_picture_index: before.tl0_picture_index.map(|_| 0x99),
        key_index: before.key_index.map(|_| 0x15),
        ..before
    });
    assert_eq!(Ok(patched), expected);
}

/// VP9 descriptors.
pub fn vp9(bytes: &[u8]) {
    if let Ok(descriptor) = vp9::Descriptor::parse(bytes) {
        assert!(usize::from(descriptor.len) <= bytes.len());
        assert!(descriptor.structure.is_none_or(|structure| structure.sizes().len() <= 8));
        let prefix = bytes.get(..usize::from(descriptor.len)).unwrap_or_default();
        assert_eq!(vp9::Descriptor::parse(prefix), Ok(descriptor), "nothing behind the descriptor is read");
    }
}

/// H.264 payloads.
pub fn h264(bytes: &[u8]) {
    if let Ok(units) = h264::Units::parse(bytes) {
        assert!(!bytes.is_empty());
        assert_eq!(units.is_keyframe(), units.has_idr || units.has_sequence_parameters);
    }
}

/// AV1 payloads and dependency descriptors.
pub fn av1(bytes: &[u8]) {
    let _ = av1::DependencyDescriptor::parse(bytes);
    if let Ok(aggregation) = av1::Aggregation::parse(bytes) {
        assert!(!(aggregation.continues && aggregation.begins_sequence));
    }
}

/// RED payloads: the blocks are within the payload and do not overlap.
pub fn red(bytes: &[u8]) {
    let primary = red::primary(bytes);
    assert!(primary.is_ok() || red::redundant(bytes).next().is_none());
    if let Ok(primary) = primary {
        let blocks = red::redundant(bytes);
        let used: usize = blocks.map(|block| 4 + block.payload.len()).sum();
        assert_eq!(used + 1 + primary.payload.len(), bytes.len());
    }
}

/// The bytes of `seed` with the `number`th mutation, always the same for the same arguments: flipped bits, overwritten,
/// removed, repeated and appended bytes. Cut to what `N` holds.
pub fn mutate<const N: usize>(seed: &[u8], number: u64) -> ArrayVec<u8, N> {
    let mut bytes: ArrayVec<u8, N> = seed.iter().copied().take(N).collect();
    // SplitMix64: even consecutive numbers give unrelated mutations.
    let mut state = number.wrapping_add(1);
    let mut random = iter::from_fn(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some((mixed ^ mixed >> 31) as usize)
    });
    let mut next = |below: usize| random.next().unwrap_or_default() % below.max(1);
    for _ in 0..1 + next(4) {
        let at = next(bytes.len());
        let value = [0, 0x7F, 0x80, 0xFF, next(256) as u8][next(5)];
        match (next(6), bytes.get_mut(at)) {
            (0 | 1, Some(byte)) => *byte ^= 1 << next(8),
            (2, Some(byte)) => *byte = value,
            (3, Some(_)) => drop(bytes.remove(at)),
            (4, Some(_)) => bytes.truncate(at),
            _ => {
                let _ = bytes.try_insert(at, value);
            }
        }
    }
    bytes
}
