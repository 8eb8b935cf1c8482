//! Transmit slots: memory for datagrams with the structures that describe them to the kernel, one set per slot, at fixed
//! addresses, filled in place.

use std::{io, net::SocketAddr};

use sluice_frames::{FRAME_BYTES, Memory};

use crate::address::Name;

pub(crate) struct Slots {
    memory: Memory,
    /// One element per slot. Read and written through raw pointers only: the kernel may be reading the elements of slots
    /// in flight. They never move, as the vectors neither grow nor shrink.
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<Name>,
}

// SAFETY: needed so that a backend can be made on one thread and run on another. The raw pointers inside the structures
// point into the vectors and the mapping, which belong to this value alone and to no thread.
unsafe impl Send for Slots {}

impl Slots {
    pub(crate) fn new(slots: usize) -> io::Result<Slots> {
        let memory = Memory::map(slots * FRAME_BYTES)?;
        let mut names = vec![Name::EMPTY; slots];
        let mut vectors: Vec<libc::iovec> = (0..slots)
            .map(|slot| libc::iovec {
                // SAFETY: needed to compute an address; the offset is inside the mapping made above.
                iov_base: unsafe { memory.address().as_ptr().add(slot * FRAME_BYTES) }.cast(),
                iov_len: 0,
            })
            .collect();
        let (name, vector) = (names.as_mut_ptr(), vectors.as_mut_ptr());
        let headers = (0..slots)
            .map(|slot| libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    // SAFETY: as above, for the elements of both vectors.
                    msg_name: unsafe { name.add(slot) }.cast(),
                    msg_namelen: 0,
                    // SAFETY: as above.
                    msg_iov: unsafe { vector.add(slot) },
                    msg_iovlen: 1,
                    msg_control: std::ptr::null_mut(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            })
            .collect();
        Ok(Slots { memory, headers, vectors, names })
    }

    pub(crate) fn count(&self) -> usize {
        self.headers.len()
    }

    /// The slot's memory. The caller knows that it is not in flight.
    pub(crate) fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        assert!(slot < self.count(), "slots are numbered below {}", self.count());
        // SAFETY: needed to view mapped memory. The slot is inside the mapping (checked above), slots do not overlap, and
        // the borrow of `self` keeps others away. The kernel at most reads a slot in flight.
        unsafe { std::slice::from_raw_parts_mut(self.memory.address().as_ptr().add(slot * FRAME_BYTES), FRAME_BYTES) }
    }

    /// Describes the first `bytes` of the slot as a datagram to `to`. The caller knows that it is not in flight.
    pub(crate) fn address_to(&mut self, slot: usize, bytes: usize, to: SocketAddr, ipv6_socket: bool) {
        assert!(slot < self.count() && bytes <= FRAME_BYTES, "a slot has {FRAME_BYTES} bytes");
        // SAFETY: needed to write one element without a reference to its neighbours, which the kernel may be reading. The
        // index is inside the vectors (checked above; they are equally long).
        unsafe {
            let name_bytes = (*self.names.as_mut_ptr().add(slot)).set(to, ipv6_socket);
            (*self.vectors.as_mut_ptr().add(slot)).iov_len = bytes;
            (*self.headers.as_mut_ptr().add(slot)).msg_hdr.msg_namelen = name_bytes;
        }
    }

    /// The slot's header, followed by those of the next slots.
    pub(crate) fn header(&mut self, slot: usize) -> *mut libc::mmsghdr {
        assert!(slot < self.count(), "slots are numbered below {}", self.count());
        // SAFETY: needed to compute an address inside the vector (checked above).
        unsafe { self.headers.as_mut_ptr().add(slot) }
    }
}
