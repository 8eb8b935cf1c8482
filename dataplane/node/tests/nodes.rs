//! A call on three nodes: media from a client at one reaches clients at the others.

mod support;

use std::net::SocketAddr;

use sluice_messages::{
    CallId, Down, Entry, Event, Key, Op, Relay, RelaySsrcs, RelayTrack, SrtpKeys, TrackId, TransportId, TransportState,
};
use sluice_node::Node;
use support::{call::*, person::*, *};

/// The relay between the first node and the `n`-th, as one end or the other has it.
fn relay(n: u8, call: u64, other: &Node, is_first: bool) -> Relay {
    let keys = |fill: u8| SrtpKeys { key: [fill; 16], salt: [fill; 12] };
    let (one, two) = (keys(call as u8 * 16 + 2 * n), keys(call as u8 * 16 + 2 * n + 1));
    let (send, receive) = if is_first { (one, two) } else { (two, one) };
    let address: SocketAddr = other.bound()[0];
    // The same port on both sides for each call: only SSRCs tell them apart.
    let ssrc = (call as u32 * 10 + u32::from(n)) * Relay::SSRCS;
    Relay { id: relay_id(n, call), call: CallId(call), peer: format!("node-{n}"), address, ssrc, send, receive }
}

fn relay_id(n: u8, call: u64) -> TransportId {
    TransportId(100 * call + u64::from(n))
}

/// A track as it leaves on a relay, and as it arrives at the other end.
fn crossing(n: u8, entry: &Entry) -> (Entry, Entry) {
    let Entry::Track(track) = entry else { panic!("{entry:?}") };
    let ssrc = (10 + u32::from(n)) * Relay::SSRCS + track.id.0 as u32;
    let leaves =
        RelayTrack { relay: relay_id(n, 1), track: track.id, ssrcs: vec![RelaySsrcs { ssrc, rtx_ssrc: None }] };
    let mut arrives = track.clone();
    arrives.publisher = relay_id(n, 1);
    arrives.encodings[0].ssrc = Some(ssrc);
    (Entry::RelayTrack(leaves), Entry::Track(arrives))
}

/// Waits until a node has said of these relays that they are connected.
async fn connected<const N: usize>(link: &mut Link, relays: [(u8, u64); N]) {
    let mut missing: Vec<TransportId> = relays.iter().map(|(n, call)| relay_id(*n, *call)).collect();
    while !missing.is_empty() {
        let up = link.event(|event| match event {
            Event::Transport { transport, state: TransportState::Connected } => Some(*transport),
            _ => None,
        });
        let up = up.await;
        missing.retain(|relay| *relay != up);
    }
}

/// Rows of a receiver.
fn rows(person: &Person) -> Vec<Entry> {
    let id = person.transport.id.0;
    vec![Entry::Transport(person.transport.clone()), subscription(id, 1), subscription(id, 2)]
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_at_other_nodes_get_everything() {
    let (first, _control, mut link) = pair(1).await;
    let (second, _second_control, mut second_link) = pair_that_spreads().await;
    let (third, _third_control, mut third_link) = pair(2).await;
    let others = [(1, &second, &mut second_link), (2, &third, &mut third_link)];

    let mut people = vec![publisher(&first), receiver(&first, 2)];
    people.extend((3..=6).map(|id| receiver(&second, id)));
    people.push(receiver(&third, 7));
    let tracks = [track(1, VIDEO), track(2, AUDIO)];
    let mut entries = vec![Entry::Transport(people[0].transport.clone())];
    entries.extend(tracks.clone());
    entries.extend(rows(&people[1]));
    for (n, other, other_link) in others {
        let mut others_entries = vec![Entry::Relay(relay(n, 1, &first, false))];
        entries.push(Entry::Relay(relay(n, 1, other, true)));
        // A second call between the same two ports, which nobody speaks in.
        entries.push(Entry::Relay(relay(n, 2, other, true)));
        others_entries.push(Entry::Relay(relay(n, 2, &first, false)));
        for track in &tracks {
            let (leaves, arrives) = crossing(n, track);
            entries.push(leaves);
            others_entries.push(arrives);
        }
        let there = if n == 1 { 2..6 } else { 6..7 };
        others_entries.extend(people[there].iter().flat_map(rows));
        other_link.snapshot(1, others_entries).await;
    }
    link.snapshot(1, entries).await;
    live(&first, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let mut sent = Sent::default();
    live(&first, &mut people, "media arrives", |people| {
        sent.send(&mut people[0]);
        people[1..].iter().all(|person| received(person, 1) > 50 && received(person, 2) > 50)
    });
    for (name, node) in [("second", &second), ("third", &third)] {
        assert!(counter(node, "received_packets") <= 2 * sent.packets, "{name}: each packet crosses once");
        assert_eq!(counter(node, "worker_drop_unvalidated"), 0, "{name}");
        assert_eq!(counter(node, "drop_unauthentic"), 0, "{name}");
    }

    // Both ends say that the ways are open, also of the call that nobody is in.
    connected(&mut link, [(1, 1), (1, 2), (2, 1), (2, 2)]).await;
    connected(&mut second_link, [(1, 1), (1, 2)]).await;
    connected(&mut third_link, [(2, 1), (2, 2)]).await;

    // Whoever asks for a key frame, at whichever node, gets it from the publisher.
    for n in [2, 5, 6] {
        let mut api = people[n].rtc.direct_api();
        let stream = api.stream_rx_by_mid("t1".into(), None).unwrap();
        stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        people[0].asked.clear();
        live(&first, &mut people, "a key frame is asked for", |people| !people[0].asked.is_empty());
    }

    // A stranger with the SSRC of a relay is none of it, and neither is a relay that is gone.
    let stranger = Client::new(&second);
    let mut rtp = RTP;
    rtp[8..12].copy_from_slice(&(11 * Relay::SSRCS + 1).to_be_bytes());
    stranger.send(&rtp);
    wait_for_counter(&second, "worker_drop_unvalidated", 1);
    let gone = vec![Op::Remove(Key::Transport(relay_id(2, 1)))];
    third_link.say(Down::Delta { epoch: 1, sequence: 1, ops: gone }).await;
    live(&first, &mut people, "what comes for nobody is counted", |people| {
        sent.send(&mut people[0]);
        counter(&third, "worker_drop_unvalidated") > 0
    });
    let ops = vec![Op::Remove(Key::Transport(relay_id(2, 1)))];
    link.say(Down::Delta { epoch: 1, sequence: 1, ops }).await;
    let before: Vec<usize> = people[1..6].iter().map(|person| received(person, 1)).collect();
    live(&first, &mut people, "the others go on", |people| {
        sent.send(&mut people[0]);
        people[1..6].iter().zip(&before).all(|(person, before)| received(person, 1) > before + 50)
    });
    assert_eq!(link.answer().await, sluice_messages::Up::Applied { epoch: 1, sequence: 1 });

    // The publisher leaves; the nodes do too, and nothing hangs.
    let ops = vec![Op::Remove(Key::Track(TrackId(1))), Op::Remove(Key::Transport(TransportId(1)))];
    link.say(Down::Delta { epoch: 1, sequence: 2, ops }).await;
    assert_eq!(link.answer().await, sluice_messages::Up::Applied { epoch: 1, sequence: 2 });
    [first, second, third].into_iter().for_each(Node::stop);
}
