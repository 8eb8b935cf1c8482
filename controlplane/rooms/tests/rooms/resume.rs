//! Broken sockets.

use std::time::Duration;

use livekit_protocol::{
    DisconnectReason, LeaveRequest, SignalTarget, SimulateScenario, SyncState, TrackInfo, TrackPublishedResponse,
    UpdateTrackSettings, leave_request::Action, participant_info::State, signal_request::Message as Request,
    signal_response::Message as Response, simulate_scenario::Scenario,
};
use sluice_rooms::CloseReason;

use crate::world::*;

#[test]
fn a_resumed_session_keeps_its_media_and_learns_what_it_missed() {
    let mut world = World::new();
    let (ann, bob, carl) = (world.join_up("ann"), world.join_up("bob"), world.join_up("carl"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob, &carl]);
    let receiver = world.subscriber(&bob);
    let before = world.subscriptions(receiver.id);
    assert_eq!(before.len(), 2);

    world.close(&bob);
    world.say(&carl, Request::Leave(LeaveRequest::default()));
    world.pass(Duration::from_secs(3), &[ann.socket]);
    assert_eq!(world.subscriptions(receiver.id), before, "media goes on meanwhile");

    let (bob, messages) = world.resume(&bob);
    assert!(matches!(&messages[0], Response::Reconnect(r) if r.server_info.is_some()), "{messages:?}");
    let seen: Vec<_> = updated(&messages).iter().map(|i| (i.identity.as_str(), i.state())).collect();
    assert_eq!(seen, [("carl", State::Disconnected), ("ann", State::Active), ("bob", State::Active)]);
    let room = position(&messages, |m| matches!(m, Response::RoomUpdate(_)));
    let offer = position(&messages, |m| matches!(m, Response::Offer(_)));
    assert!(room < offer);
    let now = world.subscriber(&bob);
    assert_ne!(now.ice.local, receiver.ice.local, "ICE restarts");
    assert_eq!(now.ice.previous_local, Some(receiver.ice.local), "and media goes on over the old pair");
    let Response::Offer(offer) = &messages[offer] else { unreachable!() };
    assert!(offer.sdp.contains(&now.ice.local.ufrag));

    let publish_tracks = vec![];
    world.say(
        &bob,
        Request::SyncState(SyncState { publish_tracks, track_sids_disabled: vec![camera.sid], ..Default::default() }),
    );
    world.say(&bob, Request::Answer(answer(offer, |_| true)));
    let after = world.subscriptions(receiver.id);
    let same = |rows: &[sluice_messages::Subscription]| {
        rows.iter().map(|s| (s.track, s.ssrc, s.mid.clone())).collect::<Vec<_>>()
    };
    assert_eq!(same(&after), same(&before));
    assert_eq!(after.iter().filter(|s| !s.wish.enabled).count(), 1);
    world.pass(Duration::from_secs(60), &[ann.socket, bob.socket]);
    assert_eq!(world.rooms.counts().1, 2);
}

#[test]
fn the_publisher_connection_restarts_by_the_clients_offer() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.publish(&ann);
    let publisher = |world: &World| {
        world.transports(&ann.sid).into_iter().find(|t| t.data.is_some_and(|data| !data.opened_by_us)).unwrap()
    };
    let (before, tracks) = (publisher(&world), world.tracks());
    world.close(&ann);
    let (ann, _) = world.resume(&ann);
    world.offer(&ann, "chromium-restart", 3);
    let messages = world.take(ann.socket);
    let at = position(&messages, |m| matches!(m, Response::Answer(answer) if answer.id == 3));
    assert!(matches!(&messages[at + 1], Response::Trickle(t) if t.target() == SignalTarget::Publisher));
    let after = publisher(&world);
    assert_eq!((after.id, after.ice.previous_local), (before.id, Some(before.ice.local)));
    assert_eq!(world.tracks(), tracks, "tracks go on as they were");
}

#[test]
fn the_old_socket_of_a_resumed_session_may_still_be_there() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let (again, messages) = world.resume(&ann);
    assert!(matches!(messages[0], Response::Reconnect(_)));
    assert_eq!(world.closed[&ann.socket], CloseReason::Replaced);
    world.close(&ann);
    world.say(&again, Request::Ping(1));
    assert_eq!(world.take(again.socket).len(), 1);
}

#[test]
fn a_session_that_is_not_known_has_to_start_anew() {
    let check = |world: &mut World, client: &Client| {
        let (again, messages) = world.resume(client);
        let [Response::Leave(leave)] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((leave.reason(), leave.action()), (DisconnectReason::StateMismatch, Action::Reconnect));
        assert!(world.closed.contains_key(&again.socket));
    };
    let mut world = World::new();
    let ann = world.join_up("ann");
    check(&mut world, &Client { sid: "PA_other".into(), ..ann.clone() });
    check(&mut world, &Client { identity: "eve".into(), ..ann.clone() });
    world.close(&ann);
    world.pass(Duration::from_secs(31), &[]);
    check(&mut world, &ann);
}

#[test]
fn a_client_that_publishes_what_is_not_known_starts_anew() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.close(&ann);
    let (ann, _) = world.resume(&ann);
    let track = Some(TrackInfo { sid: "TR_nobody".into(), ..Default::default() });
    let publish_tracks = vec![TrackPublishedResponse { cid: "x".into(), track }];
    world.say(&ann, Request::SyncState(SyncState { publish_tracks, ..Default::default() }));
    assert!(matches!(world.take(ann.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
}

#[test]
fn wishes_outlast_a_republished_track() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let update = UpdateTrackSettings { track_sids: vec![camera.sid], width: 100, height: 60, ..Default::default() };
    world.say(&bob, Request::TrackSetting(update));
    // Ann forbids and allows subscribing: the subscription goes and comes.
    world.say(&ann, Request::SubscriptionPermission(Default::default()));
    let all = livekit_protocol::SubscriptionPermission { all_participants: true, ..Default::default() };
    world.settle(&[&bob]);
    world.say(&ann, Request::SubscriptionPermission(all));
    world.settle(&[&bob]);
    let rows = world.subscriptions(world.subscriber(&bob).id);
    assert_eq!(rows.iter().find(|row| row.rtx_ssrc.is_some()).unwrap().wish.max_encoding, 0);
}

#[test]
fn provoked_failures() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let simulate = |scenario| Request::Simulate(SimulateScenario { scenario: Some(scenario) });
    world.say(&ann, simulate(Scenario::DisconnectSignalOnResume(true)));
    assert!(world.closed.contains_key(&ann.socket));
    let (again, messages) = world.resume(&ann);
    assert!(matches!(&messages[..], [Response::Reconnect(_)]), "{messages:?}");
    assert!(world.closed.contains_key(&again.socket));
    let (again, messages) = world.resume(&ann);
    assert!(messages.len() > 2 && !world.closed.contains_key(&again.socket));

    world.say(&again, simulate(Scenario::LeaveRequestFullReconnect(true)));
    assert!(matches!(world.take(again.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
    let (_, messages) = world.resume(&again);
    assert!(matches!(&messages[..], [Response::Leave(l)] if l.action() == Action::Reconnect));

    let bob = world.join_up("bob");
    world.say(&bob, simulate(Scenario::ServerLeave(true)));
    assert!(matches!(world.take(bob.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Disconnect));
}
