//! LiveKit data packets: who sent them and who they are for.
//!
//! A `livekit.DataPacket` is edited at the level of protobuf fields, so that what this server does not know (newer fields,
//! encrypted payloads) reaches the receivers as it was sent.

use livekit_protocol::{DataPacket, data_packet};
use prost::Message;
use sluice_messages::Participant;

/// Longest message taken from a client, in bytes; what we add for the receivers comes on top. LiveKit's limit.
pub(crate) const PACKET_BYTES_MAX: usize = 64 << 10;

/// Field numbers of `livekit.DataPacket`.
mod packet {
    pub(super) const USER: u32 = 2;
    pub(super) const PARTICIPANT_IDENTITY: u32 = 4;
    pub(super) const PARTICIPANT_SID: u32 = 17;
}

/// Field numbers of `livekit.UserPacket`, where older clients look for the sender.
mod user {
    pub(super) const PARTICIPANT_SID: u32 = 1;
    pub(super) const PARTICIPANT_IDENTITY: u32 = 5;
}

/// A packet ready for its receivers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Stamped {
    pub(crate) bytes: Vec<u8>,
    pub(crate) destinations: Destinations,
}

/// Who a packet is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Destinations {
    identities: Vec<String>,
    sids: Vec<String>,
}

impl Destinations {
    /// Nobody named means everybody.
    pub(crate) fn include(&self, participant: &Participant) -> bool {
        (self.identities.is_empty() && self.sids.is_empty())
            || self.identities.contains(&participant.identity)
            || self.sids.contains(&participant.sid)
    }
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// longer than a message may be
    #[error("longer than a message may be")]
    TooLong,
    /// not a data packet
    #[error("not a data packet")]
    Malformed,
    /// only a server says who speaks
    #[error("only a server says who speaks")]
    Forged,
}

/// Writes the sender into a packet, over whatever the client claimed, and finds out whom it is for.
pub(crate) fn stamp(payload: &[u8], sender: &Participant) -> Result<Stamped, DataError> {
    if payload.len() > PACKET_BYTES_MAX {
        return Err(DataError::TooLong);
    }
    let decoded = DataPacket::decode(payload).map_err(|_| DataError::Malformed)?;
    if is_speaker(&decoded) {
        return Err(DataError::Forged);
    }
    let mut bytes = Vec::with_capacity(payload.len() + 2 * (sender.identity.len() + sender.sid.len() + 8));
    let mut rest = payload;
    while !rest.is_empty() {
        let field = Field::take(&mut rest).ok_or(DataError::Malformed)?;
        match field.number {
            packet::PARTICIPANT_IDENTITY | packet::PARTICIPANT_SID => {}
            packet::USER => {
                let inner = field.content.ok_or(DataError::Malformed)?;
                put_bytes(&mut bytes, packet::USER, &stamp_user(inner, sender).ok_or(DataError::Malformed)?);
            }
            _ => bytes.extend_from_slice(field.whole),
        }
    }
    put_bytes(&mut bytes, packet::PARTICIPANT_IDENTITY, sender.identity.as_bytes());
    put_bytes(&mut bytes, packet::PARTICIPANT_SID, sender.sid.as_bytes());
    Ok(Stamped { bytes, destinations: destinations(decoded) })
}

#[expect(deprecated, reason = "older clients believe it, so it must not be forged")]
fn is_speaker(packet: &DataPacket) -> bool {
    matches!(packet.value, Some(data_packet::Value::Speaker(_)))
}

#[expect(deprecated, reason = "older clients name receivers inside the user packet, and must be heard")]
fn destinations(packet: DataPacket) -> Destinations {
    let mut destinations = Destinations { identities: packet.destination_identities, sids: Vec::new() };
    if let Some(data_packet::Value::User(user)) = packet.value
        && destinations.identities.is_empty()
    {
        destinations.identities = user.destination_identities;
        destinations.sids = user.destination_sids;
    }
    destinations
}

fn stamp_user(inner: &[u8], sender: &Participant) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(inner.len() + sender.identity.len() + sender.sid.len() + 8);
    let mut rest = inner;
    while !rest.is_empty() {
        let field = Field::take(&mut rest)?;
        if !matches!(field.number, user::PARTICIPANT_SID | user::PARTICIPANT_IDENTITY) {
            bytes.extend_from_slice(field.whole);
        }
    }
    put_bytes(&mut bytes, user::PARTICIPANT_SID, sender.sid.as_bytes());
    put_bytes(&mut bytes, user::PARTICIPANT_IDENTITY, sender.identity.as_bytes());
    Some(bytes)
}

/// One field of a protobuf message.
struct Field<'a> {
    number: u32,
    /// Tag and value as they were sent.
    whole: &'a [u8],
    /// The value, if it is length-delimited.
    content: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// Takes the next field off the front. None: not protobuf, or a group, which proto3 does not have.
    fn take(rest: &mut &'a [u8]) -> Option<Field<'a>> {
        let start = *rest;
        let tag = take_varint(rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&n| n != 0)?;
        let mut content = None;
        match tag & 7 {
            0 => {
                take_varint(rest)?;
            }
            1 => *rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                content = Some(value);
                *rest = after;
            }
            5 => *rest = rest.get(4..)?,
            _ => return None,
        }
        Some(Field { number, whole: &start[..start.len() - rest.len()], content })
    }
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
