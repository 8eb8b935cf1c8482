//! Servers that hang, die and come back.

use std::time::Duration;

use sluice_servers::Mode;
use sluice_store::{Change, Expect, OpenError, ReadError, Retry, SessionState, Settings, open};

use crate::bed::{Bed, CALLS, IDENTITY, NODES, brisk, calm, get, put, put_session, reach, whole, write};

/// Far more than an operation may take; only what hangs comes here.
const HANGS: Duration = Duration::from_secs(20);

pub async fn a_hung_server_makes_nobody_wait(bed: Bed) {
    let server = bed.own_server().await;
    let store = bed.store_at(Some(server.address()), brisk()).await;
    let mut session = store.session();
    put(&*store, "a", "before").await;
    let node = put_session(&*store, "n").await;
    let before = reach(&mut session, SessionState::Connected, 1).await;
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await.len(), 1);

    server.pause();
    // At once, while nobody knows, and later, when all do.
    for _ in 0..2 {
        let ended = tokio::time::timeout(HANGS, async {
            let error = store.read(CALLS, "a").await.unwrap_err();
            assert!(matches!(error, ReadError::Unavailable(_)) && error.retry() == Retry::Later, "{error}");
            let error = store.list(CALLS).await.unwrap_err();
            assert!(matches!(error, ReadError::Unavailable(_)), "{error}");
            let error = write(&*store, "b", "maybe", Expect::Absent).await.unwrap_err();
            assert!(error.is_away(), "{error}");
            let error = store.remove(CALLS, "c", Expect::Any).await.unwrap_err();
            assert!(error.is_away(), "{error}");
        });
        ended.await.expect("nothing waits for a server that hangs");
        reach(&mut session, SessionState::Suspended, 1).await;
    }
    let refused = bed.try_store(Some(server.address()), Settings { opening: Duration::from_secs(1), ..brisk() }).await;
    assert!(matches!(refused.err().unwrap(), OpenError::Unavailable(_)));

    server.resume();
    let after = reach(&mut session, SessionState::Connected, 1).await;
    assert_eq!(get(&*store, "a").await.map(|(value, _)| value), Some("before".into()));
    // The server's clock stood still or not; what it says of the session is what the store says.
    let stands = store.read(NODES, "n").await.unwrap().map(|record| record.revision);
    assert!(stands.is_none_or(|revision| revision == node));
    if after.number == before.number && session.borrow().number == before.number {
        assert_eq!(stands, Some(node));
    }
    let healed = put(&*store, "a", "healed").await;
    loop {
        match watch.next().await.unwrap() {
            Change::Reset(records) if records.iter().any(|(_, record)| record.revision == healed) => break,
            Change::Put(_, record) if record.revision == healed => break,
            _ => {}
        }
    }
}

pub async fn a_killed_server_comes_back(bed: Bed) {
    let mut server = bed.own_server().await;
    let store = bed.store_at(Some(server.address()), brisk()).await;
    let mut session = store.session();
    let before = put(&*store, "a", "before").await;
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await.len(), 1);
    server.kill();
    let ended = tokio::time::timeout(HANGS, async {
        let error = write(&*store, "a", "during", Expect::Revision(before)).await.unwrap_err();
        assert!(error.is_away(), "{error}");
        assert!(store.read(CALLS, "a").await.is_err());
        reach(&mut session, SessionState::Suspended, 1).await;
        let error = write(&*store, "a", "during", Expect::Revision(before)).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Later, "surely nothing was written: {error}");
    });
    ended.await.expect("nothing waits for a server that is dead");
    server.restart().await;
    reach(&mut session, SessionState::Connected, 1).await;
    assert_eq!(get(&*store, "a").await, Some(("before".into(), before)));
    let records = whole(&mut watch).await;
    assert_eq!(records[0].1.revision, before);
    let healed = write(&*store, "a", "healed", Expect::Revision(before)).await.unwrap();
    match watch.next().await {
        Some(Change::Put(_, record)) => assert_eq!(record.revision, healed),
        Some(Change::Reset(records)) => assert_eq!(records[0].1.revision, healed),
        other => panic!("{other:?}"),
    }
    // Session records can be written, in the old session or a new one.
    put_session(&*store, "n").await;
}

pub async fn an_absent_server_is_said(bed: Bed) {
    // A port that nobody listens on: it was ours a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let settings = Settings { opening: Duration::from_millis(500), ..brisk() };
    let error = bed.try_store(Some(nobody), settings).await.err().unwrap();
    assert!(matches!(error, OpenError::Unavailable(_)) && error.retry() == Retry::Later, "{error}");
    assert!(error.to_string().starts_with("the store cannot be reached"), "{error}");
}

/// Two ways to the same server stand for two servers of one store.
pub async fn another_server_takes_over(bed: Bed) {
    let (proxies, witness) = ([bed.proxy().await, bed.proxy().await], bed.store().await);
    let url = format!("{},{}", bed.url(Some(proxies[0].address())), proxies[1].address());
    let store = open(&url, &bed.cluster, IDENTITY, calm()).await.unwrap();
    let mut session = store.session();
    let node = put_session(&*store, "n").await;
    let mut watch = store.watch(CALLS);
    assert_eq!(whole(&mut watch).await, []);
    for (mode, lost) in [(Mode::Cut, &proxies[0]), (Mode::Cut, &proxies[1]), (Mode::Hang, &proxies[0])] {
        lost.set(mode);
        // It may have been the other one that was used.
        let written = put(&*witness, "a", "").await;
        loop {
            match watch.next().await.unwrap() {
                Change::Reset(records) if records.iter().any(|(_, record)| record.revision == written) => break,
                Change::Put(_, record) if record.revision == written => break,
                _ => {}
            }
        }
        reach(&mut session, SessionState::Connected, 1).await;
        assert_eq!(store.read(NODES, "n").await.unwrap().map(|record| record.revision), Some(node));
        lost.set(Mode::Pass);
    }
    assert_eq!(session.borrow().number, 1, "it was one session all along");
}
