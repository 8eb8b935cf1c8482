//! Control and nodes that come and go.

use std::time::Duration;

use livekit_protocol::{
    SyncState, TrackPublishedResponse, UpdateTrackSettings, leave_request::Action, participant_info::State,
    signal_request::Message as Request, signal_response::Message as Response,
};
use sluice_messages::{Entry, Event, Failure, Key, TransportState};
use sluice_rooms::{Command, NodeId};

use crate::world::*;

fn rows(world: &World) -> Vec<Entry> {
    world.table.values().filter(|entry| !matches!(entry, Entry::Note(_))).cloned().collect()
}

#[test]
fn rooms_survive_a_restart_of_control() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (microphone, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let update =
        UpdateTrackSettings { track_sids: vec![camera.sid.clone()], width: 100, height: 60, ..Default::default() };
    world.say(&bob, Request::TrackSetting(update));
    world.pass(Duration::from_secs(2), &[ann.socket, bob.socket]);
    let before = rows(&world);

    world.restart_control();
    assert_eq!(rows(&world), before, "the node is told nothing else than what it has: media is not touched");

    let (ann, messages) = world.resume(&ann);
    assert!(matches!(messages[0], Response::Reconnect(_)), "{messages:?}");
    let own = updated(&messages).into_iter().find(|info| info.sid == ann.sid).unwrap();
    assert_eq!(own.tracks.iter().map(|t| &t.sid).collect::<Vec<_>>(), [&microphone.sid, &camera.sid]);
    assert_eq!(own.state(), State::Active);
    let published =
        |track: &livekit_protocol::TrackInfo| TrackPublishedResponse { cid: "c".into(), track: Some(track.clone()) };
    let publish_tracks = vec![published(&microphone), published(&camera)];
    world.say(&ann, Request::SyncState(SyncState { publish_tracks, ..Default::default() }));
    assert!(!world.closed.contains_key(&ann.socket));

    let (bob, messages) = world.resume(&bob);
    let Response::Offer(offer) = &messages[position(&messages, |m| matches!(m, Response::Offer(_)))] else {
        unreachable!()
    };
    world.say(&bob, Request::Answer(answer(offer, |_| true)));
    let receiver = world.subscriber(&bob).id;
    let after = world.subscriptions(receiver);
    let was: Vec<_> =
        before.iter().filter_map(|e| if let Entry::Subscription(s) = e { Some(s.clone()) } else { None }).collect();
    assert_eq!(after, was, "same SSRCs, MIDs and wishes");

    // Life goes on: what is unpublished ends for the receiver, and its end is negotiated.
    world.take(bob.socket);
    world.unpublish_camera(&ann, 3);
    assert!(world.take(bob.socket).iter().any(|m| matches!(m, Response::Offer(_))));
    assert_eq!(world.subscriptions(receiver).len(), 1);
    // A third person still joins the same room.
    assert_eq!(world.join("carl").join.other_participants.len(), 2);
}

#[test]
fn who_does_not_come_back_after_a_restart_is_removed() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.join_up("bob");
    world.pass(Duration::from_secs(2), &[ann.socket]);
    world.restart_control();
    let (ann, _) = world.resume(&ann);
    world.pass(Duration::from_secs(31), &[ann.socket]);
    let heard = world.take(ann.socket);
    assert!(updated(&heard).iter().any(|info| info.identity == "bob" && info.state() == State::Disconnected));
    assert_eq!(world.rooms.counts().1, 1);
}

#[test]
fn broken_notes_cost_only_their_sessions() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.pass(Duration::from_secs(2), &[ann.socket, bob.socket]);
    for (key, entry) in &mut world.table {
        if let (Key::Note(key), Entry::Note(note)) = (key, entry)
            && key.contains(&ann.sid)
        {
            note.bytes.truncate(20);
        }
    }
    world.restart_control();
    let (_, messages) = world.resume(&ann);
    assert!(matches!(&messages[..], [Response::Leave(l)] if l.action() == Action::Reconnect));
    assert!(matches!(world.resume(&bob).1[0], Response::Reconnect(_)));
    assert!(world.transports(&ann.sid).is_empty(), "nothing is left of it at the node");
}

#[test]
fn a_link_that_breaks_changes_nothing_and_its_return_brings_the_table() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let node = NodeId(NODE.into());
    world.run(Command::NodeDown { node });
    world.publish(&ann);
    assert!(world.tracks().is_empty(), "nothing reaches the node");
    let entries = world.table.len() as u64;
    world.run(Command::NodeUp { hello: hello(entries), state: None });
    assert_eq!(world.tracks().len(), 2);
    world.settle(&[&ann, &bob]);
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2);
    assert!(world.closed.is_empty());
}

#[test]
fn a_node_that_was_restarted_has_everybody_start_anew() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.take(ann.socket);
    world.run(Command::NodeDown { node: NodeId(NODE.into()) });
    world.run(Command::NodeUp { hello: hello(0), state: None });
    assert!(matches!(world.take(ann.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
    world.join_up("ann");
    assert_eq!(world.rooms.counts().1, 1);
}

#[test]
fn failed_media_starts_the_client_anew_or_ends_who_is_away() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let failed = |world: &World, client: &Client| Event::Transport {
        transport: world.subscriber(client).id,
        state: TransportState::Failed(Failure::Dtls),
    };
    world.take(ann.socket);
    world.event(failed(&world, &ann));
    assert!(matches!(world.take(ann.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
    world.close(&bob);
    world.event(failed(&world, &bob));
    assert_eq!(world.rooms.counts().1, 1, "bob had neither socket nor media");
}
