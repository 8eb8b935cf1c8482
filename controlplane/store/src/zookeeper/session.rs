//! Keeping the session: the client keeps it over lost connections, this makes a client anew when it gives up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;
use zookeeper_client::{Client, Error, SessionInfo, SessionState};

use super::{Inner, trouble};
use crate::line::{Pauses, Trouble, held_until};

/// Signs of life per time to live. Raising it rides out more lost answers, lowering it costs the store less.
const SIGNS: u32 = 4;

/// Connects, and follows the session until it is lost. Ends when it is aborted.
pub(super) async fn keep(inner: Arc<Inner>) {
    let (mut session, mut pauses) = (None, Pauses::new());
    loop {
        let sent = Instant::now();
        match connect(&inner, session.clone()).await {
            Ok(client) => {
                pauses.reset();
                let until = held_until(sent, client.session_timeout());
                inner.line.connected(client.clone(), session.is_none(), until);
                session = Some(client.session().clone());
                let state = stay(&inner, client).await;
                // The client says "expired" also where it only waited long enough. Only the server knows: ask it, with the
                // session of before.
                inner.line.suspended(match state {
                    SessionState::AuthFailed => Trouble::Refused("it does not know this name and password".into()),
                    state => Trouble::Away(format!("the client is {state}")),
                });
            }
            Err(Error::SessionExpired) if session.is_some() => {
                session = None;
                inner.line.lost();
            }
            Err(error) => {
                inner.line.suspended(trouble(error));
                pauses.wait().await;
            }
        }
    }
}

async fn connect(inner: &Inner, session: Option<SessionInfo>) -> Result<Client, Error> {
    let mut connector = Client::connector().with_session_timeout(inner.settings.session_ttl).with_fail_eagerly();
    if let Some((name, password)) = &inner.servers.user {
        connector = connector.with_auth("digest", format!("{name}:{password}").as_bytes());
    }
    if let Some(session) = session {
        connector = connector.with_session(session);
    }
    connector.connect(&inner.servers.hosts.join(",")).await
}

/// Follows the client's state until it is final.
async fn stay(inner: &Inner, client: Client) -> SessionState {
    let ttl = client.session_timeout();
    let mut states = client.state_watcher();
    let mut state = states.state();
    loop {
        match state {
            SessionState::SyncConnected | SessionState::ConnectedReadOnly => inner.line.resumed(),
            SessionState::Disconnected => inner.line.suspended(Trouble::Away("the connection is lost".into())),
            last => return last,
        }
        state = tokio::select! {
            state = states.changed() => state,
            never = signs(inner, &client, ttl) => match never {},
        };
    }
}

/// Asks for something now and then: the client's own signs of life keep the session, but do not tell when they were answered.
async fn signs(inner: &Inner, client: &Client, ttl: Duration) -> std::convert::Infallible {
    let mut signs = time::interval(ttl / SIGNS);
    signs.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        signs.tick().await;
        let sent = Instant::now();
        if client.check_stat("/").await.is_ok() {
            inner.line.held(held_until(sent, ttl));
        }
    }
}
