//! RTCP: reports, source descriptions and goodbyes (RFC 3550), feedback (RFC 4585, RFC 5104), REMB
//! (draft-alvestrand-rmcat-remb) and transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions).

mod compound;
mod feedback;

use thiserror::Error;

pub use self::{
    compound::{Compound, MAX_REPORTS},
    feedback::{Arrival, Arrivals, MAX_STATUSES, TransportFeedback},
};
use crate::bytes::{u16_at, u32_at, u64_at};

pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const GOODBYE: u8 = 203;
pub(crate) const APPLICATION: u8 = 204;
pub(crate) const TRANSPORT_LAYER_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_SPECIFIC_FEEDBACK: u8 = 206;

pub(crate) const FORMAT_NACK: u8 = 1;
pub(crate) const FORMAT_TRANSPORT_CC: u8 = 15;
pub(crate) const FORMAT_PLI: u8 = 1;
pub(crate) const FORMAT_FIR: u8 = 4;
pub(crate) const FORMAT_APPLICATION: u8 = 15;

pub(crate) const REPORT_BYTES: usize = 24;
pub(crate) const CNAME_ITEM: u8 = 1;

const HEADER_BYTES: usize = 4;
const PADDING_BIT: u8 = 0x20;

/// Why bytes are not RTCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RtcpError {
    #[error("version is not 2")]
    Version,
    #[error("a length runs past the end")]
    Truncated,
    #[error("more padding than packet")]
    Padding,
    #[error("a count or length inside a packet does not fit it")]
    Body,
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    SenderReport(SenderReport<'a>),
    ReceiverReport(ReceiverReport<'a>),
    SourceDescription(SourceDescription<'a>),
    Goodbye(Goodbye<'a>),
    Nack(Nack<'a>),
    PictureLossIndication {
        sender_ssrc: u32,
        media_ssrc: u32,
    },
    FullIntraRequest(FullIntraRequest<'a>),
    Remb(Remb<'a>),
    TransportFeedback(TransportFeedback<'a>),
    Application(Application<'a>),
    /// A packet of a type or format not known here.
    Unknown {
        packet_type: u8,
        format: u8,
    },
}

/// Iterates over the packets of a decrypted (compound or reduced-size) datagram. After the first error it ends.
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split(self.rest) {
            Ok((packet, rest)) => {
                self.rest = rest;
                Some(Packet::parse(packet))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
        .inspect(|result| {
            if result.is_err() {
                self.rest = &[];
            }
        })
    }
}

/// One packet cut out of a compound, padding removed.
struct Raw<'a> {
    packet_type: u8,
    /// Count, format or subtype: five bits.
    count: u8,
    body: &'a [u8],
}

fn split(bytes: &[u8]) -> Result<(Raw<'_>, &[u8]), RtcpError> {
    let &[first, packet_type, l0, l1] = bytes.first_chunk().ok_or(RtcpError::Truncated)?;
    if first >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    let len = HEADER_BYTES + 4 * usize::from(u16::from_be_bytes([l0, l1]));
    let (packet, rest) = bytes.split_at_checked(len).ok_or(RtcpError::Truncated)?;
    let mut body = packet.get(HEADER_BYTES..).unwrap_or_default();
    if first & PADDING_BIT != 0 {
        let padding = usize::from(*body.last().ok_or(RtcpError::Padding)?);
        let unpadded = body.len().checked_sub(padding).ok_or(RtcpError::Padding)?;
        // RFC 3550 section 6.4.1 has padding in the last packet alone, but transport-wide feedback is padded wherever it
        // stands in a compound.
        if padding == 0 {
            return Err(RtcpError::Padding);
        }
        body = body.get(..unpadded).unwrap_or_default();
    }
    Ok((Raw { packet_type, count: first & 0x1F, body }, rest))
}

impl<'a> Packet<'a> {
    fn parse(raw: Raw<'a>) -> Result<Packet<'a>, RtcpError> {
        let Raw { packet_type, count, body } = raw;
        let parsed = match (packet_type, count) {
            (SENDER_REPORT, _) => SenderReport::parse(count, body).map(Packet::SenderReport),
            (RECEIVER_REPORT, _) => ReceiverReport::parse(count, body).map(Packet::ReceiverReport),
            (SOURCE_DESCRIPTION, _) => SourceDescription::parse(count, body).map(Packet::SourceDescription),
            (GOODBYE, _) => Goodbye::parse(count, body).map(Packet::Goodbye),
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_NACK) => Nack::parse(body).map(Packet::Nack),
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_TRANSPORT_CC) => {
                TransportFeedback::parse(body).map(Packet::TransportFeedback)
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_PLI) => u32_at(body, 0)
                .zip(u32_at(body, 4))
                .map(|(sender_ssrc, media_ssrc)| Packet::PictureLossIndication { sender_ssrc, media_ssrc }),
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_FIR) => FullIntraRequest::parse(body).map(Packet::FullIntraRequest),
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_APPLICATION) if body.get(8..12) == Some(b"REMB") => {
                Remb::parse(body).map(Packet::Remb)
            }
            (APPLICATION, _) => Application::parse(count, body).map(Packet::Application),
            _ => Some(Packet::Unknown { packet_type, format: count }),
        };
        parsed.ok_or(RtcpError::Body)
    }
}

/// What a receiver says about one stream (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// 24 bits, signed: duplicates make it negative.
    pub cumulative_lost: i32,
    /// Rollover count and highest sequence number received.
    pub highest_sequence: u32,
    /// In units of the RTP timestamp.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 for none.
    pub last_sr: u32,
    /// Since that report arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8; REPORT_BYTES]) -> ReportBlock {
        let field = |at| u32_at(bytes, at).unwrap_or_default();
        ReportBlock {
            ssrc: field(0),
            fraction_lost: (field(4) >> 24) as u8,
            cumulative_lost: ((field(4) << 8) as i32) >> 8,
            highest_sequence: field(8),
            jitter: field(12),
            last_sr: field(16),
            delay_since_last_sr: field(20),
        }
    }
}

/// A sender's clock and counts (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SenderInfo {
    pub ssrc: u32,
    /// Seconds since 1900 in 32.32 fixed point.
    pub ntp: u64,
    /// The RTP timestamp of that moment.
    pub rtp_timestamp: u32,
    pub packet_count: u32,
    /// Payload bytes, without headers and padding.
    pub octet_count: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    pub info: SenderInfo,
    reports: &'a [[u8; REPORT_BYTES]],
}

impl<'a> SenderReport<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Option<SenderReport<'a>> {
        let info = SenderInfo {
            ssrc: u32_at(body, 0)?,
            ntp: u64_at(body, 4)?,
            rtp_timestamp: u32_at(body, 12)?,
            packet_count: u32_at(body, 16)?,
            octet_count: u32_at(body, 20)?,
        };
        Some(SenderReport { info, reports: report_blocks(count, body.get(24..)?)? })
    }

    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.reports.iter().map(ReportBlock::parse)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    pub ssrc: u32,
    reports: &'a [[u8; REPORT_BYTES]],
}

impl<'a> ReceiverReport<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Option<ReceiverReport<'a>> {
        Some(ReceiverReport { ssrc: u32_at(body, 0)?, reports: report_blocks(count, body.get(4..)?)? })
    }

    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.reports.iter().map(ReportBlock::parse)
    }
}

/// Profile-specific extensions may follow the blocks and are ignored.
fn report_blocks(count: u8, bytes: &[u8]) -> Option<&[[u8; REPORT_BYTES]]> {
    bytes.as_chunks().0.get(..usize::from(count))
}

#[derive(Clone, Copy, Debug)]
pub struct SourceDescription<'a> {
    chunks: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Option<SourceDescription<'a>> {
        let mut rest = body;
        for _ in 0..count {
            rest = SdesChunk::parse(rest)?.rest;
        }
        Some(SourceDescription { chunks: body.get(..body.len() - rest.len())? })
    }

    /// The CNAME of each chunk that has one, with its SSRC.
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + 'a {
        let mut rest = self.chunks;
        std::iter::from_fn(move || {
            let chunk = SdesChunk::parse(rest)?;
            rest = chunk.rest;
            Some(chunk)
        })
        .filter_map(|chunk| Some((chunk.ssrc, chunk.cname?)))
    }
}

struct SdesChunk<'a> {
    ssrc: u32,
    cname: Option<&'a [u8]>,
    /// What follows the chunk.
    rest: &'a [u8],
}

impl<'a> SdesChunk<'a> {
    /// Items end with a zero byte, and the chunk at the next word.
    fn parse(bytes: &'a [u8]) -> Option<SdesChunk<'a>> {
        let ssrc = u32_at(bytes, 0)?;
        let mut cname = None;
        let mut at = 4;
        loop {
            let item = *bytes.get(at)?;
            if item == 0 {
                let end = (at + 1).next_multiple_of(4);
                return Some(SdesChunk { ssrc, cname, rest: bytes.get(end..)? });
            }
            let len = usize::from(*bytes.get(at + 1)?);
            let text = bytes.get(at + 2..at + 2 + len)?;
            if item == CNAME_ITEM {
                cname = Some(text);
            }
            at += 2 + len;
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    ssrcs: &'a [[u8; 4]],
}

impl<'a> Goodbye<'a> {
    fn parse(count: u8, body: &'a [u8]) -> Option<Goodbye<'a>> {
        Some(Goodbye { ssrcs: body.as_chunks().0.get(..usize::from(count))? })
    }

    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.ssrcs.iter().copied().map(u32::from_be_bytes)
    }
}

/// Asks for packets to be sent again (RFC 4585 section 6.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    pub sender_ssrc: u32,
    pub media_ssrc: u32,
    pairs: &'a [[u8; 4]],
}

impl<'a> Nack<'a> {
    fn parse(body: &'a [u8]) -> Option<Nack<'a>> {
        let sender_ssrc = u32_at(body, 0)?;
        let media_ssrc = u32_at(body, 4)?;
        Some(Nack { sender_ssrc, media_ssrc, pairs: body.get(8..)?.as_chunks().0 })
    }

    /// The sequence numbers asked for, up to 17 for each 4 bytes of the packet.
    pub fn sequences(&self) -> impl Iterator<Item = u16> + 'a {
        self.pairs.iter().flat_map(|&[p0, p1, b0, b1]| {
            let first = u16::from_be_bytes([p0, p1]);
            let following = u16::from_be_bytes([b0, b1]);
            let later = (0..16).filter(move |bit| following & (1 << bit) != 0);
            std::iter::once(first).chain(later.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// Asks for a key frame (RFC 5104 section 4.3.1).
#[derive(Clone, Copy, Debug)]
pub struct FullIntraRequest<'a> {
    pub sender_ssrc: u32,
    entries: &'a [[u8; 8]],
}

impl<'a> FullIntraRequest<'a> {
    fn parse(body: &'a [u8]) -> Option<FullIntraRequest<'a>> {
        Some(FullIntraRequest { sender_ssrc: u32_at(body, 0)?, entries: body.get(8..)?.as_chunks().0 })
    }

    /// Media SSRC and command number of each entry.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u8)> + 'a {
        self.entries.iter().map(|&[s0, s1, s2, s3, number, ..]| (u32::from_be_bytes([s0, s1, s2, s3]), number))
    }
}

/// What an application says in its own way (RFC 3550 section 6.7).
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// Five bits.
    pub subtype: u8,
    pub ssrc: u32,
    pub name: [u8; 4],
    words: &'a [[u8; 4]],
}

impl<'a> Application<'a> {
    fn parse(subtype: u8, body: &'a [u8]) -> Option<Application<'a>> {
        let ssrc = u32_at(body, 0)?;
        let name = *body.get(4..8)?.first_chunk()?;
        Some(Application { subtype, ssrc, name, words: body.get(8..)?.as_chunks().0 })
    }

    /// Its data, word by word.
    pub fn words(&self) -> impl Iterator<Item = u32> + 'a {
        self.words.iter().copied().map(u32::from_be_bytes)
    }
}

/// The receiver's estimate of what it can be sent.
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    pub sender_ssrc: u32,
    /// All streams together; saturated if the exponent is absurd.
    pub bitrate_bps: u64,
    ssrcs: &'a [[u8; 4]],
}

impl<'a> Remb<'a> {
    fn parse(body: &'a [u8]) -> Option<Remb<'a>> {
        let sender_ssrc = u32_at(body, 0)?;
        let count = usize::from(*body.get(12)?);
        let high = *body.get(13)?;
        let exponent = u32::from(high >> 2);
        let mantissa = u64::from(high & 0x03) << 16 | u64::from(u16_at(body, 14)?);
        let bitrate_bps = if mantissa.leading_zeros() < exponent { u64::MAX } else { mantissa << exponent };
        Some(Remb { sender_ssrc, bitrate_bps, ssrcs: body.get(16..)?.as_chunks().0.get(..count)? })
    }

    /// The streams that the estimate is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.ssrcs.iter().copied().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
