//! A camera in VP9, and in VP8 for those who cannot decode it.

use livekit_protocol::{
    AddTrackRequest, BackupCodecPolicy, SessionDescription, SimulcastCodec, SubscribedQualityUpdate, TrackInfo,
    VideoLayer, signal_request::Message as Request, signal_response::Message as Response,
};
use sluice_messages::{Codec, Event, Subscription, Track};
use sluice_signal::sdp::Description;

use crate::world::*;

const BACKUP_CID: &str = "5d0c38a5-7be5-4f8e-8c86-0b4d7d33a6cf";

/// As livekit-client announces `videoCodec: 'vp9'` with a backup.
fn vp9() -> AddTrackRequest {
    let codec = |codec: &str, cid: String| SimulcastCodec { codec: codec.into(), cid, ..Default::default() };
    let request = camera();
    let simulcast_codecs = vec![codec("vp9", request.cid.clone()), codec("vp8", String::new())];
    AddTrackRequest { simulcast_codecs, ..request }
}

/// As livekit-client announces the backup when it is asked for.
fn vp8_of(sid: &str) -> AddTrackRequest {
    let layers: Vec<VideoLayer> = camera().layers;
    AddTrackRequest {
        cid: BACKUP_CID.into(),
        sid: sid.into(),
        simulcast_codecs: vec![SimulcastCodec {
            codec: "vp8".into(),
            cid: BACKUP_CID.into(),
            layers: layers.clone(),
            ..Default::default()
        }],
        layers,
        ..camera()
    }
}

/// Chromium's offer of the camera, with a second section for the backup if `backup`.
fn offer(backup: bool, id: u32) -> SessionDescription {
    let mut description = Description::parse(&data("chromium-svc")).unwrap();
    let mut first = description.media[0].clone();
    let vp9 = first.formats.iter().position(|format| format.payload_type == 98).unwrap();
    first.formats.swap(0, vp9);
    description.media = vec![first.clone()];
    if backup {
        let mut second = first;
        second.mid = "1".into();
        second.msid = Some(("-".into(), BACKUP_CID.into()));
        second.ssrcs = vec![77, 78];
        second.groups = vec![("FID".into(), vec![77, 78])];
        description.bundle.push("1".into());
        description.media.push(second);
    }
    SessionDescription { r#type: "offer".into(), sdp: description.to_string(), id, ..Default::default() }
}

/// Somebody who has offered nothing yet.
fn publisher(world: &mut World) -> Client {
    let client = world.join("ann");
    world.connect_media(&client);
    client
}

fn announce(world: &mut World, client: &Client, request: AddTrackRequest) -> TrackInfo {
    let cid = request.cid.clone();
    world.say(client, Request::AddTrack(request));
    let messages = world.take(client.socket);
    let Some(Response::TrackPublished(published)) = messages.iter().find(|m| matches!(m, Response::TrackPublished(_)))
    else {
        panic!("not published: {messages:?}")
    };
    assert_eq!(published.cid, cid);
    published.track.clone().unwrap()
}

/// Answers whatever is offered, like a client that cannot decode VP9.
fn answer_without_vp9(world: &mut World, client: &Client) {
    while let Some(offer) = world.take(client.socket).into_iter().find_map(|message| match message {
        Response::Offer(offer) => Some(offer),
        _ => None,
    }) {
        let answer = answer(&offer, |_| true);
        let mut description = Description::parse(&answer.sdp).unwrap();
        for media in &mut description.media {
            media.formats.retain(|format| !["VP9", "AV1", "H264"].contains(&format.name.as_str()));
        }
        let answer = SessionDescription { sdp: description.to_string(), ..answer };
        world.say(client, Request::Answer(answer));
    }
}

fn join_without_vp9(world: &mut World, identity: &str) -> Client {
    let socket = world.connect(claims(identity), params());
    let messages = world.take(socket);
    let Some(Response::Join(join)) = messages.first() else { panic!("join is first") };
    let sid = join.participant.as_ref().unwrap().sid.clone();
    let client = Client { socket, sid, identity: identity.into(), join: join.clone() };
    world.inbox.insert(socket, messages);
    answer_without_vp9(world, &client);
    world.offer(&client, "chromium-data", 1);
    world.connect_media(&client);
    client
}

fn asked(messages: &[Response]) -> Option<SubscribedQualityUpdate> {
    let update = |m: &Response| if let Response::SubscribedQualityUpdate(u) = m { Some(u.clone()) } else { None };
    messages.iter().rev().find_map(update)
}

/// Codecs asked for, with the qualities.
fn codecs(update: &SubscribedQualityUpdate) -> Vec<(String, usize)> {
    let enabled = |codec: &livekit_protocol::SubscribedCodec| codec.qualities.iter().filter(|q| q.enabled).count();
    update.subscribed_codecs.iter().map(|codec| (codec.codec.clone(), enabled(codec))).collect()
}

fn only(world: &World, client: &Client) -> Subscription {
    let [subscription] = world.subscriptions(world.subscriber(client).id).try_into().expect("one subscription");
    subscription
}

fn track(world: &World, first: Codec) -> Track {
    let tracks = world.tracks();
    tracks.into_iter().find(|track| track.payloads[0].codec == first).expect("the codec is live")
}

#[test]
fn the_backup_is_asked_for_by_one_who_cannot_decode_the_first_codec() {
    let mut world = World::new();
    let (ann, bob) = (publisher(&mut world), world.join_up("bob"));
    let info = announce(&mut world, &ann, vp9());
    assert_eq!(info.codecs.iter().map(|c| c.mime_type.as_str()).collect::<Vec<_>>(), ["video/vp9", "video/vp8"]);
    world.say(&ann, Request::Offer(offer(false, 2)));
    world.settle(&[&bob]);
    assert_eq!(only(&world, &bob).track, track(&world, Codec::Vp9).id);
    assert!(asked(&world.take(ann.socket)).is_none_or(|update| codecs(&update).len() == 1), "nobody needs VP8 yet");

    let cas = join_without_vp9(&mut world, "cas");
    assert_eq!(world.subscriptions(world.subscriber(&cas).id), [], "there is nothing yet that it can decode");
    let update = asked(&world.take(ann.socket)).expect("the publisher is asked");
    assert_eq!(codecs(&update), [("vp9".to_owned(), 3), ("vp8".to_owned(), 3)]);

    let answered = announce(&mut world, &ann, vp8_of(&info.sid));
    assert_eq!(answered.sid, info.sid);
    world.take(cas.socket);
    world.say(&ann, Request::Offer(offer(true, 3)));
    let vp8 = track(&world, Codec::Vp8);
    let subscription = only(&world, &cas);
    assert_eq!((subscription.track, vp8.mid.as_str()), (vp8.id, "1"));
    assert!(subscription.payloads.iter().any(|map| (map.from, map.to) == (96, 96)), "{:?}", subscription.payloads);
    assert_eq!(only(&world, &bob).track, track(&world, Codec::Vp9).id, "who decodes VP9 keeps it");
    let heard = world.take(cas.socket);
    assert!(!heard.iter().any(|message| matches!(message, Response::Offer(_))), "one offer was enough: {heard:?}");
    let told = updated(&heard).into_iter().flat_map(|participant| &participant.tracks).next().unwrap();
    let [first, second] = &told.codecs[..] else { panic!("two codecs: {told:?}") };
    assert_eq!((first.mime_type.as_str(), first.mid.as_str()), ("video/vp9", "0"));
    assert_eq!((second.mime_type.as_str(), second.mid.as_str(), second.cid.as_str()), ("video/vp8", "1", BACKUP_CID));
    assert_eq!((second.layers.len(), second.layers[0].ssrc), (3, 77));
    assert_eq!(told.mime_type, "video/vp9");
    assert_eq!(world.rooms.counts().2, 2, "two node tracks, one publication");
    assert_eq!(told.sid, info.sid);
}

#[test]
fn a_backup_that_nobody_needs_any_more_is_not_asked_for() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let info = announce(&mut world, &ann, vp9());
    world.say(&ann, Request::Offer(offer(false, 2)));
    let cas = join_without_vp9(&mut world, "cas");
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 3)));
    // Nobody watches VP9 at all.
    world.take(ann.socket);
    world.pass(std::time::Duration::from_secs(6), &[ann.socket, cas.socket]);
    assert_eq!(codecs(&asked(&world.take(ann.socket)).unwrap()), [("vp9".to_owned(), 0), ("vp8".to_owned(), 3)]);
    world.say(&cas, Request::Leave(Default::default()));
    world.pass(std::time::Duration::from_secs(6), &[ann.socket]);
    assert_eq!(codecs(&asked(&world.take(ann.socket)).unwrap()), [("vp9".to_owned(), 0), ("vp8".to_owned(), 0)]);
}

#[test]
fn mute_and_end_concern_every_codec() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let info = announce(&mut world, &ann, vp9());
    world.say(&ann, Request::Offer(offer(false, 2)));
    let cas = join_without_vp9(&mut world, "cas");
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 3)));
    let mute = livekit_protocol::MuteTrackRequest { sid: info.sid.clone(), muted: true };
    world.say(&ann, Request::Mute(mute));
    assert!(world.tracks().iter().all(|track| track.muted) && world.tracks().len() == 2);
    // The first codec's section ends, and the whole track with it.
    let mut description = Description::parse(&offer(true, 4).sdp).unwrap();
    description.media[0].direction = sluice_signal::sdp::Direction::Inactive;
    let sdp = description.to_string();
    world.take(ann.socket);
    world.say(&ann, Request::Offer(SessionDescription { sdp, ..offer(true, 4) }));
    assert_eq!((world.tracks(), world.subscriptions(world.subscriber(&cas).id)), (vec![], vec![]));
    let heard = world.take(ann.socket);
    assert!(heard.iter().any(|m| matches!(m, Response::TrackUnpublished(gone) if gone.track_sid == info.sid)));
}

#[test]
fn a_backup_that_ends_and_returns_comes_with_a_fresh_ssrc() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let info = announce(&mut world, &ann, vp9());
    world.say(&ann, Request::Offer(offer(false, 2)));
    let cas = join_without_vp9(&mut world, "cas");
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 3)));
    let before = only(&world, &cas);
    let mut description = Description::parse(&offer(true, 4).sdp).unwrap();
    description.media[1].direction = sluice_signal::sdp::Direction::Inactive;
    world.say(&ann, Request::Offer(SessionDescription { sdp: description.to_string(), ..offer(true, 4) }));
    assert_eq!((world.tracks().len(), world.subscriptions(before.receiver).len()), (1, 0));
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 5)));
    answer_without_vp9(&mut world, &cas);
    let after = only(&world, &cas);
    assert_ne!((before.ssrc, before.track), (after.ssrc, after.track));
    assert_eq!(after.mid, before.mid, "the same section at the receiver");
}

#[test]
fn a_publisher_who_wants_to_send_one_codec_only_moves_everybody() {
    let mut world = World::new();
    let (ann, bob) = (publisher(&mut world), world.join_up("bob"));
    let policy = BackupCodecPolicy::Regression as i32;
    let info = announce(&mut world, &ann, AddTrackRequest { backup_codec_policy: policy, ..vp9() });
    world.say(&ann, Request::Offer(offer(false, 2)));
    world.settle(&[&bob]);
    let before = only(&world, &bob);
    let cas = join_without_vp9(&mut world, "cas");
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 3)));
    assert_eq!(only(&world, &bob), before, "nothing stops before the client knows the new SSRC");
    world.settle(&[&bob]);
    let after = only(&world, &bob);
    assert_eq!((after.track, only(&world, &cas).track), (track(&world, Codec::Vp8).id, track(&world, Codec::Vp8).id));
    assert_ne!(after.ssrc, before.ssrc);
}

#[test]
fn without_a_backup_the_client_is_told() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let request = AddTrackRequest { simulcast_codecs: vp9().simulcast_codecs[..1].to_vec(), ..vp9() };
    let info = announce(&mut world, &ann, request);
    world.say(&ann, Request::Offer(offer(false, 2)));
    let socket = world.connect(claims("cas"), params());
    let messages = world.take(socket);
    let offered = messages.iter().find_map(|m| if let Response::Offer(o) = m { Some(o.clone()) } else { None });
    let answered = answer(&offered.unwrap(), |_| true);
    let mut description = Description::parse(&answered.sdp).unwrap();
    description.media[1].formats.retain(|format| format.name == "VP8" || format.payload_type == 97);
    let sdp = description.to_string();
    world.run(sluice_rooms::Command::Signal {
        socket,
        message: Request::Answer(SessionDescription { sdp, ..answered }),
    });
    let told = world.take(socket);
    assert!(
        told.iter().any(|m| matches!(m, Response::SubscriptionResponse(r) if r.track_sid == info.sid && r.err == 1)),
        "{told:?}"
    );
    // A backup that comes later is for those, too.
    world.inbox.insert(socket, told);
    let cas = Client { socket, sid: String::new(), identity: "cas".into(), join: ann.join.clone() };
    answer_without_vp9(&mut world, &cas);
    announce(&mut world, &ann, vp8_of(&info.sid));
    assert!(world.take(socket).iter().any(|message| matches!(message, Response::Offer(_))), "offered again");
}

#[test]
fn second_codecs_that_cannot_be() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let info = announce(&mut world, &ann, vp9());
    world.say(&ann, Request::Offer(offer(false, 2)));
    let mut refused = |request: AddTrackRequest, reason: livekit_protocol::request_response::Reason| {
        world.say(&ann, Request::AddTrack(request));
        let told = world.take(ann.socket);
        let is = |m: &Response| matches!(m, Response::RequestResponse(r) if r.reason() == reason);
        assert!(told.iter().any(is), "{told:?}");
    };
    use livekit_protocol::request_response::Reason;
    refused(vp8_of("TR_unknown"), Reason::NotFound);
    let named = |codec: &str| {
        let mut request = vp8_of(&info.sid);
        request.simulcast_codecs[0].codec = codec.into();
        request
    };
    refused(named("vp9"), Reason::UnsupportedType);
    refused(named("opus"), Reason::UnsupportedType);
    refused(named("theora"), Reason::UnsupportedType);
    refused(AddTrackRequest { simulcast_codecs: Vec::new(), ..named("vp8") }, Reason::UnsupportedType);
}

#[test]
fn second_codecs_survive_a_restart_of_control() {
    let mut world = World::new();
    let ann = publisher(&mut world);
    let info = announce(&mut world, &ann, vp9());
    world.say(&ann, Request::Offer(offer(false, 2)));
    let cas = join_without_vp9(&mut world, "cas");
    announce(&mut world, &ann, vp8_of(&info.sid));
    world.say(&ann, Request::Offer(offer(true, 3)));
    world.pass(std::time::Duration::from_secs(2), &[ann.socket, cas.socket]);
    let (tracks, subscription) = (world.tracks(), only(&world, &cas));
    world.restart_control();
    let (ann, _) = world.resume(&ann);
    assert_eq!((world.tracks(), only(&world, &cas)), (tracks, subscription.clone()));
    // What the node says about the second codec still finds its place.
    let event = Event::Forwarding { receiver: subscription.receiver, track: subscription.track, encoding: Some(0) };
    world.event(event);
    world.say(&ann, Request::Leave(Default::default()));
    assert_eq!(world.tracks(), []);
}
