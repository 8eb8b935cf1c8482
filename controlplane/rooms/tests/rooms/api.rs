//! The server API, and what clients may change of themselves.

use std::{collections::HashMap, time::Duration};

use livekit_protocol::{
    self as proto, DisconnectReason, UpdateParticipantMetadata, data_packet, leave_request::Action,
    participant_info::State, request_response::Reason, signal_request::Message as Request,
    signal_response::Message as Response,
};
use prost::Message as _;
use sluice_rooms::{ApiAnswer, ApiCall, ApiCode};
use sluice_signal::VideoGrant;

use crate::world::*;

fn identity(identity: &str) -> proto::RoomParticipantIdentity {
    proto::RoomParticipantIdentity { room: "r".into(), identity: identity.into(), ..Default::default() }
}

#[test]
fn rooms_are_made_listed_and_deleted() {
    let mut world = World::new();
    let create = |max_participants| {
        let metadata = "m".to_owned();
        ApiCall::CreateRoom(proto::CreateRoomRequest {
            name: "r".into(),
            metadata,
            empty_timeout: 7,
            max_participants,
            ..Default::default()
        })
    };
    let Ok(ApiAnswer::Room(room)) = world.api(create(9)) else { panic!() };
    assert_eq!(
        (room.name.as_str(), room.metadata.as_str(), room.empty_timeout, room.departure_timeout),
        ("r", "m", 7, 20)
    );
    let Ok(ApiAnswer::Room(again)) = world.api(create(3)) else { panic!() };
    assert_eq!((&again.sid, again.max_participants), (&room.sid, 9));

    let ann = world.join_up("ann");
    assert_eq!(ann.join.room.as_ref().unwrap().sid, room.sid);
    let mut list = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let Ok(ApiAnswer::Rooms(list)) = world.api(ApiCall::ListRooms(proto::ListRoomsRequest { names })) else {
            panic!()
        };
        list.rooms.into_iter().map(|room| (room.name, room.num_participants)).collect::<Vec<_>>()
    };
    assert_eq!(list(&[]), [("r".to_owned(), 1)]);
    assert_eq!(list(&["x"]), []);

    world.take(ann.socket);
    let delete = || ApiCall::DeleteRoom(proto::DeleteRoomRequest { room: "r".into() });
    assert!(world.api(delete()).is_ok());
    let heard = world.take(ann.socket);
    assert!(matches!(&heard[..], [Response::Leave(l)] if l.reason() == DisconnectReason::RoomDeleted), "{heard:?}");
    assert!(world.table.is_empty(), "{:?}", world.table.keys());
    assert_eq!(world.api(delete()).unwrap_err().code, ApiCode::NotFound);
}

#[test]
fn an_unused_room_closes_after_its_own_timeout() {
    let mut world = World::new();
    let request = proto::CreateRoomRequest { name: "r".into(), empty_timeout: 7, ..Default::default() };
    assert!(world.api(ApiCall::CreateRoom(request)).is_ok());
    world.pass(Duration::from_secs(6), &[]);
    assert!(world.rooms.exists("r"));
    world.pass(Duration::from_secs(2), &[]);
    assert!(!world.rooms.exists("r"));
}

#[test]
fn participants_are_shown_removed_and_missed() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let Ok(ApiAnswer::Participant(info)) = world.api(ApiCall::GetParticipant(identity("ann"))) else { panic!() };
    assert_eq!((info.sid.as_str(), info.state()), (ann.sid.as_str(), State::Active));
    let list = ApiCall::ListParticipants(proto::ListParticipantsRequest { room: "r".into() });
    let Ok(ApiAnswer::Participants(list)) = world.api(list) else { panic!() };
    assert_eq!(list.participants.len(), 1);
    world.take(ann.socket);
    assert!(world.api(ApiCall::RemoveParticipant(identity("ann"))).is_ok());
    let heard = world.take(ann.socket);
    assert!(
        matches!(&heard[..], [Response::Leave(l)] if l.reason() == DisconnectReason::ParticipantRemoved && l.action() == Action::Disconnect)
    );
    assert_eq!(world.api(ApiCall::GetParticipant(identity("ann"))).unwrap_err().code, ApiCode::NotFound);
    assert_eq!(world.api(ApiCall::GetParticipant(identity(""))).unwrap_err().code, ApiCode::InvalidArgument);
}

#[test]
fn moderators_mute_but_do_not_unmute() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (microphone, _) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(ann.socket);
    world.take(bob.socket);
    let mute = |track_sid: &str, muted| {
        let (room, identity, track_sid) = ("r".into(), "ann".into(), track_sid.into());
        ApiCall::MutePublishedTrack(proto::MuteRoomTrackRequest { room, identity, track_sid, muted })
    };
    let Ok(ApiAnswer::Muted(answer)) = world.api(mute(&microphone.sid, true)) else { panic!() };
    assert!(answer.track.unwrap().muted);
    assert!(matches!(&world.take(ann.socket)[..], [Response::Mute(m)] if m.muted && m.sid == microphone.sid));
    assert!(updated(&world.take(bob.socket))[0].tracks.iter().any(|track| track.muted));
    assert_eq!(world.api(mute(&microphone.sid, false)).unwrap_err().code, ApiCode::FailedPrecondition);
    assert_eq!(world.api(mute("TR_none", true)).unwrap_err().code, ApiCode::NotFound);
}

#[test]
fn permissions_are_applied_to_what_goes_on() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let mut unpublished = 0;
    let mut update = |identity: &str, permission: proto::ParticipantPermission| {
        let request = proto::UpdateParticipantRequest {
            room: "r".into(),
            identity: identity.into(),
            permission: Some(permission),
            ..Default::default()
        };
        assert!(world.api(ApiCall::UpdateParticipant(request)).is_ok());
        let heard = world.hear(&ann);
        unpublished += heard.iter().filter(|m| matches!(m, Response::TrackUnpublished(_))).count();
        world.settle(&[&ann, &bob]);
        let receiver =
            world.transports(&bob.sid).into_iter().find(|t| t.data.is_some_and(|d| d.opened_by_us)).unwrap().id;
        (world.tracks().len(), world.subscriptions(receiver).len())
    };
    let all = proto::ParticipantPermission {
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        ..Default::default()
    };
    assert_eq!(update("bob", proto::ParticipantPermission { can_subscribe: false, ..all.clone() }), (2, 0));
    assert_eq!(update("bob", all.clone()), (2, 2));
    let microphone = vec![proto::TrackSource::Microphone as i32];
    assert_eq!(update("ann", proto::ParticipantPermission { can_publish_sources: microphone, ..all.clone() }), (1, 1));
    assert_eq!(update("ann", proto::ParticipantPermission { can_publish: false, ..all }), (0, 0));
    assert_eq!(unpublished, 2);
    assert_eq!(world.tokens[&ann.socket].video.as_ref().unwrap().can_publish, Some(false), "its next token says so");
}

#[test]
fn names_metadata_and_attributes() {
    let mut world = World::new();
    let bob = world.join_up("bob");
    let mut may = claims("ann");
    may.video = Some(VideoGrant { can_update_own_metadata: Some(true), ..may.video.unwrap() });
    let ann = world.join_with(may, params());
    let mut check = |client: &Client, update: UpdateParticipantMetadata, want: Reason| {
        world.take(client.socket);
        world.hear(&bob);
        world.say(client, Request::UpdateMetadata(UpdateParticipantMetadata { request_id: 5, ..update }));
        let heard = world.take(client.socket);
        let Some(answer) = heard.iter().find_map(|m| if let Response::RequestResponse(r) = m { Some(r) } else { None })
        else {
            panic!("{heard:?}")
        };
        assert_eq!((answer.request_id, answer.reason()), (5, want));
        let own = updated(&heard).first().map(|info| (info.name.clone(), info.metadata.clone(), info.attributes.len()));
        let others = updated(&world.take(bob.socket))
            .first()
            .map(|info| (info.name.clone(), info.metadata.clone(), info.attributes.len()));
        if client.sid != bob.sid {
            assert_eq!(own, others);
        }
        own
    };
    let attributes = |value: &str| HashMap::from([("a".to_owned(), value.to_owned())]);
    let update = UpdateParticipantMetadata {
        name: "Anna".into(),
        metadata: "m".into(),
        attributes: attributes("1"),
        ..Default::default()
    };
    assert_eq!(check(&ann, update.clone(), Reason::Ok), Some(("Anna".into(), "m".into(), 1)));
    let gone = UpdateParticipantMetadata { attributes: attributes(""), ..Default::default() };
    assert_eq!(check(&ann, gone, Reason::Ok), Some(("Anna".into(), "m".into(), 0)));
    let long = UpdateParticipantMetadata { metadata: "x".repeat(64_001), ..Default::default() };
    assert_eq!(check(&ann, long, Reason::LimitExceeded), None);
    assert_eq!(check(&bob, update, Reason::NotAllowed), None);
}

#[test]
fn data_goes_to_whom_it_names_once() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let request = |identities: &[&str], nonce: &[u8]| {
        ApiCall::SendData(proto::SendDataRequest {
            room: "r".into(),
            data: b"hello".to_vec(),
            kind: data_packet::Kind::Lossy as i32,
            destination_identities: identities.iter().map(|i| (*i).to_owned()).collect(),
            topic: Some("t".into()),
            nonce: nonce.to_vec(),
            ..Default::default()
        })
    };
    assert!(world.api(request(&[], b"")).is_ok());
    assert_eq!(world.data[0].to.len(), 2);
    let packet = proto::DataPacket::decode(&*world.data[0].payload).unwrap();
    assert!(
        matches!(packet.value, Some(data_packet::Value::User(user)) if user.payload == b"hello" && user.topic() == "t")
    );
    assert!(world.api(request(&["bob"], b"n")).is_ok());
    assert_eq!(world.data[1].to, [world.subscriber(&bob).id]);
    assert!(world.api(request(&["bob"], b"n")).is_ok());
    assert!(world.api(request(&["nobody"], b"")).is_ok());
    assert_eq!(world.data.len(), 2);
    drop(ann);
}

#[test]
fn room_metadata_and_subscriptions() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    let update = proto::UpdateRoomMetadataRequest { room: "r".into(), metadata: "new".into() };
    assert!(
        matches!(world.api(ApiCall::UpdateRoomMetadata(update)), Ok(ApiAnswer::Room(room)) if room.metadata == "new")
    );
    let heard = world.take(bob.socket);
    assert!(matches!(&heard[..], [Response::RoomUpdate(u)] if u.room.as_ref().unwrap().metadata == "new"), "{heard:?}");

    let update = |sid: &str| {
        let track_sids = vec![sid.to_owned()];
        ApiCall::UpdateSubscriptions(proto::UpdateSubscriptionsRequest {
            room: "r".into(),
            identity: "bob".into(),
            track_sids,
            subscribe: false,
            ..Default::default()
        })
    };
    assert!(world.api(update(&camera.sid)).is_ok());
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 1);
    assert_eq!(world.api(update("TR_none")).unwrap_err().code, ApiCode::NotFound);
}
