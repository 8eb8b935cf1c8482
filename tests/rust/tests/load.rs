//! `sluice load` against a real server: everybody gets everything, and the report says so.

#![forbid(unsafe_code)]

use serde_json::Value;
use sluice_tests::process::{Folder, Process, Server, free_tcp, path};

/// Runs `sluice load` and returns its JSON report.
fn load(url: &str, flags: &[&str]) -> anyhow::Result<Value> {
    let folder = Folder::new();
    let (json, html) = (folder.join("load.json"), folder.join("load.html"));
    let (json_path, html_path) = (path(&json), path(&html));
    let mut args = vec!["load", "--url", url, "--json", &json_path, "--html", &html_path, "--threads", "1", "--quiet"];
    args.extend(flags);
    let mut process = Process::start(&args, &[]);
    let status = process.exit();
    let log = process.all();
    anyhow::ensure!(status.success(), "{log}");
    anyhow::ensure!(log.contains("measuring for") && log.contains("measured"), "programs wait for these lines: {log}");
    let page = std::fs::read_to_string(html)?;
    anyhow::ensure!(page.contains("<svg") && !page.contains("src="), "a page with plots that loads nothing");
    process.shows_log = false;
    Ok(serde_json::from_str(&std::fs::read_to_string(json)?)?)
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is a number: {report:#}"))
}

#[test]
fn every_receiver_gets_every_stream() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    for profile in ["aes128-gcm", "aes256-gcm", "aes-cm"] {
        let report = load(
            &url,
            &[
                "--publishers",
                "2",
                "--receivers",
                "20",
                "--duration",
                "2",
                "--warm-up",
                "1",
                "--verify",
                "2",
                "--hidden",
                "--profile",
                profile,
            ],
        )?;
        let is = |path: &str, want: f64| assert_eq!(number(&report, path), want, "{path}: {report:#}");
        is("/joined", 22.0);
        is("/streams/audio", 40.0);
        is("/streams/video", 40.0);
        is("/streams/receivers_complete", 20.0);
        is("/received/forged", 0.0);
        is("/join_ms/count", 22.0);
        is("/first_video_ms/count", 20.0);
        is("/first_audio_ms/count", 20.0);
        for kind in ["audio", "video"] {
            let count = number(&report, &format!("/latency_ms/{kind}/count"));
            assert!(count > 1000.0, "{count} latencies of {kind}");
            let (p50, max) = (format!("/latency_ms/{kind}/p50"), format!("/latency_ms/{kind}/max"));
            assert!(0.0 < number(&report, &p50) && number(&report, &p50) <= number(&report, &max));
        }
        // Two seconds of 50 audio packets/s from two to twenty are 4,000, and there is video besides.
        assert!(number(&report, "/received/packets") > 4000.0, "{report:#}");
        assert!(
            report["series"].as_array().is_some_and(|series| series.iter().any(|point| point["is_measured"] == true))
        );
    }
    server.healthy()?;
    Ok(())
}

#[test]
fn loss_at_the_receivers_is_seen_and_repaired() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    let flags =
        ["--publishers", "1", "--receivers", "4", "--audio", "off", "--loss", "3", "--duration", "4", "--warm-up", "1"];
    let report = load(&url, &flags)?;
    let (loss, residual) = (number(&report, "/received/loss"), number(&report, "/received/residual_loss"));
    assert!((0.015..0.06).contains(&loss), "{report:#}");
    assert!(residual < loss / 3.0, "{report:#}");
    assert!(number(&report, "/counters/nacks_sent") > 10.0);
    server.healthy()?;
    Ok(())
}

#[test]
fn a_sampling_network_shows_the_whole_rate_and_no_loss() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    // Receivers look at no other packets, so that every network is a sampling one.
    let flags = [
        "--publishers",
        "1",
        "--receivers",
        "4",
        "--layers",
        "1",
        "--sampled",
        "8",
        "--duration",
        "4",
        "--warm-up",
        "1",
    ];
    let report = load(&url, &flags)?;
    let (sent, counted) = (number(&report, "/sent/packets"), number(&report, "/received/packets"));
    let received = number(&report, "/received/packets_by_sequence");
    assert!((received / (4.0 * sent) - 1.0).abs() < 0.2, "{report:#}");
    assert!((counted * 8.0 / received - 1.0).abs() < 0.2, "{report:#}");
    assert_eq!((number(&report, "/received/loss"), number(&report, "/counters/nacks_sent")), (0.0, 0.0), "{report:#}");
    server.healthy()?;
    Ok(())
}

#[test]
fn a_gallery_shows_what_its_layout_says() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    let flags = [
        "--rooms",
        "2",
        "--publishers",
        "0",
        "--receivers",
        "0",
        "--both",
        "4",
        "--layout",
        "1f,1q",
        "--duration",
        "2",
        "--warm-up",
        "1",
    ];
    let report = load(&url, &flags)?;
    assert_eq!(number(&report, "/streams/audio"), 24.0, "{report:#}");
    assert_eq!(number(&report, "/streams/video"), 16.0, "{report:#}");
    assert_eq!(number(&report, "/streams/receivers_complete"), 8.0, "{report:#}");
    server.healthy()?;
    Ok(())
}

/// Runs `sluice load`, which must fail with `code` and say `reason` in its last line.
fn fails(args: &[&str], code: i32, reason: &str) {
    let mut process = Process::start(&[&["load"], args].concat(), &[]);
    let status = process.exit();
    let log = process.all();
    assert_eq!(status.code(), Some(code), "{args:?}: {log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(reason), "{args:?}: {last:?} does not say {reason:?}");
    process.shows_log = false;
}

#[test]
fn what_goes_wrong_is_said_in_one_line() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    let nobody = format!("ws://{}", free_tcp());
    fails(&["--url", &nobody], 1, "cannot reach the server");
    fails(&["--url", &url, "--api-secret", "guess"], 1, "the server refused with 401");
    fails(&["--url", "wss://example.org"], 2, "TLS is not spoken");
    fails(&["--url", &url, "--layout", "many"], 2, "the layout \"many\"");
    fails(&["--url", &url, "--receivers", "0"], 2, "nobody receives");
    fails(&["--url", &url, "--scenario", "/nonexistent.toml"], 2, "cannot be read");
    server.healthy()?;
    Ok(())
}

#[test]
fn a_server_that_dies_ends_the_run() -> anyhow::Result<()> {
    let mut server = Server::up(&[])?;
    let url = format!("ws://{}", server.http);
    let mut process = Process::start(&["load", "--url", &url, "--receivers", "2", "--duration", "600"], &[]);
    process.line("measuring for")?;
    server.process.kill();
    server.process.shows_log = false;
    let status = process.exit();
    let log = process.all();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the server went away"), "{log}");
    process.shows_log = false;
    Ok(())
}
