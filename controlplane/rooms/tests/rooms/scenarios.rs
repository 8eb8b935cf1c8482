//! Failures that clients provoke to test themselves.

use livekit_protocol::{
    SimulateScenario, leave_request::Action, signal_request::Message as Request, signal_response::Message as Response,
    simulate_scenario::Scenario,
};
use sluice_rooms::CloseReason;

use crate::world::*;

fn provoke(world: &mut World, client: &Client, scenario: Scenario) -> Vec<Response> {
    world.take(client.socket);
    world.say(client, Request::Simulate(SimulateScenario { scenario: Some(scenario) }));
    world.take(client.socket)
}

fn leaves(messages: &[Response]) -> Vec<Action> {
    messages.iter().filter_map(|m| if let Response::Leave(leave) = m { Some(leave.action()) } else { None }).collect()
}

#[test]
fn a_signal_that_is_cut_is_resumed() {
    let check = |scenario: Scenario, answers: usize| {
        let mut world = World::new();
        let ann = world.join_up("ann");
        world.publish(&ann);
        let before = world.tracks();
        provoke(&mut world, &ann, scenario);
        assert_eq!(world.closed[&ann.socket], CloseReason::Simulated);
        let (broken, messages) = world.resume(&ann);
        assert_eq!(messages.len(), answers, "{messages:?}");
        assert_eq!(world.closed[&broken.socket], CloseReason::Simulated);
        let (again, messages) = world.resume(&ann);
        assert!(matches!(messages[0], Response::Reconnect(_)), "{messages:?}");
        assert!(!world.closed.contains_key(&again.socket));
        assert_eq!(world.tracks(), before);
    };
    check(Scenario::DisconnectSignalOnResume(true), 1);
    check(Scenario::DisconnectSignalOnResumeNoMessages(true), 0);
}

#[test]
fn full_reconnects_and_departures_say_what_to_do() {
    let check = |scenario: Scenario, want: &[Action], stays: bool| {
        let mut world = World::new();
        let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
        world.publish(&ann);
        world.settle(&[&ann, &bob]);
        world.take(bob.socket);
        let told = provoke(&mut world, &ann, scenario);
        assert_eq!(leaves(&told), want, "{scenario:?}");
        assert_eq!(world.rooms.counts().1, if stays { 2 } else { 1 }, "{scenario:?}");
        if !stays {
            return;
        }
        // It comes back as somebody new; to the others it was never away.
        let old = ann.sid;
        let ann = world.join_up("ann");
        assert_ne!(ann.sid, old);
        world.publish(&ann);
        world.settle(&[&ann, &bob]);
        assert_eq!((world.rooms.counts().1, world.tracks().len()), (2, 2), "{scenario:?}: one of each source");
        assert_eq!(world.subscriptions(world.subscriber(&bob).id).len(), 2, "{scenario:?}");
    };
    check(Scenario::NodeFailure(true), &[], true);
    check(Scenario::Migration(true), &[Action::Reconnect], true);
    check(Scenario::LeaveRequestFullReconnect(true), &[Action::Reconnect], true);
    check(Scenario::ServerLeave(true), &[Action::Disconnect], false);
}

#[test]
fn a_change_of_the_candidate_protocol_is_a_resume() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let told = provoke(&mut world, &ann, Scenario::SwitchCandidateProtocol(1));
    assert_eq!(leaves(&told), [Action::Resume]);
    world.close(&ann);
    let (_, messages) = world.resume(&ann);
    assert!(matches!(messages[0], Response::Reconnect(_)), "{messages:?}");
}

#[test]
fn speakers_can_be_pretended() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.take(bob.socket);
    provoke(&mut world, &ann, Scenario::SpeakerUpdate(3));
    let heard = world.take(bob.socket);
    let Some(Response::SpeakersChanged(changed)) = heard.last() else { panic!("{heard:?}") };
    assert_eq!(changed.speakers.iter().filter(|speaker| speaker.active).count(), 2);
}
