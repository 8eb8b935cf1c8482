//! The link to control: the node dials, says who it is, obeys, reports.
//!
//! What survives the loss of control is everything: the table stays, workers go on, states are kept and told again. Only
//! a control that took office later (a higher epoch) may replace the table.

mod dial;
mod reach;
mod router;
mod session;
mod spread;
mod states;
mod table;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rtrb::Consumer;
use sluice_messages::{Event, Fingerprint, Hello, VERSION};
use tokio::sync::Notify;

use crate::counters::Counted;

pub(crate) use dial::Dialer;
pub(crate) use router::{Port, Router};
use states::States;
use table::Table;

/// Application protocol of the link's TLS.
pub(crate) const ALPN: &[u8] = b"sluice/1";

/// Events of one worker that wait for the link's thread. Raising it rides out longer pauses of that thread, at about 100
/// bytes each; beyond it events are lost and counted.
pub(crate) const EVENTS_MAX: usize = 4096;

/// First pause after a failed dial; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause. Raising it spares a control that just restarted, lowering it ends the time without one sooner.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How often the node reports its counters.
const COUNTERS_PERIOD: Duration = Duration::from_secs(10);

/// Who the node is, as far as it does not change.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Everything the link's thread owns.
pub(crate) struct Link {
    identity: Identity,
    dialer: Dialer,
    table: Table,
    states: States,
    router: Router,
    /// One queue from each worker.
    events: Vec<Consumer<Event>>,
    /// A worker put something there.
    reported: Arc<Notify>,
    counted: Arc<[Arc<Counted>]>,
}

impl Link {
    pub(crate) fn new(
        identity: Identity,
        dialer: Dialer,
        router: Router,
        events: Vec<Consumer<Event>>,
        reported: Arc<Notify>,
        counted: Arc<[Arc<Counted>]>,
    ) -> Link {
        let (table, states) = (Table::default(), States::default());
        Link { identity, dialer, table, states, router, events, reported, counted }
    }

    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: Arc<Notify>) {
        tokio::select! {
            () = stop.notified() => {}
            () = self.serve() => {}
        }
        self.dialer.close().await;
    }

    /// Dials control again and again.
    async fn serve(&mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut said = String::new();
        loop {
            match self.dial().await {
                Ok(stream) => {
                    let (obeyed, fault) = self.session(stream).await;
                    // A control that accepts links only to drop them is not to be dialled in a tight loop.
                    if obeyed {
                        backoff = BACKOFF_MIN;
                    }
                    tracing::warn!(reason = %fault, "link to control is down; media goes on");
                    said.clear();
                }
                // Once for each reason: a wrong certificate is seen at once, and a control that is away for days costs a line.
                Err(fault) => {
                    let reason = fault.to_string();
                    if reason != said {
                        tracing::warn!(reason, "control cannot be reached; trying again and again");
                        said = reason;
                    }
                }
            }
            let pause = backoff.mul_f64(rand::random_range(0.75..1.25));
            backoff = (backoff * 2).min(BACKOFF_MAX);
            self.while_collecting(tokio::time::sleep(pause)).await;
        }
    }

    async fn dial(&mut self) -> Result<dial::Stream, dial::DialError> {
        let mut dialer = self.dialer.clone();
        let result = self.while_collecting(async { dialer.dial().await.map(|stream| (dialer, stream)) }).await;
        result.map(|(dialer, stream)| {
            self.dialer = dialer;
            stream
        })
    }

    /// Waits for something while taking events from workers: their queues must not fill while control is away.
    async fn while_collecting<T>(&mut self, something: impl Future<Output = T>) -> T {
        tokio::pin!(something);
        let reported = self.reported.clone();
        loop {
            tokio::select! {
                result = &mut something => return result,
                () = reported.notified() => self.collect(&mut |_| {}),
            }
        }
    }

    /// Empties the workers' queues; `tell` gets what control should hear now.
    fn collect(&mut self, tell: &mut dyn FnMut(Event)) {
        for queue in &mut self.events {
            while let Ok(event) = queue.pop() {
                if self.states.note(&event, &self.table) {
                    tell(event);
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            node: self.identity.name.clone(),
            fingerprint: self.identity.fingerprint,
            addresses: self.identity.addresses.clone(),
            workers: self.counted.len() as u32,
            epoch: self.table.epoch(),
            entries: self.table.len() as u64,
        }
    }

    /// Counters of the workers and of the link itself.
    fn counters(&self) -> impl Iterator<Item = Event> + '_ {
        let own =
            vec![("link_entries".into(), self.table.len() as u64), ("link_dangling".into(), self.table.dangling())];
        let workers = self.counted.iter().enumerate().map(|(worker, counted)| Event::Counters {
            worker: Some(worker as u32),
            counters: counted.read().map(|(name, value)| (name.to_owned(), value)).collect(),
        });
        std::iter::once(Event::Counters { worker: None, counters: own }).chain(workers)
    }
}
