//! A call of everyday size: nobody is sent more than one message of a kind for one thing that happens.

use std::{collections::BTreeSet, time::Duration};

use livekit_protocol::{signal_request::Message as Request, signal_response::Message as Response};
use sluice_rooms::{Command, limits::NEWS_AT_ONCE};
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
    // The news of the last join are told.
    world.pass(Duration::from_secs(1), &[]);
    clients.iter().for_each(|client| drop(world.take(client.socket)));
    world.say(&clients[1], Request::Leave(Default::default()));
    for client in clients.iter().filter(|client| client.sid != sid) {
        let heard = world.take(client.socket);
        let updates = heard.iter().filter(|m| matches!(m, Response::Update(_))).count();
        assert_eq!(updates, 1, "{heard:?}");
        assert!(heard.iter().filter(|m| matches!(m, Response::Offer(_))).count() <= 1);
    }
}

/// Those who come to watch are told of together; nobody misses anybody, and who comes last knows all from the start.
#[test]
fn a_crowd_that_joins_costs_few_messages() {
    const CROWD: usize = 400;
    let mut world = World::new();
    let sockets: Vec<_> = (0..CROWD)
        .map(|i| {
            world.now += Duration::from_millis(5);
            world.run(Command::Tick);
            let socket = world.connect(claims(&format!("p{i}")), params());
            (socket, world.now)
        })
        .collect();
    world.pass(Duration::from_secs(1), &[]);
    let mut told = 0;
    for (i, &(socket, joined_at)) in sockets.iter().enumerate() {
        let (mut known, mut updates) = (BTreeSet::new(), 0);
        for message in world.take(socket) {
            match message {
                Response::Join(join) => known.extend(join.other_participants.into_iter().map(|other| other.identity)),
                Response::Update(update) => {
                    updates += 1;
                    for info in update.participants {
                        assert!(known.insert(info.identity), "p{i} is told of somebody twice");
                    }
                }
                _ => {}
            }
        }
        assert_eq!(known.len(), CROWD - 1, "p{i} does not know everybody");
        // A round for each person up to fifty, then one each fifty to four hundred milliseconds.
        let rounds = NEWS_AT_ONCE.saturating_sub(i) + (world.now - joined_at).as_millis() as usize / 50;
        assert!(updates <= rounds, "p{i} was told {updates} times");
        told += updates;
    }
    assert!(told < CROWD * CROWD / 10, "{told} messages");
}
