//! A call on two workers: media from a client on one reaches clients on both.

mod support;

use sluice_messages::{Down, Entry, Key, Op, TrackId, TransportId};
use support::{call::*, person::*, *};

#[tokio::test(flavor = "multi_thread")]
async fn receivers_on_both_workers_get_everything() {
    let (node, _control, mut link) = pair_that_spreads().await;
    let mut people = vec![publisher(&node)];
    people.extend((2..=6).map(|id| receiver(&node, id)));
    let mut entries: Vec<Entry> = people.iter().map(|person| Entry::Transport(person.transport.clone())).collect();
    entries.extend([track(1, VIDEO), track(2, AUDIO)]);
    entries.extend((2..=5).flat_map(|id| [subscription(id, 1), subscription(id, 2)]));
    link.snapshot(1, entries).await;
    live(&node, &mut people, "everybody connects", |people| people.iter().all(Person::is_ready));

    let mut sent = Sent::default();
    live(&node, &mut people, "media arrives", |people| {
        sent.send(&mut people[0]);
        people[1..5].iter().all(|person| received(person, 1) > 50 && received(person, 2) > 50)
    });
    // Home and sibling have two receivers each, and the sibling gets each packet once.
    wait_for_counter(&node, "relayed", 100);
    assert!(counter(&node, "relayed") <= 2 * sent.packets, "{} of {}", counter(&node, "relayed"), sent.packets);

    // Who comes later, and who asks for a key frame, is served on either side.
    let ops = vec![Op::Put(subscription(6, 1)), Op::Put(subscription(6, 2))];
    link.say(Down::Delta { epoch: 1, sequence: 1, ops }).await;
    live(&node, &mut people, "the late one gets media", |people| {
        sent.send(&mut people[0]);
        received(&people[5], 1) > 20 && received(&people[5], 2) > 20
    });
    for n in 1..=5 {
        let before = counter(&node, "keyframe_requests");
        let mut api = people[n].rtc.direct_api();
        let stream = api.stream_rx_by_mid("t1".into(), None).unwrap();
        stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        people[0].asked.clear();
        live(&node, &mut people, "a key frame is asked for", |people| {
            counter(&node, "keyframe_requests") > before && !people[0].asked.is_empty()
        });
    }

    // Whoever leaves, leaves nothing behind: the others go on, and in the end nobody does.
    let before: Vec<usize> = people[1..4].iter().map(|person| received(person, 1)).collect();
    let ops = [4, 5, 6].map(|id| Op::Remove(Key::Transport(TransportId(id)))).into();
    link.say(Down::Delta { epoch: 1, sequence: 2, ops }).await;
    people.truncate(3);
    live(&node, &mut people, "the others go on", |people| {
        sent.send(&mut people[0]);
        people[1..].iter().zip(&before).all(|(person, before)| received(person, 1) > before + 50)
    });
    let ops = vec![Op::Remove(Key::Track(TrackId(1))), Op::Remove(Key::Transport(TransportId(1)))];
    link.say(Down::Delta { epoch: 1, sequence: 3, ops }).await;
    live(&node, &mut people, "the publisher is gone", |people| {
        sent.send(&mut people[0]);
        counter(&node, "worker_drop_unvalidated") + counter(&node, "worker_drop_handed_in") > 10
    });
    assert_eq!(counter(&node, "worker_drop_relay_full"), 0);
    assert_eq!(counter(&node, "drop_relay_full"), 0);
    node.stop();
}
