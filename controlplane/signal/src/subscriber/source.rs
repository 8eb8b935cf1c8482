//! Where a track comes from: one of the codecs in which it is published, and what the client takes of them.

use serde::{Deserialize, Serialize};
use sluice_messages::{Codec, Kind, Payload, PayloadMap, TrackId};

use super::SubscribedTrack;
use crate::{
    codecs,
    sdp::{Format, Media},
};

/// Another codec of a track, on a media section of its own at the publisher.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Backup {
    /// What the node calls it.
    pub track: TrackId,
    pub codec: Codec,
    /// As in [`SubscribedTrack::payloads`]; empty until the publisher sends it.
    pub payloads: Vec<Payload>,
}

/// A format of an answer.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub(super) codec: Codec,
    payload_type: u8,
    rtx: Option<u8>,
}

impl SubscribedTrack {
    /// What can be forwarded, the best first: name, codec that is sent, formats.
    pub(super) fn sources<'t>(&'t self) -> impl Iterator<Item = (TrackId, Codec, &'t [Payload])> {
        let first = self.payloads.iter().find(|payload| payload.codec != Codec::Red);
        let first = first.map(|payload| (self.track, payload.codec, &self.payloads[..]));
        let better = |backup: &&Backup| self.regress && !backup.payloads.is_empty();
        let source = |backup: &'t Backup| (backup.track, backup.codec, &backup.payloads[..]);
        let (before, after): (Vec<&Backup>, Vec<&Backup>) = self.backups.iter().partition(better);
        before.into_iter().map(source).chain(first).chain(after.into_iter().map(source))
    }
}

/// What the client receives on a section.
pub(super) fn accepted(kind: Kind, answer: &Media) -> Vec<Accepted> {
    if answer.port == 0 || !answer.direction.receives() {
        return Vec::new();
    }
    let accepted = |(codec, format): (Codec, &Format)| Accepted {
        codec,
        payload_type: format.payload_type,
        rtx: codecs::rtx_of(answer, format.payload_type).map(|rtx| rtx.payload_type),
    };
    codecs::usable(kind, answer).into_iter().map(accepted).collect()
}

/// From the publisher's payload types to the receiver's.
pub(super) fn map(payloads: &[Payload], accepted: &[Accepted]) -> Vec<PayloadMap> {
    let map = |payload: &Payload| {
        let format = accepted.iter().find(|format| format.codec == payload.codec)?;
        Some(PayloadMap { from: payload.payload_type, to: format.payload_type, rtx: format.rtx })
    };
    payloads.iter().filter_map(map).collect()
}
