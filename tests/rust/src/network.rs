//! A network of a test's own: what it does to addresses and routes concerns nobody else, and all of it goes with the test.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Tells a test that it runs inside.
const INSIDE: &str = "SLUICE_TEST_NETWORK";

/// True inside a network namespace that has loopback alone. Outside, runs the same test again in one and returns false once
/// that has passed. `test` is its full name.
pub fn own(test: &str) -> anyhow::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"])?;
        return Ok(true);
    }
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?) == 0;
    // Who is not root becomes it in a user namespace, where the kernel permits that.
    let namespaces: &[&str] = if is_root { &["--net"] } else { &["--net", "--user", "--map-root-user"] };
    let own = std::env::current_exe()?;
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .context("unshare (util-linux) is needed")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !text.contains("1 passed") {
        bail!("in a network of its own:\n{text}");
    }
    Ok(false)
}

/// Runs a program that must succeed.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("{program} is needed"))?;
    anyhow::ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A number of the kernel's for this network, as `("Icmp", "OutDestUnreachs")`.
pub fn counted(protocol: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(of, _)| *of == protocol);
    let (names, values) = lines.next().zip(lines.next()).context("two lines for each protocol")?;
    let mut pairs = names.1.split(' ').zip(values.1.split(' '));
    Ok(pairs.find(|(n, _)| *n == name).context("no such number")?.1.parse()?)
}
