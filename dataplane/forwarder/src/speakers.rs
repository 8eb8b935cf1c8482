//! Who is heard, from the audio level extension (RFC 6464).

use arrayvec::ArrayVec;
use sluice_messages::{Event, Speaker};
use sluice_wire::level::AudioLevel;

use crate::{Forwarder, limits::SPEAKERS_MAX};

/// Quieter than this (in -dBov) is background. Raising it makes keyboards speakers.
const THRESHOLD_DBOV: u8 = 40;
/// Loud packets of 20 ms in one period that make a speaker; 5 are a third of it.
const PACKETS_MIN: u32 = 5;
/// Levels are reported in steps of this, so that a steady voice is no change.
const STEPS: f32 = 8.0;
/// Share of the new level in the smoothed one.
const SMOOTHING: f32 = 0.5;

/// Loudness of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loudness {
    loud: u32,
    sum: f32,
    smoothed: f32,
}

impl Loudness {
    pub(crate) fn add(&mut self, level: AudioLevel) {
        if level.level_dbov <= THRESHOLD_DBOV {
            self.loud += 1;
            self.sum += 10f32.powf(-f32::from(level.level_dbov) / 20.0);
        }
    }

    /// Ends a period: the level while it is heard, in steps.
    fn take(&mut self) -> Option<f32> {
        let heard = self.loud >= PACKETS_MIN;
        let fresh = if heard { self.sum / self.loud as f32 } else { 0.0 };
        self.smoothed += (fresh - self.smoothed) * SMOOTHING;
        (self.loud, self.sum) = (0, 0.0);
        // At least one step: who is heard is not at level zero.
        heard.then(|| (self.smoothed.sqrt() * STEPS).ceil().clamp(1.0, STEPS) / STEPS)
    }
}

/// Speakers of one call.
pub(crate) type Speakers = ArrayVec<Speaker, SPEAKERS_MAX>;

fn insert(speakers: &mut Speakers, speaker: Speaker) {
    let at = speakers.iter().position(|s| s.level < speaker.level).unwrap_or(speakers.len());
    if speakers.is_full() && at < SPEAKERS_MAX {
        speakers.pop();
    }
    if !speakers.is_full() {
        speakers.insert(at, speaker);
    }
}

impl Forwarder {
    /// Ends a period for all calls.
    pub(crate) fn detect_speakers(&mut self) {
        for index in 0..self.tracks.end() {
            let Some(track) = self.tracks.get_mut(index) else { continue };
            let Some(level) = track.loudness.take().filter(|_| !track.muted) else { continue };
            if let Some(call) = self.calls.get_mut(track.call_index) {
                insert(&mut call.heard, Speaker { track: track.id, level });
            }
        }
        for index in 0..self.calls.end() {
            let Some(call) = self.calls.get_mut(index) else { continue };
            let heard = std::mem::take(&mut call.heard);
            if heard != call.reported {
                let event = Event::Speakers { call: call.id, speakers: heard.to_vec() };
                call.reported = heard;
                self.events.push(event, &mut self.counters);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_messages::TrackId;

    #[test]
    fn loud_is_heard_and_noise_is_not() {
        let mut loudness = Loudness::default();
        for _ in 0..15 {
            loudness.add(AudioLevel { voice: true, level_dbov: 60 });
        }
        assert_eq!(loudness.take(), None);
        for _ in 0..15 {
            loudness.add(AudioLevel { voice: true, level_dbov: 10 });
        }
        assert!(loudness.take().unwrap() > 0.3);
    }

    #[test]
    fn the_loudest_come_first_and_push_the_others_out() {
        let mut speakers = Speakers::new();
        for n in 0..20u8 {
            insert(&mut speakers, Speaker { track: TrackId(u64::from(n)), level: f32::from(n) / 20.0 });
        }
        assert_eq!(speakers.len(), SPEAKERS_MAX);
        assert_eq!(speakers[0].track, TrackId(19));
        assert!(speakers.windows(2).all(|w| w[0].level >= w[1].level));
    }
}
