//! One of many: election of the active process with nothing but the trait.
//!
//! The leader is whoever made the record `active` in [`Collection::Cluster`] within its session; the record's revision is the leader's
//! *term*, which grows from leader to leader. A leader stops leading before its session can have ended for others, by
//! [`Session::holds`](crate::Session::holds), so that two never lead at once as far as clocks run alike; what must be safe even where
//! they do not carries the term and is fenced by it.

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time,
};

use crate::{Change, Collection, Expect, Life, Record, Session, SessionState, Store, Watch, limits, line::Pauses};

/// Name of the leader's record in [`Collection::Cluster`].
pub const ACTIVE: &str = "active";

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// as given to [`campaign`]
    pub id: String,
    /// grows from leader to leader
    pub term: u64,
}

/// What a candidate knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Who leads, as last heard; `None` where nobody does.
    pub leader: Option<Leader>,
    /// Whether that is this candidate. As of the moment when its task last ran: who was stopped for a while asks
    /// [`Session::holds`](crate::Session::holds) as well.
    pub leading: bool,
}

impl Leadership {
    /// The term in which this candidate leads.
    pub fn term(&self) -> Option<u64> {
        self.leader.as_ref().filter(|_| self.leading).map(|leader| leader.term)
    }
}

/// One who wants to lead, until it is dropped.
#[derive(Debug)]
pub struct Candidate {
    known: watch::Receiver<Leadership>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidate {
    /// Follows who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.known.clone()
    }

    /// Leads no more and wants to no more; ends when the record is removed or that was not possible. (Dropping does the same without
    /// waiting.)
    pub async fn resign(self) {
        drop(self.stop);
        // It neither panics nor is aborted, unless the runtime ends.
        let _ = self.task.await;
    }
}

/// Wants to lead under the name `id` from now on. Must be called within a tokio runtime.
pub fn campaign(store: Arc<dyn Store>, id: &str) -> Candidate {
    let (known, receiver) = watch::channel(Leadership::default());
    let (stop, stopped) = oneshot::channel();
    let race = Race {
        session: store.session(),
        changes: store.watch(Collection::Cluster),
        store,
        id: id.into(),
        known,
        standing: None,
        attempt: None,
    };
    Candidate { known: receiver, stop, task: tokio::spawn(race.run(stopped)) }
}

/// The leader's record. `attempt` is new for each candidate and session, so that a candidate knows its own even where the store did
/// not say whether it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Active {
    id: String,
    #[serde(default)]
    attempt: u64,
}

struct Race {
    store: Arc<dyn Store>,
    id: String,
    session: watch::Receiver<Session>,
    changes: Watch,
    known: watch::Sender<Leadership>,
    /// the record as last heard, `None` until the first word
    standing: Option<Option<(Active, u64)>>,
    /// what our own record of the session says, and the session
    attempt: Option<(u64, u64)>,
}

impl Race {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut pauses = Pauses::new();
        loop {
            let session = *self.session.borrow_and_update();
            let own = self.own(&session);
            self.tell(own.is_some() && session.holds(Instant::now()));
            // A pause follows an attempt that may have to be repeated.
            let mut again = false;
            if session.state == SessionState::Connected && matches!(self.standing, Some(None)) {
                again = !self.attempt(session.number).await;
                if !again {
                    pauses.reset();
                    continue;
                }
            }
            let lapse = async {
                match session.held_until {
                    // It may have moved on; then this comes again.
                    Some(until) if own.is_some() => {
                        time::sleep_until(until.max(Instant::now() + limits::PAUSE_MIN).into()).await
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                change = self.changes.next() => match change {
                    Some(change) => self.hear(change),
                    None => return,
                },
                changed = self.session.changed() => if changed.is_err() { return },
                () = lapse => {}
                () = pauses.wait(), if again => {}
                _ = &mut stopped => break,
            }
        }
        self.known.send_replace(Leadership::default());
        // Read again, as the store may not have said that it wrote our record. Where this fails, the record ends with the session.
        if self.attempt.is_some()
            && let Ok(Some(record)) = self.store.read(Collection::Cluster, ACTIVE).await
            && let (active, term) = read(record)
            && self.attempt.is_some_and(|(attempt, _)| attempt == active.attempt)
        {
            let _ = self.store.remove(Collection::Cluster, ACTIVE, Expect::Revision(term)).await;
        }
    }

    /// The term of the standing record, if it is ours.
    fn own(&self, session: &Session) -> Option<u64> {
        let (active, term) = self.standing.as_ref()?.as_ref()?;
        (self.attempt == Some((active.attempt, session.number))).then_some(*term)
    }

    fn tell(&self, leading: bool) {
        let leader = self.standing.clone().flatten().map(|(active, term)| Leader { id: active.id, term });
        let leadership = Leadership { leader, leading };
        self.known.send_if_modified(|known| {
            let news = *known != leadership;
            if news {
                tracing::info!("leader: {leadership:?}");
                *known = leadership;
            }
            news
        });
    }

    /// Tries to become leader; whether it did.
    async fn attempt(&mut self, session: u64) -> bool {
        let attempt = match self.attempt {
            Some((attempt, of)) if of == session => attempt,
            _ => rand::random(),
        };
        self.attempt = Some((attempt, session));
        let active = Active { id: self.id.clone(), attempt };
        let Ok(json) = serde_json::to_vec(&active) else { return false };
        match self.store.write(Collection::Cluster, ACTIVE, json.into(), Expect::Absent, Life::Session).await {
            Ok(term) => {
                self.standing = Some(Some((active, term)));
                true
            }
            // The watch tells who was faster, or that it was ourselves after all.
            Err(error) => {
                tracing::debug!("not elected: {error}");
                false
            }
        }
    }

    fn hear(&mut self, change: Change) {
        let heard = match change {
            Change::Reset(records) => records.into_iter().find(|(name, _)| name == ACTIVE).map(|(_, record)| record),
            Change::Put(name, record) if name == ACTIVE => Some(record),
            Change::Gone(name) if name == ACTIVE => None,
            _ => return,
        };
        let heard = heard.map(read);
        // What we wrote ourselves may be newer than what is heard of it.
        let newest = self.standing.as_ref().and_then(|standing| standing.as_ref()).map(|(_, term)| *term);
        if let (Some((_, term)), Some(newest)) = (&heard, newest)
            && *term < newest
        {
            return;
        }
        self.standing = Some(heard);
    }
}

/// A stranger's garbage is a leader of no name, until an operator removes it.
fn read(record: Record) -> (Active, u64) {
    let active = serde_json::from_slice(&record.value).unwrap_or_else(|error| {
        tracing::error!("the store holds something unreadable under cluster/{ACTIVE:?}, nobody can lead: {error}");
        metrics::counter!("sluice_store_garbage_total", "collection" => "cluster").increment(1);
        Active { id: String::new(), attempt: 0 }
    });
    (active, record.revision)
}
