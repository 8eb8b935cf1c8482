//! Records: comparison, revisions, names, sizes, strangers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use sluice_store::{
    Change, Collection, Expect, Life, OpenError, ReadError, Settings, WriteError, limits, open,
    records::{self, CallRecord},
};

use crate::bed::{Bed, CALLS, IDENTITY, Kind, calm, get, put, whole, write};

pub async fn are_made_read_listed_and_removed(bed: Bed) {
    let store = bed.store().await;
    assert_eq!(store.read(CALLS, "a").await, Ok(None));
    assert_eq!(store.list(CALLS).await, Ok(vec![]));
    let first = put(&*store, "a", "one").await;
    let other = put(&*store, "b", "").await;
    assert_eq!(get(&*store, "a").await, Some(("one".into(), first)));
    let second = write(&*store, "a", "two", Expect::Revision(first)).await.unwrap();
    assert!(second > first);
    let mut all = store.list(CALLS).await.unwrap();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let all: Vec<_> = all.iter().map(|(name, record)| (name.as_str(), &record.value[..], record.revision)).collect();
    assert_eq!(all, [("a", &b"two"[..], second), ("b", b"", other)]);
    assert_eq!(store.list(Collection::Rooms).await, Ok(vec![]), "collections are apart");

    let refused = store.remove(CALLS, "a", Expect::Revision(first)).await;
    assert_eq!(refused, Err(WriteError::Conflict { current: Some(second) }));
    let refused = store.remove(CALLS, "a", Expect::Absent).await;
    assert_eq!(refused, Err(WriteError::Conflict { current: Some(second) }));
    assert_eq!(store.remove(CALLS, "a", Expect::Revision(second)).await, Ok(true));
    assert_eq!(store.remove(CALLS, "a", Expect::Any).await, Ok(false));
    assert_eq!(store.remove(CALLS, "a", Expect::Absent).await, Ok(false));
    let refused = store.remove(CALLS, "a", Expect::Revision(second)).await;
    assert_eq!(refused, Err(WriteError::Conflict { current: None }));
    assert_eq!(store.remove(CALLS, "b", Expect::Any).await, Ok(true));
    assert_eq!(store.list(CALLS).await, Ok(vec![]));
}

pub async fn one_of_two_wins_each_comparison(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    let mut revision = put(&*one, "a", "start").await;
    for round in 0..100 {
        let expect = Expect::Revision(revision);
        let results = tokio::join!(write(&*one, "a", "one", expect), write(&*two, "a", "two", expect));
        let (value, won) = match results {
            (Ok(won), Err(WriteError::Conflict { current })) if current == Some(won) => ("one", won),
            (Err(WriteError::Conflict { current }), Ok(won)) if current == Some(won) => ("two", won),
            other => panic!("round {round}: {other:?}"),
        };
        assert!(won > revision);
        revision = won;
        assert_eq!(get(&*one, "a").await, Some((value.into(), won)));
        assert_eq!(get(&*two, "a").await, Some((value.into(), won)));
    }
}

pub async fn one_of_two_makes_a_record(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    for round in 0..50 {
        let name = &round.to_string();
        let results =
            tokio::join!(write(&*one, name, "one", Expect::Absent), write(&*two, name, "two", Expect::Absent));
        match results {
            (Ok(won), Err(WriteError::Conflict { current })) | (Err(WriteError::Conflict { current }), Ok(won)) => {
                assert_eq!(current, Some(won));
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}

pub async fn revisions_grow_across_removal(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    let mut last = 0;
    for round in 0..20 {
        let store = if round % 2 == 0 { &one } else { &two };
        let made = write(&**store, "a", "made", Expect::Absent).await.unwrap();
        assert!(made > last);
        // With the same number of changes since it was made, and yet another record.
        if last > 0 {
            let refused = write(&**store, "a", "late", Expect::Revision(last)).await;
            assert_eq!(refused, Err(WriteError::Conflict { current: Some(made) }));
        }
        assert_eq!(get(&*one, "a").await, Some(("made".into(), made)));
        last = made;
        if round % 3 == 0 {
            last = write(&**store, "a", "changed", Expect::Revision(made)).await.unwrap();
            assert!(last > made);
        }
        assert_eq!(store.remove(CALLS, "a", Expect::Revision(last)).await, Ok(true));
    }
}

/// Some change what they have read, another makes the record anew all the while, by removing it or by changing its life: the new record
/// is never changed on account of the old one's revision.
pub async fn no_comparison_succeeds_against_a_record_made_anew(bed: Bed) {
    let maker = bed.store().await;
    let maker = tokio::spawn(async move {
        let mut made = Vec::new();
        for round in 0..300 {
            if round % 10 == 0 {
                maker.remove(CALLS, "a", Expect::Any).await.unwrap();
            }
            let life = if round % 2 == 0 { Life::Durable } else { Life::Session };
            made.push(maker.write(CALLS, "a", Bytes::from_static(b"made"), Expect::Any, life).await.unwrap());
        }
        made
    });
    let done = Arc::new(AtomicBool::new(false));
    let mut changers = Vec::new();
    for _ in 0..3 {
        let (store, done) = (bed.store().await, done.clone());
        changers.push(tokio::spawn(async move {
            let mut changes = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let Some((_, seen)) = get(&*store, "a").await else { continue };
                match write(&*store, "a", "changed", Expect::Revision(seen)).await {
                    Ok(changed) => changes.push((seen, changed)),
                    Err(WriteError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            changes
        }));
    }
    let made = maker.await.unwrap();
    done.store(true, Ordering::Relaxed);
    let mut changes = Vec::new();
    for changer in changers {
        changes.extend(changer.await.unwrap());
    }
    assert!(!changes.is_empty());
    for made in made {
        for (seen, changed) in &changes {
            assert!(made <= *seen || made >= *changed, "{changed} replaced {seen}, but {made} was made in between");
        }
    }
}

pub async fn all_names_are_possible(bed: Bed) {
    let store = bed.store().await;
    let long = "ü/".repeat(limits::NAME_LEN / 3);
    let names = [
        "",
        ".",
        "..",
        ".a",
        "a/b",
        "/",
        "//",
        "%",
        "%25",
        "%2F",
        "a%",
        "a b",
        "ab\n\t\0",
        "\u{7f}\u{9f}\u{fff0}",
        "zürich",
        "日本語",
        "🙂",
        "daily",
        "Daily",
        "zookeeper",
        &long,
    ];
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    let mut written = HashMap::new();
    for name in names {
        written.insert(name.to_owned(), write(&*store, name, name, Expect::Absent).await.unwrap());
    }
    let listed = store.list(CALLS).await.unwrap();
    assert_eq!(listed.len(), names.len());
    for (name, record) in listed {
        assert_eq!((record.value.as_ref(), record.revision), (name.as_bytes(), written[&name]), "{name:?}");
        assert_eq!(get(&*store, &name).await, Some((name, record.revision)));
    }
    let mut seen = HashMap::new();
    while seen.len() < names.len() {
        match watch.next().await {
            Some(Change::Put(name, record)) => seen.insert(name, record.revision),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(seen, written);
    for name in names {
        assert_eq!(store.remove(CALLS, name, Expect::Any).await, Ok(true), "{name:?}");
    }
    assert_eq!(store.list(CALLS).await, Ok(vec![]));
}

pub async fn what_is_too_long_is_refused(bed: Bed) {
    let store = bed.store().await;
    let (len, max) = (limits::NAME_LEN + 1, limits::NAME_LEN);
    let name = "n".repeat(len);
    assert_eq!(store.read(CALLS, &name).await, Err(ReadError::TooLong { len, max }));
    let refused = WriteError::TooLong { what: "name", len, max };
    assert_eq!(write(&*store, &name, "", Expect::Any).await, Err(refused.clone()));
    assert_eq!(store.remove(CALLS, &name, Expect::Any).await, Err(refused));

    let (len, max) = (limits::VALUE_LEN + 1, limits::VALUE_LEN);
    let refused = write(&*store, "a", &"v".repeat(len), Expect::Any).await;
    assert_eq!(refused, Err(WriteError::TooLong { what: "value", len, max }));
    assert_eq!(store.list(CALLS).await, Ok(vec![]));
    // The longest of both go together, and several of them in one list and one watch.
    let longest = "v".repeat(max);
    let names = ["a", "b", "c", "d", "e"].map(|sign| sign.repeat(limits::NAME_LEN));
    for name in &names {
        put(&*store, name, &longest).await;
    }
    let records = whole(&mut store.watch(CALLS)).await;
    assert_eq!(records.len(), names.len());
    assert!(records.iter().all(|(_, record)| record.value == longest.as_bytes()));
    let name = &names[0];
    store.write(CALLS, name, longest.clone().into(), Expect::Any, Life::Session).await.unwrap();
    assert_eq!(get(&*store, name).await.map(|(value, _)| value), Some(longest));
}

pub async fn a_full_collection_takes_no_more(bed: Bed) {
    let store = bed.store_at(bed.server().await, Settings { collection_len: 3, ..calm() }).await;
    let mut refused = Vec::new();
    // Counted at most once per second, so a few more may pass.
    while refused.is_empty() {
        let name = store.list(CALLS).await.unwrap().len().to_string();
        if let Err(error) = write(&*store, &name, "", Expect::Absent).await {
            refused.push(error);
        }
    }
    assert_eq!(refused, [WriteError::TooMany { collection: CALLS, max: 3 }]);
    let before = store.list(CALLS).await.unwrap().len();
    assert!(before >= 3);
    assert_eq!(write(&*store, "new", "", Expect::Any).await, Err(WriteError::TooMany { collection: CALLS, max: 3 }));
    put(&*store, "0", "still changed").await;
    for name in 0..=before - 3 {
        store.remove(CALLS, &name.to_string(), Expect::Any).await.unwrap();
    }
    put(&*store, "new", "").await;
    assert_eq!(store.list(CALLS).await.unwrap().len(), 3);
}

pub async fn a_thousand_are_listed_and_watched(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    let mut watch = two.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    let mut written = HashMap::new();
    for number in 0..1_000 {
        let name = format!("call {number}");
        written.insert(name.clone(), put(&*one, &name, &name).await);
    }
    let listed = two.list(CALLS).await.unwrap();
    assert_eq!(listed.iter().map(|(name, record)| (name.clone(), record.revision)).collect::<HashMap<_, _>>(), written);
    let listed = whole(&mut two.watch(CALLS)).await;
    assert_eq!(listed.iter().map(|(name, record)| (name.clone(), record.revision)).collect::<HashMap<_, _>>(), written);
    let mut seen = HashMap::new();
    while seen.len() < written.len() {
        match watch.next().await.unwrap() {
            Change::Reset(records) => seen.extend(records.into_iter().map(|(name, record)| (name, record.revision))),
            Change::Put(name, record) => {
                seen.insert(name, record.revision);
            }
            Change::Gone(name) => panic!("{name} is gone"),
        }
    }
    assert_eq!(seen, written);
}

pub async fn garbage_spoils_nothing_else(bed: Bed) {
    let store = bed.store().await;
    let call = CallRecord { nodes: vec!["n1".into()], ..Default::default() };
    let revision = records::write(&*store, "good", &call, Expect::Absent).await.unwrap();
    put(&*store, "bad/one", "{{{").await;
    let mut found = records::list::<CallRecord>(&*store).await.unwrap();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let error = found[0].1.as_ref().unwrap_err();
    assert!(error.to_string().contains(r#"calls/"bad/one""#), "{error}");
    assert_eq!(found[1].1, Ok(records::Entry { value: call.clone(), revision }));
    assert_eq!(found.len(), 2);
    assert!(records::read::<CallRecord>(&*store, "bad/one").await.is_err());
    // It can be replaced.
    let current = error.revision;
    records::write(&*store, "bad/one", &call, Expect::Revision(current)).await.unwrap();
    assert_eq!(records::read::<CallRecord>(&*store, "bad/one").await.unwrap().unwrap().value, call);
}

/// A stranger's keys that no name is encoded as.
pub async fn strange_keys_are_left_out(bed: Bed) {
    let (store, server) = (bed.store().await, bed.server().await.unwrap().to_string());
    let good = put(&*store, "good", "").await;
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await.len(), 1);
    let folder = format!("/sluice/{}/calls", bed.cluster);
    for part in ["%zz", "a b", "%41"] {
        match bed.kind {
            Kind::ZooKeeper => {
                use zookeeper_client::{Acls, Client, CreateMode};
                let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
                let client = Client::connect(&server).await.unwrap();
                client.create(&format!("{folder}/{part}"), b"", &options).await.unwrap();
                // A folder that is gone is made again when it is needed.
                client.delete(&format!("/sluice/{}/rooms", bed.cluster), None).await.unwrap();
                assert_eq!(store.list(Collection::Rooms).await, Ok(vec![]));
                store.write(Collection::Rooms, "r", Bytes::new(), Expect::Absent, Life::Durable).await.unwrap();
                store.remove(Collection::Rooms, "r", Expect::Any).await.unwrap();
            }
            _ => {
                let mut client = etcd_client::Client::connect([&server], None).await.unwrap();
                client.put(format!("{folder}/{part}"), "", None).await.unwrap();
                client.put([folder.as_bytes(), b"/\xff"].concat(), "", None).await.unwrap();
            }
        }
    }
    let listed = store.list(CALLS).await.unwrap();
    assert_eq!(
        listed.iter().map(|(name, record)| (name.as_str(), record.revision)).collect::<Vec<_>>(),
        [("good", good)]
    );
    let after = put(&*store, "after", "").await;
    match watch.next().await {
        Some(Change::Put(name, record)) => assert_eq!((name.as_str(), record.revision), ("after", after)),
        other => panic!("{other:?}"),
    }
}

pub async fn clusters_do_not_see_each_other(bed: Bed) {
    let store = bed.store().await;
    put(&*store, "a", "ours").await;
    let url = bed.url(bed.server().await);
    if bed.kind == Kind::Sled {
        // Another process or another cluster cannot have the folder at the same time.
        let refused = open(&url, "other", IDENTITY, calm()).await.err().unwrap();
        assert!(matches!(&refused, OpenError::Refused(reason) if reason.contains("in use")), "{refused}");
    }
    drop(store);
    bed.close().await;

    let foreign = open(&url, &bed.cluster, "stranger", calm()).await.err().unwrap();
    assert!(matches!(foreign, OpenError::Foreign { .. }), "{foreign}");
    assert!(foreign.to_string().contains("belongs to another cluster"), "{foreign}");

    // One name begins with the other.
    let name = format!("{}-b", bed.cluster);
    let other = open(&url, &name, "stranger", calm()).await.unwrap();
    assert_eq!(other.list(CALLS).await, Ok(vec![]));
    assert_eq!(other.read(CALLS, "a").await, Ok(None));
    let mut watch = other.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    put(&*other, "a", "theirs").await;
    drop((other, watch));

    let store = bed.store().await;
    assert_eq!(get(&*store, "a").await.map(|(value, _)| value), Some("ours".into()));
    for name in ["", "a/b", "..", "ü", &"x".repeat(65)] {
        let error = open(&url, name, IDENTITY, calm()).await.err().unwrap();
        assert!(matches!(error, OpenError::Name { .. }), "{error}");
    }
    let error = open("redis://host", &bed.cluster, IDENTITY, calm()).await.err().unwrap();
    assert!(matches!(error, OpenError::Address { .. }), "{error}");
}

pub async fn life_can_change(bed: Bed) {
    let store = bed.store().await;
    let value = || Bytes::from_static(b"v");
    let mut last = put(&*store, "a", "durable").await;
    for life in [Life::Session, Life::Session, Life::Durable, Life::Durable, Life::Session] {
        let next = store.write(CALLS, "a", value(), Expect::Revision(last), life).await.unwrap();
        assert!(next > last);
        last = next;
    }
    store.write(CALLS, "b", value(), Expect::Absent, Life::Session).await.unwrap();
    let kept = put(&*store, "b", "durable").await;
    if bed.kind == Kind::Sled {
        drop(store);
        bed.close().await;
        let store = bed.store().await;
        assert_eq!(get(&*store, "a").await, None, "a session ends with its process");
        assert_eq!(get(&*store, "b").await, Some(("durable".into(), kept)));
        return;
    }
    // Another takes one over; then it goes with the other's session.
    let (two, witness) = (bed.store().await, bed.store().await);
    let taken = two.write(CALLS, "a", value(), Expect::Revision(last), Life::Session).await.unwrap();
    let mut watch = witness.watch(CALLS);
    assert_eq!(whole(&mut watch).await.len(), 2);
    drop(store);
    // The first session's end is told by another record of it.
    assert_eq!(get(&*witness, "a").await, Some(("v".into(), taken)));
    drop(two);
    crate::bed::gone(&mut watch, "a").await;
    assert_eq!(get(&*witness, "b").await, Some(("durable".into(), kept)));
}

pub async fn durable_ones_survive_a_restart(bed: Bed) {
    if bed.kind == Kind::Sled {
        let revision = put(&*bed.store().await, "a", "kept").await;
        bed.close().await;
        let store = bed.store().await;
        assert_eq!(get(&*store, "a").await, Some(("kept".into(), revision)));
        assert!(put(&*store, "a", "again").await > revision);
        return;
    }
    let mut server = bed.own_server().await;
    let store = bed.store_at(Some(server.address()), calm()).await;
    let revision = put(&*store, "a", "kept").await;
    server.kill();
    server.restart().await;
    assert_eq!(get(&*store, "a").await, Some(("kept".into(), revision)), "the same client goes on");
    let other = bed.store_at(Some(server.address()), calm()).await;
    assert_eq!(get(&*other, "a").await, Some(("kept".into(), revision)));
    let next = put(&*other, "a", "again").await;
    assert!(next > revision);
    other.remove(CALLS, "a", Expect::Revision(next)).await.unwrap();
    assert!(put(&*store, "a", "anew").await > next);
}
