//! Leadership: one at a time, and the next when it is gone.

use std::time::Instant;

use sluice_servers::Mode;
use sluice_store::{
    Collection, Expect, SessionState,
    leader::{ACTIVE, Candidate, Leadership, campaign},
};
use tokio::sync::watch;

use crate::bed::{Bed, brisk, reach};

/// Waits until somebody leads in a later term, and returns its place and term.
async fn elected(candidates: &[Candidate], later_than: u64) -> (usize, u64) {
    let waits = candidates.iter().enumerate().map(|(place, candidate)| {
        Box::pin(async move {
            let mut known = candidate.leadership();
            let leading = known.wait_for(|known| known.term().is_some_and(|term| term > later_than)).await;
            (place, leading.expect("it is a candidate").term().expect("it leads"))
        })
    });
    futures_util::future::select_all(waits).await.0
}

fn leads(known: &watch::Receiver<Leadership>) -> bool {
    known.borrow().leading
}

pub async fn goes_to_one_and_then_to_the_next(bed: Bed) {
    let mut candidates = Vec::new();
    for id in ["a", "b", "c"] {
        candidates.push(campaign(bed.store().await, id));
    }
    let mut last = 0;
    while !candidates.is_empty() {
        let (place, term) = elected(&candidates, last).await;
        assert!(term > last);
        last = term;
        // All hear who it is, and only one leads.
        for candidate in &candidates {
            let mut known = candidate.leadership();
            known.wait_for(|known| known.leader.as_ref().is_some_and(|leader| leader.term == term)).await.unwrap();
        }
        assert_eq!(candidates.iter().filter(|candidate| leads(&candidate.leadership())).count(), 1);
        let leader = candidates.swap_remove(place);
        if candidates.len() == 1 { drop(leader) } else { leader.resign().await }
    }
    let store = bed.store().await;
    assert_eq!(store.read(Collection::Cluster, ACTIVE).await, Ok(None));
}

pub async fn goes_on_when_the_leader_dies(bed: Bed) {
    let witness = bed.store().await;
    let (mut proxies, mut sessions, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
    for id in ["a", "b", "c"] {
        let proxy = bed.proxy().await;
        let store = bed.store_at(Some(proxy.address()), brisk()).await;
        sessions.push(store.session());
        candidates.push(campaign(store, id));
        proxies.push(proxy);
    }
    let (first, term) = elected(&candidates, 0).await;
    let mut known = candidates[first].leadership();
    proxies[first].set(Mode::Cut);
    let (second, next) = elected(&candidates, term).await;
    assert!(next > term && first != second);
    assert!(!leads(&known), "the old leader stopped before there was a new one");
    assert!(!sessions[first].borrow().holds(Instant::now()));

    // Back again, it hears who leads and does not.
    proxies[first].set(Mode::Pass);
    reach(&mut sessions[first], SessionState::Connected, 2).await;
    known.wait_for(|known| known.leader.as_ref().is_some_and(|leader| leader.term == next)).await.unwrap();
    assert!(!leads(&known));

    // An operator takes the lead away: somebody leads anew, in a later term.
    assert_eq!(witness.remove(Collection::Cluster, ACTIVE, Expect::Revision(next)).await, Ok(true));
    let (_, last) = elected(&candidates, next).await;
    assert!(last > next);
}
