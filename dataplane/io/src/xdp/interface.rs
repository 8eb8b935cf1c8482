//! Which interface carries the media addresses, and what it can do.

use std::{
    ffi::CStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use crate::address::{NAME_BYTES, Name};

/// Addresses that datagrams are redirected for at most; each costs a few instructions per datagram.
const TARGETS_MAX: usize = 32;

/// `ETHTOOL_GCHANNELS`
const CHANNELS: u32 = 0x3c;

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    addresses: Vec<IpAddr>,
}

/// An address of ours on that interface, and the socket that is bound there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) socket: u8,
}

impl Interface {
    /// Receive queues, as far as the driver tells; 1 if it does not.
    pub(super) fn queues(&self) -> usize {
        #[repr(C)]
        struct Channels {
            command: u32,
            most: [u32; 4],
            receive: u32,
            transmit: u32,
            other: u32,
            combined: u32,
        }
        let mut channels = Channels { command: CHANNELS, most: [0; 4], receive: 0, transmit: 0, other: 0, combined: 0 };
        let mut request = self.request();
        request.ifr_ifru.ifru_data = (&raw mut channels).cast();
        match ask(libc::SIOCETHTOOL, &mut request) {
            Ok(()) => (channels.receive + channels.combined).max(1) as usize,
            Err(_) => 1,
        }
    }

    /// Longest IP packet that leaves whole, in bytes.
    pub(super) fn mtu_bytes(&self) -> io::Result<usize> {
        let mut request = self.request();
        ask(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: the call that succeeded has written this field, a plain number.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as usize)
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: needed for a value to start with. All-zero is valid: numbers and a null pointer.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, &from) in request.ifr_name.iter_mut().zip(self.name.as_bytes()).take(libc::IFNAMSIZ - 1) {
            *to = from as libc::c_char;
        }
        request
    }
}

fn ask(what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: needed to ask about an interface. The descriptor is open, the request is a whole `ifreq`, and what it points to
    // (if anything) is alive and as long as that request's definition says.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The interface that carries the media addresses (`locals`, by socket), and those of them that it carries.
pub(super) fn find(locals: &[SocketAddr]) -> Result<(Interface, Vec<Target>), String> {
    let interfaces = all().map_err(|error| format!("interfaces cannot be listed: {error}"))?;
    choose(locals, &interfaces)
}

fn choose(locals: &[SocketAddr], interfaces: &[Interface]) -> Result<(Interface, Vec<Target>), String> {
    let reachable: Vec<&SocketAddr> = locals.iter().filter(|local| !local.ip().is_loopback()).collect();
    let Some(first) = reachable.iter().find(|local| !local.ip().is_unspecified()).or(reachable.first()) else {
        return Err("media is on loopback only, which has no wire to bypass the kernel on".to_owned());
    };
    let carries = |interface: &&Interface| interface.addresses.iter().any(|&ip| covers(first.ip(), ip));
    let mut found = interfaces.iter().filter(carries);
    let interface = found.next().ok_or_else(|| format!("no interface carries {}", first.ip()))?;
    if let Some(other) = found.next() {
        return Err(format!(
            "{} stands for {} and {}: name the address whose interface shall be used",
            first.ip(),
            interface.name,
            other.name
        ));
    }
    let sockets = locals.iter().enumerate();
    let targets = sockets.flat_map(|(socket, local)| {
        let own = interface.addresses.iter().filter(|&&ip| covers(local.ip(), ip));
        own.map(move |&ip| Target { address: SocketAddr::new(ip, local.port()), socket: socket as u8 })
    });
    Ok((interface.clone(), targets.take(TARGETS_MAX).collect()))
}

/// Whether a socket bound to `local` receives what is sent to `ip`.
fn covers(local: IpAddr, ip: IpAddr) -> bool {
    local == ip || local.is_unspecified() && local.is_ipv4() == ip.is_ipv4()
}

/// Interfaces with an address that other machines reach them at: neither loopback nor link-local.
fn all() -> io::Result<Vec<Interface>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: needed to list addresses; `first` is writable, and the list is freed below.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut next = first;
    // SAFETY: the list ends with a null pointer and its elements live until they are freed.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: a name is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: an address, where there is one, lives as long as the list.
        let Some(ip) = (unsafe { ip(entry.ifa_addr) }).filter(|&ip| is_reachable(ip)) else { continue };
        let text = name.to_string_lossy();
        match interfaces.iter_mut().find(|interface| interface.name == text) {
            Some(interface) => interface.addresses.push(ip),
            None => {
                // SAFETY: needed to learn the number; the name is a C string.
                let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
                interfaces.push(Interface { name: text.into_owned(), index, addresses: vec![ip] });
            }
        }
    }
    // SAFETY: the list came from `getifaddrs` and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(interfaces)
}

/// # Safety
///
/// `address` is null or points to a socket address as long as its family says.
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by this function's contract.
    let family = unsafe { address.as_ref() }?.sa_family;
    let bytes = match i32::from(family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    let mut name = Name::EMPTY;
    const { assert!(NAME_BYTES >= size_of::<libc::sockaddr_in6>()) };
    // SAFETY: needed to read it at its true length; `name` is a separate place with room for both.
    unsafe { std::ptr::copy_nonoverlapping(address.cast::<u8>(), (&raw mut name).cast(), bytes) };
    name.get(bytes).map(|address| address.ip())
}

fn is_reachable(ip: IpAddr) -> bool {
    const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    !ip.is_loopback()
        && match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 != LINK_LOCAL.segments()[0],
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        Interface { name: name.into(), index: 1, addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect() }
    }

    /// An interface's name, and the addresses of each socket there; or a part of the reason why none is chosen.
    type Choice<'a> = Result<(&'a str, &'a [(&'a str, u8)]), &'a str>;

    #[test]
    fn the_interface_follows_from_the_media_address() {
        let one = [interface("eth0", &["192.0.2.1", "2001:db8::1"])];
        let two = [interface("eth0", &["192.0.2.1"]), interface("eth1", &["198.51.100.1", "198.51.100.2"])];
        let check = |interfaces: &[Interface], locals: &[&str], expected: Choice<'_>| {
            let locals: Vec<SocketAddr> = locals.iter().map(|local| local.parse().unwrap()).collect();
            match (choose(&locals, interfaces), expected) {
                (Ok((interface, targets)), Ok((name, expected))) => {
                    let expected = expected.iter().map(|&(ip, socket)| Target { address: ip.parse().unwrap(), socket });
                    assert_eq!((interface.name.as_str(), targets), (name, expected.collect()), "{locals:?}");
                }
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                (other, _) => panic!("{locals:?}: {other:?}"),
            }
        };
        check(&one, &["127.0.0.1:9", "[::1]:9"], Err("loopback only"));
        check(&one, &["127.0.0.1:9", "192.0.2.1:9"], Ok(("eth0", &[("192.0.2.1:9", 1)])));
        check(&one, &["0.0.0.0:9", "[::]:9"], Ok(("eth0", &[("192.0.2.1:9", 0), ("[2001:db8::1]:9", 1)])));
        check(&one, &["203.0.113.1:9"], Err("no interface carries 203.0.113.1"));
        check(&two, &["0.0.0.0:9"], Err("stands for eth0 and eth1"));
        check(&two, &["198.51.100.2:9", "192.0.2.1:9"], Ok(("eth1", &[("198.51.100.2:9", 0)])));
        check(
            &two,
            &["0.0.0.0:9", "198.51.100.2:8"],
            Ok(("eth1", &[("198.51.100.1:9", 0), ("198.51.100.2:9", 0), ("198.51.100.2:8", 1)])),
        );
    }

    #[test]
    fn this_machines_interfaces_are_listed() {
        for interface in all().unwrap() {
            println!("{interface:?}: MTU {}, {} queues", interface.mtu_bytes().unwrap(), interface.queues());
            assert!(interface.index > 0 && interface.mtu_bytes().unwrap() >= 68);
        }
    }
}
