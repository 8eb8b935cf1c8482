use super::*;
use crate::Micros;

fn check_error(bytes: &[u8], error: RtcpError) {
    let last = packets(bytes).last();
    assert!(matches!(last, Some(Err(found)) if found == error), "{bytes:02x?} gave {last:?}");
}

#[test]
fn lying_lengths_are_refused() {
    check_error(&[0x80, 200, 0], RtcpError::Truncated);
    check_error(&[0x80, 201, 0, 2, 0, 0, 0, 1], RtcpError::Truncated);
    check_error(&[0x40, 201, 0, 1, 0, 0, 0, 1], RtcpError::Version);
    // A report block, an SSRC, SDES items, feedback SSRCs and REMB SSRCs that are not there.
    check_error(&[0x81, 201, 0, 1, 0, 0, 0, 1], RtcpError::Body);
    check_error(&[0x82, 203, 0, 1, 0, 0, 0, 1], RtcpError::Body);
    check_error(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, 65, 0], RtcpError::Body);
    check_error(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, 65, 65], RtcpError::Body);
    check_error(&[0x81, 205, 0, 1, 0, 0, 0, 1], RtcpError::Body);
    check_error(&[0x8F, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0, 0, 0], RtcpError::Body);
    // Padding over the packet, and of nothing.
    check_error(&[0xA0, 201, 0, 1, 0, 0, 0, 5], RtcpError::Padding);
    check_error(&[0xA0, 201, 0, 1, 0, 0, 0, 0], RtcpError::Padding);
}

#[test]
fn padding_before_the_last_packet_is_removed() {
    let bytes = [0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0x80, 201, 0, 1, 0, 0, 0, 2];
    let ssrcs: Vec<u32> = packets(&bytes)
        .map(|packet| match packet {
            Ok(Packet::ReceiverReport(report)) => report.ssrc,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ssrcs, [1, 2]);
}

#[test]
fn after_an_error_nothing_follows() {
    let bytes = [0x81, 201, 0, 1, 0, 0, 0, 1, 0x80, 201, 0, 1, 0, 0, 0, 1];
    assert_eq!(packets(&bytes).count(), 1);
}

#[test]
fn padding_is_left_out() {
    let mut bytes = vec![0xA1, 203, 0, 2, 0, 0, 0, 7, 0, 0, 0, 4];
    let Some(Ok(Packet::Goodbye(goodbye))) = packets(&bytes).next() else {
        panic!("not a goodbye");
    };
    assert!(goodbye.ssrcs().eq([7]));
    bytes[0] = 0xA2;
    check_error(&bytes, RtcpError::Body);
}

#[test]
fn unknown_packets_are_passed_over() {
    let bytes = [0x85, 207, 0, 0, 0x82, 206, 0, 1, 0, 0, 0, 1];
    let found: Vec<_> = packets(&bytes).map(Result::unwrap).collect();
    let [Packet::Unknown { packet_type: 207, format: 5 }, Packet::Unknown { packet_type: 206, format: 2 }] = found[..]
    else {
        panic!("{found:?}");
    };
}

/// Parses the only packet, transport-wide feedback, into arrival times.
fn arrivals(bytes: &[u8]) -> Vec<(u16, Option<i64>)> {
    let Some(Ok(Packet::TransportFeedback(feedback))) = packets(bytes).next() else {
        panic!("not feedback: {:?}", packets(bytes).next());
    };
    feedback.arrivals().map(|arrival| (arrival.sequence, arrival.at_us)).collect()
}

#[test]
fn feedback_in_every_kind_of_chunk() {
    let head = [0, 0, 0, 1, 0, 0, 0, 2, 0xFF, 0xFF, 0, 3, 0, 0, 1, 0];
    let check = |rest: &[u8], expected: [Option<i64>; 3]| {
        let mut bytes = vec![0x8F, 205, 0, 0];
        bytes.extend(head);
        bytes.extend(rest);
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        let expected: Vec<_> = [0xFFFF, 0, 1].into_iter().zip(expected).collect();
        assert_eq!(arrivals(&bytes), expected, "{rest:02x?}");
    };
    // A run of small deltas; a vector of one-bit symbols; one of two-bit symbols with a negative delta; two runs, the first
    // of length zero.
    check(&[0x20, 3, 1, 2, 3, 0, 0, 0], [Some(64_250), Some(64_750), Some(65_500)]);
    check(&[0xA8, 0, 1, 2], [Some(64_250), None, Some(64_750)]);
    check(&[0xD2, 0, 4, 0xFF, 0xFE, 0, 0, 0], [Some(65_000), None, Some(64_500)]);
    check(&[0x20, 0, 0, 3], [None, None, None]);
}

#[test]
fn feedback_that_lies_is_refused() {
    let mut bytes = vec![0x8F, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 1, 0, 0x20, 2, 1, 2];
    check_error(&bytes, RtcpError::Body);
    bytes[21] = 3;
    check_error(&bytes, RtcpError::Body);
    // A reserved symbol.
    bytes[20] = 0x60;
    check_error(&bytes, RtcpError::Body);
    // More statuses than anybody sends, at no cost in bytes.
    bytes[20..22].copy_from_slice(&[0x1F, 0xFF]);
    bytes[14..16].copy_from_slice(&(MAX_STATUSES as u16 + 1).to_be_bytes());
    check_error(&bytes, RtcpError::Body);
    bytes[14..16].copy_from_slice(&(MAX_STATUSES as u16).to_be_bytes());
    assert_eq!(arrivals(&bytes).len(), MAX_STATUSES);
}

#[test]
fn feedback_byte_for_byte() {
    let mut out = [0; 64];
    let mut compound = Compound::new(&mut out);
    let at = |us| Some(Micros(us));
    let arrived = [at(64_000), at(65_000), None, at(64_500), at(1_000_000)];
    assert_eq!(compound.transport_feedback(1, 2, 9, 100, &arrived), Some(5));
    let len = compound.len();
    assert_eq!(
        out[..len],
        [
            0x8F,
            205,
            0,
            6,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            2,
            0,
            100,
            0,
            5,
            0,
            0,
            1,
            9,
            0b1101_0100,
            0b1010_0000,
            0,
            4,
            0xFF,
            0xFE,
            0x0E,
            0x9E
        ]
    );
}

#[test]
fn feedback_without_arrivals_is_not_written() {
    let mut out = [0; 64];
    let mut compound = Compound::new(&mut out);
    assert_eq!(compound.transport_feedback(1, 2, 9, 100, &[None; 4]), Some(0));
    assert!(compound.is_empty());
}

#[test]
fn a_bitrate_beyond_bounds_is_saturated() {
    let bytes = [0x8F, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 0, 0xFF, 0xFF, 0xFF];
    let Some(Ok(Packet::Remb(remb))) = packets(&bytes).next() else {
        panic!("not REMB");
    };
    assert_eq!(remb.bitrate_bps, u64::MAX);
}

#[test]
fn what_an_application_says_comes_back() {
    let mut out = [0; 64];
    let mut compound = Compound::new(&mut out);
    compound.application(3, 9, *b"TEST", &[1, 0xffff_ffff]).unwrap();
    assert_eq!(compound.application(32, 9, *b"TEST", &[]), None, "a subtype has five bits");
    let length = compound.len();
    let Some(Ok(Packet::Application(application))) = packets(&out[..length]).next() else { panic!("not APP") };
    assert_eq!((application.subtype, application.ssrc, application.name), (3, 9, *b"TEST"));
    assert!(application.words().eq([1, u32::MAX]));
    assert!(matches!(packets(&[0x80, 204, 0, 1, 0, 0, 0, 9]).next(), Some(Err(_))), "without a name it is none");
}
