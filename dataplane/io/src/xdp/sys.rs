//! An AF_XDP socket: its memory, its rings, and the calls that move them on.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use sluice_frames::Memory;

use super::ring::{Consumer, Descriptor, Producer};

/// Bytes of a frame of the socket's memory: what the kernel puts in front (256 bytes), the headers, and a datagram; a page at
/// most, and a power of two.
pub(super) const CHUNK_BYTES: usize = 4096;

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): descriptors that one call sends in copy mode, 32 unless this says more.
const BUDGET: c_int = 9;

/// What the kernel reads in front of a frame to send (`struct xsk_tx_metadata`): flags, where summing begins and where the
/// sum goes, and room that newer kernels use.
pub(super) const METADATA_BYTES: usize = 24;

/// Socket buffer to ask for, in bytes: what may wait in a device's queue in copy mode.
const SEND_BYTES: c_int = 8 << 20;

/// How often and how long a queue that is taken is waited for. The kernel lets go of a closed socket's queue some time later,
/// without telling: a node that is started again at once shall get it.
const BIND_ATTEMPTS: usize = 100;
const BIND_PAUSE: Duration = Duration::from_millis(5);

/// How much of everything a socket has.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Frames to receive into, a power of two.
    pub(super) receive: u32,
    /// Frames to send from.
    pub(super) transmit: u32,
}

/// A socket bound to one queue of an interface.
pub(super) struct Xsk {
    fd: OwnedFd,
    /// The frames to receive into, then those to send from. Registered with the socket, which is closed first.
    pub(super) memory: Memory,
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) receive: Consumer<Descriptor>,
    pub(super) transmit: Producer<Descriptor>,
    /// The device reads and writes the memory itself.
    pub(super) zero_copy: bool,
    /// Checksums can be left to the device or the kernel.
    pub(super) offload: bool,
}

impl Xsk {
    pub(super) fn bind(interface: u32, queue: u32, sizes: Sizes) -> io::Result<Xsk> {
        let memory = Memory::map((sizes.receive + sizes.transmit) as usize * CHUNK_BYTES)?;
        let fd = open()?;
        let offload = register(fd.as_fd(), &memory)?;
        let (fill_size, transmit_size) = (sizes.receive, sizes.transmit.next_power_of_two());
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, fill_size),
            (libc::XDP_UMEM_COMPLETION_RING, transmit_size),
            (libc::XDP_RX_RING, fill_size),
            (libc::XDP_TX_RING, transmit_size),
        ] {
            set(fd.as_fd(), libc::SOL_XDP, option, &size)?;
        }
        let offsets: libc::xdp_mmap_offsets = ask(fd.as_fd(), libc::XDP_MMAP_OFFSETS)?;
        let fill = Producer::map(fd.as_fd(), libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, fill_size)?;
        let at = libc::XDP_UMEM_PGOFF_COMPLETION_RING;
        let completion = Consumer::map(fd.as_fd(), at, &offsets.cr, transmit_size)?;
        let receive = Consumer::map(fd.as_fd(), libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, fill_size)?;
        let transmit = Producer::map(fd.as_fd(), libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, transmit_size)?;
        // Neither is needed, and older kernels or unprivileged processes have to do with less.
        let _ = set(fd.as_fd(), libc::SOL_XDP, BUDGET, &transmit_size);
        let _ = set(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BYTES);
        let mut attempts = BIND_ATTEMPTS;
        while let Err(error) = bind(fd.as_fd(), interface, queue) {
            attempts -= 1;
            if attempts == 0 || error.raw_os_error() != Some(libc::EBUSY) {
                return Err(error);
            }
            std::thread::sleep(BIND_PAUSE);
        }
        let options: libc::xdp_options = ask(fd.as_fd(), libc::XDP_OPTIONS)?;
        let zero_copy = options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0;
        let mut xsk =
            Xsk { fd, memory, fill, completion, receive, transmit, zero_copy, offload: offload && !zero_copy };
        for frame in 0..sizes.receive {
            xsk.fill.push(u64::from(frame) * CHUNK_BYTES as u64);
        }
        xsk.fill.submit();
        Ok(xsk)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Has the kernel send what was submitted, or some of it.
    pub(super) fn kick(&self) -> io::Result<()> {
        // SAFETY: needed to wake the kernel; an empty message names no memory.
        let result =
            unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Whether this process may make such a socket.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: needed to make a socket of a family that the libraries do not offer; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives the socket its memory; whether sends may carry metadata.
fn register(fd: BorrowedFd<'_>, memory: &Memory) -> io::Result<bool> {
    let mut memory = libc::xdp_umem_reg {
        addr: memory.address().as_ptr() as u64,
        len: memory.bytes() as u64,
        chunk_size: CHUNK_BYTES as u32,
        headroom: 0,
        flags: libc::XDP_UMEM_TX_METADATA_LEN,
        tx_metadata_len: METADATA_BYTES as u32,
    };
    if set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &memory).is_ok() {
        return Ok(true);
    }
    (memory.flags, memory.tx_metadata_len) = (0, 0);
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &memory).map(|()| false)
}

/// Zero-copy where the driver can; the kernel falls back to copying by itself.
fn bind(fd: BorrowedFd<'_>, interface: u32, queue: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: needed to bind to a queue. The descriptor is open and the address as long as said.
    let result =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: needed for options that the libraries do not offer. The descriptor is open and `value` is as long as said.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option of AF_XDP, of a type that is plain numbers.
fn ask<T>(fd: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    let mut bytes = size_of::<T>() as libc::socklen_t;
    // SAFETY: needed for a value to start with. All-zero is valid: this is called for structures of numbers only.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: as in `set`; `value` is writable and as long as said.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, (&raw mut value).cast(), &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
