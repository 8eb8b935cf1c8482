//! What a node is told at start, and what it derives from that.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_io::Preference as BackendPreference;

use crate::StartError;

/// Port of media when nothing else is said.
pub const PORT: u16 = 7882;

/// Frames of packet memory per worker, 2 KiB each. Raising it costs resident memory and gives a longer retransmission
/// history and deeper egress queues; lowering it makes a busy worker drop arriving packets.
pub const POOL_FRAMES: usize = 16_384;

/// Subscriptions of a call on one worker before it spreads: about a third of a core if all were video of 200 packets a
/// second. Raising it keeps calls on fewer workers, which spares copies and histories; lowering it leaves more room for
/// those who are there already, as nobody is moved afterwards.
pub const SPREAD: usize = 1000;

/// Everything a node needs to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Unique in a cluster.
    pub name: String,
    /// Where media arrives; all workers share each of these ports. At most [`NodeConfig::BIND_MAX`].
    pub bind: Vec<SocketAddr>,
    /// Host candidates for clients, in order of preference. Empty: the bound addresses, where a wildcard stands for the
    /// addresses of the interfaces.
    pub external: Vec<IpAddr>,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    pub backend: BackendPreference,
    /// Whether the kernel gives datagrams to the worker they belong to, where eBPF is permitted. Off, workers hand over.
    pub steering: bool,
    /// Frames of packet memory per worker.
    pub pool_frames: usize,
    /// Enabled subscriptions of one call on one worker from which on its new receivers go to other workers, see [`SPREAD`].
    pub spread: usize,
    /// Bounds of the forwarder, per worker.
    pub forwarder: sluice_forwarder::Config,
    /// Certificate shown in DTLS; made at start where absent.
    pub certificate: Option<DtlsCertificate>,
    /// How to reach control.
    pub link: LinkConfig,
}

impl NodeConfig {
    /// Routes name their socket by a small number; a host with more addresses binds a wildcard.
    pub const BIND_MAX: usize = 16;

    /// Longer than this and everybody sees it.
    pub const HOLD_MAX: Duration = Duration::from_millis(20);

    /// Padding beyond this costs receivers more than it saves here.
    pub const PADDING_MAX_PERMILLE: u32 = 200;

    /// A node on loopback with everything else at its default.
    pub fn new(name: impl Into<String>, link: LinkConfig) -> NodeConfig {
        NodeConfig {
            name: name.into(),
            bind: vec![SocketAddr::from(([127, 0, 0, 1], PORT)), SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], PORT))],
            external: Vec::new(),
            workers: 0,
            backend: BackendPreference::Auto,
            steering: true,
            pool_frames: POOL_FRAMES,
            spread: SPREAD,
            forwarder: sluice_forwarder::Config::default(),
            certificate: None,
            link,
        }
    }

    /// Worker threads that will run.
    pub fn worker_count(&self) -> usize {
        let count = match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        count.min(crate::worker::WORKERS_MAX)
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let fault = |text: String| Err(StartError::Config(text));
        if self.name.is_empty() || self.name.len() > 128 || self.name.chars().any(char::is_control) {
            return fault("the node's name must have 1 to 128 printable characters".into());
        }
        if self.bind.is_empty() || self.bind.len() > NodeConfig::BIND_MAX {
            return fault(format!("a node binds 1 to {} addresses, not {}", NodeConfig::BIND_MAX, self.bind.len()));
        }
        if self.pool_frames < 256 {
            return fault(format!(
                "{} frames per worker are too few to receive a burst; at least 256",
                self.pool_frames
            ));
        }
        if self.forwarder.hold > NodeConfig::HOLD_MAX {
            return fault(format!("video is held for at most {} us", NodeConfig::HOLD_MAX.as_micros()));
        }
        if self.forwarder.padding_permille > NodeConfig::PADDING_MAX_PERMILLE {
            return fault(format!("padding is at most {} %", NodeConfig::PADDING_MAX_PERMILLE / 10));
        }
        if self.spread == 0 {
            return fault("a call has at least 1 subscription on a worker before it spreads".into());
        }
        if self.link.control.is_empty() {
            return fault("no address of control is given".into());
        }
        Ok(())
    }
}

/// A DTLS certificate and its key, both DER (key: PKCS #8).
#[derive(Clone)]
pub struct DtlsCertificate {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl std::fmt::Debug for DtlsCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DtlsCertificate").finish_non_exhaustive()
    }
}

/// The link to control.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `host:port` of each control instance; tried in order, again and again.
    pub control: Vec<String>,
    /// Name that control's certificate must carry.
    pub server_name: String,
    /// Authority that both sides' certificates are signed by.
    pub ca: Credential,
    /// The node's own certificate, and its key.
    pub certificate: Credential,
    pub key: Credential,
}

/// A certificate or key, PEM or DER.
#[derive(Clone)]
pub enum Credential {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Credential {
    /// The file's path, or the bytes themselves read as they are.
    pub(crate) fn read(&self) -> Result<Vec<u8>, StartError> {
        match self {
            Credential::Bytes(bytes) => Ok(bytes.clone()),
            Credential::File(path) => std::fs::read(path)
                .map_err(|error| StartError::Credential(path.display().to_string(), error.to_string())),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Credential::Bytes(_) => "given in memory".into(),
            Credential::File(path) => path.display().to_string(),
        }
    }
}

impl From<&Path> for Credential {
    fn from(path: &Path) -> Credential {
        Credential::File(path.into())
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// Most host candidates that are given to clients. Raising it makes every client check more pairs, lowering it hides
/// addresses of hosts with many interfaces.
const ADVERTISED_MAX: usize = 8;

/// Host candidates for clients, from what was bound (real ports) and what the operator said.
pub(crate) fn advertised(bound: &[SocketAddr], external: &[IpAddr]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    let mut push = |address: SocketAddr| {
        if addresses.len() < ADVERTISED_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    if !external.is_empty() {
        for ip in external {
            // Behind a NAT there is one mapping per port, so the first socket of the family stands for it.
            if let Some(socket) = bound.iter().find(|b| b.is_ipv4() == ip.is_ipv4()) {
                push(SocketAddr::new(*ip, socket.port()));
            }
        }
        return addresses;
    }
    for socket in bound {
        if !socket.ip().is_unspecified() {
            push(*socket);
            continue;
        }
        let mut ips = interface_addresses(socket.is_ipv4());
        if ips.iter().any(|ip| !ip.is_loopback()) {
            ips.retain(|ip| !ip.is_loopback());
        }
        ips.into_iter().for_each(|ip| push(SocketAddr::new(ip, socket.port())));
    }
    addresses
}

/// Addresses of this host, from /proc as that needs no privileges and no foreign calls. Link-local ones are left out:
/// they mean nothing without an interface, which a candidate cannot carry.
fn interface_addresses(ipv4: bool) -> Vec<IpAddr> {
    let read = |path: &str| -> io::Result<String> { std::fs::read_to_string(path) };
    if ipv4 {
        read("/proc/net/fib_trie").map(|text| parse_fib_trie(&text)).unwrap_or_default()
    } else {
        read("/proc/net/if_inet6").map(|text| parse_if_inet6(&text)).unwrap_or_default()
    }
}

/// A line with an address is followed by one that says what it is: `/32 host LOCAL` is an address of ours.
fn parse_fib_trie(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last: Option<IpAddr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(ip) = last
            && !found.contains(&ip)
        {
            found.push(ip);
        }
    }
    found
}

/// `<32 hex digits> <interface> <prefix> <scope> <flags> <name>`; scope 00 is global, 10 is loopback.
fn parse_if_inet6(text: &str) -> Vec<IpAddr> {
    const TENTATIVE_OR_DEPRECATED: u32 = 0x40 | 0x20;
    let parse = |line: &str| -> Option<IpAddr> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [hex, _, _, scope, flags, _] = fields[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        if !matches!(scope, "00" | "10") || flags & TENTATIVE_OR_DEPRECATED != 0 {
            return None;
        }
        u128::from_str_radix(hex, 16).ok().map(|bits| IpAddr::V6(bits.into()))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.7\n        \
                    /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(parse_fib_trie(trie), ["127.0.0.1", "192.0.2.7"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000000000000000cafe 02 40 20 80     eth0\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\n";
        assert_eq!(parse_if_inet6(inet6), ["::1", "2001:db8::7"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn clients_are_told_reachable_addresses() {
        let bound: Vec<SocketAddr> = vec!["127.0.0.1:7882".parse().unwrap(), "[::1]:7882".parse().unwrap()];
        assert_eq!(advertised(&bound, &[]), bound);
        let external = ["203.0.113.9".parse().unwrap()];
        assert_eq!(advertised(&bound, &external), ["203.0.113.9:7882".parse().unwrap()]);
        let wildcard = advertised(&["0.0.0.0:7882".parse().unwrap()], &[]);
        assert!(!wildcard.is_empty() && wildcard.iter().all(|a| !a.ip().is_unspecified()), "{wildcard:?}");
    }
}
