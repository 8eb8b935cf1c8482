//! `sluice stats` beside a running node.

#![forbid(unsafe_code)]

use std::{
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    time::Instant,
};

use serde_json::Value;
use sluice_tests::{
    PATIENCE,
    api::metrics,
    client::{Client, Options},
    process::{Folder, Process, Server, path},
};

/// Readers that a node serves at a time.
const READERS_MAX: usize = 8;

fn stats(data: &Path, options: &[&str]) -> Process {
    let data = path(data);
    let mut args = vec!["stats", "--data", &data];
    args.extend(options);
    let mut process = Process::start(&args, &[]);
    process.shows_log = false;
    process
}

/// It ends with code 2 and one line that says why.
fn fails(mut process: Process, says: &[&str]) {
    assert_eq!(process.exit().code(), Some(2), "{}", process.log());
    let log = process.all();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("sluice: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    says.iter().for_each(|word| assert!(lines[0].contains(word), "{:?} does not say {word:?}", lines[0]));
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_shows_in_numbers_of_each_worker() -> anyhow::Result<()> {
    let mut server = Server::up(&["--workers", "2"])?;
    let ann = Client::join(server.http, "stats", "ann", Options::default()).await?;
    let mut bob = Client::join(server.http, "stats", "bob", Options::default()).await?;
    bob.until("ann's media", |seen| seen.audios.len() == 1 && seen.videos.len() == 1).await?;
    // Something to drop, and to say why.
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    stranger.send_to(&[0xff; 100], server.media).await?;

    let mut once = stats(server.data(), &["--once", "--json"]);
    assert!(once.exit().success(), "{}", once.all());
    let text = once.all();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["workers"].as_array().map(Vec::len), Some(2));
    assert!(["uring", "mmsg", "xdp"].contains(&report["backend"].as_str().unwrap_or_default()), "{report}");
    let number = |value: &Value| value.as_f64().unwrap_or(-1.0);
    let busy = |row: &&Value| number(&row["packets_out"]) > 0.0;
    // The call lives on one of them.
    let rows: Vec<&Value> = report["workers"].as_array().into_iter().flatten().collect();
    let worker = rows.iter().copied().find(busy).expect("one forwards");
    for name in ["packets_in", "packets_out", "bits_in", "bits_out", "packet_cost_ns", "busy", "cpu", "frames_free"] {
        assert!(number(&worker[name]) > 0.0, "{name}: {worker:#}");
    }
    assert!(number(&worker["busy"]) <= 1.0 && number(&worker["run"]) >= 1.0, "{worker:#}");
    assert!(number(&worker["frames_free"]) < number(&worker["frames"]));
    for row in &rows {
        for queue in ["worker_commands", "worker_verdicts", "slow_datagrams"] {
            assert!(number(&row["waiting"][queue]) >= 0.0, "{queue}: {row:#}");
        }
    }
    let total = &report["total"];
    assert!(number(&total["drops"]["worker_drop_unclassified"]["total"]) >= 1.0, "{total:#}");
    let sum: f64 = rows.iter().map(|row| number(&row["packets_out"])).sum();
    assert!((number(&total["packets_out"]) - sum).abs() < 0.01);

    // Without a terminal the live view is a table each second; whoever reads it may stop.
    let mut table = stats(server.data(), &[]);
    for _ in 0..2 {
        table.line("worker")?;
        table.line("all")?;
        table.line("worker_drop_unclassified")?;
    }
    table.kill();

    // The same series, by worker, for Prometheus.
    let url = format!("http://{}/metrics", server.http);
    while !metrics(server.http).await?.get("sluice_node_sent_packets").is_some_and(|sent| *sent > 0.0) {
        bob.goes_on("the call", 10).await?;
    }
    let page = reqwest::get(url).await?.text().await?;
    for worker in 0..2 {
        let series = format!("sluice_node_sent_packets{{node=\"local\",worker=\"{worker}\"}}");
        assert!(page.contains(&series), "{series} is not in\n{page}");
    }
    drop(ann);
    server.healthy()?;
    Ok(())
}

#[test]
fn why_there_is_nothing_to_show_is_said() -> anyhow::Result<()> {
    let folder = Folder::new();
    fails(stats(&folder.0, &[]), &["no node runs here", &path(&folder.join("stats.sock")), "--data"]);

    let mut server = Server::up(&[])?;
    let socket = server.data().join("stats.sock");
    assert_eq!(std::fs::metadata(&socket)?.permissions().mode() & 0o777, 0o600, "of its own user alone");

    // Readers that never read: as many as there are places. The next one is told so, until they are dropped.
    let stuck: Vec<UnixStream> = (0..READERS_MAX).map(|_| UnixStream::connect(&socket)).collect::<Result<_, _>>()?;
    let mut refused = stats(server.data(), &["--once"]);
    if !refused.exit().success() {
        fails(refused, &["refuses", "8 others"]);
    } else {
        panic!("a ninth reader was served: {}", refused.all());
    }
    drop(stuck);
    // The node notices that they are gone.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut once = stats(server.data(), &["--once"]);
        if once.exit().success() {
            break;
        }
        fails(once, &["refuses"]);
        assert!(Instant::now() < deadline, "places are not freed");
    }

    let mut watching = stats(server.data(), &["--json"]);
    watching.line("interval_s")?;
    server.process.kill();
    fails(watching, &["the node has stopped"]);
    // Killed, it left its socket behind.
    assert!(socket.exists());
    fails(stats(server.data(), &["--once"]), &["no node runs here", &path(&socket)]);
    Ok(())
}

#[test]
fn another_user_is_told_to_be_root() -> anyhow::Result<()> {
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        // Only root can become another user.
        return Ok(());
    }
    let server = Server::up(&[])?;
    let folder = Folder::new();
    // Where every user may run it.
    let binary = folder.join("sluice");
    std::fs::copy(sluice_tests::process::binary(), &binary)?;
    let output =
        std::process::Command::new(binary).args(["stats", "--data"]).arg(server.data()).uid(65_534).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("stats.sock") && said.contains("sudo"), "{said}");
    Ok(())
}

#[test]
fn a_socket_left_behind_is_taken_over_and_one_in_use_is_not() -> anyhow::Result<()> {
    let folder = Folder::new();
    let socket = folder.join("stats.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    let mut server = Server::up_in(&folder.0, &[])?;
    let mut once = stats(&folder.0, &["--once"]);
    assert!(once.exit().success(), "{}", once.all());
    assert!(once.all().contains("node local"), "{}", once.log());
    server.healthy()?;
    drop(server);

    std::fs::remove_file(&socket)?;
    let held = std::os::unix::net::UnixListener::bind(&socket)?;
    let mut server = Server::up_in(&folder.0, &[])?;
    assert!(server.healthy()?.contains("another node has this data folder"), "{}", server.process.log());
    drop(held);
    Ok(())
}
