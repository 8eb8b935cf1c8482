//! Watches: order, nothing missed, starting over.

use std::collections::HashMap;

use sluice_servers::Mode;
use sluice_store::{Change, Expect, SessionState, limits};

use crate::bed::{Bed, CALLS, brisk, get, gone, put, put_session, reach, whole, write};

pub async fn see_every_change_in_order(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    let before = put(&*one, "before", "1").await;
    let mut watch = two.watch(CALLS);
    let records = whole(&mut watch).await;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].0.as_str(), records[0].1.revision), ("before", before));

    // One by one, each is told as it is.
    for round in 0..20 {
        let value = round.to_string();
        let made = put(&*one, "a", &value).await;
        match watch.next().await {
            Some(Change::Put(name, record)) => {
                assert_eq!((name.as_str(), &record.value[..], record.revision), ("a", value.as_bytes(), made));
            }
            other => panic!("round {round}: {other:?}"),
        }
        if round % 3 == 2 {
            one.remove(CALLS, "a", Expect::Revision(made)).await.unwrap();
            assert_eq!(watch.next().await, Some(Change::Gone("a".into())));
        }
    }
    // In a rush, each name's revisions grow and its last word is right.
    let mut last = HashMap::new();
    for round in 0..200 {
        let name = format!("n{}", round % 7);
        if round % 5 == 4 {
            one.remove(CALLS, &name, Expect::Any).await.unwrap();
            last.remove(&name);
        } else {
            last.insert(name.clone(), put(&*one, &name, "").await);
        }
    }
    let end = put(&*one, "end", "").await;
    let (mut seen, mut newest) = (HashMap::new(), HashMap::new());
    while !seen.contains_key("end") {
        match watch.next().await.unwrap() {
            Change::Put(name, record) => {
                assert!(newest.insert(name.clone(), record.revision).is_none_or(|before| before < record.revision));
                seen.insert(name, record.revision);
            }
            Change::Gone(name) => assert!(seen.remove(&name).is_some(), "{name} was not there"),
            Change::Reset(_) => panic!("nothing was lost"),
        }
    }
    assert_eq!(seen.remove("end"), Some(end));
    assert_eq!(seen, last);
}

pub async fn start_over_for_a_slow_reader(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    let mut watch = two.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    let mut last = HashMap::new();
    // Nobody reads meanwhile; removed ones as well.
    for round in 0..limits::WATCH_LEN * 3 {
        let name = (round % 50).to_string();
        last.insert(name.clone(), put(&*one, &name, "").await);
    }
    for name in 0..10 {
        last.remove(&name.to_string());
        one.remove(CALLS, &name.to_string(), Expect::Any).await.unwrap();
    }
    put(&*one, "end", "").await;
    let mut seen = HashMap::new();
    while !seen.contains_key("end") {
        match watch.next().await.unwrap() {
            Change::Reset(records) => {
                seen = records.into_iter().map(|(name, record)| (name, record.revision)).collect();
            }
            Change::Put(name, record) => {
                assert!(seen.insert(name, record.revision).is_none_or(|before| before < record.revision));
            }
            Change::Gone(name) => {
                seen.remove(&name);
            }
        }
    }
    seen.remove("end");
    assert_eq!(seen, last);
}

pub async fn start_over_after_a_lost_connection(bed: Bed) {
    let (proxy, witness) = (bed.proxy().await, bed.store().await);
    let store = bed.store_at(Some(proxy.address()), brisk()).await;
    let mut session = store.session();
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    put(&*witness, "goes", "").await;
    put(&*witness, "stays", "").await;
    for _ in 0..2 {
        assert!(matches!(watch.next().await, Some(Change::Put(..))));
    }
    for mode in [Mode::Cut, Mode::Hang] {
        proxy.set(mode);
        reach(&mut session, SessionState::Suspended, 1).await;
        witness.remove(CALLS, "goes", Expect::Any).await.unwrap();
        let changed = put(&*witness, "stays", "changed").await;
        proxy.set(Mode::Pass);
        let records = whole(&mut watch).await;
        let records: Vec<_> = records.iter().map(|(name, record)| (name.as_str(), record.revision)).collect();
        assert_eq!(records, [("stays", changed)]);
        let again = put(&*witness, "goes", "again").await;
        match watch.next().await {
            Some(Change::Put(name, record)) => assert_eq!((name.as_str(), record.revision), ("goes", again)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(&*store, "stays").await.map(|(value, _)| value), Some("changed".into()));
}

pub async fn end_with_their_store(bed: Bed) {
    let store = bed.store().await;
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    let mut dropped = store.watch(CALLS);
    whole(&mut dropped).await;
    drop(dropped);
    write(&*store, "a", "", Expect::Absent).await.unwrap();
    assert!(matches!(watch.next().await, Some(Change::Put(..))));
    let mut nodes = store.watch(crate::bed::NODES);
    put_session(&*store, "n").await;
    store.remove(crate::bed::NODES, "n", Expect::Any).await.unwrap();
    gone(&mut nodes, "n").await;
    drop(store);
    bed.close().await;
    assert_eq!(watch.next().await, None);
}
