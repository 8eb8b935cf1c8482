//! A call of everyday size: nobody is sent more than one message of a kind for one thing that happens.

use livekit_protocol::{signal_request::Message as Request, signal_response::Message as Response};
use sluice_signal::ConnectParams;

use crate::world::*;

const PEOPLE: usize = 100;

#[test]
fn a_hundred_people_with_two_tracks_each() {
    let mut world = World::new();
    let mut clients: Vec<Client> = Vec::new();
    for i in 0..PEOPLE {
        let auto = ConnectParams { auto_subscribe: i % 10 == 0, ..params() };
        let client = world.join_with(claims(&format!("p{i}")), auto);
        assert_eq!(client.join.other_participants.len(), i);
        world.offer(&client, "chromium-data", 1);
        let ops = world.ops;
        world.connect_media(&client);
        assert!(world.ops - ops <= 4, "becoming active costs the node nothing but notes");
        world.publish(&client);
        clients.push(client);
        let all: Vec<&Client> = clients.iter().collect();
        world.settle(&all);
    }
    assert_eq!(world.tracks().len(), 2 * PEOPLE);
    let full = world.subscriptions(world.subscriber(&clients[0]).id);
    assert_eq!(full.len(), 2 * (PEOPLE - 1));
    let mut ssrcs: Vec<u32> = full.iter().flat_map(|s| [Some(s.ssrc), s.rtx_ssrc]).flatten().collect();
    ssrcs.sort_unstable();
    let drawn = ssrcs.len();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), drawn, "an SSRC is used for one thing only");

    for client in &clients {
        world.take(client.socket);
    }
    let sid = clients[1].join.participant.as_ref().unwrap().sid.clone();
    let track = world.rooms.counts();
    assert_eq!(track, (1, PEOPLE, 2 * PEOPLE));
    world.say(&clients[1], Request::Leave(Default::default()));
    for client in clients.iter().filter(|client| client.sid != sid) {
        let heard = world.take(client.socket);
        let updates = heard.iter().filter(|m| matches!(m, Response::Update(_))).count();
        assert_eq!(updates, 1, "{heard:?}");
        assert!(heard.iter().filter(|m| matches!(m, Response::Offer(_))).count() <= 1);
    }
}
