//! One stream that is sent: numbers, timestamps, sealed packets, and the last of them for whoever asks again.

use std::collections::VecDeque;

use rand::{Rng, rngs::SmallRng};
use sluice_wire::{
    Micros,
    rtcp::SenderInfo,
    rtp::{ExtensionWriter, HeaderFields, write_header},
};

use super::{EXTENSION_MID, EXTENSION_RID};
use crate::{measure::Tally, stamp::Stamp, transport::Keys};

/// Packets that can be sent again. At 200 packets/s they are more than a second.
const HISTORY: usize = 256;

/// Header with extensions.
const HEADER_BYTES_MAX: usize = 64;

/// An Ethernet frame's worth.
const PACKET_BYTES_MAX: usize = 1500;

pub(super) struct Line {
    ssrc: u32,
    payload_type: u8,
    clock_hz: u64,
    mid: &'static str,
    rid: Option<&'static str>,
    /// Rollover count and sequence number of the next packet.
    index: u64,
    /// What the clock of the stream showed at `began`.
    offset: u32,
    began: Micros,
    packets: u32,
    octets: u32,
    history: VecDeque<(u16, Box<[u8]>)>,
}

impl Line {
    pub(super) fn new(
        ssrc: u32,
        payload_type: u8,
        clock_hz: u64,
        mid: &'static str,
        rid: Option<&'static str>,
        began: Micros,
        dice: &mut SmallRng,
    ) -> Line {
        Line {
            ssrc,
            payload_type,
            clock_hz,
            mid,
            rid,
            // Low, so that a receiver which misses the first packets does not guess a wrong rollover count.
            index: dice.random_range(0..1 << 14),
            offset: dice.random(),
            began,
            packets: 0,
            octets: 0,
            history: VecDeque::with_capacity(HISTORY),
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(super) fn timestamp(&self, now: Micros) -> u32 {
        let elapsed = now.since(self.began).as_micros() as u64 * self.clock_hz / 1_000_000;
        self.offset.wrapping_add(elapsed as u32)
    }

    /// What a sender report says, after the first packet; the NTP time is for the caller.
    pub(super) fn report(&self, now: Micros) -> Option<SenderInfo> {
        let (packet_count, octet_count) = (self.packets, self.octets);
        (packet_count > 0).then(|| SenderInfo {
            ssrc: self.ssrc,
            ntp: 0,
            rtp_timestamp: self.timestamp(now),
            packet_count,
            octet_count,
        })
    }

    /// A sealed packet that was sent. The same bytes go out again, so no key stream is used twice (RFC 3711 section 9.1).
    pub(super) fn sent(&self, sequence: u16) -> Option<&[u8]> {
        self.history.iter().rev().find(|(number, _)| *number == sequence).map(|(_, packet)| &packet[..])
    }

    /// Stamps, seals and sends one packet.
    #[expect(clippy::too_many_arguments, reason = "all of it is one packet's, and differs from packet to packet")]
    pub(super) fn send(
        &mut self,
        timestamp: u32,
        marker: bool,
        publisher: u32,
        payload: &mut [u8],
        clock_ns: &impl Fn() -> u64,
        keys: &mut Keys,
        tally: &mut Tally,
        extend: &mut impl FnMut(&mut ExtensionWriter<'_>),
        send: &mut impl FnMut(&[u8]) -> bool,
    ) {
        let sequence = self.index as u16;
        let roc = (self.index >> 16) as u32;
        self.index += 1;
        let mut header = [0; HEADER_BYTES_MAX];
        let fields = HeaderFields { marker, payload_type: self.payload_type, sequence, timestamp, ssrc: self.ssrc };
        let Some(fixed) = write_header(&mut header, fields) else { return };
        let mut writer = ExtensionWriter::new(&mut header, fixed);
        // All of them together are some thirty bytes.
        let _ = writer.push(EXTENSION_MID, self.mid.as_bytes());
        if let Some(rid) = self.rid {
            let _ = writer.push(EXTENSION_RID, rid.as_bytes());
        }
        extend(&mut writer);
        let Some(header_len) = writer.finish() else { return };
        Stamp { publisher, sent_ns: clock_ns() }.write(payload);
        let mut packet = [0; PACKET_BYTES_MAX];
        let Ok(len) = keys.sender.seal_rtp(&header[..header_len], payload, roc, &mut packet) else {
            tally.counters.send_errors += 1;
            return;
        };
        if send(&packet[..len]) {
            tally.counters.sent_packets += 1;
            tally.counters.sent_bytes += len as u64;
        } else {
            tally.counters.send_errors += 1;
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((sequence, packet[..len].into()));
    }
}
