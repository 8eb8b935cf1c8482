//! Agreement with `webrtc-srtp`, an implementation that shares no code with this one, in both directions.

use rand::{Rng, SeedableRng, rngs::StdRng};
use sluice_srtp::{KeyMaterial, MAX_RTCP_OVERHEAD_BYTES, MAX_RTP_OVERHEAD_BYTES, Profile, Receiver, Sender};
use sluice_wire::rtp::{ExtensionWriter, HeaderFields, write_header};
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

const PACKETS: usize = 3_000;

struct Pair {
    profile: Profile,
    random: StdRng,
    sender: Sender,
    receiver: Receiver,
    /// Opens what we send, and protects what we open.
    reference: Context,
    reference_sender: Context,
}

fn pairs() -> impl Iterator<Item = Pair> {
    Profile::PREFERENCE.into_iter().map(|profile| {
        let mut random = StdRng::seed_from_u64(u64::from(profile.dtls_id()));
        let exported: Vec<u8> = (0..profile.exporter_len()).map(|_| random.random()).collect();
        let material = KeyMaterial::from_exporter(profile, &exported, true).unwrap();
        let reference_profile = match profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        // RFC 5764 section 4.2, spelled out: client key, server key, client salt, server salt. We are the server.
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let (client_key, server_key) = (&exported[..key], &exported[key..2 * key]);
        let (client_salt, server_salt) = (&exported[2 * key..2 * key + salt], &exported[2 * key + salt..]);
        let context = |key, salt| Context::new(key, salt, reference_profile, None, None).unwrap();
        Pair {
            profile,
            random,
            sender: Sender::new(&material).unwrap(),
            receiver: Receiver::new(&material).unwrap(),
            reference: context(server_key, server_salt),
            reference_sender: context(client_key, client_salt),
        }
    })
}

/// A plain packet with its header's length.
fn rtp_packet(random: &mut StdRng, ssrc: u32, sequence: u16) -> (Vec<u8>, usize) {
    let mut packet = vec![0; 1400];
    let fields = HeaderFields {
        marker: random.random(),
        payload_type: random.random_range(0..128),
        sequence,
        timestamp: random.random(),
        ssrc,
    };
    let mut header_len = write_header(&mut packet, fields).unwrap();
    if random.random() {
        let mut extensions = ExtensionWriter::new(&mut packet, header_len);
        extensions.push(3, &[random.random(), random.random(), 7]).unwrap();
        extensions.push(5, &[1, random.random()]).unwrap();
        header_len = extensions.finish().unwrap();
    }
    let payload_len = random.random_range(1..1200);
    packet.truncate(header_len + payload_len);
    random.fill(&mut packet[header_len..]);
    (packet, header_len)
}

#[test]
fn what_we_protect_is_opened() {
    for mut pair in pairs() {
        let mut index = 65_000u32;
        for number in 0..PACKETS {
            // Reordered now and then, and through a rollover.
            let offset = if number % 10 == 0 { 3 } else { 0 };
            let place = index - offset;
            index += 1 + u32::from(offset > 0);
            let (packet, header_len) = rtp_packet(&mut pair.random, 77, place as u16);
            let written_len = header_len + pair.random.random_range(0..=(packet.len() - header_len).min(20));
            let mut slot = packet[..written_len].to_vec();
            slot.resize(packet.len() + MAX_RTP_OVERHEAD_BYTES, 0);
            let payload = &packet[written_len..];
            let len = pair.sender.seal_in_slot(&mut slot, header_len, written_len, payload, place >> 16).unwrap();
            assert_eq!(len, packet.len() + pair.profile.tag_len());
            let opened = pair.reference.decrypt_rtp(&slot[..len]).unwrap();
            assert!(opened[..] == packet[..], "{:?} packet {number}", pair.profile);
        }
    }
}

#[test]
fn what_they_protect_we_open() {
    for mut pair in pairs() {
        for number in 0..PACKETS {
            let place = 65_000 + number;
            let ssrc = 1 + number as u32 % 3;
            let (packet, header_len) = rtp_packet(&mut pair.random, ssrc, place as u16);
            let mut protected = pair.reference_sender.encrypt_rtp(&packet).unwrap().to_vec();
            let opened = pair.receiver.unprotect_rtp(&mut protected).unwrap();
            assert_eq!((opened.ssrc, opened.header_len, opened.index), (ssrc, header_len, place as u64));
            assert!(protected[..opened.len] == packet[..], "{:?} packet {number}", pair.profile);
        }
    }
}

#[test]
fn rtcp_both_ways() {
    for mut pair in pairs() {
        for _ in 0..PACKETS {
            let words = pair.random.random_range(1..100u8);
            let mut packet = vec![0; 4 + 4 * usize::from(words)];
            pair.random.fill(&mut packet[4..]);
            packet[..4].copy_from_slice(&[0x81, 201, 0, words]);
            packet[4..8].copy_from_slice(&[0, 0, 0, words % 4]);

            let mut slot = packet.clone();
            slot.resize(packet.len() + MAX_RTCP_OVERHEAD_BYTES, 0);
            let len = pair.sender.protect_rtcp(&mut slot, packet.len()).unwrap();
            assert_eq!(len, packet.len() + pair.profile.rtcp_overhead());
            assert!(pair.reference.decrypt_rtcp(&slot[..len]).unwrap()[..] == packet[..]);

            let mut protected = pair.reference_sender.encrypt_rtcp(&packet).unwrap().to_vec();
            assert_eq!(pair.receiver.unprotect_rtcp(&mut protected), Ok(packet.len()));
            assert!(protected[..packet.len()] == packet[..]);
        }
    }
}
