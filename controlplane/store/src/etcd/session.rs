//! Keeping the session: a lease that is renewed, at one member of the cluster at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{Client, Error, LeaseKeepAliveStream, LeaseKeeper};
use tokio::time;

use super::{Inner, Link, trouble};
use crate::line::{Pauses, Trouble, held_until};

/// Signs of life per time to live. Raising it rides out more lost answers, lowering it costs the store less.
const SIGNS: u32 = 4;

/// A session that a member granted.
struct Lease {
    id: i64,
    ttl: Duration,
}

/// Connects, keeps the lease alive, and starts over with the next member when that fails. Ends when it is aborted.
pub(super) async fn keep(inner: Arc<Inner>) {
    let (mut lease, mut pauses) = (None, Pauses::new());
    for host in inner.hosts.iter().cycle() {
        let trouble = match stay(&inner, host, &mut lease, &mut pauses).await {
            Ended::Lost => {
                lease = None;
                inner.line.lost();
                continue;
            }
            Ended::Trouble(trouble) => trouble,
        };
        inner.line.suspended(trouble);
        pauses.wait().await;
    }
}

/// Why a stay at one member ended.
enum Ended {
    /// the session is over
    Lost,
    /// this member is of no use now
    Trouble(Trouble),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Ended {
        Ended::Trouble(trouble(error))
    }
}

async fn stay(inner: &Inner, host: &str, lease: &mut Option<Lease>, pauses: &mut Pauses) -> Ended {
    match try_stay(inner, host, lease, pauses).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn try_stay(
    inner: &Inner,
    host: &str,
    lease: &mut Option<Lease>,
    pauses: &mut Pauses,
) -> Result<std::convert::Infallible, Ended> {
    let within = inner.settings.operation;
    let mut client = answer(within, Client::connect([host], Some(inner.options.clone()))).await?;
    let (id, ttl, new, sent) = match lease {
        Some(Lease { id, ttl }) => (*id, *ttl, false, Instant::now()),
        None => {
            let sent = Instant::now();
            // A part of a second is a whole one, so that the session never ends before the time that was asked for.
            let seconds = inner.settings.session_ttl.as_secs_f64().ceil().max(1.0) as i64;
            let granted = answer(within, client.lease_grant(seconds, None)).await?;
            let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(1));
            *lease = Some(Lease { id: granted.id(), ttl });
            (granted.id(), ttl, true, sent)
        }
    };
    let (mut keeper, mut answers) = match answer(within, client.lease_keep_alive(id)).await {
        // This is how the client names a lease that is no more.
        Err(Ended::Trouble(Trouble::Away(text))) if text.contains("lease not found") => return Err(Ended::Lost),
        other => other?,
    };
    inner.line.connected(Link { client, lease: id }, new, held_until(sent, ttl));
    pauses.reset();
    let mut signs = time::interval(ttl / SIGNS);
    signs.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        signs.tick().await;
        let sent = Instant::now();
        if sign(&mut keeper, &mut answers, within.min(ttl / 2)).await? <= 0 {
            return Err(Ended::Lost);
        }
        inner.line.held(held_until(sent, ttl));
    }
}

/// One sign of life; returns the lease's time to live in seconds, 0 or less where it is no more.
async fn sign(keeper: &mut LeaseKeeper, answers: &mut LeaseKeepAliveStream, within: Duration) -> Result<i64, Ended> {
    let renewed = answer(within, async {
        keeper.keep_alive().await?;
        answers.message().await
    });
    match renewed.await? {
        Some(renewed) => Ok(renewed.ttl()),
        None => Err(Ended::Trouble(Trouble::Away("the server ended the stream of renewals".into()))),
    }
}

async fn answer<T>(within: Duration, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Ended> {
    match time::timeout(within, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Ended::Trouble(Trouble::Away("no answer in time".into()))),
    }
}
