//! What this machine permits, found out by trying, in words a person can act on.

use std::{fmt, fs, net::UdpSocket, os::fd::AsRawFd};

use crate::{BackendKind, steer, uring, xdp};

/// Socket buffers below this drop datagrams while a worker is busy for a few milliseconds: 2,000 video packets as the kernel
/// counts them (about 2 kB each).
const BUFFER_BYTES: usize = 4 << 20;

/// What the configuration asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preference {
    /// The best that works.
    #[default]
    Auto,
    Uring,
    Mmsg,
    /// Never chosen by itself: it takes an interface over.
    Xdp,
}

/// What this machine permits. Its `Display` is a line per finding, each with what to change if something should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The kernel's release, such as `6.18.0`.
    pub kernel: String,
    /// Cores this process may run on.
    pub cores: usize,
    /// Whether io_uring does what the `uring` backend needs: how it would run, or the reason why not.
    pub uring: Result<String, String>,
    /// Whether this process may use AF_XDP, or the reason why not. Whether an interface can do it is seen at start.
    pub xdp: Result<(), String>,
    /// Whether datagrams can be steered to their worker by eBPF, or the reason why not.
    pub steering: Result<(), String>,
    /// Whether UDP_SEGMENT (many datagrams in one send) works, or the reason why not.
    pub segment: Result<(), String>,
    /// `net.core.rmem_max` and `net.core.wmem_max` in bytes, none if unreadable.
    pub receive_bytes_max: Option<usize>,
    pub send_bytes_max: Option<usize>,
}

impl Probe {
    /// Tries everything. Takes about a millisecond.
    pub fn new() -> Probe {
        Probe {
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            uring: uring::permitted(),
            xdp: xdp::permitted(),
            steering: steer::permitted(),
            segment: segment(),
            receive_bytes_max: limit("/proc/sys/net/core/rmem_max"),
            send_bytes_max: limit("/proc/sys/net/core/wmem_max"),
        }
    }

    /// The backend to run and why.
    pub fn choose(&self, preference: Preference) -> (BackendKind, String) {
        match (preference, &self.uring) {
            (Preference::Xdp, _) => match &self.xdp {
                Ok(()) => (BackendKind::Xdp, "the configuration asks for it".to_owned()),
                Err(reason) => self.without_xdp(reason),
            },
            (Preference::Mmsg, _) => (BackendKind::Mmsg, "the configuration asks for it".to_owned()),
            (Preference::Uring, Ok(how)) => (BackendKind::Uring, format!("the configuration asks for it; {how}")),
            (Preference::Auto, Ok(how)) => (BackendKind::Uring, how.clone()),
            (Preference::Uring, Err(reason)) => {
                (BackendKind::Mmsg, format!("the configuration asks for io_uring, but {reason}"))
            }
            (Preference::Auto, Err(reason)) => (BackendKind::Mmsg, reason.clone()),
        }
    }

    /// The backend to run instead of AF_XDP, which cannot for this reason.
    pub(crate) fn without_xdp(&self, fault: &str) -> (BackendKind, String) {
        let (kind, reason) = self.choose(Preference::Auto);
        (kind, format!("the configuration asks for AF_XDP, but {fault}; {reason}"))
    }
}

impl Default for Probe {
    fn default() -> Probe {
        Probe::new()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "kernel {}, {} cores", self.kernel, self.cores)?;
        match &self.uring {
            Ok(how) => writeln!(formatter, "io_uring: yes ({how})")?,
            Err(reason) => writeln!(formatter, "io_uring: no, {reason}")?,
        }
        let plain = [("AF_XDP", &self.xdp), ("steering by eBPF", &self.steering), ("UDP_SEGMENT", &self.segment)];
        for (what, finding) in plain {
            match finding {
                Ok(()) => writeln!(formatter, "{what}: yes")?,
                Err(reason) => writeln!(formatter, "{what}: no, {reason}")?,
            }
        }
        buffer(formatter, "receive", "net.core.rmem_max", self.receive_bytes_max)?;
        buffer(formatter, "send", "net.core.wmem_max", self.send_bytes_max)
    }
}

fn buffer(formatter: &mut fmt::Formatter<'_>, what: &str, name: &str, limit: Option<usize>) -> fmt::Result {
    match limit {
        Some(bytes) if bytes < BUFFER_BYTES => writeln!(
            formatter,
            "{what} buffers: {bytes} bytes at most, which a busy worker overruns; run as root or with CAP_NET_ADMIN, or: \
             sysctl -w {name}={BUFFER_BYTES}"
        ),
        Some(bytes) => writeln!(formatter, "{what} buffers: up to {bytes} bytes"),
        None => writeln!(formatter, "{what} buffers: {name} is not readable"),
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn limit(path: &str) -> Option<usize> {
    read(path)?.parse().ok()
}

fn segment() -> Result<(), String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| format!("no UDP socket: {error}"))?;
    let bytes: libc::c_int = 1200;
    // SAFETY: needed to try an option that the library does not offer. The descriptor is open and `bytes` is as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(format!("the kernel refuses it: {}", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(uring: Result<String, String>) -> Probe {
        Probe {
            kernel: "6.1.0".to_owned(),
            cores: 2,
            uring,
            xdp: Err("this process may not".to_owned()),
            steering: Ok(()),
            segment: Err("the kernel refuses it".to_owned()),
            receive_bytes_max: Some(212_992),
            send_bytes_max: Some(BUFFER_BYTES),
        }
    }

    #[test]
    fn the_choice_says_why() {
        let check = |preference, uring: Result<&str, &str>, kind, reason: &str| {
            let probe = probe(uring.map(str::to_owned).map_err(str::to_owned));
            let choice = probe.choose(preference);
            assert_eq!(choice.0, kind);
            assert!(choice.1.contains(reason), "{}", choice.1);
        };
        check(Preference::Auto, Ok("deferred"), BackendKind::Uring, "deferred");
        check(Preference::Auto, Err("forbidden"), BackendKind::Mmsg, "forbidden");
        check(Preference::Uring, Ok("deferred"), BackendKind::Uring, "configuration");
        check(Preference::Uring, Err("forbidden"), BackendKind::Mmsg, "forbidden");
        check(Preference::Mmsg, Ok("deferred"), BackendKind::Mmsg, "configuration");
        check(Preference::Xdp, Ok("deferred"), BackendKind::Uring, "AF_XDP, but this process may not; deferred");
        check(Preference::Xdp, Err("forbidden"), BackendKind::Mmsg, "AF_XDP, but this process may not; forbidden");
        let permitted = Probe { xdp: Ok(()), ..probe(Ok("deferred".to_owned())) };
        assert_eq!(permitted.choose(Preference::Xdp).0, BackendKind::Xdp);
        assert_eq!(permitted.choose(Preference::Auto).0, BackendKind::Uring, "it is never chosen by itself");
    }

    #[test]
    fn findings_name_the_remedy() {
        let lines = probe(Err("forbidden by seccomp".to_owned())).to_string();
        for expected in ["2 cores", "io_uring: no, forbidden by seccomp", "sysctl -w net.core.rmem_max=4194304"] {
            assert!(lines.contains(expected), "{lines}");
        }
        assert!(!lines.contains("wmem_max"), "what suffices needs no remedy: {lines}");
    }

    #[test]
    fn this_machine_is_described() {
        let probe = Probe::new();
        print!("{probe}");
        assert!(probe.cores > 0);
        assert_eq!(probe.to_string().lines().count(), 7);
    }
}
