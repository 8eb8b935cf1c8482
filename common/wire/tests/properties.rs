//! Properties of the parsers and writers over generated input.

use proptest::{collection::vec, prelude::*};
use sluice_wire::{
    Micros, exercise,
    rtcp::{self, Compound, Packet, ReportBlock, SenderInfo},
    rtp::{self, ExtensionSize, ExtensionWriter, Header, HeaderFields},
    sequence::{Extender, distance_u8, distance_u15, distance_u16, is_newer_u16, is_newer_u32},
};

fn header_fields() -> impl Strategy<Value = HeaderFields> {
    (any::<bool>(), 0..128u8, any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
        |(marker, payload_type, sequence, timestamp, ssrc)| HeaderFields {
            marker,
            payload_type,
            sequence,
            timestamp,
            ssrc,
        },
    )
}

fn report_block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -(1 << 23)..1 << 23).prop_map(|(words, fraction_lost, cumulative_lost)| {
        ReportBlock {
            ssrc: words[0],
            fraction_lost,
            cumulative_lost,
            highest_sequence: words[1],
            jitter: words[2],
            last_sr: words[3],
            delay_since_last_sr: words[4],
        }
    })
}

proptest! {
    #[test]
    fn no_parser_panics(bytes in vec(any::<u8>(), 0..200)) {
        exercise::rtp(&bytes);
        exercise::rtcp(&bytes);
        exercise::stun(&bytes);
        exercise::vp8(&bytes);
        exercise::vp9(&bytes);
        exercise::h264(&bytes);
        exercise::av1(&bytes);
        exercise::red(&bytes);
    }

    #[test]
    fn rtp_that_looks_right_never_panics(
        first in 0x80..=0xBFu8,
        profile in prop_oneof![Just(0xBEDEu16), Just(0x1000), any::<u16>()],
        words in 0..20u16,
        bytes in vec(any::<u8>(), 0..150),
    ) {
        let mut packet = vec![first & 0xF0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(profile.to_be_bytes());
        packet.extend(words.to_be_bytes());
        packet.extend(bytes);
        exercise::rtp(&packet);
    }

    #[test]
    fn rtcp_that_looks_right_never_panics(
        count in 0..32u8,
        packet_type in 200..=207u8,
        body in vec(any::<[u8; 4]>(), 0..60),
    ) {
        let mut packet = vec![0x80 | count, packet_type, 0, body.len() as u8];
        packet.extend(body.as_flattened());
        exercise::rtcp(&packet);
    }

    #[test]
    fn headers_with_extensions_read_as_written(
        fields in header_fields(),
        extensions in vec((1..=255u8, vec(any::<u8>(), 0..40)), 0..8),
        one_byte in any::<bool>(),
        payload in vec(any::<u8>(), 0..50),
        padding in 0..20u8,
    ) {
        let extensions: Vec<_> = extensions
            .into_iter()
            .map(|(id, mut value)| {
                if one_byte {
                    value.truncate(16);
                    value.push(1);
                    value.truncate(16);
                    (id % 14 + 1, value)
                } else {
                    (id, value)
                }
            })
            .collect();
        let mut packet = [0xAA; 1200];
        let len = rtp::write_header(&mut packet, fields).unwrap();
        let mut writer = ExtensionWriter::new(&mut packet, len);
        let mut size = ExtensionSize::default();
        for (id, value) in &extensions {
            writer.push(*id, value).unwrap();
            size.push(*id, value.len());
        }
        let start = writer.finish().unwrap();
        prop_assert_eq!(start, len + size.bytes());
        packet[start..start + payload.len()].copy_from_slice(&payload);
        let len = rtp::pad(&mut packet, start + payload.len(), padding).unwrap();
        let packet = &packet[..len];

        let header = Header::parse(packet).unwrap();
        prop_assert_eq!(header.marker, fields.marker);
        prop_assert_eq!(header.payload_type, fields.payload_type);
        prop_assert_eq!(header.sequence, fields.sequence);
        prop_assert_eq!(header.timestamp, fields.timestamp);
        prop_assert_eq!(header.ssrc, fields.ssrc);
        prop_assert_eq!(header.payload(packet), &payload[..]);
        prop_assert!(header.extensions(packet).eq(extensions.iter().map(|(id, value)| (*id, &value[..]))));
        if one_byte && !extensions.is_empty() {
            prop_assert_eq!(header.extension_profile, Some(0xBEDE));
        }
        if let Some((id, _)) = extensions.first() {
            prop_assert_eq!(header.extension(packet, *id), Some(&extensions[0].1[..]));
        }
    }

    #[test]
    fn reports_read_as_written(
        words in any::<[u32; 4]>(),
        ntp in any::<u64>(),
        reports in vec(report_block(), 0..=31),
        cname in vec(any::<u8>(), 0..=255),
        leaving in vec(any::<u32>(), 0..=31),
    ) {
        let info =
            SenderInfo { ssrc: words[0], ntp, rtp_timestamp: words[1], packet_count: words[2], octet_count: words[3] };
        let mut out = [0; 4000];
        let mut compound = Compound::new(&mut out);
        compound.sender_report(&info, &reports).unwrap();
        compound.receiver_report(9, &reports).unwrap();
        compound.cname(10, &cname).unwrap();
        compound.goodbye(&leaving).unwrap();
        let len = compound.len();
        let packets: Vec<_> = rtcp::packets(&out[..len]).map(Result::unwrap).collect();
        let [Packet::SenderReport(sr), Packet::ReceiverReport(rr), Packet::SourceDescription(sdes), Packet::Goodbye(bye)] =
            &packets[..]
        else {
            panic!("{packets:?}");
        };
        prop_assert_eq!(sr.info, info);
        prop_assert!(sr.reports().eq(reports.iter().copied()));
        prop_assert!(rr.ssrc == 9 && rr.reports().eq(reports.iter().copied()));
        prop_assert!(sdes.cnames().eq([(10, &cname[..])]));
        prop_assert!(bye.ssrcs().eq(leaving.iter().copied()));
    }

    #[test]
    fn requests_read_as_written(
        ssrcs in vec(any::<u32>(), 0..20),
        numbers in vec(any::<(u32, u8)>(), 0..20),
        bitrate_bps in any::<u64>(),
    ) {
        let mut out = [0; 1000];
        let mut compound = Compound::new(&mut out);
        compound.picture_loss(1, 2).unwrap();
        compound.full_intra(3, &numbers).unwrap();
        compound.remb(4, bitrate_bps, &ssrcs).unwrap();
        let len = compound.len();
        let packets: Vec<_> = rtcp::packets(&out[..len]).map(Result::unwrap).collect();
        let [
            Packet::PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 },
            Packet::FullIntraRequest(fir),
            Packet::Remb(remb),
        ] = &packets[..]
        else {
            panic!("{packets:?}");
        };
        prop_assert!(fir.sender_ssrc == 3 && fir.entries().eq(numbers.iter().copied()));
        prop_assert!(remb.sender_ssrc == 4 && remb.ssrcs().eq(ssrcs.iter().copied()));
        prop_assert!(remb.bitrate_bps <= bitrate_bps && bitrate_bps - remb.bitrate_bps <= bitrate_bps >> 17);
    }

    #[test]
    fn a_nack_asks_for_what_is_missing(start in any::<u16>(), gaps in vec(1..40u16, 1..60)) {
        let sequences: Vec<u16> = gaps
            .iter()
            .scan(start, |at, gap| {
                *at = at.wrapping_add(*gap);
                Some(*at)
            })
            .collect();
        let mut out = [0; 1000];
        let mut compound = Compound::new(&mut out);
        prop_assert_eq!(compound.nack(1, 2, &sequences), Some(sequences.len()));
        let len = compound.len();
        let Some(Ok(Packet::Nack(nack))) = rtcp::packets(&out[..len]).next() else {
            panic!("not a NACK");
        };
        prop_assert_eq!((nack.sender_ssrc, nack.media_ssrc), (1, 2));
        prop_assert!(nack.sequences().eq(sequences.iter().copied()));
    }

    #[test]
    fn feedback_tells_all_arrivals(
        base_sequence in any::<u16>(),
        start_us in 0..1u64 << 38,
        steps in vec(prop_oneof![
            4 => Just(None),
            8 => (0..3_000i64).prop_map(Some),
            1 => (-50_000..500_000i64).prop_map(Some),
            1 => (9_000_000..20_000_000i64).prop_map(Some),
        ], 1..1500),
        room in 100..1200usize,
    ) {
        let mut at_us = start_us as i64;
        let arrivals: Vec<Option<Micros>> = steps
            .iter()
            .map(|step| step.map(|step| {
                at_us = (at_us + step).max(0);
                Micros(at_us as u64)
            }))
            .collect();
        let mut told = Vec::new();
        while arrivals[told.len()..].iter().any(Option::is_some) {
            let rest = &arrivals[told.len()..];
            let sequence = base_sequence.wrapping_add(told.len() as u16);
            let mut out = vec![0; room];
            let mut compound = Compound::new(&mut out);
            let covered = compound.transport_feedback(1, 2, 3, sequence, rest).unwrap();
            prop_assert!(covered > 0, "it goes on");
            let len = compound.len();
            if len == 0 {
                told.extend(rest[..covered].iter().map(|_| None));
            }
            for packet in rtcp::packets(&out[..len]) {
                let Ok(Packet::TransportFeedback(feedback)) = packet else {
                    panic!("not feedback");
                };
                prop_assert_eq!(feedback.arrivals().count(), covered);
                for arrival in feedback.arrivals() {
                    prop_assert_eq!(arrival.sequence, base_sequence.wrapping_add(told.len() as u16));
                    told.push(arrival.at_us.map(|at| at as u64));
                }
            }
        }
        let expected: Vec<_> = arrivals[..told.len()].iter().map(|at| at.map(|at| at.0 / 250 * 250)).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn no_writer_passes_the_end(room in 0..120usize) {
        let mut out = vec![0; room];
        let mut compound = Compound::new(&mut out);
        let report = ReportBlock::default();
        let _ = compound.sender_report(&SenderInfo::default(), &[report]);
        let _ = compound.cname(1, b"somebody");
        let _ = compound.nack(1, 2, &[1, 100, 200]);
        let _ = compound.transport_feedback(1, 2, 0, 7, &[Some(Micros(1)), None, Some(Micros(900_000))]);
        let len = compound.len();
        prop_assert!(rtcp::packets(&out[..len]).all(|packet| packet.is_ok()));
    }

    #[test]
    fn extension_follows_reordered_sequences(start in any::<u16>(), steps in vec(-2_000..3_000i64, 1..300)) {
        let mut extender = Extender::default();
        let mut truth = i64::from(extender.extend(start) as u32);
        let mut highest = truth;
        for step in steps {
            truth = (highest + step).max(1 << 16);
            let extended = extender.extend(truth as u16);
            prop_assert_eq!(extended, truth as u64);
            highest = highest.max(truth);
            prop_assert_eq!(extender.highest(), Some(highest as u64));
        }
    }

    #[test]
    fn distances_wrap(a in any::<u32>(), step in 1..100u8) {
        let later = a.wrapping_add(u32::from(step));
        prop_assert!(is_newer_u32(later, a) && !is_newer_u32(a, later) && !is_newer_u32(a, a));
        prop_assert!(is_newer_u16(later as u16, a as u16) && !is_newer_u16(a as u16, later as u16));
        prop_assert_eq!(distance_u16(later as u16, a as u16), i16::from(step));
        let (later15, earlier15) = (later as u16 & 0x7FFF, a as u16 & 0x7FFF);
        prop_assert_eq!(distance_u15(later15, earlier15), i16::from(step));
        prop_assert_eq!(distance_u15(earlier15, later15), -i16::from(step));
        prop_assert_eq!(distance_u8(a as u8, later as u8), -(step as i8));
    }
}
