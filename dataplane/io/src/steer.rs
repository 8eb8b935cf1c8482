//! Steering: an eBPF program at the sockets that share a port gives a datagram to the worker that has validated its
//! 5-tuple, so that workers need not hand it over. What nobody has validated is spread by the kernel's hash as ever.
//!
//! Owners say which 5-tuples are theirs ([`Steering::own`]); nothing that a stranger sends gets into the map. Sockets of
//! IPv4 and of IPv6, and of each address, are groups of their own, so each has its program, and a key names the socket.

use std::{
    io,
    net::{IpAddr, UdpSocket},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use sluice_frames::Route;

use crate::{
    bpf::{self, Assembler, Helper, Map, MapType, Register, Width},
    socket,
};

/// 5-tuples that can be steered; the one used longest ago makes room for a new one and is handed over from then on. Each
/// costs about 100 bytes of kernel memory, set aside at start.
const ROUTES_MAX: usize = 65_536;

/// A map's key: the peer's address (IPv4-mapped for IPv4), its port as on the wire, the socket's index as this machine
/// writes it.
pub(crate) const KEY_BYTES: usize = 20;

/// Where a key is built on a program's stack: a multiple of 8 bytes below its end.
pub(crate) const KEY_AT: i16 = -24;

/// Offset of the peer's port in the key.
pub(crate) const KEY_PORT: i16 = 16;

/// Offset of the socket's index.
pub(crate) const KEY_SOCKET: i16 = 18;

/// Bytes of the index of a worker, which is what a key leads to.
const WORKER_BYTES: usize = 4;

/// `BPF_HDR_START_NET`: offsets count from the IP header.
const FROM_NETWORK_HEADER: i32 = 1;

/// `SK_PASS`: the datagram goes to the selected socket, or by the hash if none was.
const PASS: i32 = 1;

/// The map of all workers of a node, of which there are at least two. It ends with this value; the programs stay with the sockets and find nothing in it.
pub struct Steering {
    routes: Map,
}

impl Steering {
    /// Puts programs at the sockets: for each worker, one socket per address in the same order. Fails where this process
    /// may not (CAP_BPF), in words that say what to grant; nothing is changed then.
    pub fn new(workers: &[Vec<UdpSocket>]) -> io::Result<Steering> {
        let groups = workers.first().map_or(0, Vec::len);
        let routes = Map::new(MapType::LruHash, KEY_BYTES, WORKER_BYTES, ROUTES_MAX).map_err(explain)?;
        let mut programs = Vec::new();
        for group in 0..groups {
            let sockets: Vec<&UdpSocket> = workers.iter().map(|sockets| &sockets[group]).collect();
            programs.push((load(group, &sockets, &routes).map_err(explain)?, sockets[0]));
        }
        for (program, socket) in &programs {
            attach(program, socket).map_err(explain)?;
        }
        Ok(Steering { routes })
    }

    /// Datagrams of this 5-tuple go to that worker from now on.
    pub fn own(&self, route: &Route, worker: u16) -> io::Result<()> {
        self.routes.set(&key(route), &u32::from(worker).to_ne_bytes())
    }

    /// They no longer do, if they did. Should a sibling claim the 5-tuple at this very moment, its claim may go too; it
    /// claims again at the next check.
    pub fn disown(&self, route: &Route, worker: u16) -> io::Result<()> {
        if self.owner(route)? == Some(worker) {
            self.routes.remove(&key(route))?;
        }
        Ok(())
    }

    /// Whose it is.
    pub fn owner(&self, route: &Route) -> io::Result<Option<u16>> {
        let mut worker = [0; WORKER_BYTES];
        let known = self.routes.read(&key(route), &mut worker)?;
        Ok(known.then(|| u32::from_ne_bytes(worker) as u16))
    }

    pub(crate) fn routes(&self) -> &Map {
        &self.routes
    }
}

/// Whether this process may steer, found out by trying: the reason why not, and what to grant.
pub(crate) fn permitted() -> Result<(), String> {
    let addresses = vec![IpAddr::from([127, 0, 0, 1])];
    let plan = socket::Plan { addresses, port: 0, workers: 2, receive_bytes: 1 << 12, send_bytes: 1 << 12 };
    let bound = socket::bind(&plan).map_err(|error| error.to_string())?;
    Steering::new(&bound.workers).map(drop).map_err(|error| error.to_string())
}

fn explain(error: io::Error) -> io::Error {
    let text = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "this process may not use eBPF: grant CAP_BPF (Linux 5.8 or later), or run as root".to_owned()
        }
        Some(libc::ENOSYS) => "this kernel has no bpf(2), or a container forbids it".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), text)
}

fn key(route: &Route) -> [u8; KEY_BYTES] {
    let ip = match route.peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(&ip.octets());
    key[KEY_PORT as usize..KEY_SOCKET as usize].copy_from_slice(&route.peer.port().to_be_bytes());
    key[KEY_SOCKET as usize..].copy_from_slice(&u16::from(route.socket).to_ne_bytes());
    key
}

/// Begins a key on the stack: the socket, and what stands in front of an IPv4 address. An IPv6 address overwrites it.
pub(crate) fn begin_key(program: &mut Assembler, socket: usize) {
    program.store_value(Width::Double, 10, KEY_AT, 0);
    program.store_value(Width::Word, 10, KEY_AT + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    program.store_value(Width::Half, 10, KEY_AT + KEY_SOCKET, socket as i32);
}

/// Looks the key on the stack up; register 0 points to the worker's index, or is 0.
pub(crate) fn look_up(program: &mut Assembler, routes: BorrowedFd<'_>) {
    program.map(1, routes);
    program.copy(2, 10);
    program.add(2, KEY_AT.into());
    program.call(Helper::MapLookup);
}

/// The program of one group, with its sockets by worker.
fn load(group: usize, sockets: &[&UdpSocket], routes: &Map) -> io::Result<OwnedFd> {
    let by_worker = Map::new(MapType::ReuseportSockets, 4, 8, sockets.len())?;
    for (worker, socket) in sockets.iter().enumerate() {
        by_worker.set(&(worker as u32).to_ne_bytes(), &(socket.as_raw_fd() as u64).to_ne_bytes())?;
    }
    let code = program(group, sockets[0].local_addr()?.is_ipv4(), routes.fd(), by_worker.fd());
    bpf::load(bpf::ProgramType::SkReuseport, &code)
}

/// The context is `struct sk_reuseport_md`: where the UDP header begins (at 0) and the datagram ends (at 8).
fn program(group: usize, ipv4: bool, routes: BorrowedFd<'_>, sockets: BorrowedFd<'_>) -> Vec<u64> {
    const CONTEXT: Register = 6;
    let mut program = Assembler::new();
    let done = program.label();
    program.copy(CONTEXT, 1);
    program.load(Width::Double, 2, CONTEXT, 0);
    program.load(Width::Double, 3, CONTEXT, 8);
    program.copy(4, 2);
    program.add(4, 8);
    program.jump(bpf::When::Greater, 4, 3, done);
    program.load(Width::Half, 5, 2, 0);
    let (offset, bytes, at) = if ipv4 { (12, 4, KEY_AT + 12) } else { (8, 16, KEY_AT) };
    begin_key(&mut program, group);
    program.store(Width::Half, 10, KEY_AT + KEY_PORT, 5);
    if !ipv4 {
        // The verifier wants to see the last bytes of the address written before they are read.
        program.store_value(Width::Word, 10, KEY_AT + 12, 0);
    }
    program.copy(1, CONTEXT);
    program.set(2, offset);
    program.copy(3, 10);
    program.add(3, at.into());
    program.set(4, bytes);
    program.set(5, FROM_NETWORK_HEADER);
    program.call(Helper::LoadBytesRelative);
    program.jump32(bpf::When::NotEqual, 0, 0, done);
    look_up(&mut program, routes);
    program.jump_if_none(0, done);
    program.copy(3, 0);
    program.copy(1, CONTEXT);
    program.map(2, sockets);
    program.set(4, 0);
    program.call(Helper::SelectReuseport);
    program.place(done);
    program.set(0, PASS);
    program.exit();
    program.finish()
}

fn attach(program: &OwnedFd, socket: &UdpSocket) -> io::Result<()> {
    let fd = program.as_raw_fd();
    // SAFETY: needed for an option that the library does not offer. The descriptors are open and `fd` is as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_EBPF,
            (&raw const fd).cast(),
            size_of_val(&fd) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;

    /// Two workers on one port of each of these addresses; none where eBPF is not permitted.
    fn workers(addresses: &[&str]) -> Option<(Vec<Vec<UdpSocket>>, Vec<SocketAddr>, Steering)> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let plan = socket::Plan { addresses, port: 0, workers: 2, receive_bytes: 1 << 16, send_bytes: 1 << 16 };
        let bound = match socket::bind(&plan) {
            Ok(bound) => bound,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        match Steering::new(&bound.workers) {
            Ok(steering) => Some((bound.workers, bound.addresses, steering)),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    /// Which worker's socket gets what `peer` sends to `to`.
    fn receiver(workers: &[Vec<UdpSocket>], group: usize, peer: &UdpSocket, to: SocketAddr) -> u16 {
        peer.send_to(b"x", to).unwrap();
        for round in 0.. {
            for (worker, sockets) in workers.iter().enumerate() {
                sockets[group].set_read_timeout(Some(Duration::from_millis(1 << round))).unwrap();
                if sockets[group].recv_from(&mut [0; 8]).is_ok() {
                    return worker as u16;
                }
            }
            assert!(round < 12, "the datagram arrives somewhere");
        }
        unreachable!("the loop ends");
    }

    #[test]
    fn an_owned_route_goes_to_its_owner_and_others_by_the_hash() {
        let Some((workers, addresses, steering)) = workers(&["127.0.0.1", "::1"]) else { return };
        for (group, &to) in addresses.iter().enumerate() {
            let peers: Vec<UdpSocket> = (0..16).map(|_| UdpSocket::bind((to.ip(), 0)).unwrap()).collect();
            for peer in &peers {
                let route = Route { socket: group as u8, peer: peer.local_addr().unwrap() };
                let hashed = receiver(&workers, group, peer, to);
                for owner in [1 - hashed, hashed, 1 - hashed] {
                    steering.own(&route, owner).unwrap();
                    assert_eq!(steering.owner(&route).unwrap(), Some(owner));
                    assert_eq!(receiver(&workers, group, peer, to), owner, "{route:?}");
                }
                steering.disown(&route, hashed).unwrap();
                assert_eq!(steering.owner(&route).unwrap(), Some(1 - hashed), "a former owner's word counts nothing");
                steering.disown(&route, 1 - hashed).unwrap();
                assert_eq!(receiver(&workers, group, peer, to), hashed, "{route:?} is nobody's again");

                let other_socket = Route { socket: 1 - group as u8, ..route };
                steering.own(&other_socket, 1 - hashed).unwrap();
                assert_eq!(receiver(&workers, group, peer, to), hashed, "a route of another socket is another route");
            }
        }
    }

    #[test]
    fn the_probe_says_what_is() {
        assert_eq!(permitted().is_ok(), workers(&["127.0.0.1"]).is_some());
    }

    #[test]
    fn the_map_is_bounded() {
        let Some((_, _, steering)) = workers(&["127.0.0.1"]) else { return };
        for number in 0..ROUTES_MAX as u32 + 1000 {
            let peer = SocketAddr::from((number.to_be_bytes(), 1));
            steering.own(&Route { socket: 0, peer }, 1).unwrap();
        }
        let kept = (0..ROUTES_MAX as u32 + 1000).filter(|number| {
            let peer = SocketAddr::from((number.to_be_bytes(), 1));
            steering.owner(&Route { socket: 0, peer }).unwrap().is_some()
        });
        assert!(kept.count() <= ROUTES_MAX);
    }

    #[test]
    fn a_dead_workers_routes_go_by_the_hash() {
        let Some((mut workers, addresses, steering)) = workers(&["127.0.0.1"]) else { return };
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        steering.own(&Route { socket: 0, peer: peer.local_addr().unwrap() }, 1).unwrap();
        assert_eq!(receiver(&workers, 0, &peer, addresses[0]), 1);
        workers.pop();
        assert_eq!(receiver(&workers, 0, &peer, addresses[0]), 0);
    }
}
