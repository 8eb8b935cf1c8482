//! Runs the fuzz target's seeds, and a bounded number of mutations of each, through what the fuzz target calls.

use std::{fs, path::Path};

use sluice_srtp::exercise;
use sluice_wire::exercise::mutate;

/// Mutations of each seed. Raising it finds more and takes longer: each costs some 20 µs.
const MUTATIONS: u64 = 5_000;

#[test]
fn srtp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/srtp");
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let seed = fs::read(entry.unwrap().path()).unwrap();
        exercise::srtp(&seed);
        for number in 0..MUTATIONS {
            exercise::srtp(&mutate::<1500>(&seed, number));
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds in {}", folder.display());
}
