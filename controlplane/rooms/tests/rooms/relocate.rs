//! A call goes on at another node.

use std::time::Duration;

use livekit_protocol::{
    SignalTarget, leave_request::Action, participant_info::State, signal_request::Message as Request,
    signal_response::Message as Response,
};
use sluice_messages::{Event, LayerLive, TransportState};
use sluice_rooms::{Command, NodeId, Notice};
use sluice_signal::{candidates, sdp::Description};

use crate::world::*;

fn first() -> NodeId {
    NodeId(NODE.into())
}

fn lose_first(world: &mut World) {
    world.run(Command::NodeDown { node: first() });
    world.run(Command::NodeLost { node: first() });
}

/// Ann publishes, Bob receives, and the node has told which SSRC carries which layer.
fn call() -> (World, Client, Client) {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let camera = world.tracks().into_iter().find(|track| track.encodings.len() == 3).unwrap();
    let live = (0..3).map(|n| LayerLive { encoding: n, ssrc: 100 + u32::from(n), rtx_ssrc: Some(200 + u32::from(n)) });
    world.event(Event::Layers { track: camera.id, live: live.collect() });
    for client in [&ann, &bob] {
        world.take(client.socket);
    }
    (world, ann, bob)
}

fn arrive(world: &mut World, client: &Client) {
    for transport in world.transports(&client.sid) {
        let event = Event::Transport { transport: transport.id, state: TransportState::Connected };
        world.run(Command::NodeEvent { node: NodeId(NODE_2.into()), event });
    }
}

fn offers(messages: &[Response]) -> Vec<Description> {
    let offer = |m: &Response| match m {
        Response::Offer(offer) => Some(Description::parse(&offer.sdp).unwrap()),
        _ => None,
    };
    messages.iter().filter_map(offer).collect()
}

#[test]
fn everybody_is_led_to_the_new_node_and_nobody_leaves() {
    let (mut world, ann, bob) = call();
    let (before, receiver) = (world.table.clone(), world.subscriber(&bob));
    let sent = world.subscriptions(receiver.id);
    world.run(Command::NodeUp { hello: hello_2(0), state: None });
    assert!(world.table_2.is_empty() && world.take(bob.socket).is_empty(), "a node more changes nothing");
    lose_first(&mut world);
    world.look_at_second();

    for client in [&ann, &bob] {
        let messages = world.take(client.socket);
        let target = SignalTarget::Subscriber as i32;
        let trickled = messages.iter().find_map(|m| match m {
            Response::Trickle(trickle) if trickle.target == target => {
                candidates::parse(&trickle.candidate_init).unwrap()
            }
            _ => None,
        });
        let words: Vec<String> = trickled.unwrap().candidate.split(' ').map(str::to_owned).collect();
        assert_eq!(words[4], "192.0.2.8");
        assert!(words[3].parse::<u32>().unwrap() > 2_130_501_631, "preferred to the old node's: {words:?}");
        let offer = &offers(&messages)[0];
        assert_eq!(offer.media[0].fingerprint.unwrap().sha256, [0xb6; 32]);
        let ice = offer.media[0].ice.as_ref().unwrap();
        assert_eq!(*ice, world.subscriber(client).ice.local, "no restart of ICE");
        let told = |m: &Response| matches!(m, Response::Leave(leave) if leave.action() == Action::Resume);
        assert_eq!(messages.iter().filter(|m| told(m)).count(), 1, "who publishes has to offer again");
        assert!(updated(&messages).iter().all(|info| info.state() != State::Disconnected));
        assert!(!world.closed.contains_key(&client.socket));
        world.inbox.insert(client.socket, messages);
    }
    assert_eq!(world.subscriber(&bob), receiver, "the same transport");
    let camera = world.tracks().into_iter().find(|track| track.encodings.len() == 3).unwrap();
    let known: Vec<_> = camera.encodings.iter().map(|e| (e.ssrc.unwrap(), e.rtx_ssrc.unwrap())).collect();
    assert_eq!(known, [(100, 200), (101, 201), (102, 202)], "what the old node learned");
    assert!(world.subscriptions(receiver.id).is_empty(), "not before the client knows the new SSRCs");
    world.settle(&[&ann, &bob]);
    let renewed = world.subscriptions(receiver.id);
    assert_eq!(renewed.len(), sent.len());
    for row in &renewed {
        assert!(sent.iter().all(|old| old.ssrc != row.ssrc && old.rtx_ssrc != row.rtx_ssrc.or(Some(0))));
        assert!(sent.iter().any(|old| (&old.mid, old.track, old.wish) == (&row.mid, row.track, row.wish)));
    }
    let rooms = world.notices.iter().any(|n| matches!(n, Notice::Relocated { rooms: 1, participants: 2, .. }));
    assert!(rooms, "{:?}", world.notices);

    // Both resume since they publish; what they receive is on its way already and is left alone.
    arrive(&mut world, &bob);
    let (bob, messages) = world.resume(&bob);
    assert!(matches!(messages[0], Response::Reconnect(_)), "{messages:?}");
    assert!(offers(&messages).is_empty(), "ICE is not restarted under way");
    world.offer(&bob, "chromium-data", 2);
    let answered = world.take(bob.socket);
    let Some(Response::Answer(answer)) = answered.iter().find(|m| matches!(m, Response::Answer(_))) else {
        panic!("{answered:?}")
    };
    assert_eq!(Description::parse(&answer.sdp).unwrap().media[0].fingerprint.unwrap().sha256, [0xb6; 32]);
    arrive(&mut world, &bob);
    world.pass(Duration::from_secs(20), &[bob.socket, ann.socket]);
    assert!(!world.closed.contains_key(&bob.socket));

    // The old node comes back with what it held, and has to let go of it.
    world.look_at_second();
    assert_eq!(world.table.len(), before.len());
    world.run(Command::NodeUp { hello: hello(before.len() as u64), state: None });
    assert!(world.table.is_empty());

    // Back there, a candidate of the address that clients knew before would lead nobody anywhere: ICE restarts.
    world.look_at_second();
    let old = world.subscriber(&bob).ice.local;
    world.look_at_second();
    world.take(bob.socket);
    world.run(Command::NodeDown { node: NodeId(NODE_2.into()) });
    world.run(Command::NodeLost { node: NodeId(NODE_2.into()) });
    let ice = world.subscriber(&bob).ice;
    assert_ne!(ice.local, old);
    assert_eq!(ice.previous_local, Some(old));
    let messages = world.take(bob.socket);
    assert_eq!(offers(&messages)[0].media[0].ice, Some(ice.local));
}

#[test]
fn a_call_waits_for_a_node_and_stays_where_its_node_comes_back() {
    let (mut world, ann, bob) = call();
    let entries = world.table.len() as u64;
    lose_first(&mut world);
    assert!(world.take(bob.socket).is_empty(), "there is nowhere to go");
    world.run(Command::NodeUp { hello: hello(entries), state: None });
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2, "everything as before");
    lose_first(&mut world);
    world.run(Command::NodeUp { hello: hello_2(0), state: None });
    world.settle(&[&ann, &bob]);
    world.look_at_second();
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2, "moved as soon as there was a node");
}

#[test]
fn who_does_not_arrive_resumes_and_then_starts_anew() {
    let (mut world, ann, bob) = call();
    world.run(Command::NodeUp { hello: hello_2(0), state: None });
    lose_first(&mut world);
    world.look_at_second();
    world.settle(&[&ann, &bob]);
    arrive(&mut world, &ann);
    world.pass(Duration::from_secs(4), &[ann.socket, bob.socket]);
    assert!(!world.closed.contains_key(&ann.socket));
    assert!(world.closed.contains_key(&bob.socket), "to resume");
    let old = world.subscriber(&bob).ice.local;
    let (bob, messages) = world.resume(&bob);
    assert_ne!(world.subscriber(&bob).ice.local, old);
    assert_eq!(offers(&messages).len(), 1, "with new credentials");
    world.pass(Duration::from_secs(12), &[ann.socket, bob.socket]);
    let last = world.take(bob.socket);
    assert!(matches!(last.last(), Some(Response::Leave(leave)) if leave.action() == Action::Reconnect), "{last:?}");
}

#[test]
fn who_is_away_meanwhile_finds_everything_when_back() {
    let (mut world, ann, bob) = call();
    world.run(Command::NodeUp { hello: hello_2(0), state: None });
    world.close(&bob);
    lose_first(&mut world);
    world.look_at_second();
    world.settle(&[&ann]);
    let (bob, messages) = world.resume(&bob);
    assert_eq!(offers(&messages).len(), 1);
    world.inbox.insert(bob.socket, messages);
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2);
    world.say(&bob, Request::Leave(Default::default()));
    assert!(world.transports(&bob.sid).is_empty(), "nothing is left at the new node");
}
