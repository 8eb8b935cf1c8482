//! What fuzz targets and tests call: arbitrary bytes as protected packets and as payloads, for each profile.
//!
//! These functions panic where an assertion fails. Nothing else in this crate does.

use crate::{KeyMaterial, MAX_RTCP_OVERHEAD_BYTES, MAX_RTP_OVERHEAD_BYTES, Profile, Receiver, Sender};

/// Keys that are the same at every run.
pub fn material(profile: Profile, we_are_server: bool) -> KeyMaterial {
    let exported: Vec<u8> = (0..profile.exporter_len() as u8).collect();
    KeyMaterial::from_exporter(profile, &exported, we_are_server).expect("the exporter's length is the profile's")
}

/// Opens the bytes as SRTP and as SRTCP, which may fail in any way but may not leave anything behind; then protects them
/// as an RTP payload and as RTCP, which the receiver must open.
pub fn srtp(bytes: &[u8]) {
    for profile in Profile::PREFERENCE {
        let mut sender = Sender::new(&material(profile, true)).expect("the keys fit");
        let mut receiver = Receiver::new(&material(profile, false)).expect("the keys fit");
        let mut packet = bytes.to_vec();
        if let Ok(opened) = receiver.unprotect_rtp(&mut packet) {
            assert!(opened.header_len <= opened.len && opened.len < bytes.len());
        }
        let mut packet = bytes.to_vec();
        if let Ok(len) = receiver.unprotect_rtcp(&mut packet) {
            assert!(len < bytes.len());
        }

        let header = [0x80, 96, 0, 1, 0, 0, 0, 2, 0xFE, 0xED, 0xBE, 0xEF];
        let mut slot = vec![0; header.len() + bytes.len() + MAX_RTP_OVERHEAD_BYTES];
        let len = sender.seal_rtp(&header, bytes, 0, &mut slot).expect("the slot is long enough");
        if len <= usize::from(u16::MAX) {
            let opened = receiver.unprotect_rtp(&mut slot[..len]).expect("what was protected can be opened");
            assert_eq!(&slot[opened.header_len..opened.len], bytes);
        }

        let mut slot = vec![0x80, 201, 0, 1, 0xFE, 0xED, 0xBE, 0xEF];
        slot.extend(bytes);
        let plain_len = slot.len();
        slot.resize(plain_len + MAX_RTCP_OVERHEAD_BYTES, 0);
        let len = sender.protect_rtcp(&mut slot, plain_len).expect("the slot is long enough");
        assert_eq!(receiver.unprotect_rtcp(&mut slot[..len]), Ok(plain_len));
        assert_eq!(&slot[8..plain_len], bytes);
    }
}
