//! Data tracks: published, subscribed to, and gone.

use std::{collections::HashMap, time::Duration};

use livekit_protocol::{
    DataTrackInfo, ParticipantPermission, PublishDataTrackRequest, PublishDataTrackResponse, SubscriptionPermission,
    SyncState, UnpublishDataTrackRequest, UpdateDataSubscription, UpdateParticipantRequest, leave_request::Action,
    request_response::Reason, signal_request::Message as Request, signal_response::Message as Response,
    update_data_subscription::Update,
};
use sluice_messages::{DataSubscription, DataTrack, Entry};
use sluice_rooms::{ApiCall, limits::DATA_TRACKS_MAX};
use sluice_signal::{ConnectParams, VideoGrant};

use crate::world::*;

fn request(handle: u32, name: &str) -> Request {
    let request = PublishDataTrackRequest { pub_handle: handle, name: name.into(), ..Default::default() };
    Request::PublishDataTrackRequest(request)
}

fn want(sid: &str, subscribe: bool) -> UpdateDataSubscription {
    let update = Update { track_sid: sid.into(), subscribe, options: None };
    UpdateDataSubscription { updates: vec![update] }
}

fn subscribe(sid: &str) -> Request {
    Request::UpdateDataSubscription(want(sid, true))
}

fn unsubscribe(sid: &str) -> Request {
    Request::UpdateDataSubscription(want(sid, false))
}

/// Publishes a data track that must be accepted.
fn publish(world: &mut World, client: &Client, handle: u32, name: &str) -> DataTrackInfo {
    world.say(client, request(handle, name));
    let heard = world.take(client.socket);
    let at = position(&heard, |m| matches!(m, Response::PublishDataTrackResponse(_)));
    let Response::PublishDataTrackResponse(response) = &heard[at] else { unreachable!() };
    response.info.clone().unwrap()
}

/// Why a request was refused.
fn refused(world: &mut World, client: &Client, request: Request) -> Reason {
    world.say(client, request);
    match &world.take(client.socket)[..] {
        [Response::RequestResponse(response)] => response.reason(),
        other => panic!("not one refusal: {other:?}"),
    }
}

/// Handles that were told last, with publisher and track.
fn handles(messages: &[Response]) -> HashMap<u32, (String, String)> {
    let told = messages.iter().rev().find_map(|message| match message {
        Response::DataTrackSubscriberHandles(handles) => Some(&handles.sub_handles),
        _ => None,
    });
    let told = told.into_iter().flatten();
    told.map(|(&handle, track)| (handle, (track.publisher_identity.clone(), track.track_sid.clone()))).collect()
}

fn tracks(world: &World) -> Vec<DataTrack> {
    let of = |entry: &Entry| if let Entry::DataTrack(track) = entry { Some(track.clone()) } else { None };
    world.table.values().filter_map(of).collect()
}

fn subscriptions(world: &World) -> Vec<DataSubscription> {
    let of = |entry: &Entry| if let Entry::DataSubscription(row) = entry { Some(row.clone()) } else { None };
    world.table.values().filter_map(of).collect()
}

fn publisher(world: &World, client: &Client) -> sluice_messages::TransportId {
    let subscriber = world.subscriber(client).id;
    world.transports(&client.sid).into_iter().find(|t| t.id != subscriber).expect("a publisher transport").id
}

#[test]
fn who_subscribes_gets_a_handle_and_the_node_translates() {
    let mut world = World::new();
    let (ann, bob, cyn) = (world.join_up("ann"), world.join_up("bob"), world.join_up("cyn"));
    world.settle(&[&ann, &bob, &cyn]);
    world.take(bob.socket);
    let info = publish(&mut world, &ann, 7, "arm");
    assert!(info.sid.starts_with("DTR_") && info.sid.len() == 16, "{}", info.sid);
    assert_eq!((info.pub_handle, info.name.as_str()), (7, "arm"));
    let rows = tracks(&world);
    assert_eq!((rows[0].publisher, rows[0].handle), (publisher(&world, &ann), 7));

    // Everybody learns of it, nobody receives it unasked.
    let heard = world.take(bob.socket);
    assert_eq!(updated(&heard)[0].data_tracks, std::slice::from_ref(&info));
    assert!(updated(&heard)[0].is_publisher);
    assert!(subscriptions(&world).is_empty());
    assert_eq!(world.join_up("dan").join.other_participants[0].data_tracks, std::slice::from_ref(&info));

    world.say(&bob, subscribe(&info.sid));
    let told = handles(&world.take(bob.socket));
    let (&handle, track) = told.iter().next().unwrap();
    assert_eq!((told.len(), track), (1, &("ann".to_owned(), info.sid.clone())));
    let receiver = world.subscriber(&bob).id;
    let row = DataSubscription { receiver, track: rows[0].id, handle: handle as u16 };
    assert_eq!(subscriptions(&world), [row]);

    // Another track has another handle, and the first keeps its own.
    let leg = publish(&mut world, &ann, 8, "leg");
    world.say(&bob, subscribe(&leg.sid));
    let told = handles(&world.take(bob.socket));
    assert_eq!(told.len(), 2);
    assert_eq!(told[&handle].1, info.sid);
    // Who asks again is told again: it would wait for its handle otherwise.
    world.say(&bob, subscribe(&leg.sid));
    assert_eq!(handles(&world.take(bob.socket)), told);

    world.say(&bob, unsubscribe(&info.sid));
    assert_eq!(subscriptions(&world).len(), 1);
    assert!(handles(&world.take(cyn.socket)).is_empty());
}

#[test]
fn what_is_unpublished_is_gone_for_everybody() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let info = publish(&mut world, &ann, 7, "arm");
    world.say(&bob, subscribe(&info.sid));
    world.take(bob.socket);

    world.say(&ann, Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 7 }));
    let heard = world.take(ann.socket);
    let is_told = |m: &Response| matches!(m, Response::UnpublishDataTrackResponse(r) if r.info.as_ref() == Some(&info));
    assert!(heard.iter().any(is_told), "{heard:?}");
    assert!(updated(&world.take(bob.socket))[0].data_tracks.is_empty());
    assert!(tracks(&world).is_empty() && subscriptions(&world).is_empty());
    let gone = Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 7 });
    assert_eq!(refused(&mut world, &ann, gone), Reason::NotFound);

    // Handle and name are free again; who received the old track does not receive the new one.
    let again = publish(&mut world, &ann, 7, "arm");
    assert_ne!(again.sid, info.sid);
    assert!(subscriptions(&world).is_empty());

    // A publisher that leaves takes its tracks along, and they are gone before it is.
    world.say(&bob, subscribe(&again.sid));
    world.take(bob.socket);
    world.say(&ann, Request::Leave(Default::default()));
    assert!(tracks(&world).is_empty() && subscriptions(&world).is_empty());
    let heard = world.take(bob.socket);
    assert_eq!(updated(&heard).iter().filter(|info| info.data_tracks.is_empty()).count(), 2, "{heard:?}");
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.take(ann.socket);
    assert_eq!(refused(&mut world, &ann, request(0, "arm")), Reason::InvalidHandle);
    assert_eq!(refused(&mut world, &ann, request(65_536, "arm")), Reason::InvalidHandle);
    assert_eq!(refused(&mut world, &ann, request(1, "")), Reason::InvalidName);
    assert_eq!(refused(&mut world, &ann, request(1, &"n".repeat(257))), Reason::InvalidName);
    publish(&mut world, &ann, 1, "arm");
    assert_eq!(refused(&mut world, &ann, request(1, "leg")), Reason::DuplicateHandle);
    assert_eq!(refused(&mut world, &ann, request(2, "arm")), Reason::DuplicateName);
    for handle in 2..=DATA_TRACKS_MAX as u32 {
        publish(&mut world, &ann, handle, &format!("track-{handle}"));
    }
    assert_eq!(refused(&mut world, &ann, request(9_999, "one too many")), Reason::LimitExceeded);
    assert_eq!(tracks(&world).len(), DATA_TRACKS_MAX);

    let silent = VideoGrant { can_publish_data: Some(false), ..claims("bob").video.unwrap() };
    let bob = world.join_with(sluice_signal::Claims { video: Some(silent), ..claims("bob") }, params());
    world.take(bob.socket);
    assert_eq!(refused(&mut world, &bob, request(1, "arm")), Reason::NotAllowed);
}

#[test]
fn permissions_decide_who_publishes_and_who_receives() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let info = publish(&mut world, &ann, 7, "arm");
    world.say(&bob, subscribe(&info.sid));
    assert_eq!(subscriptions(&world).len(), 1);

    // The publisher allows nobody, then everybody.
    world.say(&ann, Request::SubscriptionPermission(SubscriptionPermission::default()));
    assert!(subscriptions(&world).is_empty());
    let everybody = SubscriptionPermission { all_participants: true, ..Default::default() };
    world.say(&ann, Request::SubscriptionPermission(everybody));
    assert_eq!(subscriptions(&world).len(), 1, "what bob wants was not forgotten");
    world.take(bob.socket);

    let mut set = |identity: &str, permission: ParticipantPermission| {
        let request = UpdateParticipantRequest {
            room: "r".into(),
            identity: identity.into(),
            permission: Some(permission),
            ..Default::default()
        };
        world.api(ApiCall::UpdateParticipant(request)).unwrap();
        (tracks(&world).len(), subscriptions(&world).len(), world.take(ann.socket), world.take(bob.socket))
    };
    let all =
        ParticipantPermission { can_publish: true, can_subscribe: true, can_publish_data: true, ..Default::default() };
    let (published, received, ..) = set("bob", ParticipantPermission { can_subscribe: false, ..all.clone() });
    assert_eq!((published, received), (1, 0));
    let (published, received, _, heard) = set("bob", all.clone());
    assert_eq!((published, received, handles(&heard).len()), (1, 1, 1));
    let (published, received, heard, _) = set("ann", ParticipantPermission { can_publish_data: false, ..all });
    assert_eq!((published, received), (0, 0));
    assert!(heard.iter().any(|m| matches!(m, Response::UnpublishDataTrackResponse(_))), "{heard:?}");
}

#[test]
fn who_asked_for_all_receives_all() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let arm = publish(&mut world, &ann, 1, "arm");
    let all = ConnectParams { auto_subscribe_data_track: Some(true), ..params() };
    let socket = world.connect(claims("bob"), all);
    let heard = world.take(socket);
    assert!(matches!(heard[0], Response::Join(_)), "the track is known before its handle: {heard:?}");
    let told = handles(&heard);
    assert_eq!(told.values().next().unwrap().1, arm.sid);
    let leg = publish(&mut world, &ann, 2, "leg");
    let heard = world.take(socket);
    let update = position(&heard, |m| matches!(m, Response::Update(_)));
    assert!(update < position(&heard, |m| matches!(m, Response::DataTrackSubscriberHandles(_))));
    assert_eq!(handles(&heard).len(), 2);
    assert!(handles(&heard).values().any(|(_, sid)| *sid == leg.sid));
}

#[test]
fn a_data_track_may_come_before_the_first_offer() {
    let mut world = World::new();
    let (ann, bob) = (world.join("ann"), world.join_up("bob"));
    let info = publish(&mut world, &ann, 7, "arm");
    world.say(&bob, subscribe(&info.sid));
    let before = tracks(&world)[0].publisher;
    world.offer(&ann, "chromium-data", 1);
    assert_eq!(publisher(&world, &ann), before, "the offer describes the connection that the track is on");
    assert_eq!(subscriptions(&world).len(), 1);
    let (microphone, _) = world.publish(&ann);
    assert!(!microphone.sid.is_empty());
}

#[test]
fn a_resume_keeps_tracks_and_handles() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let info = publish(&mut world, &ann, 7, "arm");
    world.say(&bob, subscribe(&info.sid));
    let told = handles(&world.take(bob.socket));
    let rows = (tracks(&world), subscriptions(&world));

    world.close(&bob);
    let (bob, messages) = world.resume(&bob);
    assert_eq!(handles(&messages), told, "an answer that was lost with the socket is repeated");
    let data_subscription = Some(want(&info.sid, true));
    world.say(&bob, Request::SyncState(SyncState { data_subscription, ..Default::default() }));
    assert_eq!(handles(&world.take(bob.socket)), told);

    world.close(&ann);
    let (ann, _) = world.resume(&ann);
    let published = |info: &DataTrackInfo| PublishDataTrackResponse { info: Some(info.clone()) };
    let state = SyncState { publish_data_tracks: vec![published(&info)], ..Default::default() };
    world.say(&ann, Request::SyncState(state));
    assert_eq!((tracks(&world), subscriptions(&world)), rows);
    assert!(!world.closed.contains_key(&ann.socket));

    // What is not known cannot go on: the client starts anew, and publishes it again.
    let unknown = DataTrackInfo { sid: "DTR_unknown".into(), ..info };
    let state = SyncState { publish_data_tracks: vec![published(&unknown)], ..Default::default() };
    world.say(&ann, Request::SyncState(state));
    assert!(matches!(world.take(ann.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
}

#[test]
fn a_restarted_control_knows_tracks_and_handles() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.settle(&[&ann, &bob]);
    let arm = publish(&mut world, &ann, 7, "arm");
    world.say(&bob, subscribe(&arm.sid));
    let told = handles(&world.take(bob.socket));
    world.pass(Duration::from_secs(2), &[ann.socket, bob.socket]);
    let rows = (tracks(&world), subscriptions(&world));
    assert_eq!((rows.0.len(), rows.1.len()), (1, 1));

    world.restart_control();
    assert_eq!((tracks(&world), subscriptions(&world)), rows);
    let (bob, messages) = world.resume(&bob);
    assert_eq!(handles(&messages), told);
    let (ann, _) = world.resume(&ann);
    let leg = publish(&mut world, &ann, 8, "leg");
    world.say(&bob, subscribe(&leg.sid));
    let now = handles(&world.take(bob.socket));
    assert_eq!(now.len(), 2, "the new handle is another one: {now:?}");
    world.say(&ann, Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 7 }));
    assert_eq!((tracks(&world).len(), subscriptions(&world).len()), (1, 1));
}
