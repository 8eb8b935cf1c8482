//! Frame sizes of a camera: log-normal around what the rate allows, key frames several times larger, and the debt that
//! they make paid back by the frames behind them, as an encoder's rate control does.

use rand::{Rng, rngs::SmallRng};

/// A key frame has so many times the bytes of an average frame. Encoders of conference pictures make it 4 to 8 times.
const KEY_FACTOR: f64 = 5.0;

/// Spread of the logarithm of frame sizes. Raising it makes larger frames and so longer bursts of packets.
const SIGMA: f64 = 0.35;

/// A frame gets at least so much of the average, however large the debt: a picture cannot be left out.
const SHARE_MIN: f64 = 0.4;

/// Smallest frame: descriptor, payload header of a key frame, and the stamp have room in it.
pub const FRAME_BYTES_MIN: usize = 64;

/// One layer's encoder.
#[derive(Debug)]
pub struct Model {
    average_bytes: f64,
    fps: f64,
    key_every: u64,
    number: u64,
    /// Bytes sent beyond the rate.
    debt_bytes: f64,
    dice: SmallRng,
}

/// One encoded picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    pub bytes: usize,
    pub is_key: bool,
}

impl Model {
    /// `key_every` frames there is a key frame; the first one is one.
    pub fn new(rate_bps: u32, fps: u32, key_every: u64, dice: SmallRng) -> Model {
        let fps = f64::from(fps.max(1));
        let average_bytes = f64::from(rate_bps) / 8.0 / fps;
        Model { average_bytes, fps, key_every: key_every.max(1), number: 0, debt_bytes: 0.0, dice }
    }

    /// The next picture. `key` asks for a key frame out of turn.
    pub fn next(&mut self, key: bool) -> Frame {
        let is_key = key || self.number.is_multiple_of(self.key_every);
        // Periodic key frames count from the last one.
        self.number = if is_key { 1 } else { self.number + 1 };
        let target = if is_key {
            self.average_bytes * KEY_FACTOR
        } else {
            // A debt is paid back within a second.
            (self.average_bytes - self.debt_bytes / self.fps * 2.0).max(self.average_bytes * SHARE_MIN)
        };
        // The mean of a log-normal value is exp(mu + sigma² / 2).
        let size = target * (SIGMA * self.normal() - SIGMA * SIGMA / 2.0).exp();
        let bytes = (size as usize).max(FRAME_BYTES_MIN);
        self.debt_bytes = (self.debt_bytes + bytes as f64 - self.average_bytes).max(-self.average_bytes * self.fps);
        Frame { bytes, is_key }
    }

    /// A normally distributed value (Box and Muller).
    fn normal(&mut self) -> f64 {
        let u: f64 = self.dice.random_range(f64::MIN_POSITIVE..1.0);
        let v: f64 = self.dice.random();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// Cuts a frame into as few packets of at most `max` bytes as possible, whose lengths differ by one byte at most, as
/// libwebrtc does.
pub fn cut(bytes: usize, max: usize) -> impl Iterator<Item = usize> {
    let count = bytes.div_ceil(max.max(1)).max(1);
    let (least, larger) = (bytes / count, bytes % count);
    // The larger ones come last.
    (0..count).map(move |i| least + usize::from(i >= count - larger))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn model(rate_bps: u32, key_every: u64) -> Model {
        Model::new(rate_bps, 30, key_every, SmallRng::seed_from_u64(7))
    }

    #[test]
    fn the_rate_is_kept_key_frames_included() {
        for (rate, key_every) in [(150_000, 300), (500_000, 300), (1_700_000, 300), (1_700_000, 30)] {
            let mut model = model(rate, key_every);
            let seconds = 120;
            let bytes: usize = (0..30 * seconds).map(|_| model.next(false).bytes).sum();
            let measured = bytes as f64 * 8.0 / f64::from(seconds);
            let off = measured / f64::from(rate) - 1.0;
            assert!(off.abs() < 0.05, "{rate} bit/s became {measured:.0}");
        }
    }

    #[test]
    fn key_frames_come_in_time_and_on_request() {
        let mut model = model(500_000, 10);
        let keys: Vec<u64> = (0..40).filter(|i| model.next(*i == 14).is_key).collect();
        assert_eq!(keys, [0, 10, 14, 24, 34], "the period starts anew with each");
    }

    #[test]
    fn sizes_are_spread_to_the_right() {
        let mut model = model(1_700_000, u64::MAX);
        let mut sizes: Vec<usize> = (0..5000).map(|_| model.next(false).bytes).skip(100).collect();
        sizes.sort_unstable();
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        let median = sizes[sizes.len() / 2] as f64;
        assert!(mean > median * 1.02, "mean {mean}, median {median}");
        assert!(sizes[sizes.len() - 1] as f64 > median * 2.0);
    }

    #[test]
    fn packets_of_a_frame_are_nearly_equal() {
        let check = |bytes, max, want: &[usize]| assert_eq!(cut(bytes, max).collect::<Vec<_>>(), want);
        check(100, 1200, &[100]);
        check(1200, 1200, &[1200]);
        check(1201, 1200, &[600, 601]);
        check(3605, 1200, &[901, 901, 901, 902]);
    }
}
