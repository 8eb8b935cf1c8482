//! Sessions: what lives in them, and what ends them.

use std::time::Instant;

use bytes::Bytes;
use sluice_servers::Mode;
use sluice_store::{Change, Expect, Life, SessionState};

use crate::bed::{Bed, NODES, brisk, gone, put, put_session, reach, whole};

pub async fn records_go_with_a_dropped_client(bed: Bed) {
    let (one, two) = (bed.store().await, bed.store().await);
    put_session(&*one, "n").await;
    put(&*one, "stays", "").await;
    let mut watch = two.watch(NODES);
    assert_eq!(whole(&mut watch).await.len(), 1);
    drop(one);
    gone(&mut watch, "n").await;
    assert!(two.read(crate::bed::CALLS, "stays").await.unwrap().is_some());
}

/// As when its process is killed or its machine is cut off: no good-bye reaches the server.
pub async fn records_go_with_a_silent_client(bed: Bed) {
    for mode in [Mode::Cut, Mode::Hang] {
        let (proxy, witness) = (bed.proxy().await, bed.store().await);
        let store = bed.store_at(Some(proxy.address()), brisk()).await;
        let mut session = store.session();
        put_session(&*store, "n").await;
        let mut watch = witness.watch(NODES);
        assert_eq!(whole(&mut watch).await.len(), 1);
        assert!(session.borrow_and_update().holds(Instant::now()));
        proxy.set(mode);
        gone(&mut watch, "n").await;
        assert!(!session.borrow().holds(Instant::now()), "the client knows before the others");
    }
}

pub async fn outlive_a_short_interruption(bed: Bed) {
    let (proxy, witness) = (bed.proxy().await, bed.store().await);
    // Long enough that the interruption is a short one.
    let store = bed.store_at(Some(proxy.address()), crate::bed::calm()).await;
    let mut session = store.session();
    let revision = put_session(&*store, "n").await;
    let before = reach(&mut session, SessionState::Connected, 1).await;
    proxy.set(Mode::Cut);
    reach(&mut session, SessionState::Suspended, 1).await;
    assert!(session.borrow().holds(Instant::now()));
    proxy.set(Mode::Pass);
    let after = reach(&mut session, SessionState::Connected, 1).await;
    assert_eq!(after.number, before.number);
    let record = witness.read(NODES, "n").await.unwrap().expect("the record stands");
    assert_eq!(record.revision, revision);
    let next = store.write(NODES, "n", Bytes::new(), Expect::Revision(revision), Life::Session).await.unwrap();
    assert!(next > revision);
}

pub async fn are_lost_and_made_anew_after_a_long_one(bed: Bed) {
    let (proxy, witness) = (bed.proxy().await, bed.store().await);
    let store = bed.store_at(Some(proxy.address()), brisk()).await;
    let mut session = store.session();
    let first = put_session(&*store, "n").await;
    let before = reach(&mut session, SessionState::Connected, 1).await;
    let mut states = store.session();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while states.borrow().number == before.number {
            states.changed().await.unwrap();
            seen.push(states.borrow_and_update().state);
        }
        seen
    });
    let mut watch = witness.watch(NODES);
    assert_eq!(whole(&mut watch).await.len(), 1);
    proxy.set(Mode::Cut);
    gone(&mut watch, "n").await;
    proxy.set(Mode::Pass);
    let after = reach(&mut session, SessionState::Connected, before.number + 1).await;
    assert_eq!(after.number, before.number + 1);
    let seen = seen.await.unwrap();
    assert_eq!(seen.first(), Some(&SessionState::Suspended), "{seen:?}");
    assert_eq!(seen.last(), Some(&SessionState::Connected), "{seen:?}");
    assert_eq!(witness.read(NODES, "n").await, Ok(None));
    // The owner writes it again, and it lives in the new session.
    let second = store.write(NODES, "n", Bytes::new(), Expect::Absent, Life::Session).await.unwrap();
    assert!(second > first);
    while !matches!(watch.next().await.unwrap(), Change::Put(_, record) if record.revision == second) {}
    drop(store);
    gone(&mut watch, "n").await;
}
