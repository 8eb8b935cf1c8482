//! The XDP program: datagrams for the node's ports go to AF_XDP sockets, everything else to the kernel's stack.
//!
//! Only what the stack would give to one of the node's sockets unchanged is redirected: UDP in IPv4 without options or in
//! IPv6 without extension headers, not a fragment, untagged, for an address of the interface, and not longer than what is
//! received at all. The rest (and what arrives at a queue that no worker has) reaches the ordinary sockets.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use sluice_frames::DATAGRAM_BYTES;

use super::{
    header::{V4_BYTES, V6_BYTES},
    interface::{Interface, Target},
};
use crate::{
    bpf::{self, Assembler, AttachType, Helper, Map, MapType, ProgramType, Register, When, Width},
    steer::{self, KEY_AT, KEY_PORT, Steering},
};

/// `XDP_PASS`
const PASS: i32 = 2;

/// `XDP_FLAGS_SKB_MODE`: the program runs at the stack's entrance, which works with every device.
const GENERIC: u32 = 1 << 1;

/// `XDP_FLAGS_DRV_MODE`: it runs in the driver.
const NATIVE: u32 = 1 << 2;

const UDP: u32 = 17;

/// The program at an interface. It is taken away with this value, and with the process however it ends.
pub(super) struct Attached {
    _link: OwnedFd,
    /// In the driver rather than at the stack's entrance.
    pub(super) native: bool,
}

impl Attached {
    /// Attaches a program that gives queue `n` to the `n`th of `sockets`. Fails if another program is there.
    pub(super) fn new(
        interface: &Interface,
        targets: &[Target],
        sockets: &[BorrowedFd<'_>],
        steering: Option<&Steering>,
    ) -> io::Result<Attached> {
        let map = Map::new(MapType::XskMap, 4, 4, sockets.len())?;
        for (queue, socket) in sockets.iter().enumerate() {
            map.set(&(queue as u32).to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
        }
        let routes = steering.map(|steering| steering.routes().fd());
        let program = bpf::load(ProgramType::Xdp, &code(targets, map.fd(), routes))?;
        let attach = |flags| bpf::attach(program.as_fd(), interface.index, AttachType::Xdp, flags);
        let (link, native) = match attach(NATIVE) {
            Ok(link) => (link, true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Err(error),
            Err(_) => (attach(GENERIC)?, false),
        };
        Ok(Attached { _link: link, native })
    }
}

/// Loads the program without attaching it.
pub(super) fn try_load(targets: &[Target]) -> io::Result<()> {
    let map = Map::new(MapType::XskMap, 4, 4, 1)?;
    bpf::load(ProgramType::Xdp, &code(targets, map.fd(), None)).map(drop)
}

const CONTEXT: Register = 6;
const FRAME: Register = 2;

/// `struct xdp_md`: where the frame begins and ends, and which queue it came to.
const BEGIN: i16 = 0;
const END: i16 = 4;
const QUEUE: i16 = 16;

/// `routes` is the map of steered 5-tuples: what belongs to a worker other than the one of its queue is passed, as only the
/// stack can give it to that worker's socket.
fn code(targets: &[Target], sockets: BorrowedFd<'_>, routes: Option<BorrowedFd<'_>>) -> Vec<u64> {
    let mut program = Assembler::new();
    let (pass, redirect, v6) = (program.label(), program.label(), program.label());
    program.copy(CONTEXT, 1);
    program.load(Width::Word, FRAME, CONTEXT, BEGIN);
    program.load(Width::Word, 3, CONTEXT, END);
    reaches(&mut program, V4_BYTES, pass);
    program.load(Width::Half, 5, FRAME, 12);
    program.jump32(When::Equal, 5, u16::from_ne_bytes([0x86, 0xdd]).into(), v6);
    program.jump32(When::NotEqual, 5, u16::from_ne_bytes([0x08, 0x00]).into(), pass);

    within(&mut program, V4_BYTES, pass);
    program.load(Width::Byte, 5, FRAME, 14);
    program.jump32(When::NotEqual, 5, 0x45, pass);
    program.load(Width::Byte, 5, FRAME, 23);
    program.jump32(When::NotEqual, 5, UDP, pass);
    // More fragments, or not the first one.
    program.load(Width::Half, 5, FRAME, 20);
    program.jump32(When::Bits, 5, u16::from_ne_bytes([0x3f, 0xff]).into(), pass);
    program.load(Width::Half, 4, FRAME, 36);
    program.load(Width::Word, 5, FRAME, 30);
    for target in targets {
        if let IpAddr::V4(ip) = target.address.ip() {
            let next = program.label();
            program.jump32(When::NotEqual, 5, u32::from_ne_bytes(ip.octets()), next);
            program.jump32(When::NotEqual, 4, target.address.port().to_be().into(), next);
            if let Some(routes) = routes {
                steer::begin_key(&mut program, target.socket.into());
                program.load(Width::Word, 5, FRAME, 26);
                program.store(Width::Word, 10, KEY_AT + 12, 5);
                pass_if_foreign(&mut program, 34, routes, pass, redirect);
            } else {
                program.go(redirect);
            }
            program.place(next);
        }
    }
    program.go(pass);

    program.place(v6);
    reaches(&mut program, V6_BYTES, pass);
    within(&mut program, V6_BYTES, pass);
    program.load(Width::Byte, 5, FRAME, 20);
    program.jump32(When::NotEqual, 5, UDP, pass);
    program.load(Width::Half, 4, FRAME, 56);
    for target in targets {
        if let IpAddr::V6(ip) = target.address.ip() {
            let next = program.label();
            program.jump32(When::NotEqual, 4, target.address.port().to_be().into(), next);
            for (word, offset) in ip.octets().as_chunks::<4>().0.iter().zip((38..).step_by(4)) {
                program.load(Width::Word, 5, FRAME, offset);
                program.jump32(When::NotEqual, 5, u32::from_ne_bytes(*word), next);
            }
            if let Some(routes) = routes {
                steer::begin_key(&mut program, target.socket.into());
                for (at, offset) in (KEY_AT..).step_by(4).zip((22..38).step_by(4)) {
                    program.load(Width::Word, 5, FRAME, offset);
                    program.store(Width::Word, 10, at, 5);
                }
                pass_if_foreign(&mut program, 54, routes, pass, redirect);
            } else {
                program.go(redirect);
            }
            program.place(next);
        }
    }
    program.go(pass);

    program.place(redirect);
    program.load(Width::Word, 2, CONTEXT, QUEUE);
    program.map(1, sockets);
    // What happens where no socket is.
    program.set(3, PASS);
    program.call(Helper::RedirectMap);
    program.exit();
    program.place(pass);
    program.set(0, PASS);
    program.exit();
    program.finish()
}

/// Passes frames shorter than this.
fn reaches(program: &mut Assembler, bytes: usize, pass: bpf::Label) {
    program.copy(4, FRAME);
    program.add(4, bytes as i32);
    program.jump(When::Greater, 4, 3, pass);
}

/// Passes frames that are too long to be received: the ordinary socket counts them.
fn within(program: &mut Assembler, header_bytes: usize, pass: bpf::Label) {
    program.copy(4, FRAME);
    program.add(4, (header_bytes + DATAGRAM_BYTES) as i32);
    program.jump(When::Greater, 3, 4, pass);
}

/// With the peer's address and the socket in the key: completes it by the port and looks whose it is.
fn pass_if_foreign(
    program: &mut Assembler,
    port_at: i16,
    routes: BorrowedFd<'_>,
    pass: bpf::Label,
    redirect: bpf::Label,
) {
    program.load(Width::Half, 5, FRAME, port_at);
    program.store(Width::Half, 10, KEY_AT + KEY_PORT, 5);
    steer::look_up(program, routes);
    program.jump_if_none(0, redirect);
    program.load(Width::Word, 4, 0, 0);
    program.load(Width::Word, 5, CONTEXT, QUEUE);
    program.jump(When::NotEqual, 4, 5, pass);
    program.go(redirect);
}
