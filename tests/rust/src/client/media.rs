//! Frames that carry numbers.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use str0m::{
    Rtc,
    format::Codec,
    media::{Frequency, MediaData, MediaKind, MediaTime, Mid, Rid},
};

use super::LAYERS;

/// Published audio.
pub(super) struct Audio {
    pub(super) mid: Mid,
    pub(super) next: Instant,
    pub(super) number: u64,
}

impl Audio {
    pub(super) fn write(&mut self, rtc: &mut Rtc, now: Instant, since: Duration) -> anyhow::Result<()> {
        self.number += 1;
        let Some(writer) = rtc.writer(self.mid) else { return Ok(()) };
        let pt = writer.payload_params().find(|p| p.spec().codec == Codec::Opus).map(|p| p.pt());
        let mut frame = vec![0xfc; 40];
        frame[1..9].copy_from_slice(&self.number.to_be_bytes());
        let time = MediaTime::new((since.as_micros() * 48 / 1000) as u64, Frequency::FORTY_EIGHT_KHZ);
        Ok(writer.audio_level(-30, true).write(pt.context("Opus was negotiated")?, now, time, frame)?)
    }
}

/// Published video with all its layers.
pub(super) struct Video {
    pub(super) mid: Mid,
    pub(super) next: Instant,
    pub(super) number: u64,
    /// RIDs whose next frame is a key frame.
    pub(super) keyframes: HashSet<&'static str>,
}

impl Video {
    pub(super) fn write(&mut self, rtc: &mut Rtc, now: Instant, since: Duration) -> anyhow::Result<()> {
        self.number += 1;
        for (rid, width, height, bytes) in LAYERS {
            let Some(writer) = rtc.writer(self.mid) else { return Ok(()) };
            let Some(pt) = writer.payload_params().find(|p| p.spec().codec == Codec::Vp8).map(|p| p.pt()) else {
                bail!("VP8 was not negotiated");
            };
            let frame = vp8(self.keyframes.remove(rid), width, height, self.number, bytes);
            let time = MediaTime::new((since.as_micros() * 90 / 1000) as u64, Frequency::NINETY_KHZ);
            writer.rid(Rid::from(rid)).write(pt, now, time, frame)?;
        }
        Ok(())
    }

    /// A receiver asks for a key frame of a layer.
    pub(super) fn request(&mut self, rid: Rid) {
        self.keyframes.extend(LAYERS.iter().map(|layer| layer.0).find(|name| Rid::from(*name) == rid));
    }
}

/// The number that a received frame carries, if it is one of ours.
pub(super) fn number(kind: MediaKind, data: &MediaData) -> Option<u64> {
    let at = match kind {
        MediaKind::Audio => 1,
        MediaKind::Video if data.is_keyframe() => 10,
        MediaKind::Video => 3,
    };
    Some(u64::from_be_bytes(*data.data.get(at..)?.first_chunk()?))
}

/// A frame that looks like VP8 from outside (RFC 6386 section 9.1): frame tag, start code and size where it is a key frame,
/// then its number.
fn vp8(key: bool, width: u32, height: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut frame = vec![if key { 0x10 } else { 0x11 }, 0, 0];
    if key {
        frame.extend([0x9d, 0x01, 0x2a]);
        frame.extend((width as u16).to_le_bytes());
        frame.extend((height as u16).to_le_bytes());
    }
    frame.extend(number.to_be_bytes());
    frame.resize(bytes.max(frame.len()), 0);
    frame
}
