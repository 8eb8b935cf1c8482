use super::*;

const HEADER: [u8; 12] = [0x80, 0xE0, 0xFF, 0xFE, 0, 0, 0, 9, 0xDE, 0xAD, 0xBE, 0xEF];

/// A packet whose first byte is `first` and which goes on with `rest` behind the fixed header.
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = [&HEADER[..], rest].concat();
    packet[0] = first;
    packet
}

#[test]
fn protocols_are_told_apart() {
    for (datagram, class) in [
        (&[0, 1][..], Some(PacketClass::Stun)),
        (&[3, 1], Some(PacketClass::Stun)),
        (&[4, 1], None),
        (&[19, 1], None),
        (&[20, 254], Some(PacketClass::Dtls)),
        (&[63, 254], Some(PacketClass::Dtls)),
        (&[64, 0], None),
        (&[127, 0], None),
        (&[128, 111], Some(PacketClass::Rtp)),
        (&[144, 0x80 | 111], Some(PacketClass::Rtp)),
        (&[128, 191], Some(PacketClass::Rtp)),
        (&[128, 192], Some(PacketClass::Rtcp)),
        (&[191, 223], Some(PacketClass::Rtcp)),
        (&[191, 224], Some(PacketClass::Rtp)),
        (&[192, 200], None),
        (&[128], None),
        (&[], None),
    ] {
        assert_eq!(classify(datagram), class, "{datagram:?}");
    }
}

#[test]
fn fields_and_ranges() {
    let bytes = packet(0xB1, &[1, 1, 1, 1, 0xBE, 0xDE, 0, 2, 0x10, 0x81, 0, 0x21, 7, 8, 0, 0, 5, 6, 0, 0, 3]);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!((header.marker, header.payload_type, header.sequence), (true, 96, 0xFFFE));
    assert_eq!((header.timestamp, header.ssrc, header.csrc_count), (9, 0xDEAD_BEEF, 1));
    assert_eq!(header.payload(&bytes), [5, 6]);
    assert!(header.extensions(&bytes).eq([(1, &[0x81][..]), (2, &[7, 8])]));
    assert_eq!(header.extension(&bytes, 2), Some(&[7, 8][..]));
    assert_eq!(header.extension(&bytes, 3), None);
    let protected = Header::parse_protected(&bytes).unwrap();
    assert_eq!(usize::from(protected.payload_end), bytes.len(), "padding is not known before decryption");
    assert_eq!(protected.unprotected(&bytes), Ok(header));
}

#[test]
fn lying_lengths_are_refused() {
    use RtpError::{Extension, Padding, Truncated, Version};
    for (bytes, error, why) in [
        (HEADER[..11].to_vec(), Truncated, "short header"),
        (packet(0x40, &[]), Version, "version 1"),
        (packet(0x81, &[0; 3]), Truncated, "a CSRC that is not there"),
        (packet(0x90, &[0xBE, 0xDE, 0]), Truncated, "no extension length"),
        (packet(0x90, &[0xBE, 0xDE, 0, 2, 0, 0, 0, 0]), Truncated, "an extension block past the end"),
        (packet(0x90, &[0xBE, 0xDE, 0xFF, 0xFF, 0, 0, 0, 0]), Truncated, "a huge extension block"),
        (packet(0x90, &[0xBE, 0xDE, 0, 1, 0x13, 0, 0, 0]), Extension, "an element past its block"),
        (packet(0x90, &[0x10, 0, 0, 1, 1, 3, 0, 0]), Extension, "a two-byte element past its block"),
        (packet(0x90, &[0x10, 0, 0, 1, 0, 0, 0, 9]), Extension, "half an element"),
        (packet(0xA0, &[1, 2, 4]), Padding, "more padding than payload"),
        (packet(0xA0, &[1, 2, 0]), Padding, "padding of nothing"),
        (packet(0xA0, &[]), Padding, "padding without a count"),
    ] {
        assert_eq!(Header::parse(&bytes), Err(error), "{why}");
    }
    assert_eq!(Header::parse(&packet(0x80, &[0; 65_530])), Err(RtpError::TooLong));
    let all_padding = packet(0xA0, &[0, 0, 3]);
    assert_eq!(Header::parse(&all_padding).unwrap().payload_len(), 0);
}

#[test]
fn id_15_ends_the_one_byte_form_and_other_profiles_are_opaque() {
    let bytes = packet(0x90, &[0xBE, 0xDE, 0, 2, 0x10, 1, 0xF3, 9, 0x20, 2, 0, 0]);
    assert!(Header::parse(&bytes).unwrap().extensions(&bytes).eq([(1, &[1][..])]));
    let bytes = packet(0x90, &[0xAB, 0xCD, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 5]);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!((header.extensions(&bytes).count(), header.payload(&bytes)), (0, &[5][..]));
}

#[test]
fn the_writer_keeps_to_one_byte_until_it_cannot() {
    let mut out = [0xAA; 64];
    out[..12].copy_from_slice(&HEADER);
    let mut writer = ExtensionWriter::new(&mut out, 12);
    writer.push(1, &[0x81]).unwrap();
    writer.push(14, &[7; 16]).unwrap();
    assert_eq!(writer.finish(), Some(36));
    assert_eq!(out[12..19], [0xBE, 0xDE, 0, 5, 0x10, 0x81, 0xEF]);

    out[..12].copy_from_slice(&HEADER);
    let mut writer = ExtensionWriter::new(&mut out, 12);
    writer.push(1, &[0x81]).unwrap();
    writer.push(2, &[7, 8]).unwrap();
    writer.push(15, &[9]).unwrap();
    assert_eq!(writer.finish(), Some(28));
    assert_eq!(out[12..28], [0x10, 0, 0, 3, 1, 1, 0x81, 2, 2, 7, 8, 15, 1, 9, 0, 0]);
    assert_eq!(out[0], 0x90);
}

#[test]
fn the_writer_refuses_what_does_not_fit() {
    let mut out = [0; 21];
    out[..12].copy_from_slice(&HEADER);
    let mut writer = ExtensionWriter::new(&mut out, 12);
    assert_eq!(writer.push(0, &[1]), None);
    assert_eq!(writer.push(1, &[1, 2, 3, 4, 5]), None);
    assert_eq!(writer.push(1, &[1, 2, 3]), Some(()));
    assert_eq!(writer.push(2, &[]), None, "there is no room for the two-byte form");
    assert_eq!(writer.finish(), Some(20));
    assert!(Header::parse(&out[..20]).unwrap().extensions(&out).eq([(1, &[1, 2, 3][..])]));
    assert_eq!(ExtensionWriter::new(&mut out, 12).finish(), Some(12), "no element, no block");
}

#[test]
fn setters_touch_their_field_only() {
    let mut bytes = packet(0x80, &[1, 2, 3]);
    set_sequence(&mut bytes, 0x0102);
    set_timestamp(&mut bytes, 0x0304_0506);
    set_ssrc(&mut bytes, 0x0708_090A);
    set_marker(&mut bytes, false);
    set_payload_type(&mut bytes, 0xFF);
    assert_eq!(bytes, [0x80, 0x7F, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3]);
    assert_eq!(ssrc(&bytes), Some(0x0708_090A));
    let mut short = [0x80];
    set_sequence(&mut short, 1);
    set_marker(&mut short, true);
    assert_eq!(short, [0x80]);
}

#[test]
fn a_retransmission_becomes_the_original() {
    let mut bytes = packet(0xB0, &[0xBE, 0xDE, 0, 1, 0x10, 0x81, 0, 0, 0x12, 0x34, 5, 6, 7, 0, 2]);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(original_sequence(header.payload(&bytes)), Some(0x1234));
    let len = restore_rtx(&mut bytes, &header, 0xCAFE, 98).unwrap();
    let original = Header::parse(&bytes[..len]).unwrap();
    assert_eq!((original.sequence, original.ssrc, original.payload_type), (0x1234, 0xCAFE, 98));
    assert_eq!((original.marker, original.timestamp), (true, 9));
    assert_eq!(original.payload(&bytes[..len]), [5, 6, 7]);
    assert_eq!(original.extension(&bytes, 1), Some(&[0x81][..]));

    let mut probe = packet(0xA0, &[0, 0, 3]);
    let before = probe.clone();
    let header = Header::parse(&probe).unwrap();
    assert_eq!(restore_rtx(&mut probe, &header, 0xCAFE, 98), None, "padding repeats no packet");
    assert_eq!(probe, before);
}

#[test]
fn padding_is_appended() {
    let mut out = [0xEE; 20];
    out[..12].copy_from_slice(&HEADER);
    assert_eq!(pad(&mut out, 14, 0), Some(14));
    assert_eq!(out[0], 0x80);
    assert_eq!(pad(&mut out, 14, 7), None);
    assert_eq!(pad(&mut out, 14, 5), Some(19));
    assert_eq!((out[0], &out[14..]), (0xA0, &[0, 0, 0, 0, 5, 0xEE][..]));
    assert_eq!(Header::parse(&out[..19]).unwrap().payload_len(), 2);
}
