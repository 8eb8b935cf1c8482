//! Joining, leaving, and who is told.

use std::time::Duration;

use livekit_protocol::{
    DisconnectReason, LeaveRequest, Ping, SignalTarget, leave_request::Action, participant_info::State,
    signal_request::Message as Request, signal_response::Message as Response,
};
use sluice_rooms::{CloseReason, Command, RoomsConfig, SocketClosed};
use sluice_signal::VideoGrant;

use crate::world::*;

#[test]
fn the_first_message_is_a_join_with_what_clients_depend_on() {
    let mut world = World::new();
    let socket = world.connect(claims("ann"), params());
    let messages = world.take(socket);
    let Response::Join(join) = &messages[0] else { panic!("{messages:?}") };
    let (room, participant) = (join.room.as_ref().unwrap(), join.participant.as_ref().unwrap());
    assert!(room.sid.starts_with("RM_") && room.sid.len() == 15 && room.name == "r");
    assert!(participant.sid.starts_with("PA_") && participant.sid.len() == 15);
    assert_eq!((participant.identity.as_str(), participant.name.as_str()), ("ann", "ANN"));
    assert!(participant.permission.as_ref().unwrap().can_publish);
    assert!(!join.server_version.is_empty() && !join.server_info.as_ref().unwrap().version.is_empty());
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert!(join.subscriber_primary && join.fast_publish && !join.sif_trailer.is_empty());
    assert!(join.enabled_publish_codecs.iter().any(|codec| codec.mime == "video/vp8"));
    assert!(join.ice_servers.is_empty() && join.other_participants.is_empty());

    // The offer of the subscriber connection, then the node's candidates, the last one marked.
    let offer = position(&messages, |m| matches!(m, Response::Offer(_)));
    let trickled: Vec<_> = messages[offer + 1..]
        .iter()
        .filter_map(|m| if let Response::Trickle(t) = m { Some((t.target(), t.r#final)) } else { None })
        .collect();
    assert_eq!(trickled, [(SignalTarget::Subscriber, false), (SignalTarget::Subscriber, true)]);
    assert_eq!(world.tokens[&socket].sub, "ann");
    assert_eq!(world.transports(&participant.sid).len(), 1, "the node knows the transport that was offered");
}

#[test]
fn others_see_who_joins_becomes_active_and_leaves() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let bob = world.join("bob");
    assert_eq!(bob.join.other_participants[0].identity, "ann");
    assert_eq!(bob.join.other_participants[0].state(), State::Active);
    let states =
        |messages: &[Response]| updated(messages).iter().map(|i| (i.identity.clone(), i.state())).collect::<Vec<_>>();
    assert_eq!(states(&world.hear(&ann)), [("bob".into(), State::Joined)]);
    world.offer(&bob, "chromium-data", 1);
    world.connect_media(&bob);
    assert_eq!(states(&world.hear(&ann)), [("bob".into(), State::Active)]);
    world.say(&bob, Request::Leave(LeaveRequest::default()));
    let heard = world.hear(&ann);
    assert_eq!(states(&heard), [("bob".into(), State::Disconnected)]);
    assert_eq!(updated(&heard)[0].disconnect_reason(), DisconnectReason::ClientInitiated);
    let rooms: Vec<u32> = heard
        .iter()
        .filter_map(|m| {
            if let Response::RoomUpdate(u) = m { Some(u.room.as_ref().unwrap().num_participants) } else { None }
        })
        .collect();
    assert_eq!(rooms, [1]);
    assert_eq!(world.closed[&bob.socket], CloseReason::Left);
    assert!(world.transports(&bob.sid).is_empty(), "the node keeps nothing of who left");
}

#[test]
fn a_second_join_replaces_the_first_without_a_visible_absence() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let bob = world.join_up("bob");
    world.hear(&ann);
    let again = world.join("bob");
    let messages = world.take(bob.socket);
    let Some(Response::Leave(leave)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::DuplicateIdentity, Action::Disconnect));
    assert!(world.closed.contains_key(&bob.socket));
    let heard = world.hear(&ann);
    let seen = updated(&heard);
    assert!(seen.iter().all(|info| info.state() != State::Disconnected), "{seen:?}");
    assert_eq!(seen.last().unwrap().sid, again.sid);
    // The old socket's end does not harm the new session.
    world.run(Command::SocketClosed { socket: bob.socket, reason: SocketClosed::Gone });
    assert_eq!(world.rooms.counts().1, 2);
}

#[test]
fn pings_are_answered_both_ways_and_silence_ends_the_socket() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.take(ann.socket);
    world.say(&ann, Request::Ping(5));
    world.say(&ann, Request::PingReq(Ping { timestamp: 77, rtt: 1 }));
    let messages = world.take(ann.socket);
    assert!(matches!(messages[0], Response::Pong(at) if at > 0));
    assert!(matches!(&messages[1], Response::PongResp(pong) if pong.last_ping_timestamp == 77 && pong.timestamp > 0));
    world.pass(Duration::from_secs(14), &[]);
    assert!(!world.closed.contains_key(&ann.socket));
    world.pass(Duration::from_secs(2), &[]);
    assert_eq!(world.closed[&ann.socket], CloseReason::PingTimeout);
    assert_eq!(world.rooms.counts().1, 1, "kept for a resume");
    world.pass(Duration::from_secs(31), &[]);
    assert_eq!(world.rooms.counts().1, 0);
}

#[test]
fn a_socket_that_closes_before_media_came_up_takes_its_participant_along() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let bob = world.join("bob");
    world.hear(&ann);
    world.close(&bob);
    assert_eq!(updated(&world.hear(&ann))[0].state(), State::Disconnected);
    world.close(&ann);
    assert_eq!(world.rooms.counts().1, 1);
}

#[test]
fn who_does_not_connect_media_within_the_limit_is_removed() {
    let mut world = World::new();
    let ann = world.join("ann");
    world.pass(Duration::from_secs(59), &[ann.socket]);
    assert_eq!(world.rooms.counts().1, 1);
    world.take(ann.socket);
    world.pass(Duration::from_secs(2), &[ann.socket]);
    let messages = world.take(ann.socket);
    assert!(
        matches!(messages.last(), Some(Response::Leave(leave)) if leave.action() == Action::Disconnect),
        "{messages:?}"
    );
    assert_eq!(world.rooms.counts().1, 0);
}

#[test]
fn empty_rooms_close_after_their_timeouts() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.say(&ann, Request::Leave(LeaveRequest::default()));
    world.pass(Duration::from_secs(19), &[]);
    assert!(world.rooms.exists("r"));
    world.pass(Duration::from_secs(2), &[]);
    assert!(!world.rooms.exists("r"));
    assert!(world.table.is_empty(), "{:?}", world.table.keys());
    assert_eq!(world.rooms.wake(), None);
}

#[test]
fn tokens_are_refreshed() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.tokens.clear();
    world.pass(Duration::from_secs(299), &[ann.socket]);
    assert!(world.tokens.is_empty());
    world.pass(Duration::from_secs(2), &[ann.socket]);
    assert_eq!(world.tokens[&ann.socket].sub, "ann");
}

#[test]
fn hidden_participants_are_neither_shown_nor_counted() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.hear(&ann);
    let mut spy = claims("spy");
    spy.video = Some(VideoGrant { hidden: true, ..spy.video.unwrap() });
    let spy = world.join_with(spy, params());
    assert_eq!(spy.join.other_participants.len(), 1);
    assert_eq!(spy.join.room.unwrap().num_participants, 1);
    assert!(updated(&world.hear(&ann)).is_empty());
    assert!(world.join("bob").join.other_participants.iter().all(|info| info.identity != "spy"));
}

#[test]
fn joins_that_are_refused_say_why() {
    let check = |world: &mut World, claims, want: &str| {
        let socket = world.connect(claims, params());
        let messages = world.take(socket);
        assert!(matches!(&messages[..], [Response::Leave(leave)] if leave.reason() == DisconnectReason::JoinFailure));
        assert!(world.closed.contains_key(&socket));
        let notice = format!("{:?}", world.notices.last().unwrap());
        assert!(notice.contains(want), "{notice}");
    };
    let mut world = World::with(RoomsConfig { max_participants: 1, ..Default::default() });
    check(&mut world, claims(" "), "identity is missing");
    check(&mut world, claims("a\u{7}"), "control character");
    world.join("ann");
    check(&mut world, claims("bob"), "full");
    // The same identity takes its own place.
    world.join("ann");

    let mut world = World::with(RoomsConfig { auto_create: false, ..Default::default() });
    check(&mut world, claims("ann"), "does not exist");

    let mut world = World::new();
    world.run(Command::NodeDown { node: sluice_rooms::NodeId(NODE.into()) });
    assert!(!world.rooms.ready());
    check(&mut world, claims("ann"), "no media node");
    assert_eq!(world.rooms.counts().0, 0);
}
