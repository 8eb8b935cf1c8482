//! Deadlines: who has to be looked at when. An entry may fire early (what it waited for was put off meanwhile); whoever is
//! looked at then says again when to be looked at.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use livekit_protocol::DisconnectReason;
use sluice_messages::CallId;

use crate::{
    CloseReason,
    participant::{Participant, ParticipantKey},
    room::{Leave, Room},
    shared::Shared,
};

/// Who waits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Waiter {
    Room(CallId),
    News(CallId),
    Participant(CallId, ParticipantKey),
}

/// One deadline for each waiter.
#[derive(Default)]
pub(crate) struct Deadlines {
    order: BTreeSet<(Duration, Waiter)>,
    at: HashMap<Waiter, Duration>,
}

impl Deadlines {
    /// The waiter is looked at then, or earlier if it already waits for that.
    pub(crate) fn no_later(&mut self, waiter: Waiter, at: Duration) {
        match self.at.get(&waiter) {
            Some(&earlier) if earlier <= at => return,
            Some(&later) => {
                self.order.remove(&(later, waiter.clone()));
            }
            None => {}
        }
        self.at.insert(waiter.clone(), at);
        self.order.insert((at, waiter));
    }

    pub(crate) fn forget(&mut self, waiter: &Waiter) {
        if let Some(at) = self.at.remove(waiter) {
            self.order.remove(&(at, waiter.clone()));
        }
    }

    pub(crate) fn first(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// A waiter whose time has come; it waits no more.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Waiter> {
        if self.first()? > now {
            return None;
        }
        let (_, waiter) = self.order.pop_first()?;
        self.at.remove(&waiter);
        Some(waiter)
    }
}

impl Participant {
    /// When something of this participant is due next.
    fn deadline(&self, shared: &Shared) -> Option<Duration> {
        let config = &shared.config;
        let ping = self.socket.map(|_| self.last_heard + config.ping_timeout);
        let refresh = self.socket.map(|_| self.refreshed_at + config.token_refresh);
        let connect = (!self.is_active()).then(|| self.joined_at + config.connect_timeout);
        let away = self.away_since.map(|since| since + config.resume_window);
        let note = self.noted_at.filter(|_| self.note_dirty).map(|at| at + crate::limits::NOTE_PERIOD);
        let demands = self.tracks.iter().flat_map(|t| t.backups.iter().map(|b| &b.demand).chain([&t.demand]));
        let lower = demands.filter_map(|demand| demand.lower_at).min();
        [ping, refresh, connect, away, note, lower, self.move_deadline()].into_iter().flatten().min()
    }
}

impl Room {
    /// Asks to be looked at when something of the participant is due.
    pub(crate) fn await_deadline(&self, shared: &mut Shared, key: ParticipantKey) {
        if let Some(at) = self.participants.get(&key).and_then(|participant| participant.deadline(shared)) {
            shared.deadlines.no_later(Waiter::Participant(self.call, key), at);
        }
    }

    /// Does what is due for a participant.
    pub(crate) fn participant_due(&mut self, shared: &mut Shared, key: ParticipantKey) {
        let now = shared.now.monotonic;
        let config = &shared.config;
        let Some(participant) = self.participants.get_mut(&key) else { return };
        if participant.away_since.is_some_and(|since| since + config.resume_window <= now) {
            self.remove(shared, key, DisconnectReason::SignalClose, false);
            return;
        }
        if !participant.is_active() && participant.joined_at + config.connect_timeout <= now {
            self.dismiss(shared, key, Leave::disconnect(DisconnectReason::ConnectionTimeout));
            return;
        }
        if let Some(socket) = participant.socket {
            if participant.last_heard + config.ping_timeout <= now {
                shared.out.close(socket, CloseReason::PingTimeout);
                self.lost_socket(shared, key);
            } else if participant.refreshed_at + config.token_refresh <= now {
                self.refresh_token(shared, key);
            }
        }
        self.move_due(shared, key);
        self.demand_due(shared, key);
        let note = self.participants.get_mut(&key).map(|participant| &mut participant.note_dirty);
        if note.is_some_and(std::mem::take) {
            self.changes.stale.insert(key);
        }
        self.await_deadline(shared, key);
    }

    /// When the room ends if nobody joins: it has been without anybody for its timeout.
    pub(crate) fn closes_at(&self, shared: &Shared) -> Option<Duration> {
        let since = self.empty_since?;
        let timeout = match self.was_joined {
            true => self.settings.departure_timeout.unwrap_or(shared.config.departure_timeout),
            false => self.settings.empty_timeout.unwrap_or(shared.config.empty_timeout),
        };
        Some(since + timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waiter_has_one_deadline_the_earliest() {
        let mut deadlines = Deadlines::default();
        let (a, b) = (Waiter::Room(CallId(1)), Waiter::Room(CallId(2)));
        let s = Duration::from_secs;
        deadlines.no_later(a.clone(), s(5));
        deadlines.no_later(b.clone(), s(3));
        deadlines.no_later(a.clone(), s(9));
        deadlines.no_later(a.clone(), s(2));
        assert_eq!(deadlines.first(), Some(s(2)));
        assert_eq!(deadlines.due(s(1)), None);
        assert_eq!(
            (deadlines.due(s(4)), deadlines.due(s(4)), deadlines.due(s(9))),
            (Some(a.clone()), Some(b.clone()), None)
        );
        deadlines.no_later(a.clone(), s(5));
        deadlines.forget(&a);
        assert_eq!(deadlines.first(), None);
    }
}
