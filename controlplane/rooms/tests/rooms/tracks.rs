//! What becomes of tracks after they are published, and what clients cannot do with them.

use std::time::Duration;

use livekit_protocol::{
    AddTrackRequest, SessionDescription, signal_request::Message as Request, signal_response::Message as Response,
};
use sluice_messages::{Event, Kind, LayerLive};
use sluice_rooms::{Notice, limits::SUBSCRIPTIONS_MAX};
use sluice_signal::ConnectParams;

use crate::world::*;

/// The camera's section with another track id.
fn replaced(track: &str, id: u32) -> SessionDescription {
    let sdp = data("chromium-simulcast").replace(&camera().cid, track);
    SessionDescription { r#type: "offer".into(), sdp, id, ..Default::default() }
}

#[test]
fn a_track_that_takes_the_section_of_another_ends_it() {
    let second = "9d3c2b1a-0000-4000-8000-000000000001";
    for announced_first in [true, false] {
        let mut world = World::new();
        let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
        let (_, first) = world.publish(&ann);
        world.settle(&[&ann, &bob]);
        let row = |world: &World| world.tracks().into_iter().find(|track| track.kind == Kind::Video).unwrap();
        let old = row(&world);
        let announce = Request::AddTrack(AddTrackRequest { cid: second.into(), ..camera() });
        if announced_first {
            world.say(&ann, announce.clone());
            assert_eq!(row(&world), old, "an announcement alone ends nothing");
        }
        world.say(&ann, Request::Offer(replaced(second, 3)));
        if !announced_first {
            world.say(&ann, announce);
        }
        let heard = world.hear(&ann);
        let ended = |m: &Response| matches!(m, Response::TrackUnpublished(gone) if gone.track_sid == first.sid);
        assert!(heard.iter().any(ended), "{heard:?}");
        let fresh = heard.iter().find_map(|m| if let Response::TrackPublished(p) = m { p.track.clone() } else { None });
        assert_ne!(row(&world).id, old.id);
        world.settle(&[&ann, &bob]);
        let shown = world.subscriptions(world.subscriber(&bob).id);
        assert!(shown.iter().any(|subscription| subscription.track == row(&world).id), "the new one is received");
        assert_eq!((shown.len(), world.tracks().len()), (2, 2));
        assert_ne!(fresh.unwrap().sid, first.sid);
    }
}

#[test]
fn the_same_device_announced_again_is_a_new_track() {
    let mut world = World::new();
    let ann = world.join_up("ann");
    let (_, first) = world.publish(&ann);
    world.say(&ann, Request::AddTrack(camera()));
    assert_eq!(world.tracks().len(), 2);
    world.offer(&ann, "chromium-simulcast", 3);
    let heard = world.take(ann.socket);
    assert!(heard.iter().any(|m| matches!(m, Response::TrackUnpublished(gone) if gone.track_sid == first.sid)));
    assert_eq!(world.tracks().len(), 2, "one camera, one microphone");
}

#[test]
fn learned_ssrcs_are_told_once() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    world.publish(&ann);
    world.settle(&[&ann, &bob]);
    let track = world.tracks().into_iter().find(|track| track.kind == Kind::Video).unwrap();
    let live =
        vec![LayerLive { encoding: 0, ssrc: 11, rtx_ssrc: None }, LayerLive { encoding: 2, ssrc: 33, rtx_ssrc: None }];
    world.take(bob.socket);
    world.event(Event::Layers { track: track.id, live: live.clone() });
    let heard = world.take(bob.socket);
    let info = updated(&heard)[0].tracks.iter().find(|info| info.mime_type == "video/vp8").unwrap();
    let ssrcs = |layers: &[livekit_protocol::VideoLayer]| {
        layers.iter().map(|layer| (layer.rid.clone(), layer.ssrc)).collect::<Vec<_>>()
    };
    let want = [("q".to_owned(), 11), ("h".to_owned(), 0), ("f".to_owned(), 33)];
    #[expect(deprecated, reason = "clients of protocol 13 read it")]
    let old = ssrcs(&info.layers);
    assert_eq!((&ssrcs(&info.codecs[0].layers)[..], &old[..]), (&want[..], &want[..]));
    world.event(Event::Layers { track: track.id, live });
    world.event(Event::Layers { track: track.id, live: vec![LayerLive { encoding: 9, ssrc: 1, rtx_ssrc: None }] });
    assert_eq!(world.take(bob.socket), [], "nothing new");
}

#[test]
fn what_did_not_fit_is_received_when_others_end() {
    let mut world = World::new();
    let bob = world.join_up("bob");
    let receiver = world.subscriber(&bob).id;
    let silent = ConnectParams { auto_subscribe: false, ..params() };
    let people: Vec<Client> = (0..251)
        .map(|i| {
            let client = world.join_with(claims(&format!("p{i}")), silent.clone());
            world.offer(&client, "chromium-data", 1);
            world.connect_media(&client);
            world.publish(&client);
            client
        })
        .collect();
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(receiver).len(), SUBSCRIPTIONS_MAX);
    world.say(&people[3], Request::Leave(Default::default()));
    world.settle(&[&bob]);
    assert_eq!(world.subscriptions(receiver).len(), 500, "the two that waited took the place of those that ended");
    let tracks = world.tracks();
    assert_eq!(tracks.len(), 500);
}

#[test]
fn a_client_cannot_fill_the_log() {
    let mut world = World::new();
    let (ann, bob) = (world.join_up("ann"), world.join_up("bob"));
    let bad = |client: &Client, world: &mut World| {
        let trickle = livekit_protocol::TrickleRequest { candidate_init: "{".into(), ..Default::default() };
        world.say(client, Request::Trickle(trickle));
    };
    for _ in 0..1_000 {
        bad(&ann, &mut world);
    }
    let told = |world: &mut World| {
        let notices = std::mem::take(&mut world.notices).into_iter();
        let bad = notices.filter_map(|notice| match notice {
            Notice::BadRequest { identity, unsaid, .. } => Some((identity, unsaid)),
            _ => None,
        });
        bad.collect::<Vec<_>>()
    };
    let first = told(&mut world);
    assert_eq!((first.len(), first.iter().all(|(_, unsaid)| *unsaid == 0)), (5, true));
    bad(&bob, &mut world);
    assert_eq!(told(&mut world), [("bob".to_owned(), 0)], "one client's does not hide another's");
    world.pass(Duration::from_secs(61), &[ann.socket, bob.socket]);
    bad(&ann, &mut world);
    assert_eq!(told(&mut world), [("ann".to_owned(), 995)]);
    for _ in 0..10 {
        bad(&ann, &mut world);
    }
    world.say(&ann, Request::Leave(Default::default()));
    assert_eq!(told(&mut world).last(), Some(&("ann".to_owned(), 6)), "what was not told is counted at the end");
}
