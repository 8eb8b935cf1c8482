//! After a command: everybody is told of everything that changed, once. Updates go before the offers that carry the tracks
//! they describe, since clients drop media of participants they do not know.

use livekit_protocol::ParticipantInfo;
use prost::Message as _;
use sluice_messages::{Entry, Note};

use crate::{
    limits::{NOTE_PERIOD, UPDATE_BYTES_MAX},
    room::Room,
    shared::Shared,
};

impl Room {
    pub(crate) fn settle(&mut self, shared: &mut Shared) {
        self.settle_news(shared);
        for receiver in std::mem::take(&mut self.changes.handles) {
            self.tell_handles(shared, receiver);
        }
        self.changes.fresh.clear();
        for receiver in std::mem::take(&mut self.changes.receivers) {
            self.negotiate(shared, receiver);
        }
        for (owner, id) in std::mem::take(&mut self.changes.demand) {
            self.weigh_demand(shared, owner, id);
        }
        self.settle_notes(shared);
    }

    fn settle_notes(&mut self, shared: &mut Shared) {
        let now = shared.now.monotonic;
        let Some(node) = self.node.clone() else { return };
        if std::mem::take(&mut self.changes.room_note) {
            let note = Note { key: crate::note::room_key(&self.name), bytes: self.note() };
            shared.put(&node, Entry::Note(note));
        }
        let urgent = std::mem::take(&mut self.changes.notes);
        let stale = std::mem::take(&mut self.changes.stale);
        for &key in urgent.union(&stale) {
            let Some(participant) = self.participants.get_mut(&key) else { continue };
            if urgent.contains(&key) || participant.noted_at.is_none_or(|at| at + NOTE_PERIOD <= now) {
                participant.noted_at = Some(now);
                participant.note_dirty = false;
                let note = Note {
                    key: crate::note::participant_key(&self.name, &participant.sid),
                    bytes: participant.note(&self.name),
                };
                shared.put(&node, Entry::Note(note));
            } else {
                participant.note_dirty = true;
                self.await_deadline(shared, key);
            }
        }
    }
}

/// Cuts a list into updates of at most [`UPDATE_BYTES_MAX`], or of one participant where that alone is longer.
pub(crate) fn split(infos: Vec<ParticipantInfo>) -> Vec<Vec<ParticipantInfo>> {
    let mut updates: Vec<Vec<ParticipantInfo>> = Vec::new();
    let mut bytes = 0;
    for info in infos {
        let length = info.encoded_len() + 8;
        match updates.last_mut() {
            Some(update) if bytes + length <= UPDATE_BYTES_MAX => {
                bytes += length;
                update.push(info);
            }
            _ => {
                bytes = length;
                updates.push(vec![info]);
            }
        }
    }
    updates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_cut_by_size() {
        let info = |bytes: usize| ParticipantInfo { metadata: "x".repeat(bytes), ..Default::default() };
        let sizes = |lengths: &[usize]| {
            split(lengths.iter().map(|&l| info(l)).collect()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0usize; 0]);
        assert_eq!(sizes(&[10; 100]), [100]);
        assert_eq!(sizes(&[50_000; 5]), [2, 2, 1]);
        assert_eq!(sizes(&[200_000, 10, 10]), [1, 2]);
    }
}
