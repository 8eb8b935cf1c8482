//! A pair of network namespaces joined by a veth pair, made by the test and gone with it: neither has a name, so whatever
//! ends the process ends them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    process::Command,
    thread,
};

/// Interface of the node and of its peers.
pub const NEAR: &str = "sx-near";
pub const FAR: &str = "sx-far";

/// Two namespaces with an address of each family.
pub struct Pair {
    near: File,
    far: File,
}

impl Pair {
    pub const NEAR_V4: &str = "10.77.0.1";
    pub const NEAR_V6: &str = "fd77::1";
    pub const FAR_V4: &str = "10.77.0.2";
    pub const FAR_V6: &str = "fd77::2";

    /// Joined by a veth pair with this many queues and this MTU. None, with a line that says why, where this process may not.
    pub fn new(queues: usize, mtu_bytes: usize) -> Option<Pair> {
        let (near, far) = match (namespace(), namespace()) {
            (Ok(near), Ok(far)) => (near, far),
            (Err(error), _) | (_, Err(error)) => {
                println!("skipped: no network namespaces without root: {error}");
                return None;
            }
        };
        let pair = Pair { near, far };
        let to = format!("/proc/{}/fd/{}", std::process::id(), pair.far.as_raw_fd());
        let queues = format!("numrxqueues {queues} numtxqueues {queues} mtu {mtu_bytes}");
        pair.near(|| {
            ip(&format!("link add {NEAR} {queues} type veth peer name {FAR} {queues}"));
            ip(&format!("link set {FAR} netns {to}"));
            up(NEAR, [Pair::NEAR_V4, Pair::NEAR_V6]);
        });
        pair.far(|| up(FAR, [Pair::FAR_V4, Pair::FAR_V6]));
        Some(pair)
    }

    /// Does something where the node is.
    pub fn near<T>(&self, what: impl FnOnce() -> T) -> T {
        inside(&self.near, what)
    }

    /// Does something where its peers are.
    pub fn far<T>(&self, what: impl FnOnce() -> T) -> T {
        inside(&self.far, what)
    }

    /// What `ip` says of the node's interface.
    pub fn near_link(&self) -> String {
        self.near(|| ip(&format!("-details link show {NEAR}")))
    }
}

/// Runs `ip` in the namespace that this thread is in.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip (iproute2) is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "ip {arguments}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn up(interface: &str, addresses: [&str; 2]) {
    ip("link set lo up");
    ip(&format!("link set {interface} up"));
    for address in addresses {
        let is_v6 = address.parse::<IpAddr>().unwrap().is_ipv6();
        ip(&format!("address add {address}/{} dev {interface}", if is_v6 { "64 nodad" } else { "24" }));
    }
}

/// A new network namespace.
fn namespace() -> std::io::Result<File> {
    let make = || {
        // SAFETY: needed for a namespace of its own; it concerns this short-lived thread alone.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => File::open("/proc/thread-self/ns/net"),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    thread::spawn(make).join().expect("the thread ends")
}

/// Where a thread was, and returns to.
struct Way(File);

impl Drop for Way {
    fn drop(&mut self) {
        enter(&self.0);
    }
}

fn inside<T>(namespace: &File, what: impl FnOnce() -> T) -> T {
    let _back = Way(File::open("/proc/thread-self/ns/net").expect("the own namespace"));
    enter(namespace);
    what()
}

fn enter(namespace: &File) {
    // SAFETY: needed to enter a namespace; it concerns this thread alone, and the descriptor is open.
    let result = unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
