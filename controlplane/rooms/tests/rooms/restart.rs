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

fn failed(world: &World, client: &Client, failure: Failure) -> Event {
    Event::Transport { transport: world.subscriber(client).id, state: TransportState::Failed(failure) }
}

#[test]
fn a_lost_association_starts_the_client_anew_also_when_it_comes_back() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.take(ann.socket);
    world.event(failed(&world, &ann, Failure::Dtls));
    assert!(matches!(world.take(ann.socket).last(), Some(Response::Leave(l)) if l.action() == Action::Reconnect));
    world.close(&bob);
    world.event(failed(&world, &bob, Failure::Dtls));
    assert_eq!(world.rooms.counts().1, 2, "bob has the resume window");
    let (_, messages) = world.resume(&bob);
    assert!(matches!(&messages[..], [Response::Leave(l)] if l.action() == Action::Reconnect), "{messages:?}");
}

#[test]
fn lost_consent_is_healed_by_a_resume() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let (_, camera) = world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let before = (world.tracks(), world.subscriptions(world.subscriber(&bob).id));
    for client in [&ann, &bob] {
        world.take(client.socket);
    }
    // Ann's socket is away meanwhile, Bob's is open and yet nothing of his media arrives.
    world.close(&ann);
    world.event(failed(&world, &ann, Failure::Consent));
    world.event(failed(&world, &bob, Failure::Consent));
    let told = world.take(bob.socket);
    assert!(matches!(told.last(), Some(Response::Leave(l)) if l.action() == Action::Resume), "{told:?}");
    world.pass(Duration::from_secs(29), &[]);
    assert_eq!(world.rooms.counts().1, 2, "the resume window is not over");
    for client in [&ann, &bob] {
        let old = world.subscriber(client).ice.local;
        let (client, messages) = world.resume(client);
        assert!(matches!(messages[0], Response::Reconnect(_)), "{messages:?}");
        assert!(messages.iter().any(|m| matches!(m, Response::Offer(_))), "ICE restarts");
        assert_ne!(world.subscriber(&client).ice.local, old);
        world.connect_media(&client);
        assert!(!world.closed.contains_key(&client.socket));
    }
    assert_eq!((world.tracks(), world.subscriptions(world.subscriber(&bob).id)), before);
    assert!(world.tracks().len() == 2 && !camera.sid.is_empty());
}

#[test]
fn who_lost_consent_and_does_not_come_back_is_removed_after_the_window() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.close(&ann);
    world.pass(Duration::from_secs(20), &[]);
    world.event(failed(&world, &ann, Failure::Consent));
    world.pass(Duration::from_secs(9), &[]);
    assert_eq!(world.rooms.counts().1, 1);
    world.pass(Duration::from_secs(2), &[]);
    assert_eq!(world.rooms.counts().1, 0);
}

#[test]
fn a_changed_address_heals_without_a_word_to_the_client() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    world.take(ann.socket);
    let transport = world.subscriber(&ann).id;
    world.event(Event::Transport { transport, state: TransportState::Disconnected });
    world.event(Event::Transport { transport, state: TransportState::Connected });
    let told = world.take(ann.socket);
    assert!(told.iter().all(|message| matches!(message, Response::ConnectionQuality(_))), "{told:?}");
    assert!(!world.closed.contains_key(&ann.socket));
}

/// Control is killed in the moment after each thing that happens: what the node has then is enough for everybody to resume
/// with everything that was there.
#[test]
fn no_moment_to_die_loses_a_session_or_a_track() {
    let mut world = World::new();
    let (mut ann, mut bob) = (world.join_up("ann"), world.join_up("bob"));
    let mut sids: Vec<String> = Vec::new();
    for step in ["announce", "offer", "answer", "mute", "end", "answer"] {
        match step {
            "announce" => {
                world.take(ann.socket);
                world.say(&ann, Request::AddTrack(microphone()));
                world.say(&ann, Request::AddTrack(camera()));
                let published = |m: &Response| match m {
                    Response::TrackPublished(published) => Some(published.track.as_ref()?.sid.clone()),
                    _ => None,
                };
                sids = world.take(ann.socket).iter().filter_map(published).collect();
            }
            "offer" => world.offer(&ann, "chromium-simulcast", 2),
            "answer" => world.settle(&[&ann, &bob]),
            "mute" => {
                let mute = livekit_protocol::MuteTrackRequest { sid: sids[0].clone(), muted: true };
                world.say(&ann, Request::Mute(mute));
            }
            _ => {
                world.unpublish_camera(&ann, 3);
                sids.pop();
            }
        }
        let before = rows(&world);
        world.restart_control();
        assert_eq!(rows(&world), before, "{step}: media is not touched");
        let mut messages;
        (ann, messages) = world.resume(&ann);
        assert!(matches!(messages[0], Response::Reconnect(_)), "{step}: {messages:?}");
        let own = updated(&messages).into_iter().find(|info| info.sid == ann.sid).unwrap();
        let live: Vec<&String> = own.tracks.iter().map(|track| &track.sid).collect();
        let wanted: Vec<&String> = if step == "announce" { Vec::new() } else { sids.iter().collect() };
        assert_eq!(live, wanted, "{step}");
        assert_eq!(
            own.tracks.first().is_some_and(|track| track.muted),
            matches!(step, "mute" | "end") || sids.len() == 1
        );
        world.inbox.insert(ann.socket, messages);
        (bob, messages) = world.resume(&bob);
        assert!(matches!(messages[0], Response::Reconnect(_)), "{step}: {messages:?}");
        let offer = messages.iter().find_map(|m| if let Response::Offer(offer) = m { Some(offer) } else { None });
        let sections = sluice_signal::sdp::Description::parse(&offer.unwrap().sdp).unwrap().media.len();
        assert_eq!(
            sections,
            if step == "announce" { 1 } else { 3 },
            "{step}: m-lines are never fewer than the client knows"
        );
        if step != "offer" {
            world.inbox.insert(bob.socket, messages);
            world.settle(&[&ann, &bob]);
        } else {
            // Its first offer stays unanswered until the next step.
            world.inbox.insert(bob.socket, messages);
        }
        let publishes = |sid: &String| livekit_protocol::TrackPublishedResponse {
            cid: String::new(),
            track: Some(livekit_protocol::TrackInfo { sid: sid.clone(), ..Default::default() }),
        };
        let publish_tracks = sids.iter().map(publishes).collect();
        world.say(&ann, Request::SyncState(SyncState { publish_tracks, ..Default::default() }));
        assert!(!world.closed.contains_key(&ann.socket), "{step}: what the client publishes is known");
    }
    assert_eq!((world.tracks().len(), world.subscriptions(world.subscriber(&bob).id).len()), (1, 1));
}
