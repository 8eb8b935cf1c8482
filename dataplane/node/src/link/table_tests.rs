use proptest::prelude::*;
use sluice_messages::{
    DataSubscription, DataTrack, DataTrackId, ExtensionMap, Ice, IceCredentials, Kind, Note, Participant, Relay,
    RelayTrack, SrtpKeys, Subscription, Track, TrackId, Transport, Wish,
};

use super::*;

fn transport(id: u64, call: u64, version: u64) -> Entry {
    Entry::Transport(Transport {
        id: TransportId(id),
        call: CallId(call),
        participant: Participant { sid: format!("PA_{id}"), identity: format!("{version}") },
        ice: Ice {
            local: IceCredentials { ufrag: format!("u{id}"), pwd: "p".repeat(22) },
            remote: None,
            previous_local: None,
        },
        fingerprint: None,
        receive_extensions: ExtensionMap::default(),
        send_extensions: ExtensionMap::default(),
        data: None,
    })
}

fn track(id: u64, call: u64, publisher: u64, muted: bool) -> Entry {
    Entry::Track(Track {
        id: TrackId(id),
        call: CallId(call),
        publisher: TransportId(publisher),
        kind: Kind::Audio,
        mid: "0".into(),
        payloads: vec![],
        encodings: vec![],
        muted,
        rate_bps: 0,
    })
}

fn subscription(receiver: u64, track: u64, ssrc: u32) -> Entry {
    Entry::Subscription(Subscription {
        receiver: TransportId(receiver),
        track: TrackId(track),
        mid: "0".into(),
        ssrc,
        rtx_ssrc: None,
        payloads: vec![],
        wish: Wish::default(),
    })
}

fn relay(id: u64, call: u64, send: u128, receive: u128) -> Entry {
    let keys = |key: u128| SrtpKeys { key: key.to_be_bytes(), salt: [7; 12] };
    Entry::Relay(Relay {
        id: TransportId(id),
        call: CallId(call),
        peer: "another".into(),
        address: ([192, 0, 2, 1], 7000).into(),
        ssrc: id as u32 * Relay::SSRCS,
        send: keys(send),
        receive: keys(receive),
    })
}

fn relay_track(relay: u64, track: u64) -> Entry {
    Entry::RelayTrack(RelayTrack { relay: TransportId(relay), track: TrackId(track), ssrcs: Vec::new() })
}

fn data_track(id: u64, call: u64, publisher: u64, handle: u16) -> Entry {
    let (id, call, publisher) = (DataTrackId(id), CallId(call), TransportId(publisher));
    Entry::DataTrack(DataTrack { id, call, publisher, handle })
}

fn data_subscription(receiver: u64, track: u64, handle: u16) -> Entry {
    let (receiver, track) = (TransportId(receiver), DataTrackId(track));
    Entry::DataSubscription(DataSubscription { receiver, track, handle })
}

fn note(key: u64, value: u8) -> Entry {
    Entry::Note(Note { key: key.to_string(), bytes: vec![value] })
}

/// Small id spaces, so that rows collide, dangle and depend on each other.
fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (1..5u64, 1..3u64, 0..2u64).prop_map(|(id, call, v)| transport(id, call, v)),
        (1..5u64, 1..3u64, 1..5u64, any::<bool>()).prop_map(|(id, call, publisher, m)| track(id, call, publisher, m)),
        (1..5u64, 1..5u64, 0..3u32).prop_map(|(receiver, track, ssrc)| subscription(receiver, track, ssrc)),
        (1..5u64, 1..3u64, 1..5u64, 1..3u16).prop_map(|(id, call, from, handle)| data_track(id, call, from, handle)),
        (1..5u64, 1..5u64, 1..3u16).prop_map(|(receiver, track, handle)| data_subscription(receiver, track, handle)),
        (1..5u64, 1..3u64, any::<[u128; 2]>()).prop_map(|(id, call, [send, receive])| relay(id, call, send, receive)),
        (1..5u64, 1..5u64).prop_map(|(relay, track)| relay_track(relay, track)),
        (1..3u64, 0..3u8).prop_map(|(key, value)| note(key, value)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![3 => entry().prop_map(Op::Put), 1 => entry().prop_map(|e| Op::Remove(e.key()))]
}

/// What threads hold: they apply steps blindly, and may rely on dependencies being there.
#[derive(Default)]
struct Worker(BTreeMap<Key, Entry>);

impl Worker {
    fn apply(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step.op {
                Op::Put(entry) => {
                    match &entry {
                        Entry::Track(t) => assert!(self.0.contains_key(&Key::Transport(t.publisher)), "{entry:?}"),
                        Entry::Subscription(s) => assert!(
                            self.0.contains_key(&Key::Transport(s.receiver))
                                && self.0.contains_key(&Key::Track(s.track))
                        ),
                        Entry::DataTrack(t) => assert!(self.0.contains_key(&Key::Transport(t.publisher)), "{entry:?}"),
                        Entry::DataSubscription(s) => assert!(
                            self.0.contains_key(&Key::Transport(s.receiver))
                                && self.0.contains_key(&Key::DataTrack(s.track))
                        ),
                        Entry::RelayTrack(t) => {
                            assert!(matches!(self.0.get(&Key::Transport(t.relay)), Some(Entry::Relay(_))));
                            let Some(Entry::Track(track)) = self.0.get(&Key::Track(t.track)) else { panic!("{t:?}") };
                            let publisher = self.0.get(&Key::Transport(track.publisher));
                            assert!(matches!(publisher, Some(Entry::Transport(_))), "no loops: {publisher:?}");
                        }
                        Entry::Transport(_) | Entry::Relay(_) => {}
                        Entry::Note(_) => panic!("notes are not for workers"),
                    }
                    self.0.insert(entry.key(), entry);
                }
                Op::Remove(key) => {
                    assert!(self.0.remove(&key).is_some(), "{key:?} is removed once");
                    let orphan = |entry: &&Entry| match (entry, &key) {
                        (Entry::Track(t), Key::Transport(id)) => t.publisher == *id,
                        (Entry::Subscription(s), Key::Transport(id)) => s.receiver == *id,
                        (Entry::Subscription(s), Key::Track(id)) => s.track == *id,
                        (Entry::RelayTrack(t), Key::Transport(id)) => t.relay == *id,
                        (Entry::RelayTrack(t), Key::Track(id)) => t.track == *id,
                        (Entry::DataTrack(t), Key::Transport(id)) => t.publisher == *id,
                        (Entry::DataSubscription(s), Key::Transport(id)) => s.receiver == *id,
                        (Entry::DataSubscription(s), Key::DataTrack(id)) => s.track == *id,
                        _ => false,
                    };
                    assert!(self.0.values().find(orphan).is_none(), "dependents go before {key:?}");
                }
            }
        }
    }

    fn check(&self, table: &Table) {
        let expected: Vec<&Entry> = table.entries().filter(|e| !matches!(e, Entry::Note(_))).collect();
        assert_eq!(self.0.values().collect::<Vec<_>>(), expected);
    }
}

proptest! {
    /// Whatever comes in whichever order, applying the steps gives what the table says, and a snapshot of another node's
    /// table makes the two equal.
    #[test]
    fn snapshots_and_deltas_converge(
        batches in prop::collection::vec(prop::collection::vec(op(), 0..12), 0..8),
        others in prop::collection::vec(op(), 0..40),
    ) {
        let (mut table, mut worker) = (Table::default(), Worker::default());
        worker.apply(table.snapshot(1, 0, vec![]).unwrap());
        for (index, ops) in batches.into_iter().enumerate() {
            worker.apply(table.delta(1, index as u64 + 1, ops).unwrap());
            worker.check(&table);
        }
        let mut other = Table::default();
        other.snapshot(2, 0, vec![]).unwrap();
        other.delta(2, 1, others).unwrap();
        let mut entries: Vec<Entry> = other.entries().cloned().collect();
        entries.reverse();
        worker.apply(table.snapshot(2, 7, entries).unwrap());
        worker.check(&table);
        prop_assert!(table.entries().eq(other.entries()));
        let again = table.entries().cloned().collect();
        prop_assert_eq!(table.snapshot(2, 7, again).unwrap(), vec![], "the same snapshot disturbs nothing");
        prop_assert_eq!((table.epoch(), table.sequence()), (2, 7));
    }

    /// Refused commands change nothing.
    #[test]
    fn stale_and_gapped_are_refused(epoch in 1..9u64, stale in 0..9u64, sequence in 0..20u64, ops in prop::collection::vec(op(), 1..5)) {
        let mut table = Table::default();
        table.snapshot(epoch, 10, vec![transport(1, 1, 0)]).unwrap();
        let before: Vec<Entry> = table.entries().cloned().collect();
        let result = table.delta(stale, sequence, ops);
        match (stale.cmp(&epoch), sequence) {
            (std::cmp::Ordering::Less, _) => prop_assert_eq!(result, Err(Refusal::StaleEpoch { current: epoch })),
            (std::cmp::Ordering::Greater, _) => prop_assert_eq!(result, Err(Refusal::Gap { expected: 0 })),
            (std::cmp::Ordering::Equal, 11) => { prop_assert!(result.is_ok()); return Ok(()); }
            (std::cmp::Ordering::Equal, _) => prop_assert_eq!(result, Err(Refusal::Gap { expected: 11 })),
        }
        prop_assert!(table.entries().eq(before.iter()));
        if stale < epoch {
            prop_assert_eq!(table.snapshot(stale, 0, vec![]), Err(Refusal::StaleEpoch { current: epoch }));
            prop_assert!(table.entries().eq(before.iter()));
        }
    }
}

#[test]
fn a_delta_before_any_snapshot_is_a_gap() {
    let mut table = Table::default();
    assert_eq!(table.delta(0, 1, vec![Op::Put(note(1, 1))]), Err(Refusal::Gap { expected: 0 }));
    assert_eq!(table.delta(1, 1, vec![Op::Put(note(1, 1))]), Err(Refusal::Gap { expected: 0 }));
    assert_eq!(table.len(), 0);
}

#[test]
fn keys_of_a_relay_are_used_once() {
    let mut table = Table::default();
    table.snapshot(1, 0, vec![relay(1, 1, 10, 20)]).unwrap();
    let mut sequence = 0;
    let mut put = |table: &mut Table, entry: Entry| {
        sequence += 1;
        table.delta(1, sequence, vec![Op::Put(entry)]).unwrap().len()
    };
    assert_eq!(put(&mut table, relay(1, 1, 10, 20)), 0, "the same is no change");
    assert_eq!(put(&mut table, relay(1, 1, 10, 21)), 0, "half of new keys");
    assert_eq!(put(&mut table, relay(1, 1, 11, 20)), 0, "the other half");
    assert_eq!(table.dangling(), 2);
    assert_eq!(put(&mut table, relay(1, 1, 11, 21)), 1);
    assert_eq!(put(&mut table, relay(1, 1, 10, 20)), 0, "they were used before");
    assert_eq!(put(&mut table, relay(2, 1, 10, 22)), 0, "whoever used them");
    table.delta(1, 7, vec![Op::Remove(Key::Transport(TransportId(1)))]).unwrap();
    assert_eq!(table.delta(1, 8, vec![Op::Put(relay(1, 1, 11, 21))]).unwrap(), vec![], "and after it went");
    assert_eq!(table.delta(1, 9, vec![Op::Put(relay(1, 1, 12, 21))]).unwrap().len(), 1);
}

#[test]
fn a_changed_wish_touches_only_its_subscription() {
    let mut table = Table::default();
    let entries = vec![transport(1, 1, 0), transport(2, 1, 0), track(1, 1, 1, false), subscription(2, 1, 5)];
    table.snapshot(1, 0, entries.clone()).unwrap();
    let mut changed = entries;
    changed[3] = subscription(2, 1, 6);
    let steps = table.snapshot(2, 0, changed).unwrap();
    assert_eq!(steps, [Step { call: CallId(1), op: Op::Put(subscription(2, 1, 6)) }]);
}

#[test]
fn a_subscription_across_calls_is_not_taken() {
    let mut table = Table::default();
    table
        .snapshot(1, 0, vec![transport(1, 1, 0), transport(2, 2, 0), track(1, 1, 1, false), subscription(2, 1, 5)])
        .unwrap();
    assert_eq!((table.len(), table.dangling()), (3, 1));
    let data = vec![Op::Put(data_track(1, 1, 1, 7)), Op::Put(data_subscription(2, 1, 1))];
    table.delta(1, 1, data).unwrap();
    assert_eq!((table.len(), table.dangling()), (4, 2));
}
