//! The link to control over real QUIC.

mod support;

use sluice_messages::{Down, Entry, Event, Key, Note, Op, Refusal, TransportState, Up};
use sluice_node::Node;
use support::*;

fn note(key: &str, value: u8) -> Entry {
    Entry::Note(Note { key: key.into(), bytes: vec![value] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_who_it_is_and_obeys() {
    let authority = Authority::new();
    let control = Control::listen(&authority, 0);
    let node = Node::start(config(&authority, &authority.sign("node-1"), control.port(), 2)).unwrap();
    let (mut link, hello) = control.accept().await;
    assert_eq!((hello.node.as_str(), hello.version, hello.workers), ("node-1", sluice_messages::VERSION, 2));
    assert_eq!((hello.epoch, hello.entries), (0, 0));
    assert_eq!((hello.addresses.as_slice(), hello.fingerprint), (node.addresses(), node.fingerprint()));

    for (whose, counter) in [(None, "link_entries"), (Some(0), "worker_received"), (Some(1), "slow_connected")] {
        let names = link.event(|event| match event {
            Event::Counters { worker, counters } if *worker == whose => {
                Some(counters.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
            }
            _ => None,
        });
        assert!(names.await.iter().any(|name| name == counter), "{counter}");
    }

    link.say(Down::Delta { epoch: 5, sequence: 1, ops: vec![] }).await;
    let gap = |sequence, expected| Up::Refused { epoch: 5, sequence, refusal: Refusal::Gap { expected } };
    assert_eq!(link.answer().await, gap(1, 0), "a snapshot comes first");
    link.snapshot(5, vec![note("room", 1)]).await;
    link.say(Down::Delta { epoch: 5, sequence: 1, ops: vec![Op::Put(note("room", 2))] }).await;
    assert_eq!(link.answer().await, Up::Applied { epoch: 5, sequence: 1 });
    link.say(Down::Delta { epoch: 5, sequence: 3, ops: vec![Op::Remove(Key::Note("room".into()))] }).await;
    assert_eq!(link.answer().await, gap(3, 2));

    let refusal = Refusal::StaleEpoch { current: 5 };
    link.say(Down::Snapshot { epoch: 4, sequence: 0, entries: vec![] }).await;
    assert_eq!(link.answer().await, Up::Refused { epoch: 4, sequence: 0, refusal: refusal.clone() });
    link.say(Down::Delta { epoch: 4, sequence: 2, ops: vec![] }).await;
    assert_eq!(link.answer().await, Up::Refused { epoch: 4, sequence: 2, refusal });

    link.say(Down::Dump).await;
    let Up::State { epoch, sequence, entries, .. } = link.answer().await else { panic!("not a state") };
    assert_eq!((epoch, sequence, entries), (5, 1, vec![note("room", 2)]));
    link.say(Down::Ping { nonce: 77, period_ms: 10_000 }).await;
    assert_eq!(link.answer().await, Up::Pong { nonce: 77 });
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_is_refused_on_both_sides() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let control = Control::listen(&authority, 0);
    let node = Node::start(config(&authority, &stranger.sign("node-1"), control.port(), 1)).unwrap();
    let reason = control.refused().await;
    assert!(reason.contains("UnknownIssuer") || reason.contains("certificate"), "{reason}");
    node.stop();

    let pretender = Control::listen(&stranger, 0);
    let node = Node::start(config(&authority, &authority.sign("node-1"), pretender.port(), 1)).unwrap();
    let reason = pretender.refused().await;
    assert!(
        reason.contains("UnknownIssuer") || reason.contains("certificate") || reason.contains("unknown"),
        "{reason}"
    );
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_control_finds_everything_as_it_was() {
    let authority = Authority::new();
    let control = Control::listen(&authority, 0);
    let port = control.port();
    let node = Node::start(config(&authority, &authority.sign("node-1"), port, 2)).unwrap();
    let (mut link, _) = control.accept().await;
    let transport = transport(1, 1, None, None);
    let entries = vec![Entry::Transport(transport.clone()), note("room", 9)];
    link.snapshot(3, entries.clone()).await;
    let client = Client::new(&node);
    assert!(client.check(&transport), "{:?}", node.counters());
    let checking = Event::Transport { transport: transport.id, state: TransportState::Checking };
    link.event(|event| (*event == checking).then_some(())).await;

    control.die(link).await;
    assert!(client.check(&transport), "clients are served while control is away");

    let control = Control::listen(&authority, port);
    let (mut link, hello) = control.accept().await;
    assert_eq!((hello.epoch, hello.entries), (3, 2));
    link.say(Down::Dump).await;
    let Up::State { epoch, entries: mut found, events, .. } = link.answer().await else { panic!("not a state") };
    found.sort_by_key(Entry::key);
    assert_eq!((epoch, found), (3, entries.clone()));
    assert!(events.contains(&checking), "{events:?}");
    // The successor takes over with what it read: nothing changes for the client, not even its 5-tuple.
    link.snapshot(4, entries).await;
    client.send(&RTP);
    wait_for_counter(&node, "drop_no_keys", 1);
    assert_eq!(counter(&node, "worker_drop_unvalidated"), 0);

    // One that kept its own state does not ask, and is told what happened meanwhile.
    control.die(link).await;
    let control = Control::listen(&authority, port);
    let (mut link, _) = control.accept().await;
    link.snapshot(5, vec![Entry::Transport(transport.clone())]).await;
    link.event(|event| (*event == checking).then_some(())).await;
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_talks_nonsense_is_closed_and_dialled_again() {
    let (node, control, mut link) = pair(1).await;
    link.nonsense().await;
    let (mut link, _) = control.accept().await;
    link.say(Down::Ping { nonce: 1, period_ms: 10_000 }).await;
    assert_eq!(link.answer().await, Up::Pong { nonce: 1 });
    node.stop();
}
