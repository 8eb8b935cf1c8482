//! What leaves: packet by packet the header from the subscription, the payload encrypted from the shared plaintext straight
//! into the transmit slot. `egress.rs` says who is served when, `gather.rs` in which order and with how much padding.

use arrayvec::ArrayVec;
use sluice_frames::{Pool, Route, Tx};
use sluice_messages::{Codec, Extension, ExtensionMap};
use sluice_wire::{
    Micros,
    rtp::{ExtensionSize, ExtensionWriter, FIXED_HEADER_BYTES, HeaderFields, pad, write_header},
    vp8::Patch,
};

use crate::{
    Forwarder,
    egress::Lane,
    estimate::Estimator,
    gather::{PLAN_MAX, Placed, Waiting, plan},
    queue::Queued,
    receive::Meta,
    rewrite::Outgoing,
};

/// Where a run is planned; made once.
#[derive(Default)]
pub(crate) struct Desk {
    queued: ArrayVec<Queued, PLAN_MAX>,
    waiting: ArrayVec<Waiting, PLAN_MAX>,
    placed: ArrayVec<Placed, PLAN_MAX>,
}

impl Forwarder {
    /// Writes what is to leave now into transmit slots: first what is urgent, of all receivers, then the video whose hold is
    /// over, receiver by receiver, until there is nothing more or no slot.
    pub(crate) fn flush(&mut self, now: Micros, pool: &mut Pool, tx: &mut impl Tx) {
        while let Some(index) = self.pace.pop_due(now) {
            if let Some(peer) = self.peers.get_mut(index) {
                self.pace.release(index, &mut peer.egress);
            }
        }
        while let Some(index) = self.pace.next_urgent() {
            loop {
                let Some(slot) = tx.slot() else { return };
                match self.write_urgent(now, index, slot, pool) {
                    Some((bytes, route)) => tx.commit(bytes, route),
                    None => break,
                }
            }
            self.pace.served_urgent(self.peers.get_mut(index).map(|peer| &mut peer.egress));
        }
        let Some(mut desk) = self.desk.take() else { return };
        while tx.room() > 0
            && let Some(index) = self.pace.next_released()
        {
            self.write_run(now, index, &mut desk, pool, tx);
            self.pace.served_released(self.peers.get_mut(index).map(|peer| &mut peer.egress));
        }
        self.desk = Some(desk);
    }

    /// Where a peer's packets go; none, with all that waits for it counted and gone, if nowhere.
    fn destination(&mut self, peer_index: u32, pool: &mut Pool) -> Option<Route> {
        let peer = self.peers.get_mut(peer_index)?;
        let route = peer.route.filter(|_| peer.keys.is_some());
        if route.is_none() {
            peer.egress.rtcp = false;
            self.counters.drop_unroutable += peer.egress.purge(None, &mut self.queues, pool);
        }
        route
    }

    /// Writes the next RTCP, audio or repair packet for a peer; none if nothing of it waits.
    fn write_urgent(
        &mut self,
        now: Micros,
        peer_index: u32,
        slot: &mut [u8],
        pool: &mut Pool,
    ) -> Option<(usize, Route)> {
        let route = self.destination(peer_index, pool)?;
        if self.peers.get(peer_index)?.egress.rtcp {
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
            let (lane, queued) = self.peers.get_mut(peer_index)?.egress.pop_urgent(&mut self.queues)?;
            let written = self.write_packet(now, peer_index, lane, &queued, 0, slot, pool);
            pool.release(queued.frame);
            if let Some(bytes) = written {
                return Some((bytes, route));
            }
        }
    }

    /// Writes up to [`PLAN_MAX`] video packets of a peer, as far as there are slots, in the order that makes the longest runs.
    fn write_run(&mut self, now: Micros, peer_index: u32, desk: &mut Desk, pool: &mut Pool, tx: &mut impl Tx) {
        let Some(route) = self.destination(peer_index, pool) else { return };
        let room = tx.room().min(PLAN_MAX);
        let Some(peer) = self.peers.get_mut(peer_index) else { return };
        desk.queued.clear();
        while desk.queued.len() < room
            && let Some(queued) = peer.egress.pop_video(&mut self.queues)
        {
            desk.queued.push(queued);
        }
        desk.waiting.clear();
        let lengths = desk.queued.iter();
        desk.waiting.extend(lengths.map(|queued| Waiting {
            stream: queued.subscription,
            bytes: self.wire_bytes(peer_index, queued, pool) as u32,
        }));
        if let Some(peer) = self.peers.get_mut(peer_index) {
            plan(&desk.waiting, &mut peer.egress.budget, self.config.padding_permille, &mut desk.placed);
        }
        for placed in &desk.placed {
            let queued = &desk.queued[usize::from(placed.waiting)];
            let written = tx
                .slot()
                .and_then(|slot| self.write_packet(now, peer_index, Lane::Video, queued, placed.padding, slot, pool));
            if let Some(bytes) = written {
                tx.commit(bytes, route);
            }
            pool.release(queued.frame);
        }
    }

    /// How long a video packet will be on the wire.
    fn wire_bytes(&self, peer_index: u32, queued: &Queued, pool: &Pool) -> usize {
        let (Some(meta), Some(subscription), Some(peer)) = (
            self.meta.get(queued.frame.index()),
            self.subscriptions.get(queued.subscription),
            self.peers.get(peer_index),
        ) else {
            return 0;
        };
        let Some((_, payload_start)) = meta.payload_for(subscription) else { return 0 };
        let tag = peer.keys.as_ref().map_or(0, |keys| keys.sender.profile().tag_len());
        let extensions = extensions_bytes(meta, pool.bytes(queued.frame), &peer.send_extensions, &subscription.mid);
        FIXED_HEADER_BYTES + extensions + usize::from(meta.payload_end).saturating_sub(payload_start) + tag
    }

    /// Header, then what of the payload differs from the shared plaintext, then the rest of it and `padding` bytes of padding,
    /// sealed. None, counted, if it can no longer be sent.
    #[allow(clippy::too_many_arguments, reason = "everything that makes one packet, passed on once")]
    fn write_packet(
        &mut self,
        now: Micros,
        peer_index: u32,
        lane: Lane,
        queued: &Queued,
        padding: u8,
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
        let (transport_sequence, abs_send_time, padding) = match &record {
            Some(sent) if is_plain_resend => (sent.transport_sequence, sent.abs_send_time(), sent.padding()),
            None if is_plain_resend => {
                self.counters.drop_stale += 1;
                return None;
            }
            _ => {
                peer.transport_sequence = peer.transport_sequence.wrapping_add(1);
                (peer.transport_sequence, abs_send_time(now), padding)
            }
        };
        if let Some(sent) = record.filter(|_| lane != Lane::Resend) {
            sent.leave(transport_sequence, abs_send_time, padding);
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
            let at = written;
            written += write_descriptor(slot, written, meta, payload, &queued.out)?;
            let mut rest = &payload[written - at..];
            if padding > 0 {
                // What is padded is copied: the padding belongs behind the payload, and the cipher takes one piece from elsewhere.
                slot.get_mut(written..written + rest.len())?.copy_from_slice(rest);
                written = pad(slot, written + rest.len(), padding)?;
                rest = &[];
            }
            let sender = &peer.keys.as_ref()?.sender;
            sender.seal_in_slot(slot, header_len, written, rest, (index >> 16) as u32).ok()
        });
        let Some(bytes) = sealed else {
            self.counters.drop_seal += 1;
            return None;
        };
        self.counters.sent_packets += 1;
        self.counters.sent_bytes += bytes as u64;
        self.counters.sent_padding_bytes += u64::from(padding);
        peer.estimator.on_sent(now, bytes);
        if lane == Lane::Resend {
            self.counters.sent_resends += 1;
        } else {
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.octets = subscription.octets.wrapping_add(payload.len() as u32);
        }
        Some(bytes)
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

/// How many bytes [`write_extensions`] will append.
fn extensions_bytes(meta: &Meta, packet: &[u8], allowed: &ExtensionMap, mid: &str) -> usize {
    let mut size = ExtensionSize::default();
    if let Some(id) = allowed.id(Extension::Mid)
        && !mid.is_empty()
    {
        size.push(id, mid.len());
    }
    for (extension, length) in [(Extension::TransportCc, 2), (Extension::AbsSendTime, 3)] {
        if let Some(id) = allowed.id(extension) {
            size.push(id, length);
        }
    }
    let mut rest = meta.passthrough(packet);
    while let [extension, length, tail @ ..] = rest {
        rest = tail.get(usize::from(*length)..).unwrap_or_default();
        if let Some(id) = Extension::ALL.get(usize::from(*extension)).and_then(|extension| allowed.id(*extension)) {
            size.push(id, usize::from(*length));
        }
    }
    size.bytes()
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
