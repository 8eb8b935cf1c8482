//! A small cluster through all that happens to it.

use clap::Parser;
use sluice_simulate::{Report, Settings, SettingsError, simulate};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn settings(flags: &[&str]) -> Settings {
    Flags::parse_from(["simulate"].iter().chain(flags)).settings
}

/// Ten nodes in two regions with 500 calls, so that a node has about fifty.
fn small(more: &[&str]) -> Report {
    let flags = [
        "--nodes",
        "10",
        "--regions",
        "2",
        "--rack",
        "2",
        "--calls",
        "500",
        "--largest",
        "10",
        "--capacity-pps",
        "200000",
        "--minutes",
        "10",
        "--pause-s",
        "10",
        "--drain-rate",
        "20",
        "--drain-percent",
        "10",
    ];
    simulate(&settings(&[&flags[..], more].concat()), true).expect("the settings make sense")
}

/// What does not depend on the machine.
fn counts(report: &Report) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert!(json.as_object_mut().unwrap().remove("measured").is_some());
    json.to_string()
}

#[test]
fn the_same_seed_gives_the_same_counts() {
    let (one, again, other) = (small(&[]), small(&[]), small(&["--seed", "2"]));
    assert_eq!(counts(&one), counts(&again));
    assert_eq!(one.svg(), again.svg());
    assert_ne!(counts(&one), counts(&other));
}

#[test]
fn nobody_is_without_a_node_and_loads_are_bounded() {
    for seed in ["1", "2", "3"] {
        let report = small(&["--seed", seed]);
        let names: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        for phase in &report.phases {
            assert_eq!((phase.refused, phase.stranded, phase.people_without_node), (0, 0, 0), "{phase:?}");
            assert_eq!(phase.placed_above, 0, "{phase:?}");
            assert!(phase.worst.max <= 1.0 && phase.calls > 300, "{phase:?}");
        }
        let [_, quiet, node, rack, region, drain] = &report.phases[..] else { panic!("{names:?}") };
        assert_eq!(quiet.moved_calls, 0);
        assert_eq!([node.nodes_lost, rack.nodes_lost, region.nodes_lost, drain.nodes_lost], [1, 2, 5, 10]);
        // The region has half of all calls; all that are on a node at some time are moved off it once at least.
        assert!(node.moved_calls > 20 && region.moved_calls > 150, "{region:?}");
        assert!(drain.moved_calls as usize > drain.calls / 2, "{drain:?}");
        assert!(report.series.iter().filter(|point| point.phase == 5).all(|point| point.moved_people <= 20 * 10));
        // All at once for failures, at the rate for drains.
        assert!(region.peak_messages_per_s >= region.moved_people as f64, "{region:?}");
    }
}

#[test]
fn a_cluster_that_is_too_small_says_so_and_loses_nobody_silently() {
    // One region of two nodes: the fuller one cannot take over what the other has.
    let flags = [
        "--nodes",
        "2",
        "--regions",
        "1",
        "--rack",
        "1",
        "--calls",
        "200",
        "--largest",
        "6",
        "--capacity-pps",
        "130000",
        "--pause-s",
        "5",
    ];
    let report = simulate(&settings(&flags), true).unwrap();
    let node = report.phases.iter().find(|phase| phase.name == "one node fails").unwrap();
    assert!(node.stranded > 0 && node.people_without_node > 0, "{node:?}");
    assert!(node.worst.max > 0.97 && node.worst.max <= 1.0, "the other is full: {node:?}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let check = |flags: &[&str], says: &str| {
        let error: SettingsError = simulate(&settings(flags), true).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    check(&["--nodes", "1"], "--nodes is 1: say a number from 2 to 10000");
    check(&["--regions", "0"], "--regions is 0");
    check(&["--rack", "300"], "a rack of 300 nodes does not fit into a region: 1000 nodes in 4 regions");
    check(&["--minutes", "NaN"], "--minutes is NaN");
    check(&["--drain-percent", "80"], "--drain-percent is 80");
    check(&["--largest", "1"], "--largest is 1");
    check(&["--calls", "1000000"], "raise --nodes or --capacity-pps, or lower --calls");
}

#[test]
fn reports_have_all_parts() {
    let report = small(&[]);
    for part in ["a region of 5 fails", "all nodes are drained in turn", "one placement over all nodes"] {
        assert!(report.text().contains(part), "{part}: {}", report.text());
    }
    let page = report.html();
    assert!(page.contains("<svg") && page.contains("a rack of 2 fails") && !page.contains("src="));
    assert!(report.svg().matches("<polyline").count() == 6);
}
