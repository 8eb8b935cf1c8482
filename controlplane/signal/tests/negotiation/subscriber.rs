//! Offers of ours and the answers Chromium gave to them.

use std::collections::HashSet;

use sluice_messages::{Codec, Extension, Kind, Payload, TrackId};
use sluice_signal::{
    AddError, AnswerError, Offer, Quirks, SubscribedTrack, Subscriber, SubscriberAnswered,
    sdp::{Description, Direction, MEDIA_MAX, Media, Setup},
};

use crate::support::{credentials, data, node};

const SAFARI: Quirks = Quirks { red: false, transceiver_reuse: false, encoding_toggle: true, codec_order: true };

fn subscriber() -> Subscriber {
    Subscriber::new(credentials(1), 0x1234_5678_9abc, Quirks::default())
}

fn payload(payload_type: u8, codec: Codec, rtx: Option<u8>) -> Payload {
    Payload { payload_type, codec, rtx, nack: true }
}

fn audio(n: u64) -> SubscribedTrack {
    SubscribedTrack {
        kind: Kind::Audio,
        payloads: vec![payload(63, Codec::Red, None), payload(111, Codec::Opus, None)],
        ..video(n, &[])
    }
}

fn video(n: u64, codecs: &[(Codec, u8)]) -> SubscribedTrack {
    SubscribedTrack {
        track: TrackId(n),
        kind: Kind::Video,
        participant_sid: format!("PA_{n}"),
        track_sid: format!("TR_{n}"),
        stream: None,
        payloads: codecs.iter().map(|&(codec, pt)| payload(pt, codec, Some(pt + 1))).collect(),
        backups: Vec::new(),
        regress: false,
        stereo: false,
    }
}

fn camera(n: u64) -> SubscribedTrack {
    video(n, &[(Codec::Vp8, 120), (Codec::H264, 108), (Codec::Vp9, 98), (Codec::Av1, 45)])
}

/// Thirty tracks, as when the answers were captured.
fn add_thirty(subscriber: &mut Subscriber) {
    for n in 1..=30 {
        subscriber.add(if n % 2 == 1 { audio(n) } else { camera(n) }).unwrap();
    }
}

fn offer(subscriber: &mut Subscriber) -> (Offer, Description) {
    let offer = subscriber.offer(&node()).expect("an offer");
    let description = Description::parse(&offer.sdp).unwrap();
    (offer, description)
}

/// Offers and answers with a captured description.
fn round(subscriber: &mut Subscriber, captured: &str) -> (SubscriberAnswered, Description) {
    let (offer, description) = offer(subscriber);
    (subscriber.on_answer(offer.id, &data(captured)).unwrap().unwrap(), description)
}

/// What a client that accepts everything would answer.
fn accept(offer: &Description) -> Description {
    let mut answer = offer.clone();
    for media in &mut answer.media {
        media.direction = match media.direction {
            Direction::SendOnly => Direction::RecvOnly,
            other => other,
        };
        (media.msid, media.cname) = (None, None);
        media.ssrcs.clear();
        media.groups.clear();
        media.setup = Some(Setup::Active);
        media.ice = Some(credentials(500));
    }
    answer
}

fn round_accepted(subscriber: &mut Subscriber) -> (SubscriberAnswered, Description) {
    let (offer, description) = offer(subscriber);
    let answer = accept(&description).to_string();
    (subscriber.on_answer(offer.id, &answer).unwrap().unwrap(), description)
}

fn track_of(media: &Media) -> Option<&str> {
    media.msid.as_ref().map(|(_, track)| track.as_str())
}

#[test]
fn the_first_offer_brings_up_the_transport_without_tracks() {
    let mut subscriber = subscriber();
    let (answered, description) = round(&mut subscriber, "chromium-answer-empty");
    assert!(description.ice_lite && description.extmap_allow_mixed);
    assert_eq!((description.media.len(), description.media[0].setup), (1, Some(Setup::ActPass)));
    assert_eq!(description.media[0].ice, Some(credentials(1)));
    assert!(answered.data && answered.subscriptions.is_empty() && !answered.more);
    assert_eq!(answered.ice.remote.unwrap().ufrag.len(), 4);
    assert_eq!(subscriber.offer(&node()), None, "nothing changed");
}

#[test]
fn thirty_tracks() {
    let mut subscriber = subscriber();
    add_thirty(&mut subscriber);
    let (answered, description) = round(&mut subscriber, "chromium-answer-thirty");
    assert_eq!((answered.subscriptions.len(), description.media.len()), (30, 31));
    assert!(answered.unsupported.is_empty());

    let [audio, camera] = &answered.subscriptions[..2] else { panic!("two at least") };
    assert_eq!((audio.track, audio.mid.as_str(), audio.rtx_ssrc), (TrackId(1), "1", None));
    let to = |s: &sluice_signal::NegotiatedSubscription| {
        s.payloads.iter().map(|p| (p.from, p.to, p.rtx)).collect::<Vec<_>>()
    };
    assert_eq!(to(audio), [(63, 63, None), (111, 111, None)]);
    let want = [(120, 96, Some(97)), (108, 102, Some(103)), (98, 98, Some(99)), (45, 45, Some(46))];
    assert_eq!(to(camera), want);

    let media = &description.media[2];
    assert_eq!((media.direction, &media.ssrcs), (Direction::SendOnly, &vec![camera.ssrc, camera.rtx_ssrc.unwrap()]));
    assert_eq!(media.rtx_of(camera.ssrc), camera.rtx_ssrc);
    assert_eq!(media.msid, Some(("PA_2|TR_2".into(), "TR_2".into())));
    let ssrcs: HashSet<u32> = description.media.iter().flat_map(|media| media.ssrcs.clone()).collect();
    assert_eq!(ssrcs.len(), 15 + 2 * 15);

    let id = |extension: Extension| answered.send_extensions.id(extension);
    for extension in [Extension::Mid, Extension::AudioLevel, Extension::TransportCc, Extension::DependencyDescriptor] {
        assert_eq!(id(extension), Some(extension.canonical_id()), "{extension:?}");
    }
    assert_eq!((id(Extension::Rid), id(Extension::RepairedRid)), (None, None));
}

#[test]
fn removed_sections_become_inactive_and_are_reused() {
    let mut subscriber = subscriber();
    add_thirty(&mut subscriber);
    let (_, first) = round(&mut subscriber, "chromium-answer-thirty");
    for n in [2, 4, 3] {
        assert!(subscriber.remove(TrackId(n)));
    }
    assert!(!subscriber.remove(TrackId(2)));
    // A track that comes before the client knows of the removal gets its own section.
    let mut early = subscriber.clone();
    early.add(camera(50)).unwrap();
    assert_eq!(offer(&mut early).1.media.len(), 32);

    let (answered, description) = round(&mut subscriber, "chromium-answer-removed");
    assert_eq!(answered.subscriptions.len(), 27);
    assert!([2, 3, 4].iter().all(|&i: &usize| description.media[i].direction == Direction::Inactive));
    assert!([2, 3, 4].iter().all(|&i: &usize| description.media[i].ssrcs.is_empty()));

    subscriber.add(camera(40)).unwrap();
    subscriber.add(audio(41)).unwrap();
    subscriber.add(video(42, &[(Codec::H264, 108)])).unwrap();
    subscriber.add(video(43, &[(Codec::Vp9, 98)])).unwrap();
    subscriber.add(video(44, &[(Codec::Av1, 45)])).unwrap();
    let (answered, description) = round(&mut subscriber, "chromium-answer-reused");
    assert_eq!((answered.subscriptions.len(), description.media.len()), (32, 33));
    let tracks: Vec<_> = [2, 3, 4].iter().map(|&i: &usize| track_of(&description.media[i]).unwrap()).collect();
    assert_eq!(tracks, ["TR_40", "TR_41", "TR_42"]);
    let before: HashSet<u32> = first.media.iter().flat_map(|media| media.ssrcs.clone()).collect();
    assert!(
        [2, 3, 4, 31, 32].iter().all(|&i: &usize| description.media[i].ssrcs.iter().all(|ssrc| !before.contains(ssrc)))
    );
}

#[test]
fn safari_gets_recycled_sections_instead() {
    let mut subscriber = Subscriber::new(credentials(1), 99, Quirks { transceiver_reuse: false, ..Quirks::default() });
    add_thirty(&mut subscriber);
    let (first, description) = offer(&mut subscriber);
    let mut answer = accept(&description);
    let fingerprint = Description::parse(&data("chromium-answer-stopped")).unwrap().media[0].fingerprint;
    answer.media.iter_mut().for_each(|media| media.fingerprint = fingerprint);
    subscriber.on_answer(first.id, &answer.to_string()).unwrap();
    for n in [2, 4, 3] {
        subscriber.remove(TrackId(n));
    }
    let (_, description) = round(&mut subscriber, "chromium-answer-stopped");
    assert!([2, 3, 4].iter().all(|&i: &usize| description.media[i].port == 0));
    assert!(!description.bundle.contains(&"2".to_owned()));
    for track in [
        camera(40),
        audio(41),
        video(42, &[(Codec::H264, 108)]),
        video(43, &[(Codec::Vp9, 98)]),
        video(44, &[(Codec::Av1, 45)]),
    ] {
        subscriber.add(track).unwrap();
    }
    let (answered, description) = round(&mut subscriber, "chromium-answer-recycled");
    assert_eq!((answered.subscriptions.len(), description.media.len()), (32, 33));
    let mids: Vec<&str> = [2, 3, 4].iter().map(|&i: &usize| description.media[i].mid.as_str()).collect();
    assert_eq!(mids, ["31", "32", "33"], "new mids mean new transceivers");
}

#[test]
fn red_is_not_offered_to_those_who_cannot_take_it() {
    let mut subscriber = Subscriber::new(credentials(1), 1, SAFARI);
    subscriber.add(audio(1)).unwrap();
    let (answered, description) = round_accepted(&mut subscriber);
    assert_eq!(description.media[1].formats.iter().map(|f| f.payload_type).collect::<Vec<_>>(), [111]);
    // RED is stripped on the way: its payload type has no entry, that of Opus has one.
    assert_eq!(answered.subscriptions[0].payloads.iter().map(|p| p.from).collect::<Vec<_>>(), [111]);
}

#[test]
fn a_codec_the_client_cannot_decode_is_reported_and_its_section_recycled() {
    let mut subscriber = Subscriber::new(credentials(1), 5, Quirks::default());
    subscriber.add(video(1, &[(Codec::H264, 108)])).unwrap();
    subscriber.add(audio(2)).unwrap();
    let (answered, _) = round(&mut subscriber, "chromium-answer-unsupported");
    assert_eq!(answered.unsupported, [TrackId(1)]);
    assert_eq!(answered.subscriptions.iter().map(|s| s.track).collect::<Vec<_>>(), [TrackId(2)]);
    assert!(!subscriber.contains(TrackId(1)));
    subscriber.add(camera(3)).unwrap();
    let (_, description) = offer(&mut subscriber);
    assert_eq!((description.media.len(), description.media[1].mid.as_str()), (3, "3"));
}

#[test]
fn the_codec_that_is_sent_decides() {
    let mut subscriber = subscriber();
    subscriber.add(video(1, &[(Codec::Av1, 45), (Codec::Vp8, 96)])).unwrap();
    subscriber.add(video(2, &[(Codec::Vp8, 96), (Codec::Av1, 45)])).unwrap();
    let (offer, description) = offer(&mut subscriber);
    let mut answer = accept(&description);
    for media in &mut answer.media {
        media.formats.retain(|format| format.name != "AV1");
    }
    let answered = subscriber.on_answer(offer.id, &answer.to_string()).unwrap().unwrap();
    assert_eq!(answered.unsupported, [TrackId(1)]);
    assert_eq!(answered.subscriptions[0].payloads.len(), 1);
    assert!(answered.more, "the refused section is offered inactive");
}

#[test]
fn one_offer_is_out_at_most_and_changes_coalesce() {
    let mut subscriber = subscriber();
    subscriber.add(audio(1)).unwrap();
    let (first, description) = offer(&mut subscriber);
    subscriber.add(camera(2)).unwrap();
    subscriber.add(camera(3)).unwrap();
    subscriber.remove(TrackId(1));
    assert_eq!(subscriber.offer(&node()), None);
    // Stored and restored while an offer is out.
    let mut subscriber: Subscriber = postcard::from_bytes(&postcard::to_allocvec(&subscriber).unwrap()).unwrap();
    let answer = accept(&description).to_string();
    assert_eq!(subscriber.on_answer(first.id + 7, &answer), Ok(None), "another id is stale");
    let answered = subscriber.on_answer(0, &answer).unwrap().unwrap();
    assert!(answered.more && answered.subscriptions.is_empty(), "track 1 is gone already");
    let (answered, description) = round_accepted(&mut subscriber);
    assert_eq!(answered.subscriptions.iter().map(|s| s.track.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(description.media[1].direction, Direction::Inactive);
    assert_eq!(subscriber.on_answer(0, &answer), Ok(None), "no offer is out");
}

#[test]
fn ice_restart_keeps_the_old_credentials_until_the_new_ones_work() {
    let mut subscriber = subscriber();
    round_accepted(&mut subscriber);
    subscriber.restart_ice(credentials(2));
    subscriber.restart_ice(credentials(3));
    // Generation 2 was never offered.
    assert_eq!((&subscriber.ice().local, &subscriber.ice().previous_local), (&credentials(3), &Some(credentials(1))));
    let (_, description) = offer(&mut subscriber);
    assert_eq!(description.media[0].ice, Some(credentials(3)));
}

#[test]
fn a_lost_offer_is_made_again() {
    let mut subscriber = subscriber();
    subscriber.add(audio(1)).unwrap();
    let (lost, before) = offer(&mut subscriber);
    subscriber.abandon_offer();
    let (again, description) = offer(&mut subscriber);
    assert!(again.id > lost.id && description.version > before.version);
    assert_eq!(description.media, before.media, "the client may have applied the lost one");
    assert_eq!(subscriber.on_answer(lost.id, &accept(&before).to_string()), Ok(None));
}

#[test]
fn sections_do_not_grow_with_churn_and_ssrcs_never_repeat() {
    for quirks in [Quirks::default(), SAFARI] {
        let mut subscriber = Subscriber::new(credentials(1), 7, quirks);
        let mut seen = HashSet::new();
        for n in 1..=400 {
            subscriber.remove(TrackId(n - 1));
            subscriber.add(if n % 2 == 0 { audio(n) } else { camera(n) }).unwrap();
            let (answered, description) = round_accepted(&mut subscriber);
            assert_eq!(answered.subscriptions.len(), 1);
            assert!(description.media.len() <= 6, "{} m-lines after {n} tracks", description.media.len());
            assert!(answered.subscriptions.iter().all(|s| seen.insert(s.ssrc)));
        }
    }
}

#[test]
fn synchronised_streams_share_their_stream_id_and_are_not_reused() {
    let mut subscriber = subscriber();
    let track = |n| SubscribedTrack { stream: Some("camera".into()), participant_sid: "PA_x".into(), ..audio(n) };
    subscriber.add(track(1)).unwrap();
    let (_, description) = round_accepted(&mut subscriber);
    assert_eq!(description.media[1].msid, Some(("PA_x|camera".into(), "TR_1".into())));
    subscriber.remove(TrackId(1));
    let (_, description) = round_accepted(&mut subscriber);
    assert_eq!(description.media[1].port, 0);
    subscriber.add(track(2)).unwrap();
    let (_, description) = round_accepted(&mut subscriber);
    assert_eq!((description.media.len(), description.media[1].mid.as_str()), (2, "2"));
}

#[test]
fn what_cannot_be_added() {
    let mut subscriber = subscriber();
    assert_eq!(subscriber.add(video(1, &[])), Err(AddError::NoCodec));
    assert_eq!(subscriber.add(video(1, &[(Codec::Opus, 111)])), Err(AddError::NoCodec));
    for n in 1..MEDIA_MAX as u64 {
        subscriber.add(audio(n)).unwrap();
    }
    assert_eq!(subscriber.add(audio(9999)), Err(AddError::Full));
    let (_, description) = round_accepted(&mut subscriber);
    assert_eq!(description.media.len(), MEDIA_MAX);
}

#[test]
fn bad_answers_are_refused_and_the_offer_stays_out() {
    let mut subscriber = subscriber();
    subscriber.add(audio(1)).unwrap();
    round_accepted(&mut subscriber);
    subscriber.add(camera(2)).unwrap();
    let (offer, description) = offer(&mut subscriber);
    let before = subscriber.clone();
    let mut check = |edit: &dyn Fn(&mut Description), want: &str| {
        let mut answer = accept(&description);
        edit(&mut answer);
        let error = subscriber.on_answer(offer.id, &answer.to_string()).unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
        assert_eq!(subscriber, before, "{want}");
    };
    check(&|a| drop(a.media.pop()), "3 offered, 2 answered");
    check(&|a| a.media.swap(0, 1), "m-line 0");
    check(&|a| a.media.swap(1, 2), "m-line 1");
    check(&|a| a.media[2].mid = "x".into(), "m-line 2");
    check(&|a| a.media[0].setup = Some(Setup::Passive), "setup:active");
    check(&|a| a.media[1].setup = Some(Setup::ActPass), "setup:active");
    check(&|a| a.media[1].rtcp_mux = false, "rtcp-mux");
    check(&|a| a.media.iter_mut().for_each(|m| m.ice = None), "no ICE credentials");
    check(&|a| a.media.iter_mut().for_each(|m| m.fingerprint = None), "no SHA-256 fingerprint");
    check(&|a| a.media.iter_mut().for_each(|m| m.fingerprint.as_mut().unwrap().sha256[0] ^= 1), "another fingerprint");
    check(&|a| a.media[1].mid = "2".into(), "used twice");
    assert!(matches!(subscriber.on_answer(offer.id, ""), Err(AnswerError::Sdp(_))));
    assert!(subscriber.on_answer(offer.id, &accept(&description).to_string()).unwrap().is_some());
}
