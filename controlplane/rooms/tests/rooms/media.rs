//! What nodes report, as clients see it.

use livekit_protocol::{ConnectionQuality, StreamState, signal_response::Message as Response};
use sluice_messages::{Event, Kind, Quality, Speaker, TransportState};

use crate::world::*;

#[test]
fn speakers_are_told_as_changes() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    let track = world.tracks().into_iter().find(|track| track.kind == Kind::Audio).unwrap();
    let call = track.call;
    let mut speak = |levels: &[f32]| {
        let speakers = levels.iter().map(|&level| Speaker { track: track.id, level }).collect();
        world.event(Event::Speakers { call, speakers });
        let heard = world.take(bob.socket);
        let changes = heard
            .into_iter()
            .filter_map(|m| if let Response::SpeakersChanged(s) = m { Some(s.speakers) } else { None });
        changes.flatten().map(|s| (s.sid == ann.sid, s.active, s.level)).collect::<Vec<_>>()
    };
    assert_eq!(speak(&[0.48]), [(true, true, 0.5)]);
    assert_eq!(speak(&[0.49]), [], "no message for what nobody sees");
    assert_eq!(speak(&[0.9]), [(true, true, 1.0)]);
    assert_eq!(speak(&[]), [(true, false, 0.0)]);
}

#[test]
fn connection_quality_is_told_on_change() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.hear(&bob);
    let transport = world.subscriber(&ann).id;
    let mut check = |event: Event, want: Option<ConnectionQuality>| {
        world.event(event);
        let heard = world.take(bob.socket);
        let told =
            heard.iter().find_map(|m| if let Response::ConnectionQuality(q) = m { Some(&q.updates[0]) } else { None });
        assert_eq!(told.map(|q| q.quality()), want);
        assert!(told.is_none_or(|q| q.participant_sid == ann.sid));
    };
    let quality =
        |loss_down, rtt_us| Event::Quality { transport, quality: Quality { loss_down, rtt_us, ..Default::default() } };
    check(quality(0.0, 20_000), Some(ConnectionQuality::Excellent));
    check(quality(0.01, 20_000), None);
    check(quality(0.05, 20_000), Some(ConnectionQuality::Good));
    check(quality(0.0, 900_000), Some(ConnectionQuality::Poor));
    check(Event::Transport { transport, state: TransportState::Disconnected }, Some(ConnectionQuality::Lost));
    check(Event::Transport { transport, state: TransportState::Connected }, Some(ConnectionQuality::Poor));
}

#[test]
fn an_interruption_ends_even_if_nothing_was_measured() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let transport = world.subscriber(&ann).id;
    world.take(ann.socket);
    world.event(Event::Transport { transport, state: TransportState::Disconnected });
    world.event(Event::Transport { transport, state: TransportState::Connected });
    let heard = world.take(ann.socket);
    let told = heard
        .iter()
        .filter_map(|m| if let Response::ConnectionQuality(q) = m { Some(q.updates[0].quality()) } else { None });
    assert_eq!(told.collect::<Vec<_>>(), [ConnectionQuality::Lost, ConnectionQuality::Excellent]);
}

#[test]
fn pauses_that_nobody_asked_for_are_told() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    world.take(bob.socket);
    let receiver = world.subscriber(&bob).id;
    let track = world.tracks().into_iter().find(|track| track.kind == Kind::Video).unwrap().id;
    let mut forward = |encoding| {
        world.event(Event::Forwarding { receiver, track, encoding });
        let heard = world.take(bob.socket);
        heard
            .iter()
            .find_map(|m| if let Response::StreamStateUpdate(s) = m { Some(s.stream_states[0].state()) } else { None })
    };
    assert_eq!(forward(Some(2)), None);
    assert_eq!(forward(None), Some(StreamState::Paused));
    assert_eq!(forward(Some(0)), Some(StreamState::Active));
}
