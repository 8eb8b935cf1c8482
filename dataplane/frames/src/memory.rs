//! A mapping that outlives whoever asked for it.

use std::{io, ptr::NonNull, sync::Arc};

/// Zeroed, page-aligned memory at a fixed address. Clones share it; it is unmapped with the last clone. An I/O backend
/// keeps a clone as long as the kernel may write there, so that dropping a [`crate::Pool`] first is harmless.
#[derive(Clone)]
pub struct Memory(Arc<Mapping>);

struct Mapping {
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: needed so that a pool or a backend can be made on one thread and used on another. A mapping is bound to no thread,
// and it hands out its address only: whoever reads or writes there answers for it.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing in it changes after it was made.
unsafe impl Sync for Mapping {}

impl Memory {
    /// Maps `bytes` (rounded up to whole pages by the kernel) and touches them, so that no page fault comes later.
    pub fn map(bytes: usize) -> io::Result<Memory> {
        // SAFETY: needed to own page-aligned memory that the kernel may write to (io_uring provided buffers). A fresh
        // private anonymous mapping overlaps nothing; the result is checked before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Memory(Arc::new(Mapping { address, bytes })))
    }

    /// Where it begins. Valid as long as this or a clone of it lives.
    pub fn address(&self) -> NonNull<u8> {
        self.0.address
    }

    /// How long it is, as asked for.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Whether both are the same mapping.
    pub fn is(&self, other: &Memory) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: needed to give the mapping back. Address and length are those of `map`, and this is the last owner.
        unsafe {
            libc::munmap(self.address.as_ptr().cast(), self.bytes);
        }
    }
}
