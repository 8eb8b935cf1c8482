//! Runs the fuzz targets' seeds, and a bounded number of mutations of each, through what the fuzz targets call.

use std::{fs, path::Path};

use sluice_wire::exercise;

/// Mutations of each seed. Raising it finds more and takes longer: 20,000 take about 10 ms.
const MUTATIONS: u64 = 20_000;

fn check(target: &str, exercise: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let seed = fs::read(entry.unwrap().path()).unwrap();
        exercise(&seed);
        for number in 0..MUTATIONS {
            exercise(&exercise::mutate::<1500>(&seed, number));
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds in {}", folder.display());
}

#[test]
fn rtp() {
    check("rtp", exercise::rtp);
}

#[test]
fn rtcp() {
    check("rtcp", exercise::rtcp);
}

#[test]
fn stun() {
    check("stun", exercise::stun);
}

#[test]
fn vp8() {
    check("vp8", exercise::vp8);
}

#[test]
fn vp9() {
    check("vp9", exercise::vp9);
}

#[test]
fn h264() {
    check("h264", exercise::h264);
}

#[test]
fn av1() {
    check("av1", exercise::av1);
}

#[test]
fn red() {
    check("red", exercise::red);
}
