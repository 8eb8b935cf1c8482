use proptest::prelude::*;
use sluice_messages::{Data, ExtensionMap, Ice, IceCredentials, Participant, Wish};

use super::*;

fn transport(id: u64, call: u64, receives: bool) -> Transport {
    let local = IceCredentials { ufrag: String::new(), pwd: String::new() };
    Transport {
        id: TransportId(id),
        call: CallId(call),
        participant: Participant { sid: String::new(), identity: String::new() },
        ice: Ice { local, remote: None, previous_local: None },
        fingerprint: None,
        receive_extensions: ExtensionMap::default(),
        send_extensions: ExtensionMap::default(),
        data: Some(Data {
            opened_by_us: receives,
            may_send: true,
            delivers: receives,
            streams: sluice_messages::Streams::NONE,
        }),
    }
}

fn subscription(receiver: u64, track: u64, enabled: bool) -> Subscription {
    Subscription {
        receiver: TransportId(receiver),
        track: TrackId(track),
        mid: String::new(),
        ssrc: 1,
        rtx_ssrc: None,
        payloads: Vec::new(),
        wish: Wish { enabled, ..Wish::default() },
    }
}

/// A receiver with so many subscriptions joins; returns its worker.
fn join(spread: &mut Spread, id: u64, call: u64, tracks: u64) -> usize {
    let worker = spread.place(&transport(id, call, true));
    (0..tracks).for_each(|track| assert!(spread.subscribe(&subscription(id, track, true))));
    worker
}

/// As the table does it: subscriptions first.
fn leave(spread: &mut Spread, id: u64) {
    for track in 0..6 {
        spread.unsubscribe(TransportId(id), TrackId(track));
    }
    spread.remove(TransportId(id));
}

#[test]
fn calls_spread_over_workers() {
    let mut spread = Spread::new(4, 100);
    for call in 1..=4000 {
        spread.place(&transport(call, call, false));
    }
    assert_eq!(spread.loads, [1000; 4]);
    // A loaded worker gets no new call.
    let busy = spread.worker(TransportId(1)).unwrap();
    (0..50).for_each(|track| assert!(spread.subscribe(&subscription(1, track, true))));
    let homes: Vec<usize> = (5000..5100).map(|call| spread.place(&transport(call, call, false))).collect();
    assert!(homes.iter().all(|home| *home != busy));
}

#[test]
fn a_call_stays_home_until_it_outgrows_its_share() {
    let mut spread = Spread::new(3, 20);
    let home = spread.place(&transport(1, 1, false));
    // The publisher counts as one, and each receiver brings five.
    let workers: Vec<usize> = (10..30).map(|id| join(&mut spread, id, 1, 5)).collect();
    assert!(workers[..4].iter().all(|worker| *worker == home), "{workers:?}");
    let sibling = workers[4];
    assert_ne!(sibling, home);
    assert!(workers[4..8].iter().all(|worker| *worker == sibling), "one more worker, not all: {workers:?}");
    let third = workers[8];
    assert!(third != home && third != sibling);
    assert!(workers[8..12].iter().all(|worker| *worker == third), "{workers:?}");
    assert_eq!(spread.workers(CallId(1)), 0b111);
    // Everywhere over its share, it goes on evenly.
    let (least, most) = (spread.loads.iter().min().unwrap(), spread.loads.iter().max().unwrap());
    assert!(most - least <= 5, "{:?}", spread.loads);
    // Whoever publishes goes home, and who is placed stays.
    assert_eq!(spread.place(&transport(99, 1, false)), home);
    assert_eq!(spread.place(&transport(14, 1, true)), sibling);
}

#[test]
fn a_snapshot_is_placed_with_its_subscriptions_in_mind() {
    let mut spread = Spread::new(2, 20);
    let rows: Vec<Subscription> = (10..20).flat_map(|id| (0..4).map(move |t| subscription(id, t, t != 3))).collect();
    spread.announce(rows.iter());
    let home = spread.place(&transport(1, 1, false));
    let workers: Vec<usize> = (10..20).map(|id| spread.place(&transport(id, 1, true))).collect();
    assert_eq!(workers.iter().filter(|worker| **worker == home).count(), 7, "{workers:?}");
    let loads = spread.loads.clone();
    rows.iter().for_each(|row| assert!(spread.subscribe(row)));
    assert_eq!(spread.loads, loads, "as announced");
}

#[test]
fn who_joins_is_expected_to_receive_what_there_is() {
    let mut spread = Spread::new(2, 20);
    let home = spread.place(&transport(1, 1, false));
    (0..10).for_each(|_| spread.count_track(CallId(1), true));
    let workers: Vec<usize> = (10..14).map(|id| spread.place(&transport(id, 1, true))).collect();
    assert_eq!(workers, [home, home, 1 - home, 1 - home]);
}

#[test]
fn people_who_all_join_before_they_publish_are_spread_evenly() {
    let mut spread = Spread::new(2, 1000);
    let workers: Vec<usize> = (0..100).map(|id| spread.place(&transport(id, 1, true))).collect();
    let home = workers[0];
    assert!(workers[..20].iter().all(|worker| *worker == home), "{workers:?}");
    let there = workers.iter().filter(|worker| **worker == home).count();
    assert!((45..=55).contains(&there), "{there}");
    // An audience that knows what it gets weighs what it weighs.
    for id in 0..100 {
        (0..2).for_each(|track| assert!(spread.subscribe(&subscription(id, track, true))));
    }
    assert_eq!(spread.loads.iter().sum::<usize>(), 200);
}

proptest! {
    #[test]
    fn loads_add_up_and_nothing_stays_behind(ops in prop::collection::vec((0..5u8, 0..12u64, 0..6u64, any::<bool>()), 1..200)) {
        let mut spread = Spread::new(3, 6);
        let mut placed = BTreeMap::new();
        for (what, id, track, yes) in ops {
            match what {
                0 | 1 => {
                    let worker = spread.place(&transport(id, id % 2, yes));
                    let first = *placed.entry(id).or_insert(worker);
                    prop_assert_eq!(worker, first, "who is placed stays");
                }
                2 if placed.contains_key(&id) => {
                    let is_new = !spread.subscriptions.contains_key(&(TransportId(id), TrackId(track)));
                    prop_assert_eq!(spread.subscribe(&subscription(id, track, yes)), is_new);
                }
                3 => {
                    let was_there = spread.subscriptions.contains_key(&(TransportId(id), TrackId(track)));
                    prop_assert_eq!(spread.unsubscribe(TransportId(id), TrackId(track)), was_there);
                }
                4 => {
                    leave(&mut spread, id);
                    placed.remove(&id);
                }
                _ => {}
            }
            for worker in 0..3 {
                let load = |seat: &Seat| match seat.enabled {
                    None if seat.receives => spread.calls[&seat.call].usual(),
                    enabled => enabled.unwrap_or(0).max(1),
                };
                let seats = spread.seats.values().filter(|seat| seat.worker == worker).map(load).sum::<usize>();
                prop_assert_eq!(spread.loads[worker], seats);
                prop_assert_eq!(spread.calls.values().map(|call| call.load(worker)).sum::<usize>(), seats);
            }
        }
        (0..12).for_each(|id| leave(&mut spread, id));
        prop_assert!(spread.loads == [0; 3] && spread.calls.is_empty() && spread.subscriptions.is_empty());
    }
}
