//! The borders between crates that the compiler alone does not guard: who may depend on whom, and where `unsafe` lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Crates of this workspace that each crate may depend on, as ARCHITECTURE.md draws it.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("sluice-wire", &[]),
    ("sluice-srtp", &["sluice-wire"]),
    ("sluice-messages", &[]),
    ("sluice-frames", &[]),
    ("sluice-forwarder", &["sluice-wire", "sluice-srtp", "sluice-messages", "sluice-frames"]),
    ("sluice-slowpath", &["sluice-wire", "sluice-srtp", "sluice-messages", "sluice-frames"]),
    ("sluice-io", &["sluice-frames", "sluice-wire"]),
    (
        "sluice-node",
        &[
            "sluice-wire",
            "sluice-srtp",
            "sluice-messages",
            "sluice-frames",
            "sluice-forwarder",
            "sluice-slowpath",
            "sluice-io",
        ],
    ),
    ("sluice-signal", &["sluice-messages"]),
    ("sluice-rooms", &["sluice-messages", "sluice-signal"]),
    ("sluice-store", &[]),
    ("sluice-placement", &[]),
    ("sluice-server", &["sluice-messages", "sluice-signal", "sluice-rooms", "sluice-store"]),
    ("sluice-load", &["sluice-wire", "sluice-srtp", "sluice-messages", "sluice-signal"]),
    ("sluice-simulate", &["sluice-messages", "sluice-signal", "sluice-rooms", "sluice-placement"]),
    ("sluice", &["sluice-io", "sluice-node", "sluice-server", "sluice-load", "sluice-simulate"]),
];

/// Crates that drive the others from outside; nothing imports them.
const TEST_CRATES: &[&str] = &["sluice-tests", "sluice-benches", "sluice-servers"];

/// Crates that must never be reachable, with the reason.
const MUST_NOT_SEE: &[(&str, &[&str], &str)] = &[
    (
        "sluice-forwarder",
        &["tokio", "quinn", "axum", "socket2", "io-uring", "crossbeam-channel", "parking_lot"],
        "the forwarder is sans-IO: no socket, clock, thread or lock, so that the same core runs in production and in simulation",
    ),
    (
        "sluice-slowpath",
        &["tokio", "quinn", "axum", "socket2", "io-uring"],
        "handshakes and data channels are sans-IO: they run on whatever thread and clock the node gives them",
    ),
    ("sluice-io", &["tokio", "quinn", "axum"], "a backend knows frames and the kernel, nothing else"),
    ("sluice-signal", &["tokio", "quinn", "axum"], "signalling is pure: it is tested without a network"),
    ("sluice-rooms", &["tokio", "quinn", "axum"], "the rooms are pure: (state, command) -> effects"),
    ("sluice-store", &["quinn"], "the store knows servers of stores, not nodes or clients"),
    (
        "sluice-placement",
        &["tokio", "quinn", "axum", "rand"],
        "placement is a function of its arguments: two controls must come to the same answer",
    ),
];

/// Words that read a clock, open a socket or start a thread; none may stand in the sources of a sans-IO or pure crate.
const SANS_IO_WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "Mutex",
    "RwLock",
    "std::fs::",
    "rand::rng()",
    "rand::random",
];
const SANS_IO: &[&str] = &[
    "common/wire",
    "dataplane/forwarder",
    "dataplane/slowpath",
    "controlplane/signal",
    "controlplane/rooms",
    "controlplane/placement",
];

/// Folders whose crates may contain `unsafe`: packet memory and I/O backends.
const UNSAFE_ALLOWED: &[&str] = &["dataplane/frames", "dataplane/io"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Normal dependencies of every package, from cargo's own resolution.
fn dependencies() -> (BTreeMap<String, BTreeSet<String>>, Vec<String>) {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let name = |id: &serde_json::Value| {
        let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["id"] == *id).unwrap();
        package["name"].as_str().unwrap().to_owned()
    };
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal =
            node["deps"].as_array().unwrap().iter().filter(|dependency| {
                dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null())
            });
        graph.entry(name(&node["id"])).or_default().extend(normal.map(|dependency| name(&dependency["pkg"])));
    }
    let members = metadata["workspace_members"].as_array().unwrap().iter().map(name).collect();
    (graph, members)
}

#[test]
fn crates_import_only_what_lies_below_them() {
    let (graph, members) = dependencies();
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    for member in members.iter().filter(|member| !TEST_CRATES.contains(&member.as_str())) {
        let may = allowed
            .get(member.as_str())
            .unwrap_or_else(|| panic!("{member} is new: say in MAY_IMPORT what it may import"));
        for import in graph[member].iter().filter(|import| members.contains(import)) {
            assert!(
                may.contains(&import.as_str()),
                "{member} must not import {import}: common knows formats, the data plane moves packets, the control plane decides, and they meet only in messages"
            );
        }
    }
}

#[test]
fn sans_io_crates_do_not_reach_the_outside() {
    let (graph, _) = dependencies();
    for (member, forbidden, reason) in MUST_NOT_SEE {
        let mut seen = BTreeSet::new();
        let mut open = vec![(*member).to_owned()];
        while let Some(package) = open.pop() {
            open.extend(graph[&package].iter().filter(|import| seen.insert((*import).clone())).cloned());
        }
        for package in *forbidden {
            assert!(!seen.contains(*package), "{member} reaches {package}: {reason}");
        }
    }
}

/// All Rust sources under a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Code of a file before its inline tests, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file is text");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn sans_io_sources_name_no_clock_socket_thread_or_lock() {
    for folder in SANS_IO {
        let mut files = Vec::new();
        sources(&root().join(folder).join("src"), &mut files);
        for file in
            files.iter().filter(|file| !file.ends_with("tests.rs") && !file.to_string_lossy().contains("/tests/"))
        {
            let code = code(file);
            for word in SANS_IO_WORDS {
                assert!(
                    !code.contains(word),
                    "{} says {word}: time, randomness and I/O are arguments there",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn unsafe_lives_in_packet_memory_and_backends_only() {
    for folder in ["common", "dataplane", "controlplane", "tools", "sluice", "tests/rust", "tests/servers"] {
        let mut files = Vec::new();
        sources(&root().join(folder), &mut files);
        for file in files {
            let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if UNSAFE_ALLOWED.iter().any(|allowed| relative.starts_with(allowed))
                || relative.contains("/tests/")
                || relative.contains("/benches/")
            {
                continue;
            }
            let is_root = relative.ends_with("src/lib.rs") || relative.ends_with("src/main.rs");
            if is_root {
                let text = fs::read_to_string(&file).unwrap();
                assert!(text.contains("#![forbid(unsafe_code)]"), "{relative} must forbid unsafe code at its root");
            }
        }
    }
}
