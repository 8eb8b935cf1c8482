//! What a sender and a receiver with the same keys do with good and bad packets.

use sluice_srtp::{
    DropReason, Error, KeyMaterial, MAX_RTCP_OVERHEAD_BYTES, MAX_RTP_OVERHEAD_BYTES, Profile, Receiver, Sender,
    exercise::material,
};
use sluice_wire::rtp::{HeaderFields, write_header};

const SSRC: u32 = 0x1234_5678;

fn sender(profile: Profile) -> Sender {
    Sender::new(&material(profile, true)).unwrap()
}

fn receiver(profile: Profile) -> Receiver {
    Receiver::new(&material(profile, false)).unwrap()
}

/// The packet of this index with a payload that says which it is.
fn protected(sender: &Sender, index: u64) -> Vec<u8> {
    let mut header = [0; 12];
    let fields = HeaderFields { sequence: index as u16, ssrc: SSRC, ..HeaderFields::default() };
    write_header(&mut header, fields).unwrap();
    let payload = index.to_be_bytes();
    let mut slot = [0; 12 + 8 + MAX_RTP_OVERHEAD_BYTES];
    let len = sender.seal_rtp(&header, &payload, (index >> 16) as u32, &mut slot).unwrap();
    slot[..len].to_vec()
}

fn open(receiver: &mut Receiver, packet: &[u8]) -> Result<u64, DropReason> {
    let mut packet = packet.to_vec();
    receiver.unprotect_rtp(&mut packet).map(|opened| {
        let payload = &packet[opened.header_len..opened.len];
        assert_eq!(payload, opened.index.to_be_bytes());
        opened.index
    })
}

#[test]
fn every_flipped_bit_of_rtp_is_rejected_and_changes_nothing() {
    for profile in Profile::PREFERENCE {
        let (sender, mut receiver) = (sender(profile), receiver(profile));
        assert_eq!(open(&mut receiver, &protected(&sender, 7)), Ok(7));
        let packet = protected(&sender, 8);
        for bit in 0..packet.len() * 8 {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.unprotect_rtp(&mut forged).is_err(), "{profile:?} bit {bit}");
        }
        for len in 0..packet.len() {
            assert!(receiver.unprotect_rtp(&mut packet[..len].to_vec()).is_err(), "{profile:?} cut to {len}");
        }
        assert_eq!(open(&mut receiver, &packet), Ok(8), "no forgery took its place");
        assert_eq!(open(&mut receiver, &protected(&sender, 9)), Ok(9), "nor moved the rollover count");
    }
}

#[test]
fn every_flipped_bit_of_rtcp_is_rejected_and_changes_nothing() {
    for profile in Profile::PREFERENCE {
        let (mut sender, mut receiver) = (sender(profile), receiver(profile));
        let plain = [0x80, 201, 0, 2, 0, 0, 0, 9, 1, 2, 3, 4];
        let mut slot = [0; 12 + MAX_RTCP_OVERHEAD_BYTES];
        slot[..12].copy_from_slice(&plain);
        let len = sender.protect_rtcp(&mut slot, 12).unwrap();
        let packet = &slot[..len];
        for bit in 0..len * 8 {
            let mut forged = packet.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.unprotect_rtcp(&mut forged).is_err(), "{profile:?} bit {bit}");
        }
        for len in 0..len {
            assert!(receiver.unprotect_rtcp(&mut packet[..len].to_vec()).is_err(), "{profile:?} cut to {len}");
        }
        let mut good = packet.to_vec();
        assert_eq!(receiver.unprotect_rtcp(&mut good), Ok(12));
        assert_eq!(good[..12], plain);
        assert_eq!(receiver.unprotect_rtcp(&mut packet.to_vec()), Err(DropReason::Replayed));
    }
}

#[test]
fn replays_are_dropped_and_reordering_is_not() {
    for profile in Profile::PREFERENCE {
        let (sender, mut receiver) = (sender(profile), receiver(profile));
        for index in [10, 12, 11, 500, 13] {
            let packet = protected(&sender, index);
            assert_eq!(open(&mut receiver, &packet), Ok(index));
            assert_eq!(open(&mut receiver, &packet), Err(DropReason::Replayed));
        }
        assert_eq!(open(&mut receiver, &protected(&sender, 5_000)), Ok(5_000));
        assert_eq!(open(&mut receiver, &protected(&sender, 14)), Err(DropReason::TooOld));
    }
}

#[test]
fn the_rollover_count_follows_through_two_cycles() {
    for profile in Profile::PREFERENCE {
        let (sender, mut receiver) = (sender(profile), receiver(profile));
        // Each third packet is late by more than a hundred, across both rollovers.
        for step in 0..1_500 {
            let index = 100 * step + 300;
            assert_eq!(open(&mut receiver, &protected(&sender, index)), Ok(index), "{profile:?}");
            if step % 3 == 0 {
                let late = index - 150;
                assert_eq!(open(&mut receiver, &protected(&sender, late)), Ok(late), "{profile:?}");
            }
        }
    }
}

#[test]
fn another_key_opens_nothing() {
    for profile in Profile::PREFERENCE {
        let packet = protected(&sender(profile), 7);
        let mut wrong = Receiver::new(&material(profile, true)).unwrap();
        assert_eq!(open(&mut wrong, &packet), Err(DropReason::Forged));
    }
}

#[test]
fn what_stands_in_the_slot_is_encrypted_with_the_rest() {
    for profile in Profile::PREFERENCE {
        let (sender, expected) = (sender(profile), protected(&sender(profile), 7));
        let mut header = [0; 12];
        write_header(&mut header, HeaderFields { sequence: 7, ssrc: SSRC, ..HeaderFields::default() }).unwrap();
        let plain = [&header[..], &7u64.to_be_bytes()].concat();
        for written_len in 12..=plain.len() {
            let mut slot = plain[..written_len].to_vec();
            slot.resize(100, 0xEE);
            let len = sender.seal_in_slot(&mut slot, 12, written_len, &plain[written_len..], 0).unwrap();
            assert_eq!(slot[..len], expected, "{profile:?} from {written_len}");
            assert!(slot[len..].iter().all(|byte| *byte == 0xEE), "nothing is written past the end");
        }
    }
}

#[test]
fn short_slots_and_wrong_lengths_are_refused() {
    for profile in Profile::PREFERENCE {
        let mut sender = sender(profile);
        let mut slot = [0x80; 64];
        let needed = 12 + 8 + profile.tag_len();
        assert_eq!(sender.seal_in_slot(&mut slot[..needed - 1], 12, 12, &[0; 8], 0), Err(Error::SlotTooShort));
        assert_eq!(sender.seal_in_slot(&mut slot, 11, 12, &[0; 8], 0), Err(Error::Header));
        assert_eq!(sender.seal_in_slot(&mut slot, 16, 12, &[0; 8], 0), Err(Error::Header));
        assert_eq!(sender.protect_rtcp(&mut slot, 7), Err(Error::Header));
        assert_eq!(sender.protect_rtcp(&mut slot[..20], 12), Err(Error::SlotTooShort));
        let short = vec![0; profile.exporter_len() - 1];
        assert_eq!(KeyMaterial::from_exporter(profile, &short, true).unwrap_err(), Error::KeyLength);
        assert_eq!(Profile::from_dtls_id(profile.dtls_id()), Some(profile));
    }
}

#[test]
fn keys_stay_out_of_logs() {
    let text = format!("{:?}", material(Profile::AeadAes128Gcm, true));
    assert!(text.contains("MasterKey(..)") && !text.contains('['), "{text}");
}
