//! Both negotiations against another implementation of WebRTC.

use std::time::Instant;

use sluice_messages::{Codec, Extension, Kind, Payload, TrackId};
use sluice_signal::{Publisher, Quirks, SubscribedTrack, Subscriber};
use str0m::{
    Rtc,
    change::{SdpAnswer, SdpOffer},
    media::{Direction, MediaKind, Simulcast, SimulcastLayer},
};

use crate::support::{credentials, node};

#[test]
fn it_publishes_and_restarts_ice() {
    let mut rtc = Rtc::new(Instant::now());
    let mut publisher = Publisher::new(credentials(1), 3, Quirks::default());
    let mut change = rtc.sdp_api();
    change.add_channel("_reliable".into());
    let layer = |rid: &str| SimulcastLayer::new(rid);
    let layers = Simulcast { send: vec![layer("q"), layer("h"), layer("f")], recv: vec![] };
    change.add_media(MediaKind::Audio, Direction::SendOnly, None, Some("mic".into()), None);
    change.add_media(MediaKind::Video, Direction::SendOnly, None, Some("cam".into()), Some(layers));
    let (offer, pending) = change.apply().unwrap();
    let answered = publisher.on_offer(1, &offer.to_sdp_string(), &[], &node(), credentials(2)).unwrap();
    assert!(answered.data && answered.media.iter().all(|media| media.active));
    assert_eq!(answered.media.iter().map(|media| media.kind).collect::<Vec<_>>(), [Kind::Audio, Kind::Video]);
    assert_eq!(answered.media[1].encodings.len(), 3);
    assert!(answered.receive_extensions.id(Extension::Rid).is_some());
    rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answered.sdp).unwrap()).unwrap();

    let mut change = rtc.sdp_api();
    change.ice_restart(true);
    let (offer, pending) = change.apply().unwrap();
    let answered = publisher.on_offer(2, &offer.to_sdp_string(), &[], &node(), credentials(2)).unwrap();
    assert!(answered.ice_restarted && answered.media.iter().all(|media| media.active));
    rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answered.sdp).unwrap()).unwrap();
}

#[test]
fn it_subscribes_while_tracks_come_and_go() {
    for quirks in [Quirks::default(), Quirks { transceiver_reuse: false, ..Quirks::default() }] {
        let mut rtc = Rtc::new(Instant::now());
        let mut subscriber = Subscriber::new(credentials(1), 11, quirks);
        let payload = |payload_type, codec, rtx| Payload { payload_type, codec, rtx, nack: true };
        for n in 1..=40 {
            let (kind, payloads) = match n % 2 {
                0 => (Kind::Audio, vec![payload(63, Codec::Red, None), payload(111, Codec::Opus, None)]),
                _ => (Kind::Video, vec![payload(120, Codec::Vp8, Some(121)), payload(108, Codec::H264, Some(109))]),
            };
            let track = SubscribedTrack {
                track: TrackId(n),
                kind,
                participant_sid: format!("PA_{n}"),
                track_sid: format!("TR_{n}"),
                stream: None,
                payloads,
                backups: Vec::new(),
                regress: false,
                stereo: false,
            };
            subscriber.add(track).unwrap();
            subscriber.remove(TrackId(n.saturating_sub(9)));
            let offer = subscriber.offer(&node()).unwrap();
            // It would take the passive role, which RFC 8842 section 5.3 advises against and this server refuses.
            let sdp = offer.sdp.replace("setup:actpass", "setup:passive");
            let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(&sdp).unwrap()).unwrap();
            let answered = subscriber.on_answer(offer.id, &answer.to_sdp_string()).unwrap().unwrap();
            assert_eq!((answered.subscriptions.len() as u64, answered.unsupported.len()), (n.min(9), 0), "after {n}");
            let newest = answered.subscriptions.iter().find(|s| s.track == TrackId(n)).unwrap();
            if kind == Kind::Video {
                let map = newest.payloads[0];
                assert_eq!((map.from, map.to, map.rtx), (120, 96, Some(97)));
            } else {
                assert!(newest.payloads.iter().any(|map| (map.from, map.to) == (111, 111)));
            }
            assert_eq!(answered.send_extensions.id(Extension::Mid), Some(1));
        }
    }
}
