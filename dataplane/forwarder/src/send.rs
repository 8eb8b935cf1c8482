//! What leaves: a queue of references per receiver, and at flush, packet by packet, the header from the subscription, the
//! payload encrypted from the shared plaintext straight into the transmit slot.

use std::collections::VecDeque;

use sluice_frames::{FrameId, Pool, Route, Tx};
use sluice_messages::{Codec, Extension, ExtensionMap};
use sluice_wire::{
    Micros,
    rtp::{ExtensionWriter, HeaderFields, write_header},
    vp8::Patch,
};

use crate::{Forwarder, estimate::Estimator, peer::Peer, receive::Meta, rewrite::Outgoing};

/// A packet that waits: one user of its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) frame: FrameId,
    pub(crate) subscription: u32,
    pub(crate) out: Outgoing,
}

/// In which order things leave: audio is never delayed behind video, and repairs come before what is new, as the receiver
/// waits for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    Audio,
    Resend,
    Video,
}

const LANES: [Lane; 3] = [Lane::Audio, Lane::Resend, Lane::Video];

/// What waits for one receiver.
pub(crate) struct Egress {
    lanes: [VecDeque<Queued>; LANES.len()],
    max: usize,
    /// RTCP is due.
    pub(crate) rtcp: bool,
    /// In the [`Ready`] list.
    ready: bool,
}

impl Egress {
    pub(crate) fn new(max: usize) -> Egress {
        Egress { lanes: std::array::from_fn(|_| VecDeque::with_capacity(max)), max, rtcp: false, ready: false }
    }

    /// Queues a packet and takes a share in its frame; false if the lane is full.
    pub(crate) fn push(&mut self, lane: Lane, queued: Queued, pool: &mut Pool) -> bool {
        let queue = &mut self.lanes[lane as usize];
        if queue.len() == self.max {
            return false;
        }
        pool.retain(queued.frame);
        queue.push_back(queued);
        true
    }

    fn pop(&mut self) -> Option<(Lane, Queued)> {
        LANES.into_iter().find_map(|lane| Some((lane, self.lanes[lane as usize].pop_front()?)))
    }

    /// Lets go of what waits for a subscription, or of everything; returns how many packets that were.
    pub(crate) fn purge(&mut self, subscription: Option<u32>, pool: &mut Pool) -> u64 {
        let mut purged = 0;
        for queue in &mut self.lanes {
            queue.retain(|queued| {
                let goes = subscription.is_none_or(|s| s == queued.subscription);
                if goes {
                    pool.release(queued.frame);
                    purged += 1;
                }
                !goes
            });
        }
        purged
    }
}

/// Peers that have something to send, each once.
pub(crate) struct Ready {
    peers: VecDeque<u32>,
}

impl Ready {
    pub(crate) fn new(max: usize) -> Ready {
        Ready { peers: VecDeque::with_capacity(max) }
    }

    pub(crate) fn push(&mut self, index: u32, peer: &mut Peer) {
        if !std::mem::replace(&mut peer.egress.ready, true) {
            self.peers.push_back(index);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.peers.retain(|&peer| peer != index);
    }
}

impl Forwarder {
    /// Writes what waits into transmit slots, receiver by receiver, until there is nothing more or no slot. This is where
    /// packets for one receiver come together: holding them back for a while, and ordering and padding them into runs of
    /// equal size, belongs here.
    pub(crate) fn flush(&mut self, now: Micros, pool: &mut Pool, tx: &mut impl Tx) {
        while let Some(&peer_index) = self.ready.peers.front() {
            loop {
                let Some(slot) = tx.slot() else { return };
                match self.write_next(now, peer_index, slot, pool) {
                    Some((bytes, route)) => tx.commit(bytes, route),
                    None => break,
                }
            }
            self.ready.peers.pop_front();
            if let Some(peer) = self.peers.get_mut(peer_index) {
                peer.egress.ready = false;
            }
        }
    }

    /// Writes the next packet for a peer; none if nothing waits.
    fn write_next(&mut self, now: Micros, peer_index: u32, slot: &mut [u8], pool: &mut Pool) -> Option<(usize, Route)> {
        let peer = self.peers.get_mut(peer_index)?;
        let Some(route) = peer.route.filter(|_| peer.keys.is_some()) else {
            peer.egress.rtcp = false;
            self.counters.drop_unroutable += peer.egress.purge(None, pool);
            return None;
        };
        if peer.egress.rtcp {
            let written = self.write_rtcp(now, peer_index, slot);
            let peer = self.peers.get_mut(peer_index)?;
            if written > 0 {
                match peer.keys.as_mut()?.sender.protect_rtcp(slot, written) {
                    Ok(bytes) => {
                        self.counters.sent_rtcp += 1;
                        return Some((bytes, route));
                    }
                    Err(_) => self.counters.drop_seal += 1,
                }
            }
            let peer = self.peers.get_mut(peer_index)?;
            peer.egress.rtcp = false;
            self.arm(peer_index);
        }
        loop {
            let (lane, queued) = self.peers.get_mut(peer_index)?.egress.pop()?;
            let written = self.write_packet(now, peer_index, lane, &queued, slot, pool);
            pool.release(queued.frame);
            if let Some(bytes) = written {
                self.counters.sent_packets += 1;
                self.counters.sent_bytes += bytes as u64;
                if let Some(peer) = self.peers.get_mut(peer_index) {
                    peer.estimator.on_sent(now, bytes);
                }
                return Some((bytes, route));
            }
        }
    }

    /// Header, then what of the payload differs from the shared plaintext, then the rest of it, sealed. None, counted, if
    /// it can no longer be sent.
    fn write_packet(
        &mut self,
        now: Micros,
        peer_index: u32,
        lane: Lane,
        queued: &Queued,
        slot: &mut [u8],
        pool: &Pool,
    ) -> Option<usize> {
        let (Some(meta), Some(subscription), Some(peer)) = (
            self.meta.get(queued.frame.index()),
            self.subscriptions.get_mut(queued.subscription),
            self.peers.get_mut(peer_index),
        ) else {
            self.counters.drop_stale += 1;
            return None;
        };
        let Some((map, payload_start)) = meta.payload_for(subscription) else {
            self.counters.drop_stale += 1;
            return None;
        };
        let rtx = subscription.rtx_ssrc.zip(map.rtx).filter(|_| lane == Lane::Resend);
        let is_plain_resend = lane == Lane::Resend && rtx.is_none();

        // A packet that is sent again under its own number must be the same byte for byte, header included.
        let record = subscription.sent.get_mut(queued.out.index);
        let (transport_sequence, abs_send_time) = match &record {
            Some(sent) if is_plain_resend => (sent.transport_sequence, sent.abs_send_time),
            None if is_plain_resend => {
                self.counters.drop_stale += 1;
                return None;
            }
            _ => {
                peer.transport_sequence = peer.transport_sequence.wrapping_add(1);
                (peer.transport_sequence, abs_send_time(now))
            }
        };
        if let Some(sent) = record.filter(|_| lane != Lane::Resend) {
            (sent.left, sent.transport_sequence, sent.abs_send_time) = (true, transport_sequence, abs_send_time);
        }

        let (ssrc, payload_type, index) = match rtx {
            Some((ssrc, payload_type)) => {
                subscription.rtx_next += 1;
                (ssrc, payload_type, subscription.rtx_next - 1)
            }
            None => (subscription.ssrc, map.to, queued.out.index),
        };
        let fields = HeaderFields {
            marker: meta.marker,
            payload_type,
            sequence: index as u16,
            timestamp: queued.out.timestamp,
            ssrc,
        };
        let packet = pool.bytes(queued.frame);
        let stamps = Stamps { mid: &subscription.mid, transport_sequence, abs_send_time };
        let payload = packet.get(payload_start..usize::from(meta.payload_end)).unwrap_or_default();
        let header_len = write_header(slot, fields)
            .and_then(|len| write_extensions(slot, len, meta, packet, &peer.send_extensions, &stamps));
        let sealed = header_len.and_then(|header_len| {
            let mut written = header_len;
            if rtx.is_some() {
                slot.get_mut(written..written + 2)?.copy_from_slice(&(queued.out.index as u16).to_be_bytes());
                written += 2;
            }
            let patched = write_descriptor(slot, written, meta, payload, &queued.out)?;
            let sender = &peer.keys.as_ref()?.sender;
            sender.seal_in_slot(slot, header_len, written + patched, &payload[patched..], (index >> 16) as u32).ok()
        });
        if sealed.is_none() {
            self.counters.drop_seal += 1;
            return None;
        }
        if lane == Lane::Resend {
            self.counters.sent_resends += 1;
        } else {
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.octets = subscription.octets.wrapping_add(payload.len() as u32);
        }
        sealed
    }
}

/// Extension values that differ from receiver to receiver.
struct Stamps<'a> {
    mid: &'a str,
    transport_sequence: u16,
    abs_send_time: u32,
}

/// Appends the receiver's own extensions and those copied from the incoming packet, as far as the receiver negotiated them.
/// Returns the header's length.
fn write_extensions(
    slot: &mut [u8],
    header_len: usize,
    meta: &Meta,
    packet: &[u8],
    allowed: &ExtensionMap,
    stamps: &Stamps<'_>,
) -> Option<usize> {
    let mut writer = ExtensionWriter::new(slot, header_len);
    if let Some(id) = allowed.id(Extension::Mid)
        && !stamps.mid.is_empty()
    {
        writer.push(id, stamps.mid.as_bytes())?;
    }
    if let Some(id) = allowed.id(Extension::TransportCc) {
        writer.push(id, &stamps.transport_sequence.to_be_bytes())?;
    }
    if let Some(id) = allowed.id(Extension::AbsSendTime) {
        writer.push(id, &stamps.abs_send_time.to_be_bytes()[1..])?;
    }
    // Elements as `receive.rs` left them behind the packet: extension, length, value.
    let mut rest = meta.passthrough(packet);
    while let [extension, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        rest = next;
        let extension = Extension::ALL.get(usize::from(*extension))?;
        if let Some(id) = allowed.id(*extension) {
            writer.push(id, value)?;
        }
    }
    writer.finish()
}

/// Writes the beginning of the payload as far as this receiver's differs from the shared one: VP8's descriptor with the
/// receiver's picture id. Returns its length, 0 for other codecs.
fn write_descriptor(slot: &mut [u8], at: usize, meta: &Meta, payload: &[u8], out: &Outgoing) -> Option<usize> {
    let Some(descriptor) = meta.vp8.filter(|_| meta.codec == Codec::Vp8) else { return Some(0) };
    let length = usize::from(descriptor.len);
    let copy = slot.get_mut(at..at + length)?;
    copy.copy_from_slice(payload.get(..length)?);
    let patch = Patch {
        picture_id: descriptor.picture_id.map(|_| out.picture_id),
        tl0_picture_index: descriptor.tl0_picture_index.map(|_| out.tl0),
        key_index: None,
    };
    descriptor.patch(copy, patch)?;
    Some(length)
}

/// Seconds in 6.18 fixed point, as the abs-send-time extension wants them.
fn abs_send_time(now: Micros) -> u32 {
    ((u128::from(now.0) << 18) / 1_000_000) as u32 & 0x00ff_ffff
}
