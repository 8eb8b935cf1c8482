//! The ranking: weighted rendezvous hashing.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seed of all hashes. Another value places every call anew: rooms that live keep their node, as it is written down, but two
/// versions with different seeds disagree about rooms that begin and about backups.
const SEED: u64 = 0x736c_7569_6365_0001;

/// Hash of what is placed: a room's name or a participant's identity.
pub(crate) fn key(name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), SEED)
}

/// Uniform over all nodes for one key: XXH3 of the node's name, seeded with the key.
pub(crate) fn hash(key: u64, node: &str) -> u64 {
    xxh3_64_with_seed(node.as_bytes(), key)
}

/// Rank of a node for a key: the highest wins, and each wins in proportion to its weight (the logarithm method:
/// `-weight / ln(u)` with `u` uniform between 0 and 1).
///
/// The logarithm is the one of `libm`, which uses basic operations only: that of the system differs in the last digit between
/// machines.
pub(crate) fn score(key: u64, node: &str, weight: u64) -> f64 {
    // 52 bits and a half, so that the number is exact and neither 0 nor 1.
    let uniform = ((hash(key, node) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    weight as f64 / -libm::log(uniform)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are part of what versions agree on. If this test fails, two versions place calls differently.
    #[test]
    fn ranks_are_the_same_for_ever() {
        assert_eq!(key("stand-up"), KEY);
        assert_eq!(hash(key("stand-up"), "node-1"), HASH);
        assert_eq!(score(key("stand-up"), "node-1", 1000).to_bits(), SCORE);
        assert!(score(0, "", 0) == 0.0, "a weight of zero ranks last");
    }

    const KEY: u64 = 0x87d9_ce8a_ec03_20c3;
    const HASH: u64 = 0x8785_692a_7b5e_149d;
    const SCORE: u64 = 0x4098_90d0_c0a1_df18;
}
