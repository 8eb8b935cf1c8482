//! What an operator can get wrong at start: one clear line, exit code 2.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
};

use sluice_tests::process::{Folder, Process, free_tcp, free_udp, path};

/// The process ends with code 2, and one line says what is wrong.
fn check(what: &str, args: &[&str], env: &[(&str, &str)], says: &[&str]) {
    let data = Folder::new();
    let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    args.extend(["--data".to_owned(), path(&data.0)]);
    let mut process = Process::start(&args, env);
    let code = process.exit().code();
    let log = process.all();
    assert_eq!(code, Some(2), "{what}: {log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("sluice: ")).collect();
    assert_eq!(lines.len(), 1, "{what}: one line says why:\n{log}");
    assert!(lines[0].len() < 300, "{what}: {}", lines[0]);
    for word in says {
        assert!(lines[0].contains(word), "{what}: {:?} does not say {word:?}", lines[0]);
    }
    assert!(!log.contains("panicked") && !log.contains("stack backtrace"), "{what}: {log}");
}

#[test]
fn a_port_in_use_is_named() {
    let (http, media) = (free_tcp().to_string(), free_udp().to_string());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check("page", &["up", "--listen", &address, "--media", &media], &[], &[&address, "in use"]);

    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    check("media", &["up", "--listen", &http, "--media", &address], &[], &[&port, "127.0.0.1", "in use"]);
}

#[test]
fn a_configuration_that_cannot_be_used_is_named_with_its_line() {
    let folder = Folder::new();
    let file = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        path(&file)
    };
    let missing = path(&folder.join("missing.toml"));
    check("missing", &["up", "--config", &missing], &[], &[&missing, "cannot be read"]);
    let is_folder = path(&folder.0);
    check("a folder", &["up", "--config", &is_folder], &[], &[&is_folder, "cannot be read"]);
    let unknown = file("unknown.toml", "[http]\nlisten = []\nlistne = []\n");
    check("unknown key", &["up", "--config", &unknown], &[], &[&unknown, "line 3", "listne"]);
    let section = file("section.toml", "[htpp]\n");
    check("unknown section", &["up", "--config", &section], &[], &[&section, "line 1", "htpp"]);
    let broken = file("broken.toml", "[http\n");
    check("not TOML", &["up", "--config", &broken], &[], &[&broken, "line 1"]);
    let kind = file("kind.toml", "[media]\nworkers = \"two\"\n");
    check("wrong type", &["up", "--config", &kind], &[], &[&kind, "line 2"]);
    let ports = [free_tcp().to_string(), free_udp().to_string()];
    let bounded = |text: &str, says: &[&str]| {
        let long = file("bounded.toml", text);
        check(text, &["up", "--config", &long, "--listen", &ports[0], "--media", &ports[1]], &[], says);
    };
    bounded("[media]\nhold_us = 50000\n", &["held", "20000 us"]);
    bounded("[media]\npadding_percent = 30\n", &["padding", "20 %"]);
    let binary = folder.join("binary.toml");
    fs::write(&binary, [0xff, 0xfe, 0, 1]).unwrap();
    check("not text", &["up", "--config", &path(&binary)], &[], &["binary.toml", "cannot be read"]);
    check("control too", &["control", "--config", &unknown], &[], &["listne"]);
    check("node too", &["node", "--config", &unknown], &[], &["listne"]);
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    check("no pair", &["up"], &[("SLUICE_KEYS", "justakey")], &["SLUICE_KEYS", "key: secret"]);
    check("no secret", &["up"], &[("SLUICE_KEYS", "key:")], &["SLUICE_KEYS"]);
    check("too short", &["up"], &[("SLUICE_KEYS", "key: short")], &["\"key\"", "too short", "32"]);
}

#[test]
fn development_mode_stays_on_loopback() {
    for address in ["0.0.0.0:7880", "[::]:7880", "192.0.2.1:7880"] {
        let says = [address, "well-known key", "SLUICE_KEYS"];
        check(address, &["up", "--listen", address], &[], &says);
        check(address, &["control", "--listen", address], &[], &says);
    }
}

#[test]
fn missing_certificates_are_named_with_the_remedy() {
    check("control", &["control"], &[], &["certificate", "sluice certs"]);
    check("node", &["node"], &[], &["certificate", "sluice certs"]);
}

#[test]
fn an_unknown_option_is_named() {
    let mut process = Process::start(&["up", "--lisen", "127.0.0.1:1"], &[]);
    assert_eq!(process.exit().code(), Some(2));
    let log = process.all();
    assert!(log.contains("--lisen") && log.contains("--listen"), "{log}");
}
