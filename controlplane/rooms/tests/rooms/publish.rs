//! Publishing and subscribing.

use livekit_protocol::{
    MuteTrackRequest, ParticipantTracks, SubscriptionError, SubscriptionPermission, UpdateSubscription,
    UpdateTrackSettings, request_response::Reason, signal_request::Message as Request,
    signal_response::Message as Response,
};
use sluice_messages::{Codec, Kind};
use sluice_signal::{ConnectParams, VideoGrant};

use crate::world::*;

#[test]
fn a_published_track_reaches_the_others() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    let (microphone, camera) = world.publish(&ann);
    assert!(camera.sid.starts_with("TR_") && camera.sid.len() == 15);
    assert_eq!(microphone.name, "mic");

    // The publisher has its answer, with the offer's id.
    let heard = world.take(ann.socket);
    assert!(heard.iter().any(|m| matches!(m, Response::Answer(answer) if answer.id == 2)), "{heard:?}");

    // The others hear of the tracks before they are offered them.
    let heard = world.take(bob.socket);
    let update = position(&heard, |m| matches!(m, Response::Update(_)));
    let offer = position(&heard, |m| matches!(m, Response::Offer(_)));
    assert!(update < offer);
    let ann_info = updated(&heard)[0];
    let mimes: Vec<_> = ann_info.tracks.iter().map(|track| track.mime_type.as_str()).collect();
    assert_eq!(mimes, ["audio/red", "video/vp8"]);
    let Response::Offer(sdp) = &heard[offer] else { unreachable!() };
    assert!(sdp.sdp.contains(&format!("a=msid:{}|{} {}", ann.sid, camera.sid, camera.sid)), "{}", sdp.sdp);

    // Nothing flows before the answer; then both tracks do, as the answer says.
    let receiver = world.subscriber(&bob).id;
    assert!(world.subscriptions(receiver).is_empty());
    let answer = answer(sdp, |_| true);
    world.say(&bob, Request::Answer(answer));
    let subscriptions = world.subscriptions(receiver);
    assert_eq!(subscriptions.len(), 2);
    assert_ne!(subscriptions[0].ssrc, subscriptions[1].ssrc);
    assert!(subscriptions.iter().all(|s| !s.payloads.is_empty() && s.wish.enabled));

    // The publisher learns that somebody receives it, once.
    let told = |messages: &[Response]| messages.iter().filter(|m| matches!(m, Response::TrackSubscribed(_))).count();
    assert_eq!(told(&world.take(ann.socket)), 2);
    let carl = world.join_up("carl");
    assert_eq!(world.subscriptions(world.subscriber(&carl).id).len(), 2, "the first offer had them already");
    assert_eq!(told(&world.take(ann.socket)), 0);

    let rows = world.tracks();
    let camera = rows.iter().find(|track| track.kind == Kind::Video).unwrap();
    assert_eq!(camera.encodings.iter().map(|e| e.rid.as_deref().unwrap()).collect::<Vec<_>>(), ["q", "h", "f"]);
    assert_eq!(camera.payloads[0].codec, Codec::Vp8);
}

#[test]
fn an_offer_may_come_before_its_announcement() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.settle(&[&ann, &bob]);
    world.offer(&ann, "chromium-simulcast", 2);
    assert!(world.tracks().is_empty());
    world.say(&ann, Request::AddTrack(camera()));
    assert_eq!(world.tracks().len(), 1);
    assert!(world.take(bob.socket).iter().any(|m| matches!(m, Response::Offer(_))));
}

#[test]
fn one_offer_is_outstanding_and_what_changes_meanwhile_comes_after_its_answer() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    world.offer(&ann, "chromium-simulcast", 2);
    let offers = |messages: &[Response]| messages.iter().filter(|m| matches!(m, Response::Offer(_))).count();
    world.say(&ann, Request::AddTrack(microphone()));
    let first = world.take(bob.socket);
    assert_eq!(offers(&first), 1);
    world.say(&ann, Request::AddTrack(camera()));
    assert_eq!(offers(&world.take(bob.socket)), 0);
    let Response::Offer(offer) = &first[position(&first, |m| matches!(m, Response::Offer(_)))] else { unreachable!() };
    world.say(&bob, Request::Answer(answer(offer, |_| true)));
    assert_eq!(offers(&world.hear(&bob)), 1);
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2);
}

#[test]
fn an_unpublished_track_is_gone_everywhere() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(ann.socket);
    world.take(bob.socket);
    let before = world.tracks().len();
    world.unpublish_camera(&ann, 3);
    let heard = world.take(ann.socket);
    let gone: Vec<_> = heard
        .iter()
        .filter_map(|m| if let Response::TrackUnpublished(t) = m { Some(&t.track_sid) } else { None })
        .collect();
    assert_eq!(gone, [&camera.sid]);
    let heard = world.hear(&bob);
    assert!(updated(&heard)[0].tracks.iter().all(|track| track.sid != camera.sid));
    assert_eq!(world.tracks().len(), before - 1);
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 1);
}

#[test]
fn mute_is_seen_by_others_and_by_the_node() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (microphone, _) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    for muted in [true, false] {
        world.say(&ann, Request::Mute(MuteTrackRequest { sid: microphone.sid.clone(), muted }));
        let heard = world.take(bob.socket);
        let track = updated(&heard)[0].tracks.iter().find(|track| track.sid == microphone.sid).unwrap();
        assert_eq!(track.muted, muted);
        let row = world.tracks().into_iter().find(|track| track.kind == Kind::Audio).unwrap();
        assert_eq!(row.muted, muted);
    }
}

#[test]
fn clients_choose_what_they_receive() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let (microphone, camera) = world.publish(&ann);
    let bob = world.join_with(claims("bob"), ConnectParams { auto_subscribe: false, ..params() });
    let receiver = world.subscriber(&bob).id;
    let receives = |world: &mut World| {
        world.settle(&[&bob]);
        world.subscriptions(receiver).len()
    };
    assert_eq!(receives(&mut world), 0);
    let participant_tracks =
        vec![ParticipantTracks { participant_sid: ann.sid.clone(), track_sids: vec![camera.sid.clone()] }];
    world.say(
        &bob,
        Request::Subscription(UpdateSubscription { subscribe: true, participant_tracks, ..Default::default() }),
    );
    assert_eq!(receives(&mut world), 1);
    let track_sids = vec![microphone.sid, "TR_unknown".into()];
    world.say(&bob, Request::Subscription(UpdateSubscription { subscribe: true, track_sids, ..Default::default() }));
    assert_eq!(receives(&mut world), 2);
    let track_sids = vec![camera.sid];
    world.say(&bob, Request::Subscription(UpdateSubscription { subscribe: false, track_sids, ..Default::default() }));
    assert_eq!(receives(&mut world), 1);
}

#[test]
fn settings_choose_the_layer() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let receiver = world.subscriber(&bob).id;
    let mut wish = |update: UpdateTrackSettings| {
        world.say(&bob, Request::TrackSetting(UpdateTrackSettings { track_sids: vec![camera.sid.clone()], ..update }));
        let subscriptions = world.subscriptions(receiver);
        let wish = subscriptions.iter().find(|s| s.rtx_ssrc.is_some()).unwrap().wish;
        (wish.enabled, wish.max_encoding)
    };
    assert_eq!(wish(UpdateTrackSettings { width: 160, height: 90, ..Default::default() }), (true, 0));
    assert_eq!(wish(UpdateTrackSettings { width: 640, height: 360, ..Default::default() }), (true, 1));
    assert_eq!(wish(UpdateTrackSettings { quality: 2, ..Default::default() }), (true, 2));
    assert_eq!(wish(UpdateTrackSettings { disabled: true, quality: 2, ..Default::default() }), (false, 2));
}

#[test]
fn publishers_learn_which_layers_are_wanted() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let settings = |quality| {
        Request::TrackSetting(UpdateTrackSettings {
            track_sids: vec![camera.sid.clone()],
            quality,
            ..Default::default()
        })
    };
    let told = |world: &mut World| {
        let messages = world.take(ann.socket);
        let last = messages
            .iter()
            .rev()
            .find_map(|m| if let Response::SubscribedQualityUpdate(u) = m { Some(u) } else { None });
        last.map(|update| {
            assert_eq!(update.subscribed_codecs[0].codec, "vp8");
            update.subscribed_codecs[0].qualities.iter().map(|quality| quality.enabled).collect::<Vec<_>>()
        })
    };
    let alive = [ann.socket, bob.socket];
    world.say(&bob, settings(0));
    assert_eq!(told(&mut world), None, "lowering waits");
    world.pass(std::time::Duration::from_secs(6), &alive);
    assert_eq!(told(&mut world), Some(vec![true, false, false]));
    world.say(&bob, settings(2));
    assert_eq!(told(&mut world), Some(vec![true, true, true]), "raising does not");
    world.say(&bob, settings(0));
    world.say(&bob, settings(2));
    world.pass(std::time::Duration::from_secs(10), &alive);
    assert_eq!(told(&mut world), None, "what was lowered only for a moment is not told");
}

#[test]
fn what_the_token_does_not_permit_is_refused() {
    let mut world = World::new();
    let check = |world: &mut World, name: &str, grant: VideoGrant, want: Option<Reason>| {
        let mut claims = claims(name);
        claims.video = Some(VideoGrant { room: "r".into(), room_join: true, ..grant });
        let client = world.join_with(claims, params());
        world.say(&client, Request::AddTrack(camera()));
        let messages = world.take(client.socket);
        let refused =
            messages.iter().find_map(|m| if let Response::RequestResponse(r) = m { Some(r.reason()) } else { None });
        assert_eq!(refused, want, "{messages:?}");
        assert_eq!(messages.iter().any(|m| matches!(m, Response::TrackPublished(_))), want.is_none());
        client
    };
    check(&mut world, "a", VideoGrant::default(), None);
    check(&mut world, "b", VideoGrant { can_publish: Some(false), ..Default::default() }, Some(Reason::NotAllowed));
    let only_microphone = VideoGrant { can_publish_sources: vec!["microphone".into()], ..Default::default() };
    check(&mut world, "c", only_microphone, Some(Reason::NotAllowed));

    let mute = VideoGrant { can_publish_data: Some(false), ..Default::default() };
    let silent = check(&mut world, "d", mute, None);
    assert!(!world.subscriber(&silent).data.unwrap().may_send);

    let deaf = VideoGrant { can_subscribe: Some(false), ..Default::default() };
    let deaf = check(&mut world, "e", deaf, None);
    assert!(!deaf.join.subscriber_primary);
    world.offer(&deaf, "chromium-data", 1);
    let transports = world.transports(&deaf.sid);
    assert_eq!(transports.len(), 1, "no subscriber connection");
    assert!(transports[0].data.unwrap().delivers, "data comes on the publisher connection");
}

#[test]
fn publishers_choose_who_may_subscribe() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let receiver = world.subscriber(&bob).id;
    world.take(bob.socket);
    world.say(&ann, Request::SubscriptionPermission(SubscriptionPermission::default()));
    let heard = world.hear(&bob);
    let denied = heard.iter().filter(|m| matches!(m, Response::SubscriptionPermissionUpdate(u) if !u.allowed)).count();
    assert_eq!((denied, world.subscriptions(receiver).len()), (2, 0));
    let all = SubscriptionPermission { all_participants: true, ..Default::default() };
    world.say(&ann, Request::SubscriptionPermission(all));
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(receiver).len(), 2);
}

#[test]
fn a_codec_that_the_client_cannot_decode_is_reported_and_the_rest_goes_on() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let (_, camera) = world.publish(&ann);
    let socket = world.connect(claims("bob"), params());
    let messages = world.take(socket);
    let Response::Offer(offer) = &messages[position(&messages, |m| matches!(m, Response::Offer(_)))] else {
        unreachable!()
    };
    let video = offer.sdp.split("m=").find(|section| section.starts_with("video")).unwrap();
    let mid = video.split("a=mid:").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    world.run(sluice_rooms::Command::Signal { socket, message: Request::Answer(answer(offer, |m| m != mid)) });
    let messages = world.take(socket);
    let refused = messages.iter().find_map(|m| if let Response::SubscriptionResponse(r) = m { Some(r) } else { None });
    let refused = refused.expect("the client is told");
    assert_eq!((&refused.track_sid, refused.err()), (&camera.sid, SubscriptionError::SeCodecUnsupported));
    let receivers = world.tracks().iter().filter(|t| t.kind == Kind::Audio).count();
    assert_eq!(receivers, 1);
}

#[test]
fn a_description_that_cannot_be_used_starts_the_client_anew_and_nobody_else() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    let sdp = livekit_protocol::SessionDescription { sdp: "nonsense".into(), id: 9, ..Default::default() };
    world.say(&ann, Request::Offer(sdp));
    let messages = world.take(ann.socket);
    assert!(matches!(messages.last(), Some(Response::Leave(leave)) if leave.can_reconnect), "{messages:?}");
    assert!(world.take(bob.socket).is_empty());
    // It comes back as if it had never been away.
    world.join("ann");
    assert!(updated(&world.take(bob.socket)).iter().all(|info| info.disconnect_reason == 0 && info.state != 3));
}
