//! Whole clients (an independent WebRTC stack): checks, DTLS, data channels, and what goes between participants.

mod support;

use std::time::Instant;

use prost::Message;
use sluice_messages::{
    CallId, DataKind, DataSubscription, DataTrack, DataTrackId, Down, Entry, Event, Failure, Fingerprint, Key, Op,
    SendData, Transport, TransportState,
};
use sluice_node::Node;
use support::{person::*, *};

#[tokio::test(flavor = "multi_thread")]
async fn participants_hear_each_other_and_control() {
    they_hear_each_other(pair(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_where_a_call_lives_on_two_workers() {
    they_hear_each_other(pair_that_spreads().await).await;
}

async fn they_hear_each_other((node, _control, mut link): (Node, Control, Link)) {
    let silenced = sluice_messages::Data { may_send: false, ..CLIENT_OPENS };
    let mut people: Vec<Person> =
        [(1, CLIENT_OPENS), (2, NODE_OPENS), (3, silenced)].map(|(id, data)| Person::new(&node, id, data)).into();
    let entries = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));
    let mut waiting: Vec<_> = people.iter().map(|person| person.transport.id).collect();
    link.event(|event| {
        if let Event::Transport { transport, state: TransportState::Connected } = event {
            waiting.retain(|id| id != transport);
        }
        waiting.is_empty().then_some(())
    })
    .await;

    people[0].say("_reliable", &text("to all", &[]));
    people[0].say("_reliable", &text("to two", &["person-2"]));
    people[1].say("_lossy", &text("lossy", &[]));
    people[2].say("_reliable", &text("not allowed", &[]));
    people[0].say("_reliable", &text("last", &[]));
    let all = SendData {
        to: people.iter().map(|person| person.transport.id).collect(),
        kind: DataKind::Reliable,
        payload: text("from control", &[]).encode_to_vec(),
    };
    live(&node, &mut people, "everything arrives", |people| {
        people[0].received.len() == 1 && people[1].received.len() == 3 && people[2].received.len() == 3
    });
    let lossy = heard("person-2", "_lossy", "lossy");
    let first = heard("person-1", "_reliable", "to all");
    let last = heard("person-1", "_reliable", "last");
    assert_eq!(people[0].heard(), std::slice::from_ref(&lossy));
    let reliable = |person: &Person| -> Vec<_> { person.heard().into_iter().filter(|h| h.1 == "_reliable").collect() };
    assert_eq!(reliable(&people[1]), [first.clone(), heard("person-1", "_reliable", "to two"), last.clone()]);
    assert_eq!(reliable(&people[2]), [first, last]);
    assert!(people[2].heard().contains(&lossy));
    wait_for_counter(&node, "data_messages_forbidden", 1);

    link.say(Down::Send { epoch: 1, data: all }).await;
    live(&node, &mut people, "control is heard", |people| {
        people.iter().all(|person| person.heard().iter().any(|(_, _, text)| text == "from control"))
    });

    // What nobody may send changes nothing for those who talk on.
    let channel = people[0].channels["_reliable"];
    people[0].rtc.channel(channel).unwrap().write(true, &[0xff; 900]).unwrap();
    people[0].say("_reliable", &text("still here", &[]));
    live(&node, &mut people, "the call goes on", |people| {
        people[1].heard().contains(&heard("person-1", "_reliable", "still here"))
    });
    assert_eq!(counter(&node, "slow_drop_data_malformed"), 1);
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fingerprint_that_comes_late_costs_nothing_and_a_wrong_one_fails() {
    let (node, _control, mut link) = pair(2).await;
    let mut people = vec![Person::new(&node, 1, CLIENT_OPENS), Person::new(&node, 2, CLIENT_OPENS)];
    let late = Transport { fingerprint: None, ..people[0].transport.clone() };
    let wrong = Transport { fingerprint: Some(Fingerprint { sha256: [9; 32] }), ..people[1].transport.clone() };
    link.snapshot(1, vec![Entry::Transport(late.clone()), Entry::Transport(wrong.clone())]).await;
    live(&node, &mut people, "one fails, the other waits", |_| {
        counter(&node, "slow_closed") == 1 && counter(&node, "ice_accepted") >= 2
    });
    let failed = Event::Transport { transport: wrong.id, state: TransportState::Failed(Failure::Fingerprint) };
    link.event(|event| (*event == failed).then_some(())).await;
    assert!(!people[0].is_connected);
    people.truncate(1);
    let known = Op::Put(Entry::Transport(people[0].transport.clone()));
    link.say(Down::Delta { epoch: 1, sequence: 1, ops: vec![known] }).await;
    live(&node, &mut people, "the handshake goes on", |people| people[0].is_ready());
    let connected = Event::Transport { transport: late.id, state: TransportState::Connected };
    link.event(|event| (*event == connected).then_some(())).await;
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_slows_nobody() {
    let (node, _control, mut link) = pair(2).await;
    let mut people: Vec<Person> = [1, 2, 3].map(|id| Person::new(&node, id, CLIENT_OPENS)).into();
    let entries = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let frozen = people.pop().unwrap();
    let long = "x".repeat(30_000);
    let (mut said, start) = (0, Instant::now());
    while counter(&node, "slow_closed_unread") == 0 {
        assert!(start.elapsed() < PATIENCE, "{:?}", node.counters());
        people[0].say("_reliable", &text(&long, &[]));
        said += 1;
        live(&node, &mut people, "the other one hears everything", |people| people[1].received.len() == said);
    }
    assert!(counter(&node, "slow_drop_data_full") > 0);
    let failed = Event::Transport { transport: frozen.transport.id, state: TransportState::Failed(Failure::Dtls) };
    link.event(|event| (*event == failed).then_some(())).await;
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_tracks_reach_their_subscribers_under_their_handles() {
    data_tracks_reach(pair(2).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_on_two_workers() {
    data_tracks_reach(pair_that_spreads().await).await;
}

async fn data_tracks_reach((node, _control, mut link): (Node, Control, Link)) {
    let mut people: Vec<Person> =
        [(1, CLIENT_OPENS), (2, NODE_OPENS), (3, NODE_OPENS)].map(|(id, data)| Person::new(&node, id, data)).into();
    let id = |index: usize, people: &[Person]| people[index].transport.id;
    let track = |id, person, handle| {
        let publisher = sluice_messages::TransportId(person);
        Entry::DataTrack(DataTrack { id: DataTrackId(id), call: CallId(1), publisher, handle })
    };
    let subscription = |receiver, track, handle| {
        Entry::DataSubscription(DataSubscription { receiver, track: DataTrackId(track), handle })
    };
    let mut entries: Vec<Entry> = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    // Both publish under the same handle, and the second person knows the first one's track by another.
    entries.extend([track(1, 1, 7), track(2, 2, 7), subscription(id(1, &people), 1, 300)]);
    entries.push(subscription(id(0, &people), 2, 40_000));
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    people[0].write("_data_track", &packet(7, b"from one"));
    people[1].write("_data_track", &packet(7, b"from two"));
    live(&node, &mut people, "frames arrive", |people| {
        !people[0].frames().is_empty() && !people[1].frames().is_empty()
    });
    assert_eq!(people[0].frames(), [packet(40_000, b"from two")]);
    assert_eq!(people[1].frames(), [packet(300, b"from one")]);

    // What nobody publishes, or what is no packet, goes nowhere.
    people[0].write("_data_track", &packet(8, b"of no track"));
    people[2].write("_data_track", &packet(7, b"not the third person's"));
    people[0].write("_data_track", &[0xff; 20]);
    people[0].write("_data_track", &[0x18]);
    live(&node, &mut people, "they are counted", |_| {
        counter(&node, "slow_drop_data_track") == 2 && counter(&node, "slow_drop_data_malformed") == 2
    });

    // The third person comes in, the second one leaves the track, and a frame of many packets' size passes whole.
    let ops = vec![
        Op::Put(subscription(id(2, &people), 1, 1)),
        Op::Remove(Key::DataSubscription { receiver: id(1, &people), track: DataTrackId(1) }),
    ];
    link.say(Down::Delta { epoch: 1, sequence: 1, ops }).await;
    assert!(matches!(link.answer().await, sluice_messages::Up::Applied { sequence: 1, .. }));
    let long = vec![0x5a; 15_000];
    people[0].write("_data_track", &packet(7, &long));
    live(&node, &mut people, "the third person has it", |people| !people[2].frames().is_empty());
    assert_eq!(people[2].frames(), [packet(1, &long)]);
    assert_eq!(people[1].frames().len(), 1);

    // Unpublished is unpublished.
    let ops = vec![Op::Remove(Key::DataTrack(DataTrackId(1)))];
    link.say(Down::Delta { epoch: 1, sequence: 2, ops }).await;
    assert!(matches!(link.answer().await, sluice_messages::Up::Applied { sequence: 2, .. }));
    people[0].write("_data_track", &packet(7, b"too late"));
    live(&node, &mut people, "it is counted", |_| counter(&node, "slow_drop_data_track") == 3);
    assert!(people.iter().all(|person| person.frames().len() == 1));
    node.stop();
}
