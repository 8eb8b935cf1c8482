//! After warm-up the packet path allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use sluice_forwarder::Input;
use sluice_messages::{Entry, TransportId};
use sluice_wire::rtp::Header;

use crate::support::*;

struct Counting;

thread_local! {
    pub static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: needed to see allocations at all; everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_packet_path_allocates_nothing() {
    let mut world = World::new();
    for id in 1..=10 {
        world.join(id);
    }
    world.put(Entry::Track(video_track(9, 1, 1)));
    world.put(audio_track(7, 1, None));
    for id in 2..=10 {
        world.put(Entry::Subscription(subscription(id, 9)));
        world.put(Entry::Subscription(subscription(id, 7)));
    }
    let mut camera = Camera::new(1, 9, None, 300);
    let mut microphone = Microphone::new(1, 7, 5);
    // Everything that arrives is made beforehand.
    let mut arriving: Vec<Vec<u8>> = Vec::new();
    for n in 0..1_000 {
        for (index, packet) in camera.frame(n == 0) {
            // One in twenty is lost on the way to us.
            if index % 20 != 7 {
                arriving.push(seal(&world, index, &packet));
            }
        }
        let index = microphone.index;
        let packet = microphone.next();
        arriving.push(seal(&world, index, &packet));
    }
    world.tx.discards = true;
    let mut before = 0;
    for (n, bytes) in arriving.iter().enumerate() {
        let frame = world.pool.take().unwrap();
        world.pool.buffer_mut(frame)[..bytes.len()].copy_from_slice(bytes);
        world.pool.set_len(frame, bytes.len());
        world.now.0 += 2_000;
        if n == 500 {
            before = ALLOCATIONS.get();
        }
        world.forwarder.input(world.now, Input::Datagram { transport: TransportId(1), frame }, &mut world.pool);
        while let Some(output) = world.forwarder.poll(world.now, &mut world.pool, &mut world.tx) {
            // Events are made for the control plane, a few a second, and not per packet.
            before += u64::from(matches!(output, sluice_forwarder::Output::Event(_)));
        }
    }
    assert!(world.tx.committed > 9 * 3_500, "{} sent", world.tx.committed);
    assert!(ALLOCATIONS.get() <= before, "{} allocations in 3,300 packets", ALLOCATIONS.get() - before);
    assert!(world.counter("sent_nacks") > 0 && world.counter("sent_rtcp") > 0, "feedback was part of it");
    world.finish();
}

fn seal(world: &World, index: u64, packet: &[u8]) -> Vec<u8> {
    let header = Header::parse(packet).unwrap();
    let start = usize::from(header.payload_start);
    let mut out = vec![0; 2048];
    let sender = &world.parties[&1].sender;
    let len = sender.seal_rtp(&packet[..start], &packet[start..], (index >> 16) as u32, &mut out).unwrap();
    out.truncate(len);
    out
}
