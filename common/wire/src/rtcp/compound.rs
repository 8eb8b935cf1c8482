//! Writing compound packets into the caller's memory.

use super::{
    APPLICATION, CNAME_ITEM, FORMAT_APPLICATION, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, GOODBYE, HEADER_BYTES,
    PAYLOAD_SPECIFIC_FEEDBACK, RECEIVER_REPORT, REPORT_BYTES, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION,
    SenderInfo, TRANSPORT_LAYER_FEEDBACK,
};
use crate::bytes::put;

/// Report blocks in one packet: its count has five bits.
pub const MAX_REPORTS: usize = 31;

/// Appends RTCP packets to `out`. Each method appends one whole packet, or returns `None` and leaves the compound as it was
/// if the packet does not fit or has more entries than its count can say.
#[derive(Debug)]
pub struct Compound<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Compound<'a> {
    pub fn new(out: &'a mut [u8]) -> Compound<'a> {
        Compound { out, len: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.out.len() - self.len
    }

    /// SR with up to [`MAX_REPORTS`] report blocks.
    pub fn sender_report(&mut self, info: &SenderInfo, reports: &[ReportBlock]) -> Option<()> {
        let mut packet = self.begin(SENDER_REPORT, count_of(reports, MAX_REPORTS)?)?;
        packet.put(&info.ssrc.to_be_bytes())?;
        packet.put(&info.ntp.to_be_bytes())?;
        packet.put(&info.rtp_timestamp.to_be_bytes())?;
        packet.put(&info.packet_count.to_be_bytes())?;
        packet.put(&info.octet_count.to_be_bytes())?;
        packet.put_reports(reports)?;
        packet.finish()
    }

    /// RR with up to [`MAX_REPORTS`] report blocks.
    pub fn receiver_report(&mut self, sender_ssrc: u32, reports: &[ReportBlock]) -> Option<()> {
        let mut packet = self.begin(RECEIVER_REPORT, count_of(reports, MAX_REPORTS)?)?;
        packet.put(&sender_ssrc.to_be_bytes())?;
        packet.put_reports(reports)?;
        packet.finish()
    }

    /// SDES with one chunk holding a CNAME of up to 255 bytes.
    pub fn cname(&mut self, ssrc: u32, cname: &[u8]) -> Option<()> {
        let len = u8::try_from(cname.len()).ok()?;
        let mut packet = self.begin(SOURCE_DESCRIPTION, 1)?;
        packet.put(&ssrc.to_be_bytes())?;
        packet.put(&[CNAME_ITEM, len])?;
        packet.put(cname)?;
        // At least one zero byte ends the items, then zeros up to the word.
        packet.put(&[0])?;
        packet.finish()
    }

    /// BYE for up to 31 SSRCs.
    pub fn goodbye(&mut self, ssrcs: &[u32]) -> Option<()> {
        let mut packet = self.begin(GOODBYE, count_of(ssrcs, 31)?)?;
        packet.put_words(ssrcs)?;
        packet.finish()
    }

    /// NACK for these sequence numbers, best in ascending (wrapping) order. Returns how many of them, from the first, it
    /// asks for: fewer than given if the room ends. `Some(0)`, with nothing written, for none.
    pub fn nack(&mut self, sender_ssrc: u32, media_ssrc: u32, sequences: &[u16]) -> Option<usize> {
        if sequences.is_empty() {
            return Some(0);
        }
        let mut packet = self.begin(TRANSPORT_LAYER_FEEDBACK, FORMAT_NACK)?;
        packet.put(&sender_ssrc.to_be_bytes())?;
        packet.put(&media_ssrc.to_be_bytes())?;
        let mut covered = 0;
        while let Some(&first) = sequences.get(covered) {
            let mut following = 0u16;
            let mut next = covered + 1;
            while let Some(&sequence) = sequences.get(next) {
                match sequence.wrapping_sub(first) {
                    0 => {}
                    distance @ 1..=16 => following |= 1 << (distance - 1),
                    _ => break,
                }
                next += 1;
            }
            let [p0, p1] = first.to_be_bytes();
            let [b0, b1] = following.to_be_bytes();
            if packet.put(&[p0, p1, b0, b1]).is_none() {
                break;
            }
            covered = next;
        }
        if covered == 0 {
            return None;
        }
        packet.finish()?;
        Some(covered)
    }

    /// PLI.
    pub fn picture_loss(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Option<()> {
        let mut packet = self.begin(PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_PLI)?;
        packet.put_words(&[sender_ssrc, media_ssrc])?;
        packet.finish()
    }

    /// FIR with (media SSRC, command number) entries.
    pub fn full_intra(&mut self, sender_ssrc: u32, entries: &[(u32, u8)]) -> Option<()> {
        let mut packet = self.begin(PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_FIR)?;
        // RFC 5104 section 4.3.1.2: the media SSRC of the header is not used.
        packet.put_words(&[sender_ssrc, 0])?;
        for &(ssrc, number) in entries {
            packet.put(&ssrc.to_be_bytes())?;
            packet.put(&[number, 0, 0, 0])?;
        }
        packet.finish()
    }

    /// APP with data of whole words. `subtype` has five bits; `None` if it has more.
    pub fn application(&mut self, subtype: u8, ssrc: u32, name: [u8; 4], words: &[u32]) -> Option<()> {
        let mut packet = self.begin(APPLICATION, Some(subtype).filter(|&subtype| subtype < 32)?)?;
        packet.put(&ssrc.to_be_bytes())?;
        packet.put(&name)?;
        packet.put_words(words)?;
        packet.finish()
    }

    /// REMB for up to 255 streams. The bitrate is rounded down to 18 significant bits.
    pub fn remb(&mut self, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) -> Option<()> {
        let count = u8::try_from(ssrcs.len()).ok()?;
        let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let [_, high, middle, low] = ((bitrate_bps >> exponent) as u32).to_be_bytes();
        let mut packet = self.begin(PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_APPLICATION)?;
        packet.put_words(&[sender_ssrc, 0])?;
        packet.put(b"REMB")?;
        packet.put(&[count, (exponent as u8) << 2 | high, middle, low])?;
        packet.put_words(ssrcs)?;
        packet.finish()
    }

    pub(super) fn begin(&mut self, packet_type: u8, count: u8) -> Option<Draft<'_, 'a>> {
        let start = self.len;
        let mut draft = Draft { compound: self, start, end: start };
        draft.put(&[0x80 | count, packet_type, 0, 0])?;
        Some(draft)
    }
}

/// A packet being written behind a compound's end, which moves only in [`Draft::finish`].
pub(super) struct Draft<'c, 'a> {
    compound: &'c mut Compound<'a>,
    start: usize,
    end: usize,
}

impl Draft<'_, '_> {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        put(self.compound.out, self.end, bytes)?;
        self.end += bytes.len();
        Some(())
    }

    fn put_words(&mut self, words: &[u32]) -> Option<()> {
        words.iter().try_for_each(|word| self.put(&word.to_be_bytes()))
    }

    fn put_reports(&mut self, reports: &[ReportBlock]) -> Option<()> {
        reports.iter().try_for_each(|report| {
            let mut block = [0; REPORT_BYTES];
            let lost = report.cumulative_lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00FF_FFFF;
            let words = [
                report.ssrc,
                u32::from(report.fraction_lost) << 24 | lost,
                report.highest_sequence,
                report.jitter,
                report.last_sr,
                report.delay_since_last_sr,
            ];
            for (field, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *field = word.to_be_bytes();
            }
            self.put(&block)
        })
    }

    /// Fills up to the word, writes the length, and makes the packet part of the compound.
    pub(super) fn finish(mut self) -> Option<()> {
        let len = self.end - self.start;
        self.put([0; 3].get(..len.next_multiple_of(4) - len)?)?;
        let words = u16::try_from((self.end - self.start - HEADER_BYTES) / 4).ok()?;
        put(self.compound.out, self.start + 2, &words.to_be_bytes())?;
        self.compound.len = self.end;
        Some(())
    }
}

fn count_of<T>(entries: &[T], max: usize) -> Option<u8> {
    if entries.len() > max { None } else { u8::try_from(entries.len()).ok() }
}
