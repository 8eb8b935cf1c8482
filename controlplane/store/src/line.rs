//! The line to a store's server and the session on it, as the backends of real servers share them.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time};

use crate::{OpenError, ReadError, Session, SessionState, WriteError, limits};

/// Why a server did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// it cannot be reached, did not answer, or asks to come again
    Away(String),
    /// it does not want to
    Refused(String),
}

impl From<Trouble> for ReadError {
    fn from(trouble: Trouble) -> ReadError {
        match trouble {
            Trouble::Away(reason) => ReadError::Unavailable(reason),
            Trouble::Refused(reason) => ReadError::Refused(reason),
        }
    }
}

/// What is known of the server and the session; `C` is a client that is connected and in a session.
pub(crate) struct Line<C> {
    session: watch::Sender<Session>,
    client: watch::Sender<Option<C>>,
    trouble: watch::Sender<Trouble>,
    operation: Duration,
}

impl<C: Clone> Line<C> {
    pub(crate) fn new(operation: Duration) -> Line<C> {
        let session = Session { state: SessionState::Suspended, number: 0, held_until: Some(Instant::now()) };
        Line {
            session: watch::Sender::new(session),
            client: watch::Sender::new(None),
            trouble: watch::Sender::new(Trouble::Away("no server answered yet".into())),
            operation,
        }
    }

    pub(crate) fn session(&self) -> watch::Receiver<Session> {
        self.session.subscribe()
    }

    /// A client is connected: in the session of before, or in a new one.
    pub(crate) fn connected(&self, client: C, new: bool, held_until: Instant) {
        self.client.send_replace(Some(client));
        self.session.send_modify(|session| {
            session.number += u64::from(new);
            session.state = SessionState::Connected;
            session.held_until = Some(held_until);
        });
    }

    /// The store answers again: the client that was suspended goes on.
    pub(crate) fn resumed(&self) {
        self.enter(SessionState::Connected);
    }

    /// The store does not answer.
    pub(crate) fn suspended(&self, trouble: Trouble) {
        if self.session.borrow().state == SessionState::Connected {
            tracing::warn!("the store is away: {trouble:?}");
        }
        self.trouble.send_replace(trouble);
        self.enter(SessionState::Suspended);
    }

    /// The store said that the session is over.
    pub(crate) fn lost(&self) {
        tracing::warn!("the session with the store is lost");
        metrics::counter!("sluice_store_sessions_lost_total").increment(1);
        self.client.send_replace(None);
        self.enter(SessionState::Lost);
    }

    /// The store answered a sign of life.
    pub(crate) fn held(&self, until: Instant) {
        self.session.send_if_modified(|session| {
            session.held_until = session.held_until.max(Some(until));
            false
        });
    }

    fn enter(&self, state: SessionState) {
        self.session.send_if_modified(|session| std::mem::replace(&mut session.state, state) != state);
    }

    /// What was last wrong.
    pub(crate) fn trouble(&self) -> Trouble {
        self.trouble.borrow().clone()
    }

    /// A connected client, as soon as there is one.
    pub(crate) async fn client(&self) -> C {
        let mut session = self.session.subscribe();
        loop {
            // `self` holds the sender, so it cannot have gone.
            let _ = session.wait_for(|session| session.state == SessionState::Connected).await;
            if let Some(client) = &*self.client.borrow() {
                return client.clone();
            }
            let _ = session.changed().await;
        }
    }

    /// Waits until the connection of now is no longer good.
    pub(crate) async fn broken(&self) {
        let _ = self.session.subscribe().wait_for(|session| session.state != SessionState::Connected).await;
    }

    /// Waits for the first session, or for a server that refuses one.
    pub(crate) async fn opened(&self, within: Duration) -> Result<(), OpenError> {
        let (mut session, mut trouble) = (self.session.subscribe(), self.trouble.subscribe());
        // `self` holds both senders, so neither wait fails.
        let done = async {
            tokio::select! {
                _ = session.wait_for(|session| session.number > 0) => true,
                _ = trouble.wait_for(|trouble| matches!(trouble, Trouble::Refused(_))) => false,
            }
        };
        match (time::timeout(within, done).await, self.trouble()) {
            (Ok(true), _) => Ok(()),
            (_, Trouble::Away(reason)) => Err(OpenError::Unavailable(reason)),
            (_, Trouble::Refused(reason)) => Err(OpenError::Refused(reason)),
        }
    }

    /// Asks a client, and asks again for as long as the store is away and time is left.
    pub(crate) async fn read<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        ask: impl Fn(C) -> F,
    ) -> Result<T, ReadError> {
        let mut last = None;
        let asked = time::timeout(self.operation, async {
            loop {
                match ask(self.client().await).await {
                    Err(Trouble::Away(reason)) => last = Some(Trouble::Away(reason)),
                    done => return done,
                }
                // The line may not have noticed yet.
                time::sleep(limits::PAUSE_MIN).await;
            }
        });
        match asked.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(last.unwrap_or_else(|| self.away()).into()),
        }
    }

    /// Lets a client make a change, once. `change` sets the flag before it sends what makes the change.
    pub(crate) async fn write<T>(
        &self,
        change: impl AsyncFnOnce(C, &AtomicBool) -> Result<T, Change>,
    ) -> Result<T, WriteError> {
        let sent = AtomicBool::new(false);
        let made = time::timeout(self.operation, async { change(self.client().await, &sent).await }).await;
        let trouble = match made {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Change::Failed(error))) => return Err(error),
            Ok(Err(Change::Trouble(trouble))) => trouble,
            Err(_) => self.away(),
        };
        Err(match trouble {
            Trouble::Refused(reason) => WriteError::Refused(reason),
            Trouble::Away(reason) if sent.load(Ordering::Relaxed) => WriteError::Unanswered(reason),
            Trouble::Away(reason) => WriteError::Unavailable(reason),
        })
    }

    /// What to say of an operation whose time ran out.
    fn away(&self) -> Trouble {
        match (self.session.borrow().state, self.trouble()) {
            (SessionState::Connected, _) => Trouble::Away("no answer in time".into()),
            (_, trouble) => trouble,
        }
    }
}

/// Why a change was not made.
pub(crate) enum Change {
    /// for a reason of its own
    Failed(WriteError),
    /// the store is in trouble
    Trouble(Trouble),
}

impl From<Trouble> for Change {
    fn from(trouble: Trouble) -> Change {
        Change::Trouble(trouble)
    }
}

impl From<WriteError> for Change {
    fn from(error: WriteError) -> Change {
        Change::Failed(error)
    }
}

/// Part of a session's time to live that counts: the clocks of two machines run at different speeds, and a server may fail before it
/// passed on a sign of life to the others. Raising it leaves less reserve, lowering it gives up a session earlier than needed.
const COUNTED: f64 = 0.9;

/// Until when a session surely lives whose sign of life was sent at `sent`.
pub(crate) fn held_until(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl.mul_f64(COUNTED)
}

/// Growing pauses between tries.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Pauses {
        Pauses(limits::PAUSE_MIN)
    }

    pub(crate) fn reset(&mut self) {
        self.0 = limits::PAUSE_MIN;
    }

    /// Waits the next pause, half of it by chance, so that the processes of a cluster do not all come at once.
    pub(crate) async fn wait(&mut self) {
        time::sleep(self.0.mul_f64(rand::random_range(0.5..1.0))).await;
        self.0 = (self.0 * 2).min(limits::PAUSE_MAX);
    }
}
