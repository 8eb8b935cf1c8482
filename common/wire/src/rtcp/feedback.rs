//! Transport-wide congestion control feedback: which packets arrived, and when.

use arrayvec::ArrayVec;

use super::{Compound, FORMAT_TRANSPORT_CC, TRANSPORT_LAYER_FEEDBACK};
use crate::{
    Micros,
    bytes::{u16_at, u24_at, u32_at},
};

/// Packets that one feedback packet may be about, both written and accepted. Raising it costs stack when writing, and lets
/// a peer make us walk longer over bytes that say "nothing arrived"; lowering it takes more packets at high rates (4,096
/// packets in 100 ms are 400 Mbit/s).
pub const MAX_STATUSES: usize = 4096;

/// Statuses in one written packet: a packet with all of them still fits 1,200 bytes.
const MAX_WRITTEN_STATUSES: usize = 512;

const FIXED_BYTES: usize = 16;
const TICK_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;
const TICKS_PER_REFERENCE: i64 = REFERENCE_US / TICK_US;
/// Statuses in a vector chunk of one-bit and of two-bit symbols.
const NARROW_VECTOR: usize = 14;
const WIDE_VECTOR: usize = 7;
const MAX_RUN: usize = 0x1FFF;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    pub sender_ssrc: u32,
    pub media_ssrc: u32,
    /// The transport-wide sequence number of the first status.
    pub base_sequence: u16,
    /// Consecutive sequence numbers covered.
    pub status_count: u16,
    /// 24 bits, signed, in units of 64 ms on the writer's clock.
    pub reference_time: i32,
    /// Wraps; tells lost feedback packets.
    pub feedback_count: u8,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<TransportFeedback<'a>> {
        let status_count = u16_at(body, 10)?;
        if usize::from(status_count) > MAX_STATUSES {
            return None;
        }
        let rest = body.get(FIXED_BYTES..)?.as_chunks().0;
        let mut covered = 0;
        let mut delta_bytes = 0;
        let mut chunk_count = 0;
        while covered < usize::from(status_count) {
            let mut symbols = Symbols::new(*rest.get(chunk_count)?);
            while covered < usize::from(status_count) {
                match symbols.next() {
                    Some(symbol @ ..=LARGE_DELTA) => delta_bytes += usize::from(symbol),
                    Some(_) => return None,
                    None => break,
                }
                covered += 1;
            }
            chunk_count += 1;
        }
        let deltas_start = FIXED_BYTES + 2 * chunk_count;
        Some(TransportFeedback {
            sender_ssrc: u32_at(body, 0)?,
            media_ssrc: u32_at(body, 4)?,
            base_sequence: u16_at(body, 8)?,
            status_count,
            reference_time: ((u24_at(body, 12)? << 8) as i32) >> 8,
            feedback_count: *body.get(15)?,
            chunks: rest.get(..chunk_count)?,
            deltas: body.get(deltas_start..deltas_start + delta_bytes)?,
        })
    }

    /// One item for each sequence number covered, in order.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            sequence: self.base_sequence,
            remaining: self.status_count,
            ticks: i64::from(self.reference_time) * TICKS_PER_REFERENCE,
            symbols: Symbols::default(),
            chunks: self.chunks,
            deltas: self.deltas,
        }
    }
}

/// What feedback says of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// On the writer's clock, whose zero is unknown and which wraps every 12 days, in steps of 250 µs; `None` if the packet
    /// did not arrive.
    pub at_us: Option<i64>,
}

/// See [`TransportFeedback::arrivals`].
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    sequence: u16,
    remaining: u16,
    ticks: i64,
    symbols: Symbols,
    chunks: &'a [[u8; 2]],
    deltas: &'a [u8],
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.remaining = self.remaining.checked_sub(1)?;
        // A run may be of length zero.
        let symbol = loop {
            if let Some(symbol) = self.symbols.next() {
                break symbol;
            }
            let (&chunk, rest) = self.chunks.split_first()?;
            self.chunks = rest;
            self.symbols = Symbols::new(chunk);
        };
        let (delta, rest) = self.deltas.split_at_checked(usize::from(symbol))?;
        self.deltas = rest;
        let at_us = match *delta {
            [small] => Some(i64::from(small)),
            [high, low] => Some(i64::from(i16::from_be_bytes([high, low]))),
            _ => None,
        }
        .map(|delta| {
            self.ticks += delta;
            self.ticks * TICK_US
        });
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some(Arrival { sequence, at_us })
    }
}

/// The symbols of one status chunk (sections 3.1.3 and 3.1.4).
#[derive(Clone, Copy, Debug, Default)]
struct Symbols {
    /// A run repeats its symbol; a vector's symbols stand at the top of `bits`.
    run: Option<u8>,
    bits: u16,
    width: u32,
    remaining: u16,
}

impl Symbols {
    fn new(chunk: [u8; 2]) -> Symbols {
        let word = u16::from_be_bytes(chunk);
        match word >> 14 {
            0b10 => Symbols { run: None, bits: word << 2, width: 1, remaining: NARROW_VECTOR as u16 },
            0b11 => Symbols { run: None, bits: word << 2, width: 2, remaining: WIDE_VECTOR as u16 },
            _ => Symbols { run: Some((word >> 13) as u8), bits: 0, width: 0, remaining: word & MAX_RUN as u16 },
        }
    }
}

impl Iterator for Symbols {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(self.run.unwrap_or_else(|| {
            let symbol = (self.bits >> (16 - self.width)) as u8;
            self.bits <<= self.width;
            symbol
        }))
    }
}

impl Compound<'_> {
    /// Transport-wide feedback on the packets from `base_sequence` on: `arrivals[i]` says when the packet numbered
    /// `base_sequence + i` arrived, if it did.
    ///
    /// Returns how many of them, from the first, it covers: fewer than given where the room ends, a gap in time is too
    /// long for a delta (8 s), or 512 are reached; the caller goes on with another packet and a `feedback_count` one
    /// higher. `Some(0)`, with nothing written, if none of them arrived; `Some(512)`, with nothing written, if so many are
    /// missing before the first that did.
    pub fn transport_feedback(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        feedback_count: u8,
        base_sequence: u16,
        arrivals: &[Option<Micros>],
    ) -> Option<usize> {
        let Some(first) = arrivals.iter().flatten().next() else {
            return Some(0);
        };
        let reference = first.0 / REFERENCE_US as u64;
        let statuses = Statuses::collect(arrivals, reference, self.room());
        if statuses.delta_bytes == 0 {
            let is_full = statuses.symbols.is_full();
            return is_full.then_some(MAX_WRITTEN_STATUSES);
        }
        let mut packet = self.begin(TRANSPORT_LAYER_FEEDBACK, FORMAT_TRANSPORT_CC)?;
        packet.put(&sender_ssrc.to_be_bytes())?;
        packet.put(&media_ssrc.to_be_bytes())?;
        packet.put(&base_sequence.to_be_bytes())?;
        packet.put(&(statuses.symbols.len() as u16).to_be_bytes())?;
        let [.., r0, r1, r2] = reference.to_be_bytes();
        packet.put(&[r0, r1, r2, feedback_count])?;
        let mut rest = statuses.symbols.as_slice();
        while !rest.is_empty() {
            let (chunk, covered) = encode_chunk(rest);
            packet.put(&chunk.to_be_bytes())?;
            rest = rest.get(covered..)?;
        }
        for (symbol, delta) in statuses.symbols.iter().zip(&statuses.deltas) {
            match *symbol {
                SMALL_DELTA => packet.put(&[*delta as u8])?,
                LARGE_DELTA => packet.put(&delta.to_be_bytes())?,
                _ => {}
            }
        }
        packet.finish()?;
        Some(statuses.symbols.len())
    }
}

/// The statuses that fit one packet.
struct Statuses {
    symbols: ArrayVec<u8, MAX_WRITTEN_STATUSES>,
    /// In ticks; zero where not received.
    deltas: ArrayVec<i16, MAX_WRITTEN_STATUSES>,
    delta_bytes: usize,
}

impl Statuses {
    fn collect(arrivals: &[Option<Micros>], reference: u64, room: usize) -> Statuses {
        let mut statuses = Statuses { symbols: ArrayVec::new(), deltas: ArrayVec::new(), delta_bytes: 0 };
        let mut last_tick = reference as i64 * TICKS_PER_REFERENCE;
        for arrival in arrivals.iter().take(MAX_WRITTEN_STATUSES) {
            let mut delta = 0;
            let mut symbol = NOT_RECEIVED;
            if let Some(at) = arrival {
                let tick = at.0 as i64 / TICK_US;
                let Ok(ticks) = i16::try_from(tick - last_tick) else {
                    break;
                };
                delta = ticks;
                symbol = if (0..=0xFF).contains(&ticks) { SMALL_DELTA } else { LARGE_DELTA };
            }
            // Header, fixed fields, as many chunks as there can be, deltas, and padding to the word.
            let chunks = (statuses.symbols.len() + 1).div_ceil(WIDE_VECTOR) + 1;
            let delta_bytes = statuses.delta_bytes + usize::from(symbol);
            if 4 + FIXED_BYTES + 2 * chunks + delta_bytes + 3 > room {
                break;
            }
            if symbol != NOT_RECEIVED {
                last_tick += i64::from(delta);
            }
            statuses.symbols.push(symbol);
            statuses.deltas.push(delta);
            statuses.delta_bytes = delta_bytes;
        }
        statuses
    }
}

/// The chunk for the beginning of `symbols`, and how many it covers.
fn encode_chunk(symbols: &[u8]) -> (u16, usize) {
    let first = symbols.first().copied().unwrap_or(NOT_RECEIVED);
    let run = symbols.iter().take(MAX_RUN).take_while(|symbol| **symbol == first).count();
    let narrow = symbols.get(..NARROW_VECTOR).unwrap_or(symbols);
    let is_narrow = !narrow.contains(&LARGE_DELTA);
    if run == symbols.len() || run >= if is_narrow { NARROW_VECTOR } else { WIDE_VECTOR } {
        return (u16::from(first) << 13 | run as u16, run);
    }
    let (vector, width, tag, capacity) = match is_narrow {
        true => (narrow, 1, 0b10 << 14, NARROW_VECTOR),
        false => (symbols.get(..WIDE_VECTOR).unwrap_or(symbols), 2, 0b11 << 14, WIDE_VECTOR),
    };
    let bits = vector.iter().fold(0, |bits, symbol| bits << width | u16::from(*symbol));
    let unused = (capacity - vector.len()) * width;
    (tag | bits << unused, vector.len())
}
