//! Receiving: what the program redirected, copied into frames of the pool with its headers in front.

use sluice_frames::{DATAGRAM_BYTES, Datagram, Pool, Route, Turn};

use super::{
    header::{self, ROOM_BYTES},
    interface::Target,
    sys::{CHUNK_BYTES, Xsk},
};

/// Datagrams per turn at most, as with a socket: more are there at the next turn.
const BATCH: u32 = 64;

pub(super) struct Receive {
    targets: Vec<Target>,
    /// Handed over since the start.
    pub(super) received: u64,
}

impl Receive {
    pub(super) fn new(targets: Vec<Target>) -> Receive {
        Receive { targets, received: 0 }
    }

    /// Hands over what is there, up to [`BATCH`] datagrams. What finds no free frame waits in the ring, which drops what
    /// does not fit, like a socket's buffer.
    pub(super) fn batch(
        &mut self,
        xsk: &mut Xsk,
        pool: &mut Pool,
        turn: &mut Turn,
        sink: &mut dyn FnMut(&mut Pool, Datagram),
    ) {
        for _ in 0..xsk.receive.ready().min(BATCH) {
            let Some(frame) = pool.take() else {
                turn.starved += 1;
                break;
            };
            let descriptor = xsk.receive.take();
            let (address, bytes) = (descriptor.address as usize, descriptor.bytes as usize);
            assert!(bytes <= xsk.memory.bytes() && address <= xsk.memory.bytes() - bytes, "inside the memory");
            // SAFETY: needed to read what was received. It is inside the mapping (checked above), and the kernel leaves the
            // chunk alone from this descriptor on until it gets it back through the fill ring, below.
            let raw = unsafe { std::slice::from_raw_parts(xsk.memory.address().as_ptr().add(address), bytes) };
            let known = header::parse(raw).and_then(|heading| {
                let target = self.targets.iter().find(|target| target.address == heading.to)?;
                (heading.bytes <= DATAGRAM_BYTES).then_some((heading, target.socket))
            });
            match known {
                Some((heading, socket)) => {
                    let all = &raw[..heading.start + heading.bytes];
                    pool.buffer_mut(frame)[ROOM_BYTES - heading.start..][..all.len()].copy_from_slice(all);
                    pool.set_span(frame, ROOM_BYTES, heading.bytes);
                    turn.received += 1;
                    self.received += 1;
                    sink(pool, Datagram { frame, from: Route { socket, peer: heading.from } });
                }
                None => {
                    turn.dropped += 1;
                    pool.release(frame);
                }
            }
            xsk.fill.push((address / CHUNK_BYTES * CHUNK_BYTES) as u64);
        }
        xsk.receive.give_back();
        xsk.fill.submit();
    }
}
