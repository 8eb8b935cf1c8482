//! UDP sockets for all workers on one port.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// Attempts to find one free port for several addresses when any port will do.
const PORT_ATTEMPTS: usize = 8;

/// What to bind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Local addresses, at least one; unspecified ones mean all of that family. IPv4 and IPv6 do not get in each other's
    /// way: IPv6 sockets take IPv6 only.
    pub addresses: Vec<IpAddr>,
    /// The port, the same for all; 0 takes any free one.
    pub port: u16,
    /// How many workers share it, at least one. The kernel spreads peers over them by the hash of the 5-tuple.
    pub workers: usize,
    /// Socket buffer sizes to ask for.
    pub receive_bytes: usize,
    pub send_bytes: usize,
}

/// What was bound.
#[derive(Debug)]
pub struct Bound {
    /// For each worker, one socket per address in the plan's order (which is [`sluice_frames::Route::socket`]).
    pub workers: Vec<Vec<UdpSocket>>,
    /// Where each of a worker's sockets is bound: the plan's addresses with the port.
    pub addresses: Vec<SocketAddr>,
    /// Payload bytes the kernel grants per socket; less than asked for if `net.core.rmem_max` or `wmem_max` is lower and
    /// the process may not override it.
    pub receive_bytes: usize,
    pub send_bytes: usize,
}

/// Why sockets could not be bound.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("UDP port {} on {} is in use by another process", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    #[error("{0} is not an address of this machine")]
    AddressNotHere(IpAddr),
    #[error("this process may not bind UDP port {} on {}", .0.port(), .0.ip())]
    Forbidden(SocketAddr),
    #[error("a plan needs at least one address and one worker")]
    Empty,
    #[error("cannot bind {address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

/// Binds one socket per worker and address.
pub fn bind(plan: &Plan) -> Result<Bound, BindError> {
    if plan.addresses.is_empty() || plan.workers == 0 {
        return Err(BindError::Empty);
    }
    let mut attempts = if plan.port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_once(plan) {
            // The port that was free on the first address is taken on another one.
            Err(BindError::PortInUse(_)) if attempts > 0 => continue,
            result => return result,
        }
    }
}

fn bind_once(plan: &Plan) -> Result<Bound, BindError> {
    let mut port = plan.port;
    let mut bound = Bound {
        workers: (0..plan.workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        receive_bytes: usize::MAX,
        send_bytes: usize::MAX,
    };
    for &ip in &plan.addresses {
        for (worker, sockets) in bound.workers.iter_mut().enumerate() {
            let address = SocketAddr::new(ip, port);
            let socket = open(address, worker == 0).map_err(|source| explain(address, source))?;
            let sized = (|| {
                let receive_bytes = size(&socket, libc::SO_RCVBUFFORCE, plan.receive_bytes)?;
                let send_bytes = size(&socket, libc::SO_SNDBUFFORCE, plan.send_bytes)?;
                whole(&socket, address.is_ipv6())?;
                Ok((receive_bytes, send_bytes, socket.local_addr()?))
            })();
            let (receive_bytes, send_bytes, local) = sized.map_err(|source| BindError::Other { address, source })?;
            bound.receive_bytes = bound.receive_bytes.min(receive_bytes);
            bound.send_bytes = bound.send_bytes.min(send_bytes);
            let socket = UdpSocket::from(socket);
            port = local.as_socket().map_or(port, |local| local.port());
            sockets.push(socket);
        }
        bound.addresses.push(SocketAddr::new(ip, port));
    }
    Ok(bound)
}

/// A bound socket. SO_REUSEPORT would let a second process of the same user share the port unnoticed, and half of the peers
/// would then reach the wrong one. So the first socket is bound without it, which fails if anybody has the port, and opens
/// the port to the other workers' sockets only afterwards, without ever letting go of it.
fn open(address: SocketAddr, first: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if !first {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if first {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// Datagrams are never fragmented: one that is longer than the interface takes is refused, one that is longer than the path
/// takes is dropped there. What ICMP says of the path is not believed (as in RFC 8899), since anybody can say it: media
/// packets fit any path in use.
fn whole(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    let (level, option, value) = match is_ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        true => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    set(socket, level, option, value)
}

/// Sets an option that the library does not offer.
fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: needed for options that the library does not offer. The descriptor is open and `value` is as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn explain(address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortInUse(address),
        io::ErrorKind::AddrNotAvailable => BindError::AddressNotHere(address.ip()),
        io::ErrorKind::PermissionDenied => BindError::Forbidden(address),
        _ => BindError::Other { address, source },
    }
}

/// Sets a buffer's size, beyond the system's limit if this process may (CAP_NET_ADMIN), and returns what was granted. The
/// kernel doubles what it is asked for to account for its own overhead, and reports the double.
fn size(socket: &Socket, forced_option: libc::c_int, bytes: usize) -> io::Result<usize> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
    let forced = set(socket, libc::SOL_SOCKET, forced_option, value);
    let receive = forced_option == libc::SO_RCVBUFFORCE;
    if forced.is_err() {
        if receive { socket.set_recv_buffer_size(bytes)? } else { socket.set_send_buffer_size(bytes)? }
    }
    Ok(if receive { socket.recv_buffer_size()? } else { socket.send_buffer_size()? } / 2)
}

/// Whether a failed receive says nothing about the next one: there was nothing, memory was short, or an ICMP error for an
/// earlier send is reported (once).
pub(crate) fn passes(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN
            | libc::EINTR
            | libc::ENOMEM
            | libc::ENOBUFS
            | libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
    )
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn plan(addresses: &[&str], port: u16, workers: usize) -> Plan {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Plan { addresses, port, workers, receive_bytes: 1 << 16, send_bytes: 1 << 16 }
    }

    #[test]
    fn workers_share_a_port_and_every_datagram_reaches_one_of_them() {
        let bound = bind(&plan(&["127.0.0.1"], 0, 2)).unwrap();
        assert!(bound.receive_bytes >= 1 << 16 && bound.send_bytes >= 1 << 16, "{bound:?}");
        for sockets in &bound.workers {
            assert_eq!(sockets[0].local_addr().unwrap(), bound.addresses[0]);
            sockets[0].set_nonblocking(true).unwrap();
        }
        const PEERS: usize = 64;
        let peers: Vec<_> = (0..PEERS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        for peer in &peers {
            peer.send_to(b"x", bound.addresses[0]).unwrap();
        }
        let counts = bound.workers.iter().map(|sockets| {
            let mut byte = [0; 1];
            std::iter::from_fn(|| sockets[0].recv_from(&mut byte).ok()).count()
        });
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.iter().sum::<usize>(), PEERS, "loopback loses nothing: {counts:?}");
        assert!(counts.iter().all(|&count| count > 0), "both workers get some of {PEERS} peers: {counts:?}");
    }

    #[test]
    fn ipv4_and_ipv6_have_the_port_each() {
        let bound = match bind(&plan(&["0.0.0.0", "::"], 0, 2)) {
            Err(BindError::Other { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                return println!("skipped: no IPv6 here");
            }
            result => result.unwrap(),
        };
        assert_eq!(bound.addresses[0].port(), bound.addresses[1].port());
        let mut bytes = [0; 8];
        for (socket, peer, to) in [(0, "127.0.0.1:0", "127.0.0.1"), (1, "[::1]:0", "::1")] {
            let Ok(peer) = UdpSocket::bind(peer) else { return println!("skipped: no address {peer} here") };
            let to = SocketAddr::new(to.parse().unwrap(), bound.addresses[0].port());
            peer.send_to(b"hello", to).unwrap();
            let heard = bound.workers.iter().any(|sockets| {
                sockets[socket].set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                sockets[socket].recv_from(&mut bytes).is_ok()
            });
            assert!(heard, "a datagram to {to} arrives at the socket of that family");
        }
    }

    #[test]
    fn a_second_process_is_told_that_the_port_is_in_use() {
        let bound = bind(&plan(&["127.0.0.1"], 0, 2)).unwrap();
        let error = bind(&plan(&["127.0.0.1"], bound.addresses[0].port(), 2)).unwrap_err();
        assert!(matches!(error, BindError::PortInUse(address) if address == bound.addresses[0]), "{error}");

        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = bind(&plan(&["127.0.0.1"], other.local_addr().unwrap().port(), 1)).unwrap_err();
        assert!(matches!(error, BindError::PortInUse(_)), "{error}");
    }

    #[test]
    fn the_port_is_free_again_afterwards() {
        let bound = bind(&plan(&["127.0.0.1"], 0, 2)).unwrap();
        let port = bound.addresses[0].port();
        drop(bound);
        bind(&plan(&["127.0.0.1"], port, 1)).unwrap();
    }

    #[test]
    fn what_would_be_fragmented_is_refused() {
        let bound = bind(&plan(&["127.0.0.1"], 0, 1)).unwrap();
        let to = bound.addresses[0];
        let socket = &bound.workers[0][0];
        // Loopback takes 65,536 bytes with headers: the longest UDP datagram fits. Others cannot be made longer here, so what is
        // looked at is the option.
        assert!(socket.send_to(&[0; 60_000], to).is_ok());
        let mut value: libc::c_int = -1;
        let mut bytes = size_of_val(&value) as libc::socklen_t;
        // SAFETY: needed to read an option that the library does not offer; both pointers are to live values of that size.
        let result = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value, &mut bytes)
        };
        assert_eq!((result, value), (0, libc::IP_PMTUDISC_PROBE));
    }

    #[test]
    fn wrong_plans_are_named() {
        assert!(matches!(bind(&plan(&[], 0, 1)), Err(BindError::Empty)));
        assert!(matches!(bind(&plan(&["127.0.0.1"], 0, 0)), Err(BindError::Empty)));
        // A documentation address (RFC 5737): nobody's.
        assert!(matches!(bind(&plan(&["192.0.2.1"], 0, 1)), Err(BindError::AddressNotHere(_))));
    }
}
