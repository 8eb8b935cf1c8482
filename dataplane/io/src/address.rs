//! Socket addresses as the kernel writes them.

use std::{
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
};

/// Room for an IPv4 or an IPv6 address as `sockaddr`, at the alignment of both.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    pub(crate) family: libc::sa_family_t,
    pub(crate) v4: libc::sockaddr_in,
    pub(crate) v6: libc::sockaddr_in6,
}

/// Bytes of a [`Name`].
pub(crate) const NAME_BYTES: usize = size_of::<Name>();

impl Name {
    pub(crate) const EMPTY: Name = {
        // SAFETY: needed for a value to start with. All-zero is valid for both structures, which are plain numbers.
        unsafe { mem::zeroed() }
    };

    /// Writes `address`, IPv4 as IPv4-mapped if the socket is an IPv6 one. Returns the length that the kernel wants.
    pub(crate) fn set(&mut self, address: SocketAddr, ipv6_socket: bool) -> libc::socklen_t {
        match address {
            SocketAddr::V4(address) if !ipv6_socket => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V4(address) => self.set_v6(address.ip().to_ipv6_mapped(), address.port(), 0),
            SocketAddr::V6(address) => self.set_v6(*address.ip(), address.port(), address.scope_id()),
        }
    }

    fn set_v6(&mut self, ip: Ipv6Addr, port: u16, scope_id: u32) -> libc::socklen_t {
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: port.to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: ip.octets() },
            sin6_scope_id: scope_id,
        };
        size_of::<libc::sockaddr_in6>() as libc::socklen_t
    }

    /// Reads an address of `bytes` length: IPv4-mapped as IPv4, without flow label so that one peer is one value. None if it
    /// is neither IPv4 nor IPv6.
    pub(crate) fn get(&self, bytes: usize) -> Option<SocketAddr> {
        // SAFETY: needed to tell which of both it is. Every field is a plain number and the union is fully initialised
        // (`EMPTY`, then whole structures by `set` or the kernel), so that any view of it is valid.
        let (family, v4, v6) = unsafe { (self.family, self.v4, self.v6) };
        match i32::from(family) {
            libc::AF_INET if bytes >= size_of::<libc::sockaddr_in>() => Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(v4.sin_port),
            ))),
            libc::AF_INET6 if bytes >= size_of::<libc::sockaddr_in6>() => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(match ip.to_ipv4_mapped() {
                    Some(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
                    None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id)),
                })
            }
            _ => None,
        }
    }
}

/// Which of the sockets are IPv6 ones. Fails if there are none, or more than a [`sluice_frames::Route`] can name.
pub(crate) fn families(sockets: &[UdpSocket]) -> io::Result<Vec<bool>> {
    if sockets.is_empty() || sockets.len() > usize::from(u8::MAX) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a worker has between 1 and 255 sockets"));
    }
    sockets.iter().map(|socket| Ok(socket.local_addr()?.is_ipv6())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        let check = |address: &str, ipv6_socket: bool, expected: Option<&str>| {
            let mut name = Name::EMPTY;
            let bytes = name.set(address.parse().unwrap(), ipv6_socket);
            assert_eq!(name.get(bytes as usize), Some(expected.unwrap_or(address).parse().unwrap()), "{address}");
            assert_eq!(name.get(bytes as usize - 1), None, "{address} cut short");
        };
        check("192.0.2.1:7881", false, None);
        check("192.0.2.1:7881", true, None);
        check("[2001:db8::1]:65535", true, None);
        check("[fe80::1%3]:9", true, None);
        check("[::ffff:192.0.2.1]:1", true, Some("192.0.2.1:1"));
    }

    #[test]
    fn an_unknown_family_is_no_address() {
        assert_eq!(Name::EMPTY.get(NAME_BYTES), None);
    }
}
