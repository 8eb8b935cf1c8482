//! SSRCs of one peer connection.

use serde::{Deserialize, Serialize};

/// SSRCs that look random and never repeat: a bijection of a counter, so that nothing has to be remembered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Ssrcs {
    seed: u32,
    drawn: u32,
}

impl Ssrcs {
    pub(super) fn new(seed: u64) -> Ssrcs {
        Ssrcs { seed: (seed ^ (seed >> 32)) as u32, drawn: 0 }
    }

    /// One that was not drawn before, and not 0.
    pub(super) fn draw(&mut self) -> u32 {
        loop {
            let mut x = self.drawn.wrapping_add(self.seed);
            self.drawn = self.drawn.wrapping_add(1);
            // Each step can be undone: odd factors and shifted exclusive ors.
            x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
            x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
            x ^= x >> 16;
            if x != 0 {
                return x;
            }
        }
    }
}
