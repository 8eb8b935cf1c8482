//! What rooms and permissions can be set to, at a join and while a call goes on.

use std::time::Duration;

use livekit_protocol::{
    ParticipantPermission, UpdateParticipantRequest, signal_request::Message as Request,
    signal_response::Message as Response,
};
use sluice_rooms::{ApiCall, RoomsConfig};
use sluice_signal::{Claims, sdp::Description};

use crate::world::*;

fn configured(identity: &str, json: &str) -> Claims {
    Claims { room_config: Some(serde_json::from_str(json).unwrap()), ..claims(identity) }
}

/// Stream part of the msid of what is offered.
fn streams(messages: &[Response]) -> Vec<String> {
    let offer = messages.iter().rev().find_map(|m| if let Response::Offer(offer) = m { Some(offer) } else { None });
    let media = Description::parse(&offer.expect("an offer").sdp).unwrap().media;
    media.into_iter().filter_map(|media| Some(media.msid?.0)).collect()
}

#[test]
fn a_token_configures_the_room_that_it_creates() {
    let mut world = World::new();
    let json = r#"{"metadata": "m", "maxParticipants": 2, "departureTimeout": 5, "syncStreams": true}"#;
    let ann = world.join_with(configured("ann", json), params());
    let room = ann.join.room.clone().unwrap();
    assert_eq!((room.metadata.as_str(), room.max_participants, room.departure_timeout), ("m", 2, 5));
    // A token that comes later changes nothing.
    let bob = world.join_with(configured("bob", r#"{"metadata": "other"}"#), params());
    assert_eq!(bob.join.room.as_ref().unwrap().metadata, "m");
    let socket = world.connect(claims("carl"), params());
    assert!(matches!(&world.take(socket)[..], [Response::Leave(_)]), "the room is full");
    for client in [&ann, &bob] {
        world.say(client, Request::Leave(Default::default()));
    }
    world.pass(Duration::from_secs(6), &[]);
    assert_eq!(world.rooms.counts().0, 0, "it closes after its own time");
}

#[test]
fn a_configuration_that_is_none_is_ignored() {
    let mut world = World::with(RoomsConfig { max_participants: 7, ..RoomsConfig::default() });
    let ann = world.join_with(configured("ann", r#"{"maxParticipants": "many"}"#), params());
    assert_eq!(ann.join.room.unwrap().max_participants, 0);
}

#[test]
fn streams_are_shared_where_the_room_says_so() {
    let shared = |json: &str| {
        let mut world = World::new();
        let ann = world.join_with(configured("ann", json), params());
        world.offer(&ann, "chromium-data", 1);
        let (microphone, camera) = world.publish(&ann);
        let socket = world.connect(claims("bob"), params());
        let streams = streams(&world.take(socket));
        (streams, ann.sid, microphone.sid, camera.sid)
    };
    let (streams, ann, ..) = shared(r#"{"syncStreams": true}"#);
    assert_eq!(streams, [format!("{ann}|camera"), format!("{ann}|camera")], "one stream: played in step");
    let (streams, ann, microphone, camera) = shared("{}");
    assert_eq!(streams, [format!("{ann}|{microphone}"), format!("{ann}|{camera}")]);
}

fn permit(world: &mut World, identity: &str, permission: ParticipantPermission) {
    let request = UpdateParticipantRequest {
        room: "r".into(),
        identity: identity.into(),
        permission: Some(permission),
        ..Default::default()
    };
    world.api(ApiCall::UpdateParticipant(request)).unwrap();
}

fn all() -> ParticipantPermission {
    ParticipantPermission { can_subscribe: true, can_publish: true, can_publish_data: true, ..Default::default() }
}

#[test]
fn data_is_permitted_and_forbidden_while_connected() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let may_send = |world: &World| {
        let transports = world.transports(&ann.sid);
        transports.iter().filter_map(|transport| transport.data).map(|data| data.may_send).collect::<Vec<_>>()
    };
    assert_eq!(may_send(&world), [true, true]);
    permit(&mut world, "ann", ParticipantPermission { can_publish_data: false, ..all() });
    assert_eq!(may_send(&world), [false, false], "the node enforces it");
    let told = world.take(ann.socket);
    let own = updated(&told).into_iter().find(|info| info.sid == ann.sid).expect("the client is told");
    assert!(!own.permission.as_ref().unwrap().can_publish_data);
    assert!(!world.tokens[&ann.socket].video.as_ref().unwrap().can_publish_data.unwrap(), "and so is its next token");
    permit(&mut world, "ann", all());
    assert_eq!(may_send(&world), [true, true]);
}

#[test]
fn hiding_somebody_is_a_departure_and_showing_a_return() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let receiver = world.subscriber(&bob).id;
    assert_eq!(world.subscriptions(receiver).len(), 2);
    world.take(bob.socket);
    permit(&mut world, "ann", ParticipantPermission { hidden: true, ..all() });
    let heard = world.hear(&bob);
    let last = updated(&heard).into_iter().rev().find(|info| info.sid == ann.sid).expect("bob is told");
    assert_eq!(last.state(), livekit_protocol::participant_info::State::Disconnected);
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(receiver).len(), 0, "nothing of the hidden one is received");
    let carl = world.join_up("carl");
    assert!(carl.join.other_participants.iter().all(|other| other.sid != ann.sid));

    world.take(bob.socket);
    permit(&mut world, "ann", all());
    let heard = world.hear(&bob);
    let back = updated(&heard).into_iter().rev().find(|info| info.sid == ann.sid).expect("bob is told");
    assert_eq!((back.state(), back.tracks.len()), (livekit_protocol::participant_info::State::Active, 2));
    world.settle(&[&bob, &carl]);
    assert_eq!(world.subscriptions(receiver).len(), 2);
}

#[test]
fn subscribing_is_permitted_and_forbidden_while_connected() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let receiver = world.subscriber(&bob).id;
    permit(&mut world, "bob", ParticipantPermission { can_subscribe: false, ..all() });
    assert_eq!(world.subscriptions(receiver).len(), 0);
    world.settle(&[&bob]);
    permit(&mut world, "bob", all());
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(receiver).len(), 2);
}
