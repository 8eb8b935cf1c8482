//! Protecting and opening packets allocates nothing once a stream is known.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use sluice_srtp::{MAX_RTCP_OVERHEAD_BYTES, MAX_RTP_OVERHEAD_BYTES, Profile, Receiver, Sender, exercise::material};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: needed because an allocator is the only place that sees every allocation; sound because it hands every request
// unchanged to the system's allocator, and counting in a constant-initialised thread local allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn packets_allocate_nothing() {
    for profile in Profile::PREFERENCE {
        let mut sender = Sender::new(&material(profile, true)).unwrap();
        let mut receiver = Receiver::new(&material(profile, false)).unwrap();
        let payload = [7; 1100];
        let mut slot = [0; 1200];
        let before = ALLOCATIONS.get();
        for sequence in 0..1_000u16 {
            let [s0, s1] = sequence.to_be_bytes();
            // As many SSRCs as a usual participant has.
            let header = [0x80, 96, s0, s1, 0, 0, 0, 2, 0, 0, 0, (sequence % 16) as u8];
            let len = sender.seal_rtp(&header, &payload, 0, &mut slot).unwrap();
            assert_eq!(len, 12 + 1100 + profile.tag_len());
            assert_eq!(receiver.unprotect_rtp(&mut slot[..len]).unwrap().len, 12 + 1100);
            assert!(slot.len() >= len + MAX_RTP_OVERHEAD_BYTES);

            let mut slot = [1; 8 + MAX_RTCP_OVERHEAD_BYTES];
            slot[..4].copy_from_slice(&[0x80, 201, 0, 1]);
            let len = sender.protect_rtcp(&mut slot, 8).unwrap();
            assert_eq!(receiver.unprotect_rtcp(&mut slot[..len]), Ok(8));
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{profile:?}");
    }
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1, "the allocator counts");
}
