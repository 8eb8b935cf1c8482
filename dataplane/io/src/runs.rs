//! What was committed and not sent yet: datagrams one behind the other in one arena, as *runs*. A run is what one send takes:
//! consecutive datagrams to one route, equally long except for the last, which the kernel cuts apart (UDP_SEGMENT). Each
//! run has structures that describe it to the kernel, at fixed addresses, filled in place.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd};

use sluice_frames::{FRAME_BYTES, Memory, Route, Turn};

use crate::address::Name;

/// The kernel cuts one send into at most so many datagrams.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// The longest send: what the length field of an IPv4 or IPv6 header holds, less the headers.
const RUN_BYTES_MAX: usize = 65_535 - 40 - 8;

/// The segment's length as a control message (`man 7 udp`).
#[derive(Clone, Copy)]
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    segment_bytes: u16,
    padding: [u8; 6],
}

/// One send.
#[derive(Clone, Copy)]
struct Run {
    route: Route,
    start: usize,
    bytes: usize,
    /// Of all datagrams but the last.
    segment_bytes: usize,
    segments: usize,
    /// The last datagram is shorter: nothing may follow.
    is_closed: bool,
}

/// How a socket sends.
struct Way {
    is_ipv6: bool,
    /// Cleared for good when the kernel or the device refuses UDP_SEGMENT.
    segments_max: usize,
}

pub(crate) struct Runs {
    memory: Memory,
    /// Where the next datagram goes.
    cursor: usize,
    runs: Vec<Run>,
    runs_max: usize,
    ways: Vec<Way>,
    /// One element per run. Written through raw pointers only: the kernel may be reading the elements of runs in flight.
    /// They never move, as the vectors neither grow nor shrink.
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<Name>,
    controls: Vec<Control>,
}

// SAFETY: needed so that a backend can be made on one thread and run on another. The raw pointers inside the structures
// point into the vectors and the mapping, which belong to this value alone and to no thread.
unsafe impl Send for Runs {}

impl Runs {
    /// Room for `slots` datagrams of full length. `families` says which sockets are IPv6 ones; runs have at most
    /// `segments_max` datagrams.
    pub(crate) fn new(slots: usize, families: &[bool], segments_max: usize) -> io::Result<Runs> {
        let memory = Memory::map(slots * FRAME_BYTES)?;
        let segments_max = segments_max.clamp(1, SEGMENTS_MAX);
        // SAFETY: needed for values to start with. All-zero is valid for all three: numbers and null pointers.
        let (header, vector, control) =
            unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>(), mem::zeroed::<Control>()) };
        Ok(Runs {
            memory,
            cursor: 0,
            runs: Vec::with_capacity(slots),
            runs_max: slots,
            ways: families.iter().map(|&is_ipv6| Way { is_ipv6, segments_max }).collect(),
            headers: vec![header; slots],
            vectors: vec![vector; slots],
            names: vec![Name::EMPTY; slots],
            controls: vec![control; slots],
        })
    }

    /// Runs since the last [`Runs::clear`].
    pub(crate) fn count(&self) -> usize {
        self.runs.len()
    }

    /// Datagrams of any length and to anybody that there is room for.
    pub(crate) fn room(&self) -> usize {
        (self.runs_max - self.runs.len()).min((self.memory.bytes() - self.cursor) / FRAME_BYTES)
    }

    /// Where the next datagram is to be written, if there is room for it.
    pub(crate) fn slot(&mut self) -> Option<&mut [u8]> {
        if self.room() == 0 {
            return None;
        }
        // SAFETY: needed to view mapped memory. The span is inside the mapping (checked above), begins behind all that was
        // committed, and the borrow of `self` keeps others away. The kernel at most reads what was committed.
        Some(unsafe { std::slice::from_raw_parts_mut(self.memory.address().as_ptr().add(self.cursor), FRAME_BYTES) })
    }

    /// Appends the datagram that was written to the slot, to the last run if it fits there.
    pub(crate) fn commit(&mut self, bytes: usize, route: Route) {
        assert!(bytes <= FRAME_BYTES, "a slot has {FRAME_BYTES} bytes");
        let start = self.cursor;
        self.cursor += bytes;
        let segments_max = self.ways[usize::from(route.socket)].segments_max;
        if let Some(run) = self.runs.last_mut()
            && run.route == route
            && !run.is_closed
            && (1..=run.segment_bytes).contains(&bytes)
            && run.segments < segments_max
            && run.bytes + bytes <= RUN_BYTES_MAX
        {
            run.is_closed = bytes < run.segment_bytes;
            run.bytes += bytes;
            run.segments += 1;
            return;
        }
        assert!(self.runs.len() < self.runs_max, "a slot was lent");
        self.runs.push(Run { route, start, bytes, segment_bytes: bytes, segments: 1, is_closed: false });
    }

    /// The socket of a run.
    pub(crate) fn socket(&self, run: usize) -> usize {
        usize::from(self.runs[run].route.socket)
    }

    /// The header of a run, followed by those of the next runs.
    pub(crate) fn header(&mut self, index: usize) -> *mut libc::mmsghdr {
        assert!(index < self.runs.len(), "a run is there");
        // SAFETY: needed to compute an address inside the vector, which is as long as there may be runs.
        unsafe { self.headers.as_mut_ptr().add(index) }
    }

    /// Writes the structures of a run that is not in flight.
    pub(crate) fn describe(&mut self, index: usize) {
        let run = self.runs[index];
        let is_ipv6 = self.ways[usize::from(run.route.socket)].is_ipv6;
        let (headers, vectors) = (self.headers.as_mut_ptr(), self.vectors.as_mut_ptr());
        let (names, controls) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        // SAFETY: needed to write one element of each vector without a reference to its neighbours, which the kernel may be
        // reading. All are as long as there may be runs, and `index` is one (checked above). The addresses written are of
        // elements and of committed bytes, which stay where they are until the run is over.
        unsafe {
            let name_bytes = (*names.add(index)).set(run.route.peer, is_ipv6);
            *vectors.add(index) =
                libc::iovec { iov_base: self.memory.address().as_ptr().add(run.start).cast(), iov_len: run.bytes };
            let header = &mut (*headers.add(index)).msg_hdr;
            header.msg_name = names.add(index).cast();
            header.msg_namelen = name_bytes;
            header.msg_iov = vectors.add(index);
            header.msg_iovlen = 1;
            header.msg_flags = 0;
            if run.segments > 1 {
                let control = &mut *controls.add(index);
                control.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
                control.header.cmsg_level = libc::SOL_UDP;
                control.header.cmsg_type = libc::UDP_SEGMENT;
                control.segment_bytes = run.segment_bytes as u16;
                header.msg_control = controls.add(index).cast();
                header.msg_controllen = size_of::<Control>() as _;
            } else {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
            }
        }
    }

    /// A run was sent.
    pub(crate) fn sent(&self, index: usize, turn: &mut Turn) {
        turn.sends += 1;
        turn.sent += self.runs[index].segments;
    }

    /// A run was refused. If that may be because of its segments, they are sent one by one, so that nothing in hand is lost;
    /// and if it is sure, the socket makes no runs any more.
    pub(crate) fn refused(&mut self, index: usize, socket: &UdpSocket, errno: i32, turn: &mut Turn) {
        let run = self.runs[index];
        // EIO: the device has no checksum offload; EINVAL: it or the kernel has no segmentation, or a segment exceeds the
        // path's MTU (as EMSGSIZE on newer kernels).
        if run.segments == 1 || !matches!(errno, libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP) {
            turn.send_errors += run.segments;
            turn.send_too_long += if errno == libc::EMSGSIZE { run.segments } else { 0 };
            return;
        }
        turn.unsegmented += 1;
        let mut delivered = 0;
        for segment in 0..run.segments {
            let offset = segment * run.segment_bytes;
            let bytes = run.segment_bytes.min(run.bytes - offset);
            // SAFETY: needed to send a part of the arena. The span is inside the run, which was committed and is not in flight;
            // the name was written by `describe`; the call is over when it returns.
            let result = unsafe {
                let header = &(*self.headers.as_ptr().add(index)).msg_hdr;
                libc::sendto(
                    socket.as_raw_fd(),
                    self.memory.address().as_ptr().add(run.start + offset).cast(),
                    bytes,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    header.msg_name.cast(),
                    header.msg_namelen,
                )
            };
            turn.sends += 1;
            if result >= 0 {
                delivered += 1;
            } else {
                turn.send_errors += 1;
                let too_long = io::Error::last_os_error().raw_os_error() == Some(libc::EMSGSIZE);
                turn.send_too_long += usize::from(too_long);
            }
        }
        turn.sent += delivered;
        // They pass alone and not together: it is the segmentation that is refused.
        if delivered > 0 {
            self.ways[usize::from(run.route.socket)].segments_max = 1;
        }
    }

    /// Everything is sent: the arena begins anew.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.cursor = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(segments_max: usize) -> Runs {
        Runs::new(8, &[false], segments_max).unwrap()
    }

    fn route(port: u16) -> Route {
        Route { socket: 0, peer: ([127, 0, 0, 1], port).into() }
    }

    fn shape(commits: &[(usize, u16)], segments_max: usize) -> Vec<(usize, usize)> {
        let mut runs = runs(segments_max);
        for &(bytes, port) in commits {
            assert!(runs.slot().is_some());
            runs.commit(bytes, route(port));
        }
        runs.runs.iter().map(|run| (run.segments, run.bytes)).collect()
    }

    #[test]
    fn equal_lengths_to_one_route_are_one_run_and_a_shorter_one_ends_it() {
        assert_eq!(shape(&[(100, 1), (100, 1), (40, 1), (40, 1)], 64), [(3, 240), (1, 40)]);
        assert_eq!(shape(&[(100, 1), (100, 2), (100, 1)], 64), [(1, 100), (1, 100), (1, 100)]);
        assert_eq!(shape(&[(100, 1), (101, 1)], 64), [(1, 100), (1, 101)], "a longer one begins another");
        assert_eq!(shape(&[(100, 1), (100, 1), (100, 1)], 2), [(2, 200), (1, 100)]);
        assert_eq!(shape(&[(0, 1), (0, 1)], 64), [(1, 0), (1, 0)], "empty datagrams stand alone");
    }

    #[test]
    fn a_full_arena_lends_nothing_until_it_is_cleared() {
        let mut runs = runs(64);
        let mut lent = 0;
        while runs.slot().is_some() {
            runs.commit(FRAME_BYTES, route(1));
            lent += 1;
        }
        assert_eq!(lent, 8);
        runs.clear();
        assert!(runs.slot().is_some());
    }
}
