//! Offers of real clients, and what they get back.

use crate::support::{announced, credentials, data, node};
use livekit_protocol::{AddTrackRequest, SimulcastCodec, TrackType, VideoLayer};
use sluice_messages::{Codec, Encoding, Extension, Kind};
use sluice_signal::{
    Answered, PendingTrack, Publisher, Quirks, Refused,
    publisher::PublishedMedia,
    sdp::{Description, Direction, MediaKind, SdpError, Setup},
};

fn publisher() -> Publisher {
    Publisher::new(credentials(1), 77, Quirks::default())
}

fn answer(publisher: &mut Publisher, sdp: &str, pending: &[PendingTrack]) -> (Answered, Description) {
    let answered = publisher.on_offer(9, sdp, pending, &node(), credentials(2)).unwrap();
    let description = Description::parse(&answered.sdp).unwrap();
    (answered, description)
}

fn rids(media: &PublishedMedia) -> Vec<&str> {
    media.encodings.iter().map(|encoding| encoding.rid.as_deref().unwrap_or("-")).collect()
}

/// Codec, payload type and RTX of every accepted format.
fn formats(media: &PublishedMedia) -> Vec<(Codec, u8, Option<u8>)> {
    media.payloads.iter().map(|payload| (payload.codec, payload.payload_type, payload.rtx)).collect()
}

#[test]
fn data_channels_alone() {
    let (answered, description) = answer(&mut publisher(), &data("chromium-data"), &[]);
    assert!(answered.data && answered.media.is_empty() && !answered.ice_restarted);
    assert_eq!((answered.id, answered.ice.local, answered.ice.previous_local), (9, credentials(1), None));
    assert!(description.ice_lite);
    let media = &description.media[0];
    assert_eq!((&media.kind, media.port, media.setup), (&MediaKind::Application, 9, Some(Setup::Passive)));
    assert_eq!((media.sctp_port, media.max_message_size), (Some(5000), Some(65_535)));
    assert_eq!(media.fingerprint, Some(node().fingerprint));
    assert!(answered.sdp.contains("a=candidate:1 1 udp 2130501631 192.0.2.7 7882 typ host\r\n"));
    assert!(answered.sdp.contains(" 2001:db8::7 7882 typ host\r\n"));
}

#[test]
fn audio_and_simulcast_of_chromium() {
    let sdp = data("chromium-simulcast");
    let pending = [announced(&sdp, "1", None), announced(&sdp, "2", Some(Codec::Vp9))];
    let (answered, description) = answer(&mut publisher(), &sdp, &pending);

    let [audio, video] = &answered.media[..] else { panic!("two sections expected") };
    assert_eq!((audio.cid.as_ref(), audio.sdp_cid.as_ref()), (Some(&pending[0].cid), None));
    assert_eq!(formats(audio), [(Codec::Red, 63, None), (Codec::Opus, 111, None)]);
    assert_eq!((video.kind, video.active, rids(video)), (Kind::Video, true, vec!["q", "h", "f"]));
    // The asked codec is first; H264 is the constrained baseline one of six, VP9 is profile 0.
    let want = [
        (Codec::Vp9, 98, Some(99)),
        (Codec::Vp8, 96, Some(97)),
        (Codec::H264, 108, Some(109)),
        (Codec::Av1, 45, Some(46)),
    ];
    assert_eq!(formats(video), want);
    assert!(video.payloads.iter().all(|payload| payload.nack));

    assert_eq!(description.bundle, ["0", "1", "2"]);
    let video = &description.media[2];
    assert_eq!((video.direction, video.rtcp_mux, video.rtcp_rsize), (Direction::RecvOnly, true, true));
    assert!(answered.sdp.contains("a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n"));
    assert!(answered.sdp.contains("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\n"));
    for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
        assert!(video.formats[0].has_feedback(feedback), "{feedback}");
    }
    let id = |extension| answered.receive_extensions.id(extension);
    assert_eq!((id(Extension::Mid), id(Extension::Rid), id(Extension::RepairedRid)), (Some(4), Some(10), Some(11)));
    assert_eq!((id(Extension::AudioLevel), id(Extension::TransportCc)), (Some(1), Some(3)));
    // Not understood, so not accepted.
    assert!(!answered.sdp.contains("video-timing") && !answered.sdp.contains("toffset"));
}

#[test]
fn opus_as_announced() {
    let sdp = data("chromium-simulcast");
    let check = |dtx, stereo, red, want: &str, first: Codec| {
        let pending = [PendingTrack { dtx, stereo, red, ..announced(&sdp, "1", None) }];
        let (answered, _) = answer(&mut publisher(), &sdp, &pending);
        assert!(answered.sdp.contains(&format!("a=fmtp:111 minptime=10;useinbandfec=1{want}\r\n")), "{want}");
        assert_eq!(answered.media[0].payloads[0].codec, first);
    };
    check(true, false, true, ";usedtx=1", Codec::Red);
    check(false, true, false, ";stereo=1", Codec::Opus);
    check(false, false, false, "", Codec::Opus);
}

#[test]
fn a_call_over_time() {
    let mut publisher = publisher();
    let (camera, screen) = (data("chromium-simulcast"), data("chromium-screenshare"));
    let mut pending = vec![announced(&camera, "1", None), announced(&camera, "2", None)];
    answer(&mut publisher, &data("chromium-data"), &[]);
    answer(&mut publisher, &camera, &pending);

    pending.push(announced(&screen, "3", Some(Codec::Vp9)));
    let (answered, description) = answer(&mut publisher, &screen, &pending);
    let share = &answered.media[2];
    assert_eq!((share.cid.as_ref(), share.payloads[0].codec), (Some(&pending[2].cid), Codec::Vp9));
    let Encoding { rid: None, ssrc: Some(ssrc), rtx_ssrc: Some(rtx) } = share.encodings[0] else { panic!("{share:?}") };
    assert!(screen.contains(&format!("a=ssrc-group:FID {ssrc} {rtx}")));
    assert_eq!(description.version, 3);

    // Stored and restored, as over a restart of the control plane.
    let mut publisher: Publisher = postcard::from_bytes(&postcard::to_allocvec(&publisher).unwrap()).unwrap();
    let gone = pending.pop().unwrap();
    let (answered, description) = answer(&mut publisher, &data("chromium-unpublished"), &pending);
    assert_eq!((answered.media[2].active, answered.media[2].cid.as_ref()), (false, Some(&gone.cid)));
    assert!(answered.media[0].active && answered.media[1].active);
    assert_eq!(description.media[3].direction, Direction::Inactive);
    assert!(!answered.ice_restarted);

    let (answered, description) = answer(&mut publisher, &data("chromium-restart"), &pending);
    assert!(answered.ice_restarted);
    assert_eq!((&answered.ice.local, &answered.ice.previous_local), (&credentials(2), &Some(credentials(1))));
    assert_eq!(description.media[0].ice, Some(credentials(2)));
    assert_eq!(answered.media[1].cid.as_ref(), Some(&pending[1].cid), "media goes on");

    let reused = data("chromium-reused");
    pending.push(announced(&reused, "4", Some(Codec::H264)));
    let (answered, _) = answer(&mut publisher, &reused, &pending);
    assert_eq!(
        (answered.media[3].cid.as_ref(), answered.media[3].payloads[0].codec),
        (Some(&pending[2].cid), Codec::H264)
    );
    assert!(!answered.ice_restarted);

    let (answered, description) = answer(&mut publisher, &data("chromium-stopped"), &pending);
    assert_eq!((description.media[3].port, answered.media[2].active), (0, false));
    assert_eq!(description.bundle, ["0", "1", "2", "4"]);
}

#[test]
fn receive_only_sections_carry_nothing() {
    let (answered, description) = answer(&mut publisher(), &data("chromium-recvonly"), &[]);
    assert!(answered.media.iter().all(|media| !media.active && media.cid.is_none()));
    assert!(description.media.iter().all(|media| media.direction == Direction::Inactive && media.port != 0));
}

#[test]
fn scalable_vp9_is_one_encoding() {
    let sdp = data("chromium-svc");
    let (answered, _) = answer(&mut publisher(), &sdp, &[announced(&sdp, "0", Some(Codec::Vp9))]);
    assert_eq!((answered.media[0].payloads[0].codec, answered.media[0].encodings.len()), (Codec::Vp9, 1));
}

#[test]
fn firefox() {
    let sdp = data("firefox-simulcast");
    let client = livekit_protocol::ClientInfo { browser: "Firefox".into(), os: "Linux".into(), ..Default::default() };
    let mut publisher = Publisher::new(credentials(1), 1, Quirks::of(&client));
    let pending = [announced(&sdp, "1", None), announced(&sdp, "2", Some(Codec::H264))];
    let (answered, description) = answer(&mut publisher, &sdp, &pending);
    let [audio, video] = &answered.media[..] else { panic!("two sections expected") };
    // Port 0 with bundle-only is not a rejection; ids in braces are the same as without.
    assert!(audio.active && video.active && audio.sdp_cid.is_none());
    assert_eq!(formats(audio), [(Codec::Opus, 109, None)]);
    // It ignores the order of an answer, so only the wanted codec is left.
    assert_eq!(formats(video), [(Codec::H264, 126, Some(127))]);
    // Low to high, whatever the order of the offer.
    assert_eq!(rids(video), ["q", "h", "f"]);
    assert_eq!(description.bundle, ["0", "1", "2"]);
    assert_eq!(answered.receive_extensions.id(Extension::Rid), Some(8));
}

#[test]
fn tracks_are_matched_by_kind_where_ids_differ() {
    let sdp = data("chromium-simulcast");
    let mut pending = [announced(&sdp, "1", None), announced(&sdp, "2", None)];
    let shown = std::mem::replace(&mut pending[1].cid, "announced".into());
    let mut publisher = publisher();
    let (answered, _) = answer(&mut publisher, &sdp, &pending);
    let video = &answered.media[1];
    assert_eq!((video.cid.as_deref(), video.sdp_cid.as_ref()), (Some("announced"), Some(&shown)));
    // The same offer again, with another camera announced: nothing moves.
    let more = [pending[0].clone(), PendingTrack { cid: "other".into(), ..pending[1].clone() }, pending[1].clone()];
    let (answered, _) = answer(&mut publisher, &sdp, &more);
    assert_eq!(answered.media[1].cid.as_deref(), Some("announced"));
}

#[test]
fn an_offer_may_come_before_its_announcement() {
    let sdp = data("chromium-simulcast");
    let mut publisher = publisher();
    let (answered, _) = answer(&mut publisher, &sdp, &[]);
    assert!(answered.media.iter().all(|media| media.active && media.cid.is_none()));
    let pending = [announced(&sdp, "2", None)];
    let now = publisher.announce(&pending);
    assert_eq!(now.iter().map(|media| media.mid.as_str()).collect::<Vec<_>>(), ["2"]);
    assert_eq!(rids(&now[0]), ["q", "h", "f"]);
    assert!(publisher.announce(&pending).is_empty(), "only what is new");
}

#[test]
fn what_add_track_announces() {
    let layer = |rid: &str, quality| VideoLayer { rid: rid.into(), quality, ..Default::default() };
    let codec = |codec: &str, cid: &str| SimulcastCodec { codec: codec.into(), cid: cid.into(), ..Default::default() };
    let request = AddTrackRequest {
        cid: "A".into(),
        r#type: TrackType::Video as i32,
        layers: vec![layer("f", 2), layer("q", 0), layer("h", 1)],
        simulcast_codecs: vec![codec("vp9", "A"), codec("vp8", "")],
        disable_red: true,
        ..Default::default()
    };
    let [track] = &PendingTrack::from_request(&request)[..] else { panic!("one section expected") };
    assert_eq!((track.cid.as_str(), track.codec, track.red), ("A", Some(Codec::Vp9), false));
    assert_eq!(track.rids, ["q", "h", "f"]);
    // The backup codec, later, for the same track.
    let backup =
        AddTrackRequest { cid: "B".into(), sid: "TR_1".into(), simulcast_codecs: vec![codec("vp8", "B")], ..request };
    let announced = PendingTrack::from_request(&backup);
    assert_eq!(announced.iter().map(|t| (t.cid.as_str(), t.codec)).collect::<Vec<_>>(), [("B", Some(Codec::Vp8))]);
    assert!(
        PendingTrack::from_request(&AddTrackRequest { r#type: TrackType::Data as i32, ..Default::default() })
            .is_empty()
    );
}

#[test]
fn two_codecs_of_one_track_are_two_sections() {
    let sdp = data("chromium-screenshare");
    let pending = [announced(&sdp, "2", Some(Codec::Vp9)), announced(&sdp, "3", Some(Codec::Vp8))];
    let (answered, _) = answer(&mut publisher(), &sdp, &pending);
    let got: Vec<_> = answered.media.iter().map(|m| (m.cid.as_ref(), m.payloads[0].codec)).collect();
    assert_eq!(got[1..], [(Some(&pending[0].cid), Codec::Vp9), (Some(&pending[1].cid), Codec::Vp8)]);
}

#[test]
fn ssrc_simulcast() {
    let sdp = data("chromium-screenshare");
    let Description { media, .. } = Description::parse(&sdp).unwrap();
    let (ssrc, rtx) = (media[3].ssrcs[0], media[3].ssrcs[1]);
    let fid = format!("a=ssrc-group:FID {ssrc} {rtx}");
    let sdp = sdp.replace(
        &fid,
        &format!("a=ssrc-group:SIM {ssrc} 7 9\r\n{fid}\r\na=ssrc-group:FID 7 8\r\na=ssrc-group:FID 9 10"),
    );
    let (answered, _) = answer(&mut publisher(), &sdp, &[]);
    let got: Vec<_> = answered.media[2].encodings.iter().map(|e| (e.ssrc, e.rtx_ssrc)).collect();
    assert_eq!(got, [(Some(ssrc), Some(rtx)), (Some(7), Some(8)), (Some(9), Some(10))]);
}

#[test]
fn bad_offers_are_refused_with_a_reason_and_change_nothing() {
    let good = data("chromium-simulcast");
    let check = |what: &str, sdp: &str, want: &str| {
        let mut publisher = publisher();
        answer(&mut publisher, &data("chromium-data"), &[]);
        let before = publisher.clone();
        match publisher.on_offer(2, sdp, &[], &node(), credentials(2)) {
            Ok(_) => panic!("{what} was accepted"),
            Err(refused) => assert!(refused.to_string().contains(want), "{what}: {refused}"),
        }
        assert_eq!(publisher, before, "{what}");
    };
    let replaced = |from: &str, to: &str| {
        let changed = good.replace(from, to);
        assert_ne!(changed, good, "{from} is not in the offer");
        changed
    };
    check("nothing", "", "empty");
    check("text", "hello", "version line");
    check("no sections", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", "no media section");
    check(
        "a thousand m-lines",
        &format!("{good}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(1000)),
        "more than 513 m-lines",
    );
    check("a mid twice", &replaced("a=mid:2", "a=mid:1"), "mid \"1\" is used twice");
    check("no mid", &replaced("a=mid:2\r\n", ""), "no mid");
    check("a control character", &replaced("a=mid:2", "a=mid:\x07"), "control character");
    check(
        "only unknown video codecs",
        &replaced("/90000", "/80000"),
        "section \"2\" has no codec that can be forwarded",
    );
    check("only unknown audio codecs", &replaced("opus/48000/2", "opus/48000"), "section \"1\" has no codec");
    check("no bundle", &replaced("a=group:BUNDLE 0 1 2\r\n", ""), "not in the BUNDLE group");
    check("no rtcp-mux", &replaced("a=rtcp-mux\r\n", ""), "rtcp-mux");
    check("a passive client", &replaced("setup:actpass", "setup:passive"), "setup:actpass or setup:active");
    check("an ICE-lite client", &replaced("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n"), "ICE-lite");
    check("no credentials", &replaced("a=ice-ufrag", "a=x"), "no ICE credentials");
    check("a short password", &replaced("a=ice-pwd:", "a=ice-pwd:short\r\na=x:"), "the password cannot be read");
    check("no fingerprint", &replaced("sha-256 ", "sha-1 "), "fingerprint");
    check("a broken fingerprint", &replaced("sha-256 ", "sha-256 00:"), "fingerprint cannot be read");
    check("another certificate", &data("firefox-simulcast"), "another fingerprint");
    check("a section gone", &replaced("a=mid:0", "a=mid:9"), "m-line 0 changed its mid");
    check("a payload type too high", &replaced(" 111 ", " 211 "), "payload type");
    check("two MiB", &good.repeat(400), "more than a description may have");
}

#[test]
fn refusals_are_typed() {
    let refused = publisher().on_offer(1, &"m".repeat(2 << 20), &[], &node(), credentials(2)).unwrap_err();
    assert_eq!(refused, Refused::Sdp(SdpError::TooLong(2 << 20)));
}
