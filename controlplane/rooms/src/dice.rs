//! Randomness from a seed: ids, ICE credentials, SSRC seeds.

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use sluice_messages::{CallId, DataTrackId, IceCredentials, TrackId, TransportId};

/// Seeds the generator. Production passes 32 bytes of the system's randomness: sids and ICE passwords are drawn from it
/// and must not be guessable. Tests pass a number.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u8; 32]);

impl From<u64> for Seed {
    fn from(number: u64) -> Seed {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Seed(seed)
    }
}

impl From<[u8; 32]> for Seed {
    fn from(seed: [u8; 32]) -> Seed {
        Seed(seed)
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// RFC 8839 section 5.4 asks for 24 bits in the ufrag and 128 in the password; both are exceeded.
const UFRAG_CHARS: usize = 8;
const PWD_CHARS: usize = 24;
const SID_CHARS: usize = 12;

pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: Seed) -> Dice {
        Dice(StdRng::from_seed(seed.0))
    }

    /// `PA_…`, `TR_…`, `DTR_…`, `RM_…`
    pub(crate) fn sid(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.base62(SID_CHARS))
    }

    pub(crate) fn call(&mut self) -> CallId {
        CallId(self.id())
    }

    pub(crate) fn transport(&mut self) -> TransportId {
        TransportId(self.id())
    }

    pub(crate) fn track(&mut self) -> TrackId {
        TrackId(self.id())
    }

    pub(crate) fn data_track(&mut self) -> DataTrackId {
        DataTrackId(self.id())
    }

    pub(crate) fn ice(&mut self) -> IceCredentials {
        IceCredentials { ufrag: self.base62(UFRAG_CHARS), pwd: self.base62(PWD_CHARS) }
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Zero is never drawn.
    fn id(&mut self) -> u64 {
        self.0.random_range(1..=u64::MAX)
    }

    fn base62(&mut self, chars: usize) -> String {
        (0..chars).map(|_| BASE62[self.0.random_range(0..BASE62.len())] as char).collect()
    }
}
