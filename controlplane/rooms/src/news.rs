//! What the people of a room have yet to be told of each other. In a small room that is at once; in a large one news wait
//! for each other, so that a thousand people who join do not cost a million messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use livekit_protocol::{
    ConnectionQualityInfo, ConnectionQualityUpdate, ParticipantInfo, ParticipantUpdate, RoomUpdate,
    signal_response::Message,
};

use crate::{
    SocketId,
    limits::{NEWS_AT_ONCE, NEWS_PERIOD},
    participant::ParticipantKey,
    room::Room,
    settle::split,
    shared::Shared,
    timers::Waiter,
};

/// Told to those with a key up to `upto`: whoever came later got it with the answer to the join.
#[derive(Clone, Copy)]
struct Update {
    /// The participant is told itself, too.
    own: bool,
    upto: ParticipantKey,
}

#[derive(Default)]
pub(crate) struct News {
    updates: BTreeMap<ParticipantKey, Update>,
    /// Last words about those who left; they go before other updates.
    left: Vec<(ParticipantInfo, ParticipantKey)>,
    room: Option<ParticipantKey>,
    /// By participant sid; hidden ones are told of themselves at once and are not here.
    quality: BTreeMap<String, ConnectionQualityInfo>,
    told_at: Option<Duration>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.left.is_empty() && self.room.is_none() && self.quality.is_empty()
    }

    /// Nobody is to hear of this participant any more but its last words.
    pub(crate) fn forget(&mut self, key: ParticipantKey) {
        self.updates.remove(&key);
    }

    pub(crate) fn rate(&mut self, info: ConnectionQualityInfo) {
        self.quality.insert(info.participant_sid.clone(), info);
    }
}

impl Room {
    /// Time from one round of news to the next: each costs a message per socket.
    pub(crate) fn news_period(&self) -> Duration {
        match self.participants.len() {
            people if people <= NEWS_AT_ONCE => Duration::ZERO,
            people => NEWS_PERIOD * people as u32,
        }
    }

    /// Takes up what changed during this command, and tells it if it is time.
    pub(crate) fn settle_news(&mut self, shared: &mut Shared) {
        self.gather_news();
        if self.news.is_empty() {
            return;
        }
        let due = self.news.told_at.map_or(Duration::ZERO, |at| at + self.news_period());
        if due <= shared.now.monotonic || self.offers_tell_news() {
            self.news.told_at = Some(shared.now.monotonic);
            self.tell_news(shared);
        } else {
            shared.deadlines.no_later(Waiter::News(self.call), due);
        }
    }

    /// Offers are about to go out that may carry tracks of somebody whose news wait: clients drop media of participants they
    /// do not know.
    fn offers_tell_news(&self) -> bool {
        let publishing = |key| self.participants.get(key).is_some_and(|participant| participant.is_publishing());
        !self.changes.receivers.is_empty() && self.news.updates.keys().any(publishing)
    }

    fn gather_news(&mut self) {
        let changes = &mut self.changes;
        let before = self.participants.keys().rev().find(|key| !changes.fresh.contains(key));
        let upto = before.copied().unwrap_or(ParticipantKey(0));
        for (key, own) in std::mem::take(&mut changes.updates) {
            let update = self.news.updates.entry(key).or_insert(Update { own, upto });
            *update = Update { own: own || update.own, upto: upto.max(update.upto) };
        }
        self.news.left.extend(std::mem::take(&mut changes.left).into_iter().map(|info| (info, upto)));
        if std::mem::take(&mut changes.room) {
            self.news.room = Some(upto);
        }
    }

    fn tell_news(&mut self, shared: &mut Shared) {
        let News { updates, left, room, quality, .. } = &mut self.news;
        let (updates, left) = (std::mem::take(updates), std::mem::take(left));
        let (room, quality) = (room.take(), std::mem::take(quality));
        self.tell_people(shared, updates, left);
        if let Some(upto) = room {
            let room = Some(self.info(shared));
            let told = self.listeners().filter(|(key, _)| *key <= upto && !self.changes.fresh.contains(key));
            let sockets = told.map(|(_, socket)| socket).collect();
            shared.out.tell(sockets, Message::RoomUpdate(RoomUpdate { room }));
        }
        if !quality.is_empty() {
            let update = ConnectionQualityUpdate { updates: quality.into_values().collect() };
            let sockets = self.listeners().map(|(_, socket)| socket).collect();
            shared.out.tell(sockets, Message::ConnectionQuality(update));
        }
    }

    /// Updates of participants. Most people are told the same: that is one message for all of them.
    fn tell_people(
        &mut self,
        shared: &mut Shared,
        updates: BTreeMap<ParticipantKey, Update>,
        left: Vec<(ParticipantInfo, ParticipantKey)>,
    ) {
        let mut infos: Vec<(ParticipantKey, Update, bool, ParticipantInfo)> = Vec::with_capacity(updates.len());
        for (key, update) in updates {
            let Some(participant) = self.participants.get_mut(&key) else { continue };
            participant.version += 1;
            infos.push((key, update, participant.permission.hidden, participant.info()));
        }
        if infos.is_empty() && left.is_empty() {
            return;
        }
        // Nobody who came after the first of these changes is told the same as the others, nor is whom they are about.
        let since = infos.iter().map(|(_, update, ..)| update.upto).chain(left.iter().map(|(_, upto)| *upto)).min();
        let subjects: BTreeSet<ParticipantKey> = infos.iter().map(|(key, ..)| *key).collect();
        let departed: BTreeSet<&str> = left.iter().map(|(info, _)| info.sid.as_str()).collect();
        let mut everybody = Vec::new();
        for (key, socket) in self.listeners() {
            let Some(receiver) = self.participants.get(&key) else { continue };
            let fresh = self.changes.fresh.contains(&key);
            let plain = !fresh && Some(key) <= since && !subjects.contains(&key);
            if plain && !departed.contains(receiver.sid.as_str()) {
                everybody.push(socket);
                continue;
            }
            let gone = left.iter().filter(|(info, upto)| !fresh && key <= *upto && info.sid != receiver.sid);
            let news = infos.iter().filter(|(subject, update, hidden, _)| match *subject == key {
                true => update.own,
                false => !hidden && !fresh && key <= update.upto,
            });
            let list = gone.map(|(info, _)| info).chain(news.map(|(.., info)| info)).cloned().collect();
            for participants in split(list) {
                shared.out.send(Some(socket), Message::Update(ParticipantUpdate { participants }));
            }
        }
        let shown = infos.into_iter().filter(|(_, _, hidden, _)| !hidden).map(|(.., info)| info);
        for participants in split(left.into_iter().map(|(info, _)| info).chain(shown).collect()) {
            shared.out.tell(everybody.clone(), Message::Update(ParticipantUpdate { participants }));
        }
    }

    /// Everybody who has a socket.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (ParticipantKey, SocketId)> {
        self.participants.values().filter_map(|participant| Some((participant.key, participant.socket?)))
    }
}
